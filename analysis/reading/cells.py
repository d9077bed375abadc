"""Reads a study's cells: the state of each, its evaluation points, and what could not be used of it.

A cell is finished if its result is whole, every file that it lists is there, and those read here are the listed
ones. No link is followed.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from analysis.reading.errors import shortened
from analysis.reading.records import Folder, Record, checksum, stored_name
from analysis.reading.rows import NO_POINTS, POSITIONS, Points, RowsError, make_points
from analysis.reading.storage import Entries, StudyFiles
from trainables.ledger import schema

KEY = re.compile(r"[0-9a-f]{20}")
OF_ATTEMPT = re.compile(rf"({schema.ATTEMPT_FORM})-(.+)", re.DOTALL)
READ_HERE = (schema.CELL_FILE, schema.SELECTION_FILE, schema.ROWS_FILE)
FINAL_LOSSES = [POSITIONS[schema.TASK_A_LOSS], POSITIONS[schema.TASK_B_LOSS]]


@dataclass(frozen=True)
class Cell:
    """What one cell's folder holds; `error` is why it failed or, though it has a result, is not finished."""

    state: str
    points: Points = field(default_factory=lambda: NO_POINTS)
    error: str | None = None
    log: str | None = None
    slots_hash: str | None = None
    selection_digest: str | None = None


Content = dict[str, Any]  # points, slots_hash and selection_digest of a Cell


def read_cells(files: StudyFiles, *, keys: Iterable[str | None]) -> tuple[dict[str, Cell], tuple[str, ...]]:
    """Read each known key's cell once, in order of first mention; return them and every problem found."""
    known = list(dict.fromkeys(key for key in keys if key is not None))
    there = files.entries(schema.CELLS_DIRECTORY) if known else {}
    found = files.each(lambda key: read_cell(files, key, there.get(key, Entries())), known)
    problems = chain.from_iterable(problems for _, problems in found)
    return {key: cell for key, (cell, _) in zip(known, found, strict=True)}, tuple(problems)


def read_cell(files: StudyFiles, key: str, there: Entries) -> tuple[Cell, Sequence[str]]:
    """Read one cell and list its problems: a result gives its state, else a failure, else what is there."""
    folder = Folder(files, f"{schema.CELLS_DIRECTORY}/{key}")
    if there.links:
        place = files.describe("/".join(part for part in (folder.name, min(there.links)) if part))
        problem = f"{place} is a symbolic link, and a study follows none inside it"
        return Cell(schema.PARTIAL, error=problem), [problem]
    if schema.RESULT_FILE in there.files:
        return _ended_cell(folder, there, key=key), folder.problems
    return _open_cell(folder, there, key=key), folder.problems


def _ended_cell(folder: Folder, there: Entries, *, key: str) -> Cell:
    """Return a cell that has a result: finished, or partial for the damage that is its error."""
    result = folder.record(schema.RESULT_FILE)
    if result is None and not folder.problems:  # deleted since
        return _open_cell(folder, there, key=key)
    folder.attempt = current_attempt(there) if result is None else _attempt(result, folder)
    if result is not None:
        folder.listed = _listed_checksums(result)
        if folder.listed is None:
            folder.problems.append(
                f"{folder.describe(schema.RESULT_FILE)}: it does not list the cell's files"
            )
        _check_names(folder, there)
    content = _read_content(folder, key=key)
    if result is not None and not folder.problems:
        state = finished_state(result, folder=folder, points=content["points"])
        if state is not None:
            return Cell(state, **content)
    return Cell(schema.PARTIAL, error=folder.problems[0], **content)


def _open_cell(folder: Folder, there: Entries, *, key: str) -> Cell:
    """Return a cell that has no result."""
    if not there.files:
        return Cell(schema.MISSING)
    failure = folder.record(schema.FAILURE_FILE) if schema.FAILURE_FILE in there.files else None
    folder.attempt = current_attempt(there)
    content = _read_content(folder, key=key)
    if failure is None:
        return Cell(schema.PARTIAL, **content)
    log = _log_path(folder, failure.get("log"))
    return Cell(schema.FAILED, error=str(failure.get("error")), log=log, **content)


