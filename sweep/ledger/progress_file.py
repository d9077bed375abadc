"""How far a run is, for who looks at the storage: a small file of its driver's, named by its fencing token.

An old driver's file has another name than a newer one's, so it overwrites nothing. It decides nothing: what
is done, the cells' own folders say.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError

from trainables.ledger.forms import Finite, Form
from trainables.ledger.schema import LEASES_DIRECTORY
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Storage

PREPARING, PHASE_A, PHASE_B = "preparing", "Phase A", "Phase B"
SEARCHING, DONE = "searching a learning rate", "done"
PROGRESS, TRACKED = "progress", "tracked"  # kinds of files, and how their names begin
Count = Annotated[int, Field(ge=0)]


class RunProgress(Form):
    """How far a run is: `phase_a` are the steps taken and all, `running` the steps of each cell at work."""

    phase: Annotated[str, Field(max_length=100)]
    phase_a: Annotated[list[Count], Field(min_length=2, max_length=2)]
    running: dict[str, Count]
    seconds_left: Finite | None


class Tracked(Form):
    """Up to which step each tracker has each cell's rows."""

    steps: dict[str, dict[str, int]]


FORMS: dict[str, type[Form]] = {PROGRESS: RunProgress, TRACKED: Tracked}


@dataclass(frozen=True)
class DriverFile:
    """One kind of file of the driver that has the fencing token."""

    storage: Storage
    kind: str
    fencing_token: int

    def write(self, form: Form) -> None:
        """Publish it whole. Raises StorageError."""
        self._folder.write_record(_name(self.kind, self.fencing_token), form.model_dump())

    def sweep(self) -> None:
        """Delete those of earlier drivers."""
        for token in _tokens(self._folder, self.kind):
            if token < self.fencing_token:
                self._folder.delete(_name(self.kind, token))

    @property
    def _folder(self) -> Storage:
        return self.storage.inside(LEASES_DIRECTORY)


def read_newest(storage: Storage, kind: str) -> tuple[Any, int] | None:
    """Return the newest driver's file of a kind and its fencing token; None where there is none.

    Raises DamagedError.
    """
    folder = storage.inside(LEASES_DIRECTORY)
    token = max(_tokens(folder, kind), default=0)
    found = read_driver_file(storage, kind, token) if token else None
    return None if found is None else (found, token)


def read_driver_file(storage: Storage, kind: str, fencing_token: int) -> Any:
    """Return what the driver with this token has written of a kind, None where it has not.

    Raises DamagedError.
    """
    folder, name = storage.inside(LEASES_DIRECTORY), _name(kind, fencing_token)
    record = folder.read_record(name)
    if record is None:
        return None
    try:
        return FORMS[kind].model_validate(record)
    except ValidationError as error:
        raise DamagedError(f"{folder.describe(name)} is damaged") from error


def _name(kind: str, fencing_token: int) -> str:
    return f"{kind}-{fencing_token:08d}.json"


def _tokens(folder: Storage, kind: str) -> list[int]:
    found = (name.removeprefix(f"{kind}-").removesuffix(".json") for name in folder.files())
    return [int(token) for token in found if token.isdecimal() and len(token) == 8]
