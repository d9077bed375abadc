"""What an axis of the search changes by itself: each of its values beside its first, run by run."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.reading.study import CELL, STATE, RecordedStudy, plain_values, section
from analysis.stats.intervals import mean_interval
from trainables.ledger import schema

COLUMNS = ("axis", "value", "reference")
NUMBERS = ("n", "mean", "reference_mean", "difference", "low", "high")


def find_between(outcomes: pd.DataFrame, *, study: RecordedStudy, measure: str, level: float) -> pd.DataFrame:
    """Return a row an axis, value beside its reference, strategy, mix and other axes: COLUMNS, strategy, mix,
    *axes (the value's), NUMBERS; exploratory.

    `difference`: the paired difference in `measure` of done runs that share seed, strategy, mix and all other
    axes, with a t interval over the n seeds. The reference is the value that the search lists first. A run
    that both values share is no pair.
    """
    labels = [schema.STRATEGY, schema.MIX, *study.axes]
    done = outcomes[outcomes[STATE] == schema.DONE]
    rows: list[dict[str, Any]] = []
    for axis in study.axes:
        values = _declared(study, axis, found=outcomes[axis])
        keys = [name for name in (*labels, schema.SEED) if name != axis]
        details = [*keys, CELL, measure]
        first = done.loc[done[axis] == values[0], details]
        for value in values[1:]:
            pairs = done.loc[done[axis] == value, details].merge(first, on=keys, suffixes=("", "_reference"))
            pairs = pairs[pairs[CELL] != pairs[f"{CELL}_reference"]]
            groups = [name for name in labels if name != axis]
            for shared, group in pairs.groupby(groups, sort=False, dropna=False):
                label = dict(zip(groups, shared, strict=True)) | {axis: value}
                named = dict(zip(COLUMNS, (axis, value, values[0]), strict=True))
                rows.append(named | label | _compare(group, measure, level=level))
    return pd.DataFrame(rows, columns=[*COLUMNS, *labels, *NUMBERS])


def _declared(study: RecordedStudy, axis: str, *, found: pd.Series) -> list[Any]:
    """Return an axis's values, in the order that the study's search lists them where it does."""
    there = found.drop_duplicates().tolist()
    listed = section(section(study.description, "config"), "search").get(axis)
    shown = plain_values(listed) if isinstance(listed, list) else []
    first = [value for value in shown if value in there]
    return [*first, *(value for value in there if value not in first)]


def _compare(pairs: pd.DataFrame, measure: str, *, level: float) -> dict[str, float]:
    own, theirs = (pairs[name].to_numpy(float) for name in (measure, f"{measure}_reference"))
    known = np.isfinite(own) & np.isfinite(theirs)
    found = mean_interval(own[known] - theirs[known], level=level)
    numbers = (
        found.n,
        float(own[known].mean()) if known.any() else float("nan"),
        float(theirs[known].mean()) if known.any() else float("nan"),
        found.mean,
        found.mean - found.half_width,
        found.mean + found.half_width,
    )
    return dict(zip(NUMBERS, numbers, strict=True))
