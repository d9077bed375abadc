"""Forgetting of task A by its examples' level and type: which part of the task was lost."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.reading.per_example import GROUPS, Changes, Validation, Values
from analysis.reading.study import CELL, RecordedStudy
from trainables.ledger import schema

LEVEL_COLUMNS = ("group", "value", "tokens", "examples", "forgetting")


def find_levels(study: RecordedStudy, *, changes: Changes) -> pd.DataFrame:
    """Return a row a run and group: strategy, mix, seed, *axes, LEVEL_COLUMNS; empty without such losses.

    `forgetting` is the rise of the group's loss from step 0 to the end: sum of nll / sum of tokens, both over
    the group's examples, as the whole task's loss is. The groups' token-weighted mean is the whole's.
    """
    labels = [*schema.LABEL_COLUMNS, *study.axes]
    runs = study.cells[study.cells[CELL].isin(list(changes.rises))]
    if changes.validation is None or runs.empty:
        return pd.DataFrame(columns=[*labels, *LEVEL_COLUMNS])
    rises = np.stack([changes.rises[key] for key in runs[CELL]])
    parts = [
        runs[labels].assign(group=group, value=value, **measured)
        for group in GROUPS
        for value, members in group_members(changes.validation, group=group).items()
        for measured in [_measure(rises, members=members, tokens=changes.validation.tokens)]
    ]
    frame = pd.concat(parts) if parts else pd.DataFrame(columns=[*labels, *LEVEL_COLUMNS])
    return frame.sort_values(["group", *labels, "value"], kind="stable").reset_index(drop=True)


def group_members(validation: Validation, *, group: str) -> dict[str, np.ndarray]:
    """Return which examples have each value of a group, (V,) true there; those of no value are in none."""
    values = np.array(validation.groups[group], dtype=object)
    known = sorted({value for value in values.tolist() if value is not None})
    return {value: values == value for value in known}


def _measure(rises: Values, *, members: np.ndarray, tokens: Values) -> dict[str, Any]:
    """Return the forgetting of every run (R,) over the members, from its rises (R, V)."""
    supervised = tokens[members].sum()
    return {
        "tokens": int(supervised),
        "examples": int(members.sum()),
        "forgetting": rises[:, members].sum(axis=1) / supervised,
    }
