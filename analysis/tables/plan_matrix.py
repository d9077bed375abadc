"""Planned against run: the state of every planned label, and divergence and failure rates per strategy."""

from dataclasses import dataclass

import pandas as pd

from analysis.findings.outcomes import UNFINISHED, count_states, strategy_rank
from analysis.reading.study import STATE, RecordedStudy
from analysis.tables.table import Column, Entry, Table, count
from analysis.wording.terms import mix_text, strategy_text
from trainables.ledger import schema

SYMBOLS = {
    schema.DONE: "✓",
    schema.DIVERGED: "↯",
    schema.FAILED: "✗",
    schema.PARTIAL: "…",
    schema.MISSING: "·",
}
NOT_PLANNED = "not planned"


@dataclass(frozen=True)
class Line:
    """One strategy, mix and axes: the state of each seed, NOT_PLANNED where there is no such label."""

    name: str
    states: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    """`lines` of states, a column a seed; `symbols` stand for the states that occur."""

    seeds: tuple[int, ...]
    lines: tuple[Line, ...]

    @property
    def symbols(self) -> dict[str, str]:
        present = {state for line in self.lines for state in line.states}
        return {state: symbol for state, symbol in SYMBOLS.items() if state in present}


def plan_matrix(study: RecordedStudy) -> Matrix:
    """Return the planned-versus-run matrix: strategy × mix (× axes) by seed."""
    seeds = tuple(int(seed) for seed in sorted(set(study.cells[schema.SEED])))
    keys = [*study.axes, schema.MIX, schema.STRATEGY]
    lines = []
    for values, group in study.cells.groupby(keys, sort=False):
        label = dict(zip(keys, values, strict=True))
        states = dict(zip(group[schema.SEED], group[STATE], strict=True))
        lines.append((label, tuple(str(states.get(seed, NOT_PLANNED)) for seed in seeds)))
    lines.sort(
        key=lambda line: (
            [str(line[0][axis]) for axis in study.axes],
            line[0][schema.MIX],
            strategy_rank(str(line[0][schema.STRATEGY])),
        )
    )
    return Matrix(seeds, tuple(Line(_line_name(label, study.axes), states) for label, states in lines))


def _line_name(label: dict[str, object], axes: tuple[str, ...]) -> str:
    strategy = str(label[schema.STRATEGY])
    mix = "" if strategy == schema.NO_REPLAY else f", {mix_text(float(str(label[schema.MIX])))}"
    return strategy_text(strategy) + mix + "".join(f", {axis} = {label[axis]}" for axis in axes)


def rates_table(study: RecordedStudy) -> Table:
    """Return, per strategy, how many planned runs ended how, and the rates of divergence and failure.

    The rate's interval is Wilson's score interval, over the runs that ended (done, diverged or failed).
    """
    heads = [Column(schema.STRATEGY)]
    names = ("planned", schema.DONE, schema.DIVERGED, schema.FAILED, UNFINISHED)
    heads += [Column(name, numeric=True) for name in (*names, "diverged, %", "failed, %")]
    ordered = sorted(study.cells.groupby(schema.STRATEGY), key=lambda part: strategy_rank(str(part[0])))
    rows, records = [], []
    for strategy, cells in ordered:
        counts = count_states(cells)
        ended = sum(counts[state] for state in (schema.DONE, schema.DIVERGED, schema.FAILED))
        rates = [_rate(counts[state], ended) for state in (schema.DIVERGED, schema.FAILED)]
        rows.append([Entry(strategy_text(str(strategy))), *(count(counts[name]) for name in names), *rates])
        records.append({schema.STRATEGY: strategy, **counts})
    caption = (
        "Rates are of the runs that ended, with the 95 % Wilson score interval over runs; labels that share "
        "a run count one by one. A diverged or failed run is an outcome: it stays in every count, and "
        "nothing is imputed for it."
    )
    return Table("rates", "Divergence and failure per strategy", heads, rows, caption, pd.DataFrame(records))


def _rate(hits: int, ended: int) -> Entry:
    if not ended:
        return Entry("–", float("nan"))
    from scipy.stats import binomtest

    found = binomtest(hits, ended).proportion_ci(method="wilson")
    return Entry(f"{100 * hits / ended:.0f} ({100 * found.low:.0f} to {100 * found.high:.0f})", hits / ended)
