"""Reads a study: what it is, what it planned, and every planned cell. Writes nothing.

A study may be running: a file that is damaged or missing is listed as a problem, and its cell counts
as the lesser state.
"""

import os
from dataclasses import dataclass
from os import PathLike
from typing import Any

from analysis.reading.cells import KEY, Cell, read_cells
from analysis.reading.errors import AnalysisError, shortened
from analysis.reading.records import Folder, Record
from analysis.reading.rows import is_number
from analysis.reading.storage import StudyFiles, open_study
from trainables.ledger import schema


@dataclass(frozen=True)
class Label:
    """One planned run: its label values, and its cell's key once that is known."""

    values: Record
    key: str | None


@dataclass(frozen=True)
class Ledger:
    """A study, read once: every cell by key, and what could not be used."""

    study: Record
    axes: tuple[str, ...]
    plan: list[Label]
    cells: dict[str, Cell]
    problems: tuple[str, ...]


def read_ledger(location: str | PathLike[str]) -> Ledger:
    """Read the study at `location`, a directory or s3://bucket/prefix; raises AnalysisError where there is none."""
    files = open_study(location)
    study = _require(files, schema.STUDY_FILE)
    _refuse_search(files)
    axes = read_axes(study)
    labels = (*schema.LABEL_COLUMNS, *axes)
    entries = _require(files, schema.PLAN_FILE).get("cells")
    if not isinstance(entries, list):
        raise AnalysisError(f"{files.describe(schema.PLAN_FILE)} has no list of cells")
    plan = [read_label(entry, labels=labels) for entry in entries]
    cells, problems = read_cells(files, keys=(label.key for label in plan))
    return Ledger(study, axes, plan, cells, problems)


def _refuse_search(files: StudyFiles) -> None:
    """Raise AnalysisError for a learning-rate search: what it stopped by outcome would bias every estimate."""
    try:
        files.read(schema.RATES_FILE)
    except FileNotFoundError:
        return
    except OSError as err:
        raise AnalysisError(f"{files.describe(schema.RATES_FILE)}: unreadable ({err})") from err
    raise AnalysisError(
        f"{files.describe()} is a learning-rate search, whose cells were stopped by their outcome: nothing can be "
        f"estimated from them. See {schema.RATES_FILE} in it for what became of each rate"
    )


def _require(files: StudyFiles, name: str) -> Record:
    """Read one of the two files without which a place is not a study."""
    folder = Folder(files)
    record = folder.record(name)
    if record is None and folder.problems:
        raise AnalysisError(
            f"{folder.problems[0]}. `run` with the study's configuration writes it anew; no cell is lost"
        )
    if record is None:
        said = "is a file" if os.path.isfile(files.location) else f"has no {name}"
        raise AnalysisError(
            f"{files.describe()} is not a study directory: it {said}. Give the directory or s3:// "
            f"location that the sweep writes, the one that holds {schema.STUDY_FILE} and {schema.PLAN_FILE}."
        )
    if record.get("schema") != schema.SCHEMA_VERSION:
        raise AnalysisError(
            f"{files.describe(name)} has schema {shortened(record.get('schema'))}; "
            f"this version reads schema {schema.SCHEMA_VERSION}"
        )
    return record


def read_axes(study: Record) -> tuple[str, ...]:
    """Return the names of the study's further axes."""
    axes = study.get("axes", [])
    if not isinstance(axes, list) or not all(isinstance(name, str) for name in axes):
        raise AnalysisError(f"{schema.STUDY_FILE}: axes must be a list of names, got {shortened(axes)}")
    if len(set(axes)) < len(axes):
        raise AnalysisError(f"{schema.STUDY_FILE}: an axis is named twice: {', '.join(axes)}")
    return tuple(axes)


def read_label(entry: Any, *, labels: tuple[str, ...]) -> Label:
    """Check one entry of the plan: a value for every name in `labels`, and a cell's key or None."""
    values = entry.get("labels") if isinstance(entry, dict) else None
    if not isinstance(values, dict) or any(name not in values for name in labels):
        raise AnalysisError(
            f"{schema.PLAN_FILE}: a cell's labels must be {', '.join(labels)}; got {shortened(entry)}"
        )
    if not is_number(values[schema.MIX]):
        raise AnalysisError(f"{schema.PLAN_FILE}: mix must be a number, got {shortened(values[schema.MIX])}")
    key = entry.get("key")
    if key is not None and not (isinstance(key, str) and KEY.fullmatch(key)):
        raise AnalysisError(
            f"{schema.PLAN_FILE}: a cell's key must be 20 hexadecimal digits, got {shortened(key)}"
        )
    return Label({name: values[name] for name in labels}, key)
