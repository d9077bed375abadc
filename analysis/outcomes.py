"""From evaluation points to one outcome a run, pairs with the baseline, and the summary table.

Only finished runs have outcomes: nothing is imputed, and every planned run stays in the counts.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis import metrics
from analysis.inference import Interval, mean_interval, paired_interval
from analysis.tidy import CELL, SLOTS_HASH, STATE, Study
from trainables import columns

BASELINE = "random"

FINAL_A = "final_task_a_loss"
FORGETTING = "forgetting"
LARGEST_FORGETTING = "largest_forgetting"
FINAL_B = "final_task_b_loss"
DIFFERENCE = "difference_from_random"

METRICS = {
    FINAL_A: (columns.TASK_A_LOSS, metrics.final_loss),
    FORGETTING: (columns.TASK_A_LOSS, metrics.forgetting),
    LARGEST_FORGETTING: (columns.TASK_A_LOSS, metrics.largest_forgetting),
    FINAL_B: (columns.TASK_B_LOSS, metrics.final_loss),
}

PLANNED = "planned"
UNFINISHED = "unfinished"  # missing or partial
PAIRS = "n_pairs"
MISMATCHED = "n_pairs_left_out"
MATCHED = "matched"
HALF_WIDTH = "_half_width"


def run_outcomes(study: Study) -> pd.DataFrame:
    """Return the planned labels with METRICS, NaN unless the run is done."""
    labels = [*columns.LABEL_COLUMNS, *study.axes]
    done = study.rows[study.rows[STATE] == columns.DONE]
    measured = {
        key: {name: function(run[column].to_numpy()) for name, (column, function) in METRICS.items()}
        for key, run in done.drop_duplicates([CELL, columns.STEP]).groupby(CELL)
    }
    frame = study.cells[[*labels, CELL, STATE, SLOTS_HASH]].copy()
    for name in METRICS:
        frame[name] = [measured.get(key, {}).get(name, np.nan) for key in frame[CELL]]
    return frame


def pair_with_baseline(outcomes: pd.DataFrame, *, axes: tuple[str, ...]) -> pd.DataFrame:
    """Return finished runs beside the finished baseline run of their seed, mix and axes.

    `matched` tells whether both saw the same task B examples at the same steps (equal slots
    hashes); a pair that did not, or cannot show it, is no pair.
    """
    keys = [columns.MIX, columns.SEED, *axes]
    done = outcomes[outcomes[STATE] == columns.DONE]
    baseline = done[done[columns.STRATEGY] == BASELINE][[*keys, FINAL_A, SLOTS_HASH]]
    others = done[done[columns.STRATEGY] != BASELINE]
    pairs = others.merge(baseline, on=keys, suffixes=("", "_baseline"))
    pairs[MATCHED] = pairs[SLOTS_HASH] == pairs[f"{SLOTS_HASH}_baseline"]  # an unknown hash equals nothing
    return pairs


def difference_from_baseline(pairs: pd.DataFrame) -> Interval:
    """Return the paired interval of the change in A's final loss over the matched rows of `pairs`."""
    matched = pairs[pairs[MATCHED]]
    return paired_interval(matched[FINAL_A].to_numpy(float), matched[f"{FINAL_A}_baseline"].to_numpy(float))


def summarise(study: Study, *, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return one row per strategy, mix and axes: counts of every state, means with half-widths, n."""
    keys = [*study.axes, columns.MIX, columns.STRATEGY]
    pairs = pair_with_baseline(outcomes, axes=study.axes)
    rows = [
        {**label, **count_states(group), **_means(group), **_difference(select(pairs, label))}
        for label, group in grouped(outcomes, keys=keys)
    ]
    frame = pd.DataFrame(rows)
    rank = frame[columns.STRATEGY].map(strategy_rank)
    order = frame.assign(_rank=rank).sort_values([*study.axes, columns.MIX, "_rank"], kind="stable").index
    first = [columns.STRATEGY, columns.MIX, *study.axes]
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


def strategy_rank(strategy: str) -> tuple[int, str]:
    """Sort the baseline first, then strategies by name, the control without replay last."""
    return ({BASELINE: 0, columns.NO_REPLAY: 2}.get(strategy, 1), strategy)


def count_states(cells: pd.DataFrame) -> dict[str, int]:
    """Return how many of the planned `cells` are in each state; missing and partial are unfinished."""
    count = {state: int((cells[STATE] == state).sum()) for state in columns.CELL_STATES}
    kept = {state: count[state] for state in (columns.DONE, columns.DIVERGED, columns.FAILED)}
    return {PLANNED: len(cells), **kept, UNFINISHED: count[columns.PARTIAL] + count[columns.MISSING]}


def _means(group: pd.DataFrame) -> dict[str, float]:
    done = group[group[STATE] == columns.DONE]
    intervals = {name: mean_interval(done[name].to_numpy(float)) for name in METRICS}
    return {
        column: value
        for name, interval in intervals.items()
        for column, value in ((name, interval.mean), (name + HALF_WIDTH, interval.half_width))
    }


def _difference(pairs: pd.DataFrame) -> dict[str, float]:
    interval = difference_from_baseline(pairs)
    return {
        DIFFERENCE: interval.mean,
        DIFFERENCE + HALF_WIDTH: interval.half_width,
        PAIRS: interval.n,
        MISMATCHED: int((~pairs[MATCHED]).sum()),
    }
