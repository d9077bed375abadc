"""From a ledger to tidy frames: planned cells, and evaluation points."""

import json
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError, LedgerWarning
from analysis.ledger import COUNTS, Cell, Label, Ledger, Record, read_ledger
from trainables import columns

CELL = "cell"
STATE = "state"
ERROR = "error"
LOG = "log"
SLOTS_HASH = "slots_hash"
SELECTION_DIGEST = "selection_digest"
CELL_DETAILS = (CELL, STATE, ERROR, LOG, SLOTS_HASH, SELECTION_DIGEST)

NO_CELL = Cell(columns.MISSING)


@dataclass(frozen=True)
class Study:
    """A study as frames: `cells` has a row per planned label, `rows` one per evaluation point too."""

    description: Record
    axes: tuple[str, ...]
    cells: pd.DataFrame
    rows: pd.DataFrame
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self.description.get("name", "study"))

    @property
    def task_a(self) -> str:
        return str(self.description.get("task_a", "task A"))

    @property
    def task_b(self) -> str:
        return str(self.description.get("task_b", "task B"))


def load(directory: str | PathLike[str]) -> pd.DataFrame:
    """See `analysis.load`."""
    return _warn_of_problems(read_study(directory)).rows


def load_cells(directory: str | PathLike[str]) -> pd.DataFrame:
    """See `analysis.load_cells`."""
    return _warn_of_problems(read_study(directory)).cells.drop(columns=[SLOTS_HASH, SELECTION_DIGEST])


def _warn_of_problems(study: Study) -> Study:
    for problem in study.problems:
        warnings.warn(problem, LedgerWarning, stacklevel=4)
    return study


def read_study(directory: str | PathLike[str]) -> Study:
    """Read a study directory into frames; raises AnalysisError where there is none."""
    ledger = read_ledger(Path(directory))
    labels = (*columns.LABEL_COLUMNS, *ledger.axes)
    _check_axes(ledger.axes)
    values = label_frame(ledger, labels=labels)
    twice = values[values.duplicated()]
    if not twice.empty:
        raise AnalysisError(f"{columns.PLAN_FILE} plans a label twice: {twice.iloc[0].to_dict()}")
    order = values.sort_values(list(labels), kind="stable").index
    planned = [(values.loc[position], ledger.plan[position]) for position in order]
    cells = pd.DataFrame(
        [[*label, *_details(entry, ledger)] for label, entry in planned], columns=[*labels, *CELL_DETAILS]
    )
    points = [
        [*label, entry.key, cell.state, *row.values()]
        for label, entry in planned
        for cell in [_cell_of(entry, ledger)]
        for row in cell.rows
    ]
    rows = pd.DataFrame(points, columns=[*labels, CELL, STATE, *columns.ROW_COLUMNS])
    measured = {name: "int64" if name in COUNTS else "float64" for name in columns.ROW_COLUMNS}
    types = dict(values.dtypes)
    return Study(
        ledger.study, ledger.axes, cells.astype(types), rows.astype({**types, **measured}), ledger.problems
    )


def label_frame(ledger: Ledger, *, labels: tuple[str, ...]) -> pd.DataFrame:
    """Return the planned label values, every column of one type so that it sorts and groups."""
    frame = pd.DataFrame([label.values for label in ledger.plan], columns=list(labels), dtype=object)
    plain = {name: plain_values(frame[name].tolist()) for name in labels}
    return pd.DataFrame(plain, columns=list(labels)).astype({columns.STRATEGY: "str", columns.MIX: "float64"})


def plain_values(values: list[Any]) -> list[Any]:
    """Return scalars of one kind: numbers or texts as they are, anything else in its JSON spelling."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float} or kinds in ({bool}, {str}):
        return values
    return [value if isinstance(value, str) else json.dumps(value, sort_keys=True) for value in values]


def _check_axes(axes: tuple[str, ...]) -> None:
    taken = {*columns.LABEL_COLUMNS, *columns.ROW_COLUMNS, *CELL_DETAILS}
    clashes = [name for name in axes if name in taken]
    if clashes:
        raise AnalysisError(
            f"an axis may not have the name of a column of the table, got {', '.join(clashes)}"
        )


def _cell_of(label: Label, ledger: Ledger) -> Cell:
    return NO_CELL if label.key is None else ledger.cells[label.key]


def _details(label: Label, ledger: Ledger) -> list[Any]:
    cell = _cell_of(label, ledger)
    return [label.key, cell.state, cell.error, cell.log, cell.slots_hash, cell.selection_digest]
