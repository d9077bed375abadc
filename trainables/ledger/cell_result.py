"""What a cell's folder says: whether the cell is finished, and under whose name its files stand.

The one definition of "finished" for workers, driver and `status`: the result is whole and has this form, every
file that it lists is there, and no link is on the way. Analysis keeps to the same, by the contract in `columns`.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainables.ledger import schema
from trainables.ledger.manifest import check_files, split_name
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Listing, Storage

Result = dict[str, Any]


class Form(BaseModel):
    """A record's form: these fields, of exactly these types; others are nobody's business."""

    model_config = ConfigDict(strict=True, frozen=True)


class FileForm(Form):
    size: int
    checksum: str


class ResultForm(Form):
    state: Annotated[str, Field(pattern=rf"\A({schema.DONE}|{schema.DIVERGED})\z")]
    seconds: Annotated[float, Field(allow_inf_nan=False)] | None
    artifact: str | None
    attempt: Annotated[str, Field(pattern=rf"\A{schema.ATTEMPT_FORM}\z")] | None = None
    files: dict[str, FileForm]


def read_result(cell: Storage, found: Listing, *, thorough: bool = False) -> Result | None:
    """Return a finished cell's result, None where there is none; `found` lists the cell's folder.

    `thorough` reads every file that it lists. Raises DamagedError naming what keeps the cell from being finished.
    """
    refuse_links(cell, found)
    if schema.RESULT_FILE not in found.files:
        return None
    result = cell.read_record(schema.RESULT_FILE)
    if result is None:  # deleted since
        return None
    try:
        ResultForm.model_validate(result)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))[:200]
        raise DamagedError(
            f"{cell.describe(schema.RESULT_FILE)} is damaged: {where}: {fault['msg']}"
        ) from error
    info = found.files[schema.RESULT_FILE]
    check_files(cell, result, found=found, since=info.modified if info else None, thorough=thorough)
    return result


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
    """Return whose files count of a cell that is not finished: see `columns`."""
    names = [split_name(name) for name in found.files]
    with_rows = [attempt for attempt, name in names if name == schema.ROWS_FILE]
    return max(with_rows or [attempt for attempt, _ in names], default="") or None
