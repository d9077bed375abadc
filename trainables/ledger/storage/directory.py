"""Storage in a directory that every node sees under the same path: local disk or NFS."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from trainables.ledger.atomic_write import (
    TEMPORARY_PREFIX,
    create_whole,
    publish_bytes,
    replace_whole,
    sync_directory,
)
from trainables.ledger.reading import read_each
from trainables.ledger.regular_file import read_regular
from trainables.ledger.schema import STUDY_FILE
from trainables.ledger.storage.base import FileInfo, ForeignStorageError, Listing, Storage, join

READERS = 16  # folders listed at a time
NAMED = 3  # of the files in a directory that is refused for them
OF_THE_DISK = {"lost+found"}
MARKER = ".forgetting-sweep"  # tells the root from an empty directory that it is mounted on


class DirectoryStorage(Storage):
    """`location` is the directory's absolute path. Hidden files are not the study's."""

    scheme = ""

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self._path("")

    def describe(self, name: str = "") -> str:
        return str(self._path(name))

    def free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self.location).free
        except OSError:
            return None

    def _path(self, name: str) -> Path:
        return Path(self.location, join(self.prefix, name))

    def _make(self) -> None:
        self.refuse_foreign()
        marker = Path(self.location, MARKER)
        if not marker.exists():
            publish_bytes(marker, b"A study is kept in this directory.\n")

    def refuse_foreign(self) -> None:
        """Raise ForeignStorageError where the directory holds files and no study; hidden ones are nobody's.

        Raises OSError where it cannot be looked into.
        """
        try:
            there = os.listdir(self.location)
        except FileNotFoundError:
            return
        if MARKER in there or STUDY_FILE in there:
            return
        names = sorted(name for name in there if not name.startswith("."))
        ours = {name for name in names if Path(self.location, name, MARKER).exists()}  # a search's Phase A
        foreign = [name for name in names if name not in OF_THE_DISK | ours]
        if foreign:
            more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
            raise ForeignStorageError(
                f"{self.location} holds {', '.join(foreign[:NAMED])}{more}, and no study: a study is kept in "
                "an empty or a new directory; give one as `storage`"
            )

    def _check_root(self) -> None:
        """Raise OSError where the root is gone, or is the empty place it was mounted on."""
        if self.made and not os.path.exists(os.path.join(self.location, MARKER)):
            raise OSError(errno.ENOLINK, "the study's directory is not there", self.location)

    def _link_to(self, path: Path) -> str | None:
        """Return the first symbolic link from below the root to `path` itself, None where there is none."""
        place = self.location
        for part in path.relative_to(place).parts:
            place = os.path.join(place, part)
            if os.path.islink(place):
                return place
        return None

    def _check_links(self, path: Path) -> None:
        link = self._link_to(path)
        if link is not None:
            raise OSError(
                errno.ELOOP, "a study follows no symbolic link inside it: put the folder itself there", link
            )

    def _ready(self, name: str) -> Path:
        """Return a file's path, its folder made, but never the root."""
        self._check_root()
        path = self._path(name)
        self._check_links(path.parent)
        folder = Path(self.location)
        try:
            for part in path.parent.relative_to(folder).parts:
                folder /= part
                _make_one(folder)
        except FileNotFoundError as error:
            raise OSError(errno.ENOLINK, "the study's directory is not there", self.location) from error
        return path

    def _read(self, name: str) -> bytes:
        try:
            return read_regular(os.path.join(self.location, join(self.prefix, name)), follow=False)
        except (FileNotFoundError, NotADirectoryError):
            self._check_root()
            raise FileNotFoundError(self.describe(name)) from None

    def _write(self, name: str, content: bytes) -> None:
        path = self._ready(name)
        try:
            replace_whole(path, content)
        except FileNotFoundError as error:
            raise OSError(errno.ENOLINK, "the study's directory is not there", self.location) from error

    def _create(self, name: str, content: bytes) -> bool:
        path = self._ready(name)
        try:
            return create_whole(path, content)
        except FileNotFoundError as error:
            raise OSError(errno.ENOLINK, "the study's directory is not there", self.location) from error

    def _touch(self, name: str, content: bytes) -> None:
        os.utime(self._path(name))

    def _delete(self, name: str) -> None:
        path = self._path(name)
        self._check_links(path.parent)
        path.unlink(missing_ok=True)

    def _delete_folder(self, folder: str) -> None:
        path = self._path(folder)
        self._check_links(path)
        try:
            shutil.rmtree(path)
        except FileNotFoundError:  # deleted by another, or never there
            return

    def _files(self, folder: str) -> Iterator[tuple[str, FileInfo]]:
        for name in self._listing(folder, deep=True).files:
            try:
                found = os.stat(self._path(join(folder, name)), follow_symlinks=False)
            except FileNotFoundError:  # deleted since
                continue
            yield name, FileInfo(found.st_size, found.st_mtime)
        self._check_root()  # else what was found may be a part of it

    def _listing(self, folder: str, *, deep: bool) -> Listing:
        path, found = self._path(folder), Listing()
        if self._link_to(path):
            return Listing(links={""})
        folders = _scan(str(path), "", found)
        if deep and folders:
            root = str(path)
            for below in read_each(lambda name: _scan_deep(f"{root}/{name}", name), folders, readers=READERS):
                found.files.update(below.files)
                found.links.update(below.links)
                found.temporary.update(below.temporary)
        self._check_root()  # else what was found may be a part of it
        return found


def _make_one(folder: Path) -> None:
    try:
        folder.mkdir()
    except FileExistsError:
        return
    sync_directory(folder.parent)


def _scan_deep(folder: str, name: str) -> Listing:
    found = Listing()
    folders = _scan(folder, f"{name}/", found)
    while folders:
        inner = folders.pop()
        folders += _scan(os.path.join(folder, inner.partition("/")[2]), f"{inner}/", found)
    return found


def _scan(folder: str, prefix: str, found: Listing) -> list[str]:
    """Add what is in one folder to `found`; return the folders in it, all names after `prefix`."""
    folders = []
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith(TEMPORARY_PREFIX):
            found.temporary.add(name)
        elif entry.is_symlink():
            found.links.add(name)
        elif entry.is_dir(follow_symlinks=False):
            folders.append(name)
        elif not entry.name.startswith("."):
            found.files[name] = None
    return folders


KIND = DirectoryStorage
