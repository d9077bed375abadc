"""Reads a study into tidy frames: planned cells, and evaluation points. Writes nothing."""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from analysis.reading.cells import POINT_COLUMNS, Cell, read_cells
from analysis.reading.errors import AnalysisError, LedgerWarning
from analysis.reading.safe_text import visible
from analysis.stats.measures import MEASURES
from trainables.ledger import schema
from trainables.ledger.forms import LedgerError, read_own_file
from trainables.ledger.sealed_json import Record
from trainables.ledger.storage.base import Storage, StorageError
from trainables.ledger.storage.location import LocationError, check_location, is_path, open_storage
from trainables.ledger.values import COUNTS, shortened

CELL = "cell"
STATE = "state"
ERROR = "error"
LOG = "log"
SLOTS_HASH = "slots_hash"
SELECTION_DIGEST = "selection_digest"
START_LOSSES = [schema.TASK_A_LOSS, schema.TASK_B_LOSS]  # at step 0 they tell Phase A artifacts apart
CELL_DETAILS = (CELL, STATE, ERROR, LOG, SLOTS_HASH, SELECTION_DIGEST)

NO_CELL = Cell(schema.MISSING)
PATIENCE = 5.0  # seconds that a storage which does not answer is asked again


@dataclass(frozen=True)
class RecordedStudy:
    """A study as frames: `cells` has a row per planned label, `rows` one per evaluation point too.

    `storage`: where the files of single examples are read, once a frame needs them; None where there are
    none.
    """

    description: Record
    axes: tuple[str, ...]
    cells: pd.DataFrame
    rows: pd.DataFrame
    problems: tuple[str, ...] = ()
    storage: Storage | None = None

    @property
    def name(self) -> str:
        return str(self.description.get("name", "study"))

    @property
    def whole(self) -> "RecordedStudy":
        """The study itself, as a part of it has it."""
        return self

    @property
    def free_axes(self) -> tuple[str, ...]:
        """The axes of which this holds more than one value."""
        return self.axes

    @property
    def baseline(self) -> str:
        """The strategy that the others are compared with."""
        declared = section(section(self.description, "config"), "inference").get("baseline")
        return declared if isinstance(declared, str) else schema.DEFAULT_BASELINE

    def compared_with(self, baseline: str) -> "RecordedStudy":
        """Return the study as if it had declared that baseline."""
        config = section(self.description, "config")
        inference = {**section(config, "inference"), "baseline": baseline}
        return replace(self, description={**self.description, "config": {**config, "inference": inference}})

    @property
    def task_a(self) -> str:
        return str(self.description.get("task_a", "task A"))

    @property
    def task_b(self) -> str:
        return str(self.description.get("task_b", "task B"))


def section(record: Record, name: str) -> Record:
    """Return a section of a record, empty where there is none."""
    found = record.get(name)
    return found if isinstance(found, dict) else {}


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


def open_study(location: str | PathLike[str]) -> Storage:
    """Return the storage at a directory's path or s3://bucket/prefix. Raises AnalysisError for other
    locations.

    A path is shown as it was given.
    """
    place = os.fspath(location)
    try:
        return open_storage(place if is_path(place) else check_location(place), patience=PATIENCE)
    except LocationError as err:
        raise AnalysisError(str(err)) from err


def read_study(
    location: str | PathLike[str],
    *,
    description: Record | None = None,
    plan: Sequence[Record] | None = None,
) -> RecordedStudy:
    """Read the study at `location` into frames; raises AnalysisError where there is none.

    A study may be running: a file that is damaged or missing is listed as a problem, and its cell counts as
    the lesser state. `description` and `plan` take the place of the ones on record: labels with their keys.
    """
    try:
        return _read(open_study(location), description=description, plan=plan)
    except (LedgerError, StorageError) as err:
        raise AnalysisError(str(err)) from err


def _read(storage: Storage, *, description: Record | None, plan: Sequence[Record] | None) -> RecordedStudy:
    study = _require(storage, schema.STUDY_FILE) if description is None else description
    if schema.RATES_FILE in storage.listing(deep=False).files:
        raise AnalysisError(
            f"{storage.describe()} is a learning-rate search, whose cells were stopped by their outcome: "
            f"nothing can be estimated from them. See {schema.RATES_FILE} in it for what became of each rate"
        )
    axes = tuple(study["axes"])
    labels = (*schema.LABEL_COLUMNS, *axes)
    _check_axes(axes)
    plan = _require(storage, schema.PLAN_FILE)["cells"] if plan is None else plan
    values = label_frame([entry["labels"] for entry in plan], labels=labels)
    values = values.sort_values(list(labels), kind="stable")
    keys = [plan[position]["key"] for position in values.index]
    named = [
        column.format(name=name)
        for name in watched_corpora(study)
        for column in (schema.WATCHED_LOSS, schema.WATCHED_BASE_LOSS)
    ]
    watched = list(dict.fromkeys(named))
    read, problems = read_cells(storage, keys=(entry["key"] for entry in plan), further=watched)
    planned = [NO_CELL if key is None else read[key] for key in keys]
    details = pd.DataFrame(
        [_details(*pair) for pair in zip(keys, planned, strict=True)], columns=CELL_DETAILS
    )
    cells = pd.concat([values.reset_index(drop=True), details], axis="columns")
    scores = [f"{task}_{schema.EXACT_MATCH}" for task in _tasks_asked(study)]
    primary = section(section(study, "config"), "inference").get("primary")
    needed = MEASURES[primary].needs if isinstance(primary, str) and primary in MEASURES else None
    scores += [needed] if needed is not None and scores else []
    rows = _point_frame(cells, planned, asked=scores, watched=watched)
    return RecordedStudy(study, axes, cells, rows, problems, storage)


