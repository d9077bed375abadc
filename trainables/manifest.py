"""Files that belong together: what was written, by size and checksum, for the manifest written last.

The manifest is the JSON record that makes its files count: a cell's result, an artifact's manifest.
"""

from collections.abc import Mapping
from typing import Any

from trainables.seals import DamagedError, checksum, seal
from trainables.storage.base import FileInfo, Storage

Manifest = dict[str, dict[str, Any]]  # {name: {"size": bytes, "checksum": digest}}


class FileSet:
    """Writes files into one folder and remembers them as they were meant to be."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.manifest: Manifest = {}

    def write(self, name: str, content: bytes) -> None:
        self.storage.write(name, content)
        self.manifest[name] = {"size": len(content), "checksum": checksum(content)}

    def write_record(self, name: str, value: dict[str, Any]) -> None:
        self.write(name, seal(value))


def read_listed(storage: Storage, manifest: Manifest, name: str) -> bytes:
    """Return a file's content. Raises DamagedError if it is not the one that the manifest lists."""
    try:
        content = storage.read(name)
    except FileNotFoundError as error:
        raise DamagedError(f"{storage.describe(name)} is missing") from error
    if name not in manifest or checksum(content) != manifest[name]["checksum"]:
        raise DamagedError(f"{storage.describe(name)} is damaged: its content does not match its manifest")
    return content


def check_files(
    storage: Storage, manifest: Manifest, *, found: Mapping[str, FileInfo], since: float | None
) -> None:
    """Raise DamagedError naming the first listed file that is missing or not as it was written.

    A file of the right size that was not written after `since` is trusted unread; None trusts none.
    """
    for name, listed in manifest.items():
        if name not in found:
            raise DamagedError(f"{storage.describe(name)} is missing")
        if found[name].size != listed["size"]:
            raise DamagedError(
                f"{storage.describe(name)} is damaged: it has {found[name].size} of {listed['size']} bytes"
            )
        if since is None or found[name].modified > since:
            read_listed(storage, manifest, name)
