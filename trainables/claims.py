"""Who may write into a folder: the newest attempt at a piece of work, of the newest driver's.

A worker that was cut off and given up may still run; its claim is gone once another has taken over.
"""

import os
import socket
import uuid
from dataclasses import dataclass, field
from typing import Any

from trainables.columns import CLAIM_FILE
from trainables.seals import DamagedError
from trainables.storage.base import Storage


class ClaimLostError(RuntimeError):
    """Another worker has taken the work over; this one must not write anything more."""


@dataclass(frozen=True)
class Claim:
    """An attempt's right to write into `storage`, until another attempt takes it."""

    storage: Storage
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)

    def check(self) -> None:
        """Raise ClaimLostError if another attempt has taken over."""
        record = _read(self.storage)
        if record is None or record.get("attempt") != self.attempt:
            raise ClaimLostError(f"another worker has taken over {self.storage.describe()}")


def take_claim(storage: Storage, *, term: int) -> Claim:
    """Take over the work in `storage` for the driver of this term. Raises ClaimLostError if a later one has it."""
    held = _read(storage)
    if held is not None and held.get("term", 0) > term:
        raise ClaimLostError(f"a later driver works on {storage.describe()}")
    claim = Claim(storage)
    who = {"host": socket.gethostname(), "pid": os.getpid()}
    storage.write_record(CLAIM_FILE, {"attempt": claim.attempt, "term": term, **who})
    claim.check()  # another may have taken it in between
    return claim


def _read(storage: Storage) -> dict[str, Any] | None:
    """Return the claim as it stands; a damaged one belongs to nobody."""
    try:
        return storage.read_record(CLAIM_FILE)
    except DamagedError:
        return None
