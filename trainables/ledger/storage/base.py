"""The interface of a study's storage, and what every kind of it does alike: retries, records, errors.

A file is absent, old or complete, never torn. What fails for a while is tried again; what goes on failing
is a StorageError, after which everything published before is still there.
"""

import errno
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, TypeVar

from trainables.ledger.errors import RunEndedError, UserError
from trainables.ledger.sealed_json import DamagedError, seal, unseal

T = TypeVar("T")
PATIENCE = 60.0  # seconds that one operation is tried again before the storage counts as unavailable
FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0
FULL = {errno.ENOSPC, errno.EDQUOT}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}  # lasting, or an outage of storage that was usable before
LASTING = DENIED | {  # trying again cannot help
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EFBIG,
}


class StorageError(RunEndedError):
    """The storage failed; what was published before is still there."""


class ForeignStorageError(UserError):
    """A place that holds something else than a study; the message says what, and what to do."""


class StoragePausedError(StorageError):
    """The storage cannot be used for now; `needed` bytes must be free before it is worth trying again."""

    def __init__(self, message: str, needed: int = 0) -> None:
        super().__init__(message, needed)  # both, so that it survives pickling
        self.needed = needed

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class FileInfo:
    """A file's size in bytes, and when it was last written (seconds; only compared within one storage)."""

    size: int
    modified: float


@dataclass(frozen=True)
class Listing:
    """What a listing says of a folder and those below it, asking nothing about single files.

    `files` by name, with size and date where the listing tells them; symbolic `links`, which a study does not
    follow, "" being the folder itself; `temporary` files, of which a kill leaves some behind.
    """

    files: dict[str, FileInfo | None] = field(default_factory=dict)
    links: set[str] = field(default_factory=set)
    temporary: set[str] = field(default_factory=set)

    def by_folder(self) -> "dict[str, Listing]":
        """Return the listing of each folder directly below; a link is the empty name in its own."""
        found: dict[str, Listing] = {}
        for name, info in self.files.items():
            folder, _, file = name.partition("/")
            found.setdefault(folder, Listing()).files[file] = info
        for name in self.links:
            folder, _, file = name.partition("/")
            found.setdefault(folder, Listing()).links.add(file)
        for name in self.temporary:
            folder, _, file = name.partition("/")
            found.setdefault(folder, Listing()).temporary.add(file)
        return found


@dataclass(frozen=True)
class Storage(ABC):
    """A folder of files by name; `location` is the study's root, `prefix` a folder below it.

    Operations that fail are tried again for `patience` seconds. `made` storage is known to have been there:
    where its root is gone, that is an outage, and not an empty study.
    """

    scheme: ClassVar[str]  # of locations that are kept so: scheme://..., "" of paths
    location: str
    prefix: str = ""
    patience: float = PATIENCE
    made: bool = False

    def inside(self, folder: str) -> Self:
        """Return the folder of that name below this one."""
        return replace(self, prefix=join(self.prefix, folder))

    def read(self, name: str) -> bytes:
        """Return a file's content. Raises FileNotFoundError or StorageError."""
        return self._tried(lambda: self._read(name), name)

    def read_record(self, name: str) -> dict[str, Any] | None:
        """Return a sealed JSON file's value, None where there is none. Raises DamagedError naming the
        file.
        """
        try:
            return unseal(self.read(name))
        except FileNotFoundError:
            return None
        except DamagedError as error:
            raise DamagedError(f"{self.describe(name)} is damaged: {error}") from error

    def write(self, name: str, content: bytes) -> None:
        """Publish a file whole. Raises StorageError."""
        self._tried(lambda: self._write(name, content), name, size=len(content))

    def write_record(self, name: str, value: dict[str, Any]) -> None:
        """Publish a value as sealed JSON."""
        self.write(name, seal(value))

    def create_record(self, name: str, value: dict[str, Any]) -> bool:
        """Publish a value as sealed JSON unless the file is there; return whether this call did.

        Of several calls one does, however slow the storage. Values must differ from caller to caller: an
        object store's call that was answered by nobody finds its own by its content.
        """
        content = seal(value)
        return self._tried(lambda: self._create(name, content), name, size=len(content))

    def touch(self, name: str, value: dict[str, Any]) -> None:
        """Show that a file's owner is alive: by a new date, or by this new value where dates are coarse.

        Waits for no disk, and needs no room on it. Raises FileNotFoundError or StorageError.
        """
        content = seal(value)
        self._tried(lambda: self._touch(name, content), name)

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        self._tried(lambda: self._delete(name), name)

    def delete_folder(self, folder: str) -> None:
        """Delete a folder with all its files, if it is there."""
        self._tried(lambda: self._delete_folder(folder), folder)

    def files(self, folder: str = "") -> dict[str, FileInfo]:
        """Return every file in `folder` and below by its name there; temporary files are left out."""
        return self._tried(lambda: dict(self._files(folder)), folder)

    def listing(self, folder: str = "", *, deep: bool = True) -> Listing:
        """List `folder` and, if `deep`, all below it: in a directory one operation a folder."""
        return self._tried(lambda: self._listing(folder, deep=deep), folder)

    @abstractmethod
    def describe(self, name: str = "") -> str:
        """Return where a file is, as messages and commands name it."""

    def make(self) -> Self:
        """Return this storage with its root made, so that files can be written. Raises StorageError."""
        self._tried(self._make, "")
        return replace(self, made=True)

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Return the room left, None where it has no known limit."""

    @abstractmethod
    def _make(self) -> None: ...

    @abstractmethod
    def _read(self, name: str) -> bytes: ...

    @abstractmethod
    def _write(self, name: str, content: bytes) -> None: ...

    @abstractmethod
    def _create(self, name: str, content: bytes) -> bool: ...

    @abstractmethod
    def _touch(self, name: str, content: bytes) -> None: ...

    @abstractmethod
    def _delete(self, name: str) -> None: ...

    @abstractmethod
    def _delete_folder(self, folder: str) -> None: ...

    @abstractmethod
    def _files(self, folder: str) -> Iterator[tuple[str, FileInfo]]: ...

    @abstractmethod
    def _listing(self, folder: str, *, deep: bool) -> Listing: ...

    def _tried(self, action: Callable[[], T], name: str, *, size: int = 0) -> T:
        """Return `action()`, tried again with growing delays for `patience` seconds while it may recover."""
        delay, end = FIRST_DELAY, time.monotonic() + self.patience
        while True:
            try:
                return action()
            except FileNotFoundError:
                raise
            except OSError as error:
                if error.errno in FULL:
                    raise StoragePausedError(self._describe_need(name, size), size) from error
                if error.errno in DENIED and self.made:
                    raise StoragePausedError(
                        f"{self.describe(name)} is refused, where it was not before: {error.strerror}", size
                    ) from error
                if error.errno in LASTING:
                    raise StorageError(f"{self.describe(name)}: {type(error).__name__}: {error}") from error
                if time.monotonic() + delay > end:
                    raise StoragePausedError(
                        f"{self.describe(name)} did not answer for {self.patience:g} s: {error}"
                    ) from error
            time.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def _describe_need(self, name: str, size: int) -> str:
        free = self.free_bytes()
        room = "" if free is None else f", and {free / 2**20:.1f} MiB are free"
        return f"no room for {self.describe(name)}: it needs {size / 2**20:.1f} MiB{room}"


def join(*parts: str) -> str:
    """Return the name that the non-empty parts make."""
    return "/".join(part for part in parts if part)
