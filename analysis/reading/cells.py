"""Reads a study's cells: the state of each, its evaluation points, and what could not be used of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.ledger import schema
from trainables.ledger.cell_reader import CellContent, read_cell
from trainables.ledger.digests import digest_json
from trainables.ledger.forms import read_checked
from trainables.ledger.reading import read_each
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Listing, Storage

READERS = 24  # files read at a time: an object store answers many at once; pyarrow keeps 25 connections
Points = npt.NDArray[np.float64]
POINT_COLUMNS = schema.ROW_COLUMNS + schema.SCORE_COLUMNS
NO_POINTS: Points = np.empty((0, len(POINT_COLUMNS)))
_VALUES_OF = itemgetter(*schema.ROW_COLUMNS)


@dataclass(frozen=True)
class Cell:
    """What one cell's folder holds; `error` is why it failed or, though it has a result, is not finished.

    `points` (P, POINT_COLUMNS and further ones) are its evaluation points in order of step, NaN where nothing
    was measured.
    """

    state: str
    points: Points = field(default_factory=lambda: NO_POINTS)
    error: str | None = None
    log: str | None = None
    slots_hash: str | None = None
    selection_digest: str | None = None


def read_cells(
    storage: Storage, *, keys: Iterable[str | None], further: Sequence[str] = ()
) -> tuple[dict[str, Cell], tuple[str, ...]]:
    """Read each known key's cell once, in order of first mention; return them and every problem found.

    `further` columns, which only this study has, follow POINT_COLUMNS in each cell's points.
    """
    known = list(dict.fromkeys(key for key in keys if key is not None))
    there = storage.listing(schema.CELLS_DIRECTORY).by_folder() if known else {}

    def read(key: str) -> tuple[Cell, tuple[str, ...]]:
        folder = storage.inside(f"{schema.CELLS_DIRECTORY}/{key}")
        return _read(folder, there.get(key, Listing()), further)

    found = read_each(read, known, readers=READERS)
    problems = chain.from_iterable(problems for _, problems in found)
    return {key: cell for key, (cell, _) in zip(known, found, strict=True)}, tuple(problems)


def _read(folder: Storage, found: Listing, further: Sequence[str]) -> tuple[Cell, tuple[str, ...]]:
    """Read one cell and list its problems: a result gives its state, else a failure, else what is there."""
    if not found.files and not found.links:
        return Cell(schema.MISSING), ()
    content = read_cell(folder, found)
    known = _known(content, further)
    if content.result is not None:
        return Cell(content.result["state"], **known), ()
    ended = schema.RESULT_FILE in found.files
    if ended or found.links or schema.FAILURE_FILE not in found.files:
        error = content.problems[0] if content.problems and (ended or found.links) else None
        return Cell(schema.PARTIAL, error=error, **known), content.problems
    try:
        failure = read_checked(folder, schema.FAILURE_FILE) or {"error": "unknown", "log": None}
    except DamagedError as error:
        return Cell(schema.FAILED, error=str(error), **known), (*content.problems, str(error))
    return Cell(schema.FAILED, error=failure["error"], log=failure["log"] or None, **known), content.problems


def _known(content: CellContent, further: Sequence[str]) -> dict[str, Any]:
    """Return the points of a cell, and what identifies its slots and its selection."""
    optional = (*schema.SCORE_COLUMNS, *further)
    values = [_VALUES_OF(row) + tuple(map(row.get, optional)) for row in content.rows]
    return {
        "points": np.array(values, dtype=np.float64) if values else NO_POINTS,
        "slots_hash": content.description.get("slots_hash"),
        "selection_digest": digest_json(content.selection["id"]) if content.selection else None,
    }
