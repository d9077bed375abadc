"""What identifies a row of a table: strategy, mix, seed and axes; and what its intervals are conditional
on.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.findings.findings import Findings
from analysis.tables.table import Column, Entry, count
from analysis.wording.terms import mix_text, strategy_text
from trainables.ledger import schema

Row = Mapping[Any, Any]


def label_columns(findings: Findings, *, seed: bool = True) -> list[Column]:
    """Return the headings of what identifies a run, or a contrast."""
    heads = [Column(schema.STRATEGY), Column(schema.MIX, numeric=True)]
    heads += [Column(schema.SEED, numeric=True)] if seed else []
    return [*heads, *(Column(axis) for axis in findings.study.axes)]


def label_entries(findings: Findings, row: Row, *, seed: bool = True) -> list[Entry]:
    """Return the entries under `label_columns`; axes that are numbers sort as numbers."""
    entries = [
        Entry(strategy_text(row[schema.STRATEGY])),
        Entry(mix_text(row[schema.MIX]), float(row[schema.MIX])),
    ]
    entries += [count(row[schema.SEED])] if seed else []
    return [*entries, *(_value_entry(row[axis]) for axis in findings.study.axes)]


def _value_entry(value: Any) -> Entry:
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        return Entry(str(value), float(value))
    return Entry(str(value))
