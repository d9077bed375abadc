"""From evaluation points to one outcome a run, pairs with the baseline, and the summary table.

Only finished runs have outcomes: nothing is imputed, and every planned run stays in the counts.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.reading.errors import AnalysisError
from analysis.reading.study import CELL, SLOTS_HASH, STATE, RecordedStudy
from analysis.stats.intervals import LEVEL, Interval, mean_interval, paired_interval
from analysis.stats.measures import (
    FINAL_A,
    FINAL_B,
    FORGETTING,
    MATCHED_FORGETTING,
    MEASURES,
    RETENTION,
    Curve,
    forgetting_at,
    matched_task_b,
    retention,
)
from trainables.ledger import schema

DIFFERENCE = "difference_from_{baseline}"  # the name of a column of the summary
METRICS = (FINAL_A, FORGETTING, FINAL_B)  # the measures of the summary

PLANNED = "planned"
UNFINISHED = "unfinished"  # missing or partial
PAIRS = "n_pairs"
MISMATCHED = "n_pairs_left_out"
MATCHED = "matched"
BASELINE_SUFFIX = "_baseline"
HALF_WIDTH = "_half_width"

Curves = dict[str, Curve]  # by cell


def read_curves(study: RecordedStudy) -> Curves:
    """Return the curve of every done cell, from the study's rows."""
    done = study.rows[study.rows[STATE] == schema.DONE].drop_duplicates([CELL, schema.STEP])
    names = (schema.STEP, schema.TASK_A_LOSS, schema.TASK_B_LOSS)
    values = [done[name].to_numpy(float) for name in names]
    scores = {name: done[name].to_numpy(float) for name in schema.SCORE_COLUMNS if name in done}
    groups = done.groupby(CELL).indices.items()
    curves = {}
    for key, points in groups:
        steps, task_a, task_b = (column[points] for column in values)
        curves[str(key)] = Curve(
            steps, task_a, task_b, {name: column[points] for name, column in scores.items()}
        )
    return curves


def measured(study: RecordedStudy) -> tuple[str, ...]:
    """Return those of MEASURES that the study has numbers for, or will have: all but those of answers that it
    does not generate.
    """
    return tuple(
        name for name, measure in MEASURES.items() if measure.needs is None or measure.needs in study.rows
    )


def check_measured(measure: str, *, study: RecordedStudy) -> None:
    """Raise AnalysisError where a study has no numbers for a measure of MEASURES."""
    if measure not in measured(study):
        raise AnalysisError(
            f"the study {study.name!r} has no {measure}: it generates no such answers (evaluation.generate); "
            f"choose one of {', '.join(measured(study))}"
        )


def run_outcomes(study: RecordedStudy, *, measures: Collection[str] = tuple(MEASURES)) -> pd.DataFrame:
    """Return the planned labels with every measure of the study, NaN unless asked for and the run is done.

    Retention is measured against the run without replay of the same seed and axes, forgetting at matched
    task B loss against the baseline's run of the same seed, mix and axes; NaN where that run is not done.
    """
    curves = read_curves(study)
    frame = study.cells[[*schema.LABEL_COLUMNS, *study.axes, CELL, STATE, SLOTS_HASH]].copy()
    with np.errstate(over="ignore", invalid="ignore"):
        needed = {*measures, *([FORGETTING] if RETENTION in measures else [])}
        for name in measured(study):
            measure = MEASURES[name]
            of = measure.of if name in needed else None
            values = {} if of is None else {key: of(curve) for key, curve in curves.items()}
            frame[name] = [values.get(key, np.nan) for key in frame[CELL]]
        if RETENTION in measures:
            frame[RETENTION] = _retention(frame, axes=study.axes)
        if MATCHED_FORGETTING in measures:
            frame[MATCHED_FORGETTING] = _matched_forgetting(frame, curves=curves, study=study)
    return frame


def _retention(outcomes: pd.DataFrame, *, axes: tuple[str, ...]) -> list[float]:
    """Return each run's share of what is forgotten without replay that it kept."""
    keys = [schema.SEED, *axes]
    without = outcomes.loc[outcomes[schema.STRATEGY] == schema.NO_REPLAY, [*keys, FORGETTING]]
    beside = outcomes[[*keys, FORGETTING]].merge(without, on=keys, how="left", suffixes=("", BASELINE_SUFFIX))
    pairs = zip(beside[FORGETTING], beside[FORGETTING + BASELINE_SUFFIX], strict=True)
    return [retention(own, control) for own, control in pairs]


def _matched_forgetting(outcomes: pd.DataFrame, *, curves: Curves, study: RecordedStudy) -> list[float]:
    """Return each run's forgetting at the task B loss that it and its baseline run both reached."""
    keys = [schema.MIX, schema.SEED, *study.axes]
    partners = outcomes.loc[outcomes[schema.STRATEGY] == study.baseline, [*keys, CELL]]
    beside = outcomes[[*keys, CELL, schema.STRATEGY]].merge(
        partners, on=keys, how="left", suffixes=("", BASELINE_SUFFIX)
    )
    cells = zip(beside[schema.STRATEGY], beside[CELL], beside[CELL + BASELINE_SUFFIX], strict=True)
    return [
        np.nan if strategy == study.baseline else matched_forgetting(curves, own, partner)[0]
        for strategy, own, partner in cells
    ]


