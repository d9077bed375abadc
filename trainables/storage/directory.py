"""Storage in a directory that every node sees under the same path: local disk or NFS."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from trainables.publish import publish_bytes, replace_whole
from trainables.storage.base import FileInfo, Storage, join

MARKER = ".forgetting-sweep"  # tells the root from an empty directory that it is mounted on


class DirectoryStorage(Storage):
    """`location` is the directory's absolute path. Hidden files are not the study's."""

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
        marker = Path(self.location, MARKER)
        if not marker.exists():
            publish_bytes(marker, b"A study is kept in this directory.\n")

    def _check_root(self) -> None:
        """Raise OSError where the root is gone, or is the empty place it was mounted on."""
        if self.made and not os.path.exists(os.path.join(self.location, MARKER)):
            raise OSError(errno.ENOLINK, "the study's directory is not there", self.location)

    def _ready(self, name: str) -> Path:
        """Return a file's path, its folder made, but never the root."""
        self._check_root()
        path = self._path(name)
        folder = Path(self.location)
        try:
            for part in path.parent.relative_to(folder).parts:
                folder /= part
                folder.mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise OSError(errno.ENOLINK, "the study's directory is not there", self.location) from error
        return path

    def _read(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
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
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return True

    def _touch(self, name: str, content: bytes) -> None:
        os.utime(self._path(name))

    def _delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def _delete_folder(self, folder: str) -> None:
        try:
            shutil.rmtree(self._path(folder))
        except FileNotFoundError:  # deleted by another, or never there
            return

    def _files(self, folder: str) -> Iterator[tuple[str, FileInfo]]:
        found = list(_scan(str(self._path(folder)), ""))
        self._check_root()  # else what was found may be a part of it
        yield from found


def _scan(folder: str, prefix: str) -> Iterator[tuple[str, FileInfo]]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _scan(entry.path, f"{prefix}{entry.name}/")
        elif not entry.name.startswith("."):
            try:
                stat = entry.stat()
            except FileNotFoundError:  # deleted since
                continue
            yield prefix + entry.name, FileInfo(stat.st_size, stat.st_mtime)