def _require(storage: Storage, name: str) -> Record:
    """Read one of the two files without which a place is not a study."""
    record = read_own_file(storage, name)
    if record is None:
        said = "is a file" if os.path.isfile(storage.location) else f"has no {name}"
        raise AnalysisError(
            f"{storage.describe()} is not a study directory: it {said}. Give the directory or s3:// "
            f"location that the sweep writes, the one that holds {schema.STUDY_FILE} and {schema.PLAN_FILE}."
        )
    return record


def _tasks_asked(description: Record) -> list[str]:
    """Return the tasks of which a study declares to generate answers."""
    generate = section(section(section(description, "config"), "evaluation"), "generate")
    declared = generate.get("tasks")
    return [task for task in schema.TASKS if isinstance(declared, list) and task in declared]


def answered_items(description: Record) -> dict[str, int]:
    """Return how many prompts of each task a study declares to answer."""
    config = section(description, "config")
    generate = section(section(config, "evaluation"), "generate")
    found = {}
    for task in _tasks_asked(description):
        sizes = [generate.get("examples"), section(config, task).get("validation")]
        known = [size for size in sizes if isinstance(size, int) and size > 0]
        if known:
            found[task] = min(known)
    return found


def watched_corpora(description: Record) -> list[str]:
    """Return the names of the corpora that a study declares to watch."""
    declared = section(section(description, "config"), "evaluation").get("watch")
    entries = declared if isinstance(declared, list) else []
    names = [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]
    return list(dict.fromkeys(names))


def _point_frame(
    cells: pd.DataFrame, planned: list[Cell], *, asked: list[str], watched: list[str]
) -> pd.DataFrame:
    """Return every planned label's evaluation points, beside the label, its cell and its state.

    Of the columns of scores those are in it that are `asked` for or have a number, and all of `watched`.
    """
    named = cells[[name for name in cells.columns if name not in CELL_DETAILS or name in (CELL, STATE)]]
    counts = [len(cell.points) for cell in planned]
    repeated = named.loc[np.repeat(named.index, counts)].reset_index(drop=True)
    columns = [*POINT_COLUMNS, *watched]
    points = np.concatenate([np.empty((0, len(columns))), *(c.points for c in planned if len(c.points))])
    types = dict.fromkeys(COUNTS, "int64")
    measured = pd.DataFrame(points, columns=columns).astype(types)
    empty = [name for name in schema.SCORE_COLUMNS if name not in asked and measured[name].isna().all()]
    measured = measured.drop(columns=empty)
    return pd.concat([repeated, measured], axis="columns")


def label_frame(planned: Sequence[Record], *, labels: tuple[str, ...]) -> pd.DataFrame:
    """Return the planned labels' values, every column of one type so that it sorts and groups.

    Raises AnalysisError where one lacks an axis, or is planned twice.
    """
    for values in planned:
        absent = [name for name in labels if name not in values]
        if absent:
            raise AnalysisError(
                f"{schema.PLAN_FILE}: a cell's labels must be {', '.join(labels)}; got {shortened(values)}"
            )
    frame = pd.DataFrame(list(planned), columns=list(labels), dtype=object)
    plain = {name: plain_values(frame[name].tolist()) for name in labels}
    frame = pd.DataFrame(plain, columns=list(labels)).astype({schema.STRATEGY: "str", schema.MIX: "float64"})
    twice = frame[frame.duplicated()]
    if not twice.empty:
        raise AnalysisError(f"{schema.PLAN_FILE} plans a label twice: {twice.iloc[0].to_dict()}")
    return frame


def plain_values(values: list[Any]) -> list[Any]:
    """Return scalars of one kind: numbers or texts as they are, anything else in its JSON spelling."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float} or kinds in ({bool}, {str}):
        return values
    return [value if isinstance(value, str) else json.dumps(value, sort_keys=True) for value in values]


def _check_axes(axes: tuple[str, ...]) -> None:
    taken = {*schema.LABEL_COLUMNS, *POINT_COLUMNS, *CELL_DETAILS}
    clashes = [name for name in axes if name in taken]
    if clashes:
        raise AnalysisError(
            f"an axis may not have the name of a column of the table, got {', '.join(clashes)}"
        )


def _details(key: str | None, cell: Cell) -> list[Any]:
    return [key, cell.state, cell.error, cell.log, cell.slots_hash, cell.selection_digest]
