"""The tables of contrasts: the declared family with its verdicts, and the secondary measures. Computes nothing."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.conditions import count_text
from analysis.findings import Findings
from analysis.inference import FEWEST_FOR_INTERVAL, MOST_FLIPS, interval_name
from analysis.labels import Row, given, label_columns, label_entries
from analysis.measures import MEASURES
from analysis.outcomes import BASELINE
from analysis.tables import Column, Entry, Table, count, interval, number, probability
from analysis.verdicts import IDENTICAL


class Part(NamedTuple):
    """A column of a table of contrasts, and what it says of each."""

    column: Column
    entry: Callable[[Row], Entry]


def contrasts_table(findings: Findings) -> Table:
    """Return every contrast of the primary measure with random, with its verdict."""
    settings = findings.settings
    measure = MEASURES[settings.primary]
    family = count_text([int(findings.contrasts["in_family"].sum())], "contrast")
    looks = f" × {len(settings.looks)} looks" if settings.looks else ""
    adjusted = f"Bonferroni over {family}{looks}"
    method = adjusted if settings.looks else "Holm over the declared family"
    caption = (
        f"Mean paired difference from {BASELINE} in {measure.label} ({measure.unit}), one row a contrast; n is the "
        f"number of pairs. {interval_name('paired t', level=settings.level)}; adjusted: {adjusted}. "
        f"p: paired t, after {method}; rows outside it (no replay, the A/A control) are unadjusted. "
        "Effect size: Hedges-corrected paired d_z with its interval, unadjusted. Sign-flip p: unadjusted, exact "
        f"to 16 pairs, over {MOST_FLIPS:,} random flips above; where even unanimous pairs cannot reach "
        f"{settings.alpha:g} it says unattainable, with the smallest p there is. {_margin_text(findings, method)} "
        f"Seeds: how many would resolve an unresolved contrast. {given(findings)}"
    )
    alpha = settings.alpha
    parts = [
        Part(Column("verdict"), verdict_entry),
        *_estimates(findings),
        _number("adjusted interval", lambda row: interval(row["low_adjusted"], row["high_adjusted"])),
        _number("p (adjusted)", lambda row: probability(row["p_holm"])),
        _number("seeds to resolve", lambda row: seeds_entry(row["seeds_needed"])),
        _number("effect size", _effect),
        _number("sign-flip p", lambda row: sign_flip_entry(row, alpha=alpha)),
        _number("equivalence p", lambda row: probability(row["p_equivalence_holm"])),
    ]
    title = f"Contrasts with {BASELINE}"
    return _contrast_table(
        findings, findings.contrasts, stem="contrasts", title=title, caption=caption, parts=parts
    )


def secondary_table(findings: Findings) -> Table:
    """Return the contrasts of every other measure: exploratory."""
    caption = (
        f"The other measures, as mean paired difference from {BASELINE}: exploratory, with unadjusted "
        f"{interval_name('paired t', level=findings.settings.level)}s and p values; not part of the declared family, so no "
        f"verdict rests on them. {_measure_texts(findings)} {given(findings)}"
    )
    parts = [
        Part(Column("measure"), lambda row: Entry(MEASURES[row["measure"]].label)),
        *_estimates(findings),
        _number("p", lambda row: probability(row["p"])),
        _number("effect size", _effect),
    ]
    title = "Secondary measures"
    return _contrast_table(
        findings, findings.secondary, stem="secondary", title=title, caption=caption, parts=parts
    )


def _contrast_table(
    findings: Findings, frame: pd.DataFrame, *, stem: str, title: str, caption: str, parts: list[Part]
) -> Table:
    """Return contrasts under their labels, then a column a part."""
    heads = [*label_columns(findings, seed=False), *(part.column for part in parts)]
    rows = [
        [*label_entries(findings, row, seed=False), *(part.entry(row) for part in parts)]
        for row in frame.to_dict("records")
    ]
    return Table(stem, title, heads, rows, caption, frame)


def _estimates(findings: Findings) -> list[Part]:
    """Return the columns of any contrast: pairs, difference and interval."""
    level = f"{100 * findings.settings.level:g} % interval"
    return [
        _number("n", pairs_entry),
        _number("difference", lambda row: number(row["difference"], sign=True)),
        _number(level, lambda row: interval(row["low"], row["high"])),
    ]


def _number(title: str, entry: Callable[[Row], Entry]) -> Part:
    return Part(Column(title, numeric=True), entry)


def _effect(row: Row) -> Entry:
    value = number(row["effect_size"], digits=2, sign=True)
    if not np.isfinite(row["effect_low"]):
        return value
    ends = (f"{row[name]:.2f}".replace("-", "−") for name in ("effect_low", "effect_high"))
    return Entry(f"{value.text} [{', '.join(ends)}]", float(row["effect_size"]))


def verdict_entry(row: Row) -> Entry:
    """Return a contrast's verdict; that of a control says it is one, and without a test there is none."""
    if row["n"] < FEWEST_FOR_INTERVAL:
        return Entry("too few pairs" if row["n"] else "no pairs")
    judged = row["in_family"] or row["verdict"] == IDENTICAL
    return Entry(row["verdict"] if judged else f"control: {row['verdict']}")


def pairs_entry(row: Row) -> Entry:
    """Return the pairs behind a contrast, and what became of the others that were planned."""
    lost = {
        "left out": "n_left_out",
        "undefined": "n_undefined",
        "diverged": "n_diverged",
        "failed": "n_failed",
    }
    texts = [f"{row[column]} {name}" for name, column in lost.items() if row.get(column)]
    text = f"{row['n']} of {row['n_planned']}" if row["n"] < row["n_planned"] else f"{row['n']}"
    return Entry(f"{text} ({', '.join(texts)})" if texts else text, float(row["n"]))


def sign_flip_entry(row: Row, *, alpha: float) -> Entry:
    """Return the p; where alpha is out of reach 'unattainable (≥ 0.125)', never 'not significant'."""
    smallest = row["p_sign_flip_smallest"]
    if row["n"] >= FEWEST_FOR_INTERVAL and smallest > alpha:
        return Entry(f"unattainable (≥ {smallest:.3g})", float(smallest))
    return probability(row["p_sign_flip"])


def seeds_entry(seeds: float) -> Entry:
    """Return how many seeds would resolve a contrast."""
    return Entry("> 10,000", float(seeds)) if np.isposinf(seeds) else count(seeds)


def _margin_text(findings: Findings, method: str) -> str:
    margin = findings.settings.smallest_effect
    if margin is None:
        return "Equivalence p: none, as no smallest effect of interest was declared."
    unit = MEASURES[findings.settings.primary].unit
    return f"Equivalence p: two one-sided tests against ± {margin:g} {unit}, after {method}."


def _measure_texts(findings: Findings) -> str:
    present = dict.fromkeys(findings.secondary["measure"])
    return " ".join(
        f"{MEASURES[name].label.capitalize()} ({MEASURES[name].unit}): {MEASURES[name].description}."
        for name in present
    )
