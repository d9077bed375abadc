"""Storage in a directory that every node sees under the same path: local disk or NFS."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from trainables.publish import TEMPORARY_PREFIX, publish_bytes
from trainables.storage.base import FileInfo, Storage, join


class DirectoryStorage(Storage):
    """`location` is the directory's absolute path."""

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self._path("")

    def describe(self, name: str = "") -> str:
        return str(self._path(name))

    def make(self) -> None:
        self._tried(lambda: Path(self.location).mkdir(parents=True, exist_ok=True), "")

    def free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self.location).free
        except OSError:
            return None

    def _path(self, name: str) -> Path:
        return Path(self.location, join(self.prefix, name))

    def _ready(self, name: str) -> Path:
        """Return a file's path, its folder made; a root that is gone is an outage, not a new study."""
        self._check_root()
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _check_root(self) -> None:
        if not os.path.isdir(self.location):
            raise OSError(errno.ENOLINK, "the study's directory is not there", self.location)

    def _read(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(self.describe(name)) from None

    def _write(self, name: str, content: bytes) -> None:
        publish_bytes(self._ready(name), content)

    def _create(self, name: str, content: bytes) -> bool:
        try:
            handle = os.open(self._ready(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return True

    def _delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def _delete_folder(self, folder: str) -> None:
        path = self._path(folder)
        if path.is_dir():
            shutil.rmtree(path)

    def _files(self, folder: str) -> Iterator[tuple[str, FileInfo]]:
        yield from _scan(str(self._path(folder)), "")


def _scan(folder: str, prefix: str) -> Iterator[tuple[str, FileInfo]]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _scan(entry.path, f"{prefix}{entry.name}/")
        elif not entry.name.startswith(TEMPORARY_PREFIX):
            try:
                stat = entry.stat()
            except FileNotFoundError:  # deleted since
                continue
            yield prefix + entry.name, FileInfo(stat.st_size, stat.st_mtime)