def matched_forgetting(curves: Curves, own: Any, partner: Any) -> tuple[float, float]:
    """Return the forgetting of two cells' runs where task B's loss first fell to what both reached."""
    if own not in curves or partner not in curves:
        return np.nan, np.nan
    level = matched_task_b(curves[own], curves[partner])
    return forgetting_at(curves[own], level), forgetting_at(curves[partner], level)


def pair_with_baseline(outcomes: pd.DataFrame, *, study: RecordedStudy) -> pd.DataFrame:
    """Return finished runs beside the finished baseline run of their seed, mix and axes.

    `matched` tells whether both saw the same task B examples at the same steps (equal slots
    hashes); a pair that did not, or cannot show it, is no pair.
    """
    keys = [schema.MIX, schema.SEED, *study.axes]
    done = outcomes[outcomes[STATE] == schema.DONE]
    baseline = done[done[schema.STRATEGY] == study.baseline][[*keys, FINAL_A, SLOTS_HASH]]
    others = done[done[schema.STRATEGY] != study.baseline]
    pairs = others.merge(baseline, on=keys, suffixes=("", BASELINE_SUFFIX))
    pairs[MATCHED] = (
        pairs[SLOTS_HASH] == pairs[SLOTS_HASH + BASELINE_SUFFIX]
    )  # an unknown hash equals nothing
    return pairs


def difference_from_baseline(pairs: pd.DataFrame, *, level: float = LEVEL) -> Interval:
    """Return the paired interval of the change in A's final loss over the matched rows of `pairs`."""
    matched = pairs[MATCHED].to_numpy(bool)
    values, baseline = (pairs[name].to_numpy(float)[matched] for name in (FINAL_A, f"{FINAL_A}_baseline"))
    return paired_interval(values, baseline, level=level)


def summarise(study: RecordedStudy, *, outcomes: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
    """Return one row per strategy, mix and axes: counts of every state, means with half-widths at `level`,
    n.
    """
    keys = [*study.axes, schema.MIX, schema.STRATEGY]
    difference = DIFFERENCE.format(baseline=study.baseline)
    pairs_of = selector(pair_with_baseline(outcomes, study=study), keys=keys)
    rows = [
        {
            **label,
            **count_states(group),
            **_means(group, level),
            **_difference(pairs_of(label), level, name=difference),
        }
        for label, group in grouped(outcomes, keys=keys)
    ]
    frame = pd.DataFrame(rows)
    rank = frame[schema.STRATEGY].map(strategy_rank)
    order = frame.assign(_rank=rank).sort_values([*study.axes, schema.MIX, "_rank"], kind="stable").index
    first = [schema.STRATEGY, schema.MIX, *study.axes]
    return frame.loc[order, [*first, *frame.columns.drop(first)]].reset_index(drop=True)


def grouped(frame: pd.DataFrame, *, keys: list[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield each combination of `keys`, by name, with its rows; without keys, the whole frame."""
    if not keys:
        yield {}, frame
        return
    for values, group in frame.groupby(keys, sort=True):
        yield dict(zip(keys, values, strict=True)), group


def select(frame: pd.DataFrame, label: dict[str, Any]) -> pd.DataFrame:
    """Return the rows of `frame` that have the values of `label`."""
    chosen = np.ones(len(frame), dtype=bool)
    for name, value in label.items():
        chosen &= (frame[name] == value).to_numpy()
    return frame[chosen]


def selector(frame: pd.DataFrame, *, keys: list[str]) -> Callable[[dict[str, Any]], pd.DataFrame]:
    """Return `select` for many labels of the same `keys`: it goes through `frame` once."""
    parts = {tuple(label.values()): rows for label, rows in grouped(frame, keys=keys)}
    return lambda label: parts.get(tuple(label[key] for key in keys), frame.iloc[:0])


def strategy_rank(strategy: str) -> tuple[int, str]:
    """Sort random first, then strategies by name, the A/A control, the run without replay last."""
    return ({schema.DEFAULT_BASELINE: 0, schema.AA: 2, schema.NO_REPLAY: 3}.get(strategy, 1), strategy)


def distinct_runs(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the planned labels of which each is a run of its own: the first of those that share a cell."""
    return cells[cells[CELL].isna() | ~cells[CELL].duplicated()]


def count_states(cells: pd.DataFrame) -> dict[str, int]:
    """Return how many of the planned `cells` are in each state; missing and partial are unfinished."""
    count = Counter(cells[STATE].tolist())
    kept = {state: count[state] for state in (schema.DONE, schema.DIVERGED, schema.FAILED)}
    return {PLANNED: len(cells), **kept, UNFINISHED: count[schema.PARTIAL] + count[schema.MISSING]}


def _means(group: pd.DataFrame, level: float) -> dict[str, float]:
    done = group[STATE].to_numpy(object) == schema.DONE
    intervals = {name: mean_interval(group[name].to_numpy(float)[done], level=level) for name in METRICS}
    return {
        column: value
        for name, interval in intervals.items()
        for column, value in ((name, interval.mean), (name + HALF_WIDTH, interval.half_width))
    }


def _difference(pairs: pd.DataFrame, level: float, *, name: str) -> dict[str, float]:
    interval = difference_from_baseline(pairs, level=level)
    return {
        name: interval.mean,
        name + HALF_WIDTH: interval.half_width,
        PAIRS: interval.n,
        MISMATCHED: int((~pairs[MATCHED]).sum()),
    }
