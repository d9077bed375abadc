"""Reads the files of a study directory: study, plan and cells. Writes nothing.

A study may be running: a file that is torn or missing is listed as a problem, and its cell counts
as the lesser state.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from analysis.errors import AnalysisError
from trainables import columns

COUNTS = (
    columns.STEP,
    columns.TASK_A_EXAMPLES,
    columns.TASK_B_EXAMPLES,
    columns.TASK_A_TOKENS,
    columns.TASK_B_TOKENS,
)
CHECKPOINTS = "checkpoint*"

Record = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """What one cell's directory holds."""

    state: str
    rows: list[Record] = field(default_factory=list)
    error: str | None = None
    log: str | None = None
    slots_hash: str | None = None
    selection_digest: str | None = None


@dataclass(frozen=True)
class Label:
    """One planned run: its label values, and its cell's key once that is known."""

    values: Record
    key: str | None


@dataclass(frozen=True)
class Ledger:
    """A study directory, read once: every cell by key, and what could not be used."""

    study: Record
    axes: tuple[str, ...]
    plan: list[Label]
    cells: dict[str, Cell]
    problems: tuple[str, ...]


def read_ledger(directory: Path) -> Ledger:
    """Read the study in `directory`; raises AnalysisError where there is none."""
    problems: list[str] = []
    study = _require(directory, columns.STUDY_FILE)
    axes = tuple(study.get("axes", ()))
    labels = (*columns.LABEL_COLUMNS, *axes)
    entries = _require(directory, columns.PLAN_FILE).get("cells")
    if not isinstance(entries, list):
        raise AnalysisError(f"{directory / columns.PLAN_FILE} has no list of cells")
    plan = [read_label(entry, labels=labels) for entry in entries]
    cells = read_cells(
        directory / columns.CELLS_DIRECTORY, keys=(label.key for label in plan), problems=problems
    )
    return Ledger(study, axes, plan, cells, tuple(problems))


def _require(directory: Path, name: str) -> Record:
    """Read one of the two files without which a directory is not a study."""
    problems: list[str] = []
    record = read_object(directory / name, problems=problems)
    if record is None:
        reason = problems[0] if problems else f"it has no {name}"
        raise AnalysisError(
            f"{directory} is not a study directory: {reason}. "
            "Give the directory that the sweep writes, the one that holds "
            f"{columns.STUDY_FILE} and {columns.PLAN_FILE}."
        )
    if record.get("schema") != columns.SCHEMA_VERSION:
        raise AnalysisError(
            f"{directory / name} has schema {record.get('schema')!r}; this version reads schema {columns.SCHEMA_VERSION}"
        )
    return record


def read_label(entry: Any, *, labels: tuple[str, ...]) -> Label:
    """Check one entry of the plan; a label must have a value for every name in `labels`."""
    values = entry.get("labels") if isinstance(entry, dict) else None
    if not isinstance(values, dict) or any(name not in values for name in labels):
        raise AnalysisError(
            f"{columns.PLAN_FILE}: a cell's labels must be {', '.join(labels)}; got {entry!r}"
        )
    if not is_number(values[columns.MIX]):
        raise AnalysisError(f"{columns.PLAN_FILE}: mix must be a number, got {values[columns.MIX]!r}")
    return Label({name: values[name] for name in labels}, entry.get("key"))


def read_cells(directory: Path, *, keys: Iterable[str | None], problems: list[str]) -> dict[str, Cell]:
    """Read each known key's cell once, in order of first mention."""
    known = dict.fromkeys(key for key in keys if key is not None)
    return {key: read_cell(directory / key, problems=problems) for key in known}


def read_cell(directory: Path, *, problems: list[str]) -> Cell:
    """Read one cell: a valid result gives its state, then a failure, then rows or a checkpoint."""
    rows = read_rows(directory / columns.ROWS_FILE, problems=problems)
    description = read_object(directory / columns.CELL_FILE, problems=problems) or {}
    failure = read_object(directory / columns.FAILURE_FILE, problems=problems)
    state = finished_state(directory / columns.RESULT_FILE, rows=rows, problems=problems)
    if state is not None:
        failure = None
    elif failure is not None:
        state = columns.FAILED
    else:
        started = (directory / columns.ROWS_FILE).exists() or any(directory.glob(CHECKPOINTS))
        state = columns.PARTIAL if started else columns.MISSING
    return Cell(
        state,
        rows,
        error=None if failure is None else str(failure.get("error")),
        log=None if failure is None or failure.get("log") is None else str(failure["log"]),
        slots_hash=description.get("slots_hash"),
        selection_digest=digest_file(directory / columns.SELECTION_FILE),
    )


def finished_state(path: Path, *, rows: list[Record], problems: list[str]) -> str | None:
    """Return DONE or DIVERGED where the result says so and the rows bear it out, else None."""
    result = read_object(path, problems=problems)
    if result is None:
        return None
    state = result.get("state")
    if state == columns.DIVERGED:
        return columns.DIVERGED
    if state != columns.DONE:
        problems.append(f"{path}: state must be {columns.DONE} or {columns.DIVERGED}, got {state!r}")
    elif not rows or rows[-1][columns.STEP] != result.get("step"):
        last = f"the last row is of step {rows[-1][columns.STEP]}" if rows else "there are no usable rows"
        problems.append(f"{path}: done at step {result.get('step')}, but {last}")
    elif not all(is_number(rows[-1][name]) for name in (columns.TASK_A_LOSS, columns.TASK_B_LOSS)):
        problems.append(f"{path}: done, but the last losses are not finite: counted as {columns.DIVERGED}")
        return columns.DIVERGED
    else:
        return columns.DONE
    return None


def read_rows(path: Path, *, problems: list[str]) -> list[Record]:
    """Return a cell's evaluation points in order of step; empty where there are none to use."""
    record = read_object(path, problems=problems)
    if record is None:
        return []
    rows = record.get("rows")
    fault = rows_fault(rows)
    if fault is not None:
        problems.append(f"{path}: {fault}")
        return []
    assert isinstance(rows, list)
    return [{name: row[name] for name in columns.ROW_COLUMNS} for row in rows]


def rows_fault(rows: Any) -> str | None:
    """Return what is wrong with a cell's rows, or None: rows of ROW_COLUMNS, steps rising from 0."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return "it has no list of rows"
    for row in rows:
        absent = [name for name in columns.ROW_COLUMNS if name not in row]
        if absent:
            return f"a row lacks {', '.join(absent)}"
        strange = [name for name in columns.ROW_COLUMNS if not (row[name] is None or is_real(row[name]))]
        strange += [name for name in COUNTS if not is_number(row[name])]
        if strange:
            return f"{strange[0]} must be a number, got {row[strange[0]]!r}"
    steps = [row[columns.STEP] for row in rows]
    if steps and (steps[0] != 0 or any(later <= earlier for earlier, later in pairwise(steps))):
        return f"steps must rise from 0, got {steps[:4]}"
    return None


def is_real(value: Any) -> bool:
    """Return whether `value` is a JSON number, NaN and infinities included."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether `value` is a finite JSON number."""
    return is_real(value) and math.isfinite(value)


def digest_file(path: Path) -> str | None:
    """Return a digest of the file's bytes, or None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def read_object(path: Path, *, problems: list[str]) -> Record | None:
    """Return the JSON object in `path`; None where it is absent or, after listing why, unusable."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as err:
        problems.append(f"{path}: unreadable ({err})")
        return None
    if not isinstance(value, dict):
        problems.append(f"{path}: must hold a JSON object, got {type(value).__name__}")
        return None
    return value