def current_attempt(there: Entries) -> str | None:
    """Return whose files count of a cell that is not finished: the newest attempt's that has rows, else the newest's."""
    found = [OF_ATTEMPT.fullmatch(name) for name in there.files]
    with_rows = [match[1] for match in found if match and match[2] == schema.ROWS_FILE]
    if not with_rows and schema.ROWS_FILE in there.files:
        return None
    return max(with_rows or [match[1] for match in found if match], default=None)


def _attempt(result: Record, folder: Folder) -> str | None:
    """Return whose files a result lists; what is no attempt's name is listed as a problem."""
    attempt = result.get(schema.ATTEMPT)
    if attempt is None or (isinstance(attempt, str) and re.fullmatch(schema.ATTEMPT_FORM, attempt)):
        return attempt
    folder.problems.append(
        f"{folder.describe(schema.RESULT_FILE)}: {shortened(attempt)} is no attempt's name"
    )
    return None


def _check_names(folder: Folder, there: Entries) -> None:
    """List the files as missing that a result lists, that are not there, and that are not read here anyway."""
    for name in folder.listed or {}:
        if name not in READ_HERE and stored_name(name, folder.attempt) not in there.files:
            folder.problems.append(f"{folder.describe(name)} is missing, though the result lists it")


def _listed_checksums(result: Record) -> dict[str, Any] | None:
    """Return the checksums that a result lists, by name; None where it has no such list."""
    files = result.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        return None
    return {name: entry.get("checksum") for name, entry in files.items()}


def _read_content(folder: Folder, *, key: str) -> Content:
    """Return a cell's points, and what identifies its slots and its selection."""
    points = read_points(folder)
    description = folder.record(schema.CELL_FILE) or {}
    selection = folder.check(schema.SELECTION_FILE)
    owner = description.get("key", key)
    if owner != key:
        folder.problems.append(f"{folder.describe(schema.CELL_FILE)}: of another cell, {shortened(owner)}")
        return {"points": NO_POINTS}
    slots = description.get("slots_hash")
    return {
        "points": points,
        "slots_hash": slots if isinstance(slots, str) else None,
        "selection_digest": None if selection is None else checksum(_ids(selection)),
    }


def _ids(selection: bytes) -> bytes:
    """Return the JSON of the replayed examples' ids, the part of a selection that losses do not enter."""
    return selection.partition(b'"id"')[2].partition(b"]")[0]


def read_points(folder: Folder) -> Points:
    """Return a cell's evaluation points in order of step; none where there are none to use."""
    record = folder.record(schema.ROWS_FILE)
    try:
        return NO_POINTS if record is None else make_points(record.get("rows"))
    except RowsError as err:
        folder.problems.append(f"{folder.describe(schema.ROWS_FILE)}: {err}")
        return NO_POINTS


def finished_state(result: Record, *, folder: Folder, points: Points) -> str | None:
    """Return DONE or DIVERGED where the result says so and the points bear it out, else None and why."""
    state = result.get("state")
    last = points[-1, POSITIONS[schema.STEP]].item() if len(points) else None
    if state == schema.DIVERGED:
        return schema.DIVERGED
    reached_end = last is not None and last == result.get("step")
    if state == schema.DONE and reached_end and np.isfinite(points[-1, FINAL_LOSSES]).all():
        return schema.DONE
    place = folder.describe(schema.RESULT_FILE)
    if state != schema.DONE:
        wanted = f"{schema.DONE} or {schema.DIVERGED}"
        folder.problems.append(f"{place}: state must be {wanted}, got {shortened(state)}")
    elif not reached_end:
        reached = "there are no usable rows" if last is None else f"the last row is of step {last:.0f}"
        folder.problems.append(f"{place}: done at step {shortened(result.get('step'))}, but {reached}")
    else:
        folder.problems.append(
            f"{place}: done, but the last losses are not finite: counted as {schema.DIVERGED}"
        )
        return schema.DIVERGED
    return None


def _log_path(folder: Folder, log: Any) -> str | None:
    """Return the failure's log, a path inside the study; anything else is listed, and None."""
    if log is None:
        return None
    if isinstance(log, str) and log.isprintable():
        path = PurePosixPath(log)
        if path.parts and not path.is_absolute() and ".." not in path.parts and "\\" not in log:
            return log
    folder.problems.append(
        f"{folder.describe(schema.FAILURE_FILE)}: log must be a path inside the study, got {shortened(log)}"
    )
    return None
