"""Files that belong together: what was written, by size and checksum, for the record written last.

That record makes its files count: a cell's result, an artifact's manifest. It names the attempt that wrote
them, whose name they carry, so that no other attempt can ever overwrite one of them.
"""

import re
from collections.abc import Mapping
from typing import Any

from trainables.ledger.schema import ATTEMPT, ATTEMPT_FILE, ATTEMPT_FORM
from trainables.ledger.sealed_json import DamagedError, checksum, seal, unseal
from trainables.ledger.storage.base import Listing, Storage

Manifest = dict[str, dict[str, Any]]  # {name: {"size": bytes, "checksum": digest}}
Record = Mapping[str, Any]  # its "files" is a Manifest, by the names that files have without an attempt
FILES = "files"
_OF_ATTEMPT = re.compile(rf"({ATTEMPT_FORM})-(.+)", re.DOTALL)


class FileSet:
    """Writes files into one folder under an attempt's name and remembers them as they were meant to be."""

    def __init__(self, storage: Storage, attempt: str | None = None) -> None:
        self.storage, self.attempt = storage, attempt
        self.manifest: Manifest = {}

    def write(self, name: str, content: bytes) -> None:
        self.storage.write(stored_name(name, self.attempt), content)
        self.manifest[name] = {"size": len(content), "checksum": checksum(content)}

    def write_record(self, name: str, value: dict[str, Any]) -> None:
        self.write(name, seal(value))

    @property
    def record(self) -> dict[str, Any]:
        """What makes the files count, once it is published: their names, and the attempt whose they are."""
        whose = {} if self.attempt is None else {ATTEMPT: self.attempt}
        return whose | {FILES: self.manifest}

    def create_record(self, name: str, value: dict[str, Any]) -> bool:
        """Publish `value` with `record`, unless there is such a file; return whether this call did."""
        return self.storage.create_record(name, value | self.record)


def stored_name(name: str, attempt: str | None) -> str:
    """Return the name under which an attempt keeps a file; files of early studies have no attempt's."""
    return name if attempt is None else ATTEMPT_FILE.format(attempt=attempt, file=name)


def split_name(stored: str) -> tuple[str, str]:
    """Return the attempt and the name of a stored file; the attempt is "" where it carries none's."""
    found = _OF_ATTEMPT.fullmatch(stored)
    return (found.group(1), found.group(2)) if found else ("", stored)


def read_listed(storage: Storage, record: Record, name: str) -> bytes:
    """Return a file's content. Raises DamagedError if it is not the one that the record lists."""
    stored = stored_name(name, record.get(ATTEMPT))
    try:
        content = storage.read(stored)
    except FileNotFoundError as error:
        raise DamagedError(f"{storage.describe(stored)} is missing, though its record lists it") from error
    listed = record[FILES].get(name)
    if listed is None or checksum(content) != listed["checksum"]:
        raise DamagedError(
            f"{storage.describe(stored)} is damaged: its content does not match the checksum that its record "
            "lists"
        )
    return content


def read_listed_record(storage: Storage, record: Record, name: str) -> dict[str, Any]:
    """Return the value of a sealed file that the record lists. Raises DamagedError if it is not that one."""
    content = read_listed(storage, record, name)
    try:
        return unseal(content)
    except DamagedError as error:
        raise DamagedError(
            f"{storage.describe(stored_name(name, record.get(ATTEMPT)))} is damaged: {error}"
        ) from error


def check_files(
    storage: Storage, record: Record, *, found: Listing, since: float | None, thorough: bool
) -> None:
    """Raise DamagedError naming the first listed file that is missing or not as it was written.

    A file is read if `thorough`, or if the listing says that it was written after `since`. Of others its size
    counts, where the listing tells it.
    """
    for name, listed in record[FILES].items():
        stored = stored_name(name, record.get(ATTEMPT))
        if stored not in found.files:
            raise DamagedError(f"{storage.describe(stored)} is missing")
        info = found.files[stored]
        if info is not None and info.size != listed["size"]:
            raise DamagedError(
                f"{storage.describe(stored)} is damaged: it has {info.size} of {listed['size']} bytes"
            )
        if thorough or (info is not None and since is not None and info.modified > since):
            read_listed(storage, record, name)
