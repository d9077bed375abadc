"""Who may write into a folder: the newest attempt at a piece of work, of the newest driver's.

A worker that was cut off and given up may still run; its claim is gone once another has taken over. What it
has already set off to write carries its attempt's name, and overwrites nothing of its successor's.
"""

import os
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trainables.ledger.manifest import split_name
from trainables.ledger.schema import ATTEMPT, CLAIM_FILE
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Storage


class ClaimLostError(RuntimeError):
    """Another worker has taken the work over; this one must not write anything more."""


@dataclass(frozen=True)
class Claim:
    """An attempt's right to write into `storage`, until another attempt takes it.

    `found` are the files that were there when it was taken: what an earlier attempt writes later is none of
    them.
    """

    storage: Storage
    attempt: str
    found: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise ClaimLostError if another attempt has taken over."""
        record = _read(self.storage)
        if record is None or record.get(ATTEMPT) != self.attempt:
            raise ClaimLostError(f"another worker has taken over {self.storage.describe()}")


def take_claim(storage: Storage, *, fencing_token: int) -> Claim:
    """Take over the work in `storage` for the driver of this term. Raises ClaimLostError if a later one has
    it.
    """
    held = _read(storage)
    if held is not None and held.get("term", 0) > fencing_token:
        raise ClaimLostError(f"a later driver works on {storage.describe()}")
    found = tuple(storage.listing().files)
    before = [] if held is None else [str(held.get(ATTEMPT))]
    claim = Claim(storage, _next_attempt([*before, *(split_name(name)[0] for name in found)]), found)
    who = {"host": socket.gethostname(), "pid": os.getpid()}
    storage.write_record(CLAIM_FILE, {ATTEMPT: claim.attempt, "term": fencing_token, **who})
    claim.check()  # another may have taken it in between
    return claim


def _next_attempt(earlier: Iterable[str]) -> str:
    """Return the name of a new attempt, which sorts after those of earlier ones and is no other's."""
    numbers = [int(name[:6]) for name in earlier if name[:6].isdecimal() and name[6:7] == "-"]
    return f"{max(numbers, default=0) + 1:06d}-{uuid.uuid4().hex[:8]}"


def _read(storage: Storage) -> dict[str, Any] | None:
    """Return the claim as it stands; a damaged one belongs to nobody."""
    try:
        return storage.read_record(CLAIM_FILE)
    except DamagedError:
        return None
