"""From a ledger to tidy frames: planned cells, and evaluation points."""

import json
import warnings
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from analysis.reading.cells import Cell
from analysis.reading.errors import AnalysisError, LedgerWarning
from analysis.reading.ledger import Ledger, read_ledger
from analysis.reading.records import Record
from analysis.reading.rows import COUNTS, NO_POINTS
from analysis.reading.safe_text import visible
from analysis.reading.storage import StudyFiles, open_study
from trainables.ledger import schema

CELL = "cell"
STATE = "state"
ERROR = "error"
LOG = "log"
SLOTS_HASH = "slots_hash"
SELECTION_DIGEST = "selection_digest"
START_LOSSES = [schema.TASK_A_LOSS, schema.TASK_B_LOSS]  # at step 0 they tell Phase A artifacts apart
CELL_DETAILS = (CELL, STATE, ERROR, LOG, SLOTS_HASH, SELECTION_DIGEST)

NO_CELL = Cell(schema.MISSING)


@dataclass(frozen=True)
class RecordedStudy:
    """A study as frames: `cells` has a row per planned label, `rows` one per evaluation point too.

    `files`: where the files of single examples are read, once a frame needs them; None where there are none.
    """

    description: Record
    axes: tuple[str, ...]
    cells: pd.DataFrame
    rows: pd.DataFrame
    problems: tuple[str, ...] = ()
    files: StudyFiles | None = None

    @property
    def name(self) -> str:
        return str(self.description.get("name", "study"))

    @property
    def task_a(self) -> str:
        return str(self.description.get("task_a", "task A"))

    @property
    def task_b(self) -> str:
        return str(self.description.get("task_b", "task B"))


def load(location: str | PathLike[str]) -> pd.DataFrame:
    """See `analysis.load`."""
    return _warn_of_problems(read_study(location)).rows


def load_cells(location: str | PathLike[str]) -> pd.DataFrame:
    """See `analysis.load_cells`."""
    return _warn_of_problems(read_study(location)).cells.drop(columns=[SLOTS_HASH, SELECTION_DIGEST])


def _warn_of_problems(study: RecordedStudy) -> RecordedStudy:
    for problem in study.problems:
        warnings.warn(visible(problem), LedgerWarning, stacklevel=4)
    return study


def read_study(location: str | PathLike[str]) -> RecordedStudy:
    """Read the study at `location` into frames; raises AnalysisError where there is none."""
    ledger = read_ledger(location)
    labels = (*schema.LABEL_COLUMNS, *ledger.axes)
    _check_axes(ledger.axes)
    values = label_frame(ledger, labels=labels)
    twice = values[values.duplicated()]
    if not twice.empty:
        raise AnalysisError(f"{schema.PLAN_FILE} plans a label twice: {twice.iloc[0].to_dict()}")
    values = values.sort_values(list(labels), kind="stable")
    keys = [ledger.plan[position].key for position in values.index]
    planned = [NO_CELL if key is None else ledger.cells[key] for key in keys]
    details = pd.DataFrame(
        [_details(*pair) for pair in zip(keys, planned, strict=True)], columns=CELL_DETAILS
    )
    cells = pd.concat([values.reset_index(drop=True), details], axis="columns")
    rows = _point_frame(cells, planned)
    return RecordedStudy(ledger.study, ledger.axes, cells, rows, ledger.problems, open_study(location))


def _point_frame(cells: pd.DataFrame, planned: list[Cell]) -> pd.DataFrame:
    """Return every planned label's evaluation points, beside the label, its cell and its state."""
    named = cells[[name for name in cells.columns if name not in CELL_DETAILS or name in (CELL, STATE)]]
    counts = [len(cell.points) for cell in planned]
    repeated = named.loc[np.repeat(named.index, counts)].reset_index(drop=True)
    points = np.concatenate([NO_POINTS, *(cell.points for cell in planned)])
    types = dict.fromkeys(COUNTS, "int64")
    measured = pd.DataFrame(points, columns=list(schema.ROW_COLUMNS)).astype(types)
    return pd.concat([repeated, measured], axis="columns")


def label_frame(ledger: Ledger, *, labels: tuple[str, ...]) -> pd.DataFrame:
    """Return the planned label values, every column of one type so that it sorts and groups."""
    frame = pd.DataFrame([label.values for label in ledger.plan], columns=list(labels), dtype=object)
    plain = {name: plain_values(frame[name].tolist()) for name in labels}
    return pd.DataFrame(plain, columns=list(labels)).astype({schema.STRATEGY: "str", schema.MIX: "float64"})


def plain_values(values: list[Any]) -> list[Any]:
    """Return scalars of one kind: numbers or texts as they are, anything else in its JSON spelling."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float} or kinds in ({bool}, {str}):
        return values
    return [value if isinstance(value, str) else json.dumps(value, sort_keys=True) for value in values]


def _check_axes(axes: tuple[str, ...]) -> None:
    taken = {*schema.LABEL_COLUMNS, *schema.ROW_COLUMNS, *CELL_DETAILS}
    clashes = [name for name in axes if name in taken]
    if clashes:
        raise AnalysisError(
            f"an axis may not have the name of a column of the table, got {', '.join(clashes)}"
        )


def _details(key: str | None, cell: Cell) -> list[Any]:
    return [key, cell.state, cell.error, cell.log, cell.slots_hash, cell.selection_digest]
