"""What a cell's folder says: whether the cell is finished, under whose name its files stand, and what is in
them.

The one definition of "finished" for workers, driver, `status` and report: the result is whole and has its
form, every file that it lists is there, and no link is on the way. Who reads the files holds them to be the
listed ones, of their forms, and to bear the result out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from trainables.ledger import schema
from trainables.ledger.forms import check_form, read_checked
from trainables.ledger.manifest import check_files, read_listed_record, split_name, stored_name
from trainables.ledger.sealed_json import DamagedError, Record
from trainables.ledger.storage.base import Listing, Storage, StorageError, StoragePausedError

Result = Record
CONTENT = (schema.ROWS_FILE, schema.CELL_FILE, schema.SELECTION_FILE)  # what `read_cell` reads


@dataclass(frozen=True)
class CellContent:
    """What is in a cell's folder: its `result` if it is finished, and its records, empty where there are none
    to use.

    `attempt` is whose they are; `problems` name what could not be used. With any, the cell is not finished.
    """

    result: Result | None = None
    attempt: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    description: Record = field(default_factory=dict)
    selection: Record = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_result(cell: Storage, found: Listing, *, thorough: bool = False) -> Result | None:
    """Return a finished cell's result, None where there is none; `found` lists the cell's folder.

    `thorough` reads every file that it lists. Raises DamagedError naming what keeps the cell from being
    finished.
    """
    refuse_links(cell, found)
    if schema.RESULT_FILE not in found.files:
        return None
    result = read_checked(cell, schema.RESULT_FILE)
    if result is None:  # deleted since
        return None
    info = found.files[schema.RESULT_FILE]
    check_files(cell, result, found=found, since=info.modified if info else None, thorough=thorough)
    if thorough:
        for problem in read_cell(cell, found).problems:
            raise DamagedError(problem)
    return result


def read_cell(cell: Storage, found: Listing) -> CellContent:
    """Return what is in a cell's folder, which `found` lists. Raises StoragePausedError."""
    problems: list[str] = []
    result: Result | None = None
    try:
        result = read_result(cell, found)
    except StoragePausedError:
        raise
    except (DamagedError, StorageError) as error:
        problems.append(str(error))
    if found.links:
        return CellContent(problems=tuple(problems))
    attempt = current_attempt(found) if result is None else result.get(schema.ATTEMPT)
    records: dict[str, Record] = {}
    for name in CONTENT:
        if any(cell.describe(stored_name(name, attempt)) in problem for problem in problems):
            continue
        try:
            records[name] = _read_record(cell, name, result=result, attempt=attempt)
        except StoragePausedError:
            raise
        except (DamagedError, StorageError) as error:
            problems.append(str(error))
    description = records.get(schema.CELL_FILE, {})
    key = cell.prefix.rpartition("/")[2]
    if description and description["key"] != key:
        place = cell.describe(stored_name(schema.CELL_FILE, attempt))
        problems.append(f"{place}: of another cell, {description['key']!r:.100}")
        records = {}
    rows = records.get(schema.ROWS_FILE, {}).get("rows", [])
    if result is not None and not problems:
        problems += [
            f"{cell.describe(schema.RESULT_FILE)}: {fault}" for fault in _not_borne_out(result, rows)
        ]
    return CellContent(
        None if problems else result,
        attempt,
        rows,
        description if records else {},
        records.get(schema.SELECTION_FILE, {}),
        tuple(problems),
    )


def _read_record(cell: Storage, name: str, *, result: Result | None, attempt: str | None) -> Record:
    """Return one of a cell's records: the one that its result lists, if it has one; else {} where it is
    absent.
    """
    if result is None:
        return read_checked(cell, stored_name(name, attempt)) or {}
    record = read_listed_record(cell, result, name)
    check_form(record, name=name, place=cell.describe(stored_name(name, attempt)))
    return record


def _not_borne_out(result: Result, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield in what the rows do not bear out that a cell is done."""
    if result["state"] != schema.DONE:
        return
    last = rows[-1] if rows else None
    if last is None:
        yield f"done at step {result['step']}, but there are no usable rows"
    elif last[schema.STEP] != result["step"]:
        yield f"done at step {result['step']}, but the last row is of step {last[schema.STEP]}"
    elif not all(_is_finite(last[name]) for name in (schema.TASK_A_LOSS, schema.TASK_B_LOSS)):
        yield "done, but the last losses are not finite"


def _is_finite(loss: float | None) -> bool:
    return loss is not None and math.isfinite(loss)


def refuse_links(cell: Storage, found: Listing) -> None:
    """Raise DamagedError where the cell's folder, or anything in it, is a symbolic link."""
    for name in sorted(found.links):
        raise DamagedError(f"{cell.describe(name)} is a symbolic link, and a study follows none inside it")


def is_finished(cell: Storage) -> bool:
    """Say whether a cell never has to run again."""
    try:
        return read_result(cell, cell.listing()) is not None
    except DamagedError:
        return False


def current_attempt(found: Listing) -> str | None:
    """Return whose files count of a cell that is not finished: see `schema`."""
    names = [split_name(name) for name in found.files]
    with_rows = [attempt for attempt, name in names if name == schema.ROWS_FILE]
    return max(with_rows or [attempt for attempt, _ in names], default="") or None
