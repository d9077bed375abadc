"""Storage under a prefix of an object store, through the pyarrow file systems that Ray uses too.

An object is put whole and never renamed. Credentials come from the environment, never from the location.
"""

import errno
from collections.abc import Iterator
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from trainables.storage.base import FileInfo, Listing, Storage, join

CONNECT_SECONDS, REQUEST_SECONDS = 5, 20

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


class ObjectStorage(Storage):
    """`location` is s3://bucket/prefix, with pyarrow's options as its query."""

    def describe(self, name: str = "") -> str:
        plain, _, query = self.location.partition("?")
        place = join(plain, self.prefix, name)
        return f"{place}?{query}" if query and place == plain else place

    def free_bytes(self) -> int | None:
        return None

    def _make(self) -> None:
        filesystem, root = _open(self.location)
        bucket = root.partition("/")[0]
        if filesystem.get_file_info(bucket).type.name == "NotFound":
            raise OSError(errno.EACCES, f"there is no bucket {bucket!r} here")

    def _object(self, name: str) -> "tuple[FileSystem, str]":
        filesystem, root = _open(self.location)
        return filesystem, join(root, self.prefix, name)

    def _read(self, name: str) -> bytes:
        filesystem, path = self._object(name)
        with filesystem.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def _write(self, name: str, content: bytes) -> None:
        filesystem, path = self._object(name)
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)

    def _create(self, name: str, content: bytes) -> bool:
        place = PurePosixPath(name)
        if place.name in dict(self._files(str(place.parent) if place.parent.name else "")):
            return False
        self._write(name, content)
        return True

    def _touch(self, name: str) -> None:
        """Do nothing: an object's date is that of its content."""

    def _delete(self, name: str) -> None:
        filesystem, path = self._object(name)
        try:
            filesystem.delete_file(path)
        except FileNotFoundError:
            return

    def _delete_folder(self, folder: str) -> None:
        for name, _ in list(self._files(folder)):
            self._delete(join(folder, name))

    def _files(self, folder: str) -> Iterator[tuple[str, FileInfo]]:
        from pyarrow.fs import FileSelector, FileType

        filesystem, path = self._object(folder)
        for info in filesystem.get_file_info(FileSelector(path, recursive=True, allow_not_found=True)):
            if info.type == FileType.File:
                yield info.path.removeprefix(path + "/"), FileInfo(info.size, info.mtime.timestamp())

    def _listing(self, folder: str, *, deep: bool) -> Listing:
        from pyarrow.fs import FileSelector, FileType

        filesystem, path = self._object(folder)
        found = filesystem.get_file_info(FileSelector(path, recursive=deep, allow_not_found=True))
        files = {
            info.path.removeprefix(path + "/"): FileInfo(info.size, info.mtime.timestamp())
            for info in found
            if info.type == FileType.File
        }
        return Listing(dict(files))


@lru_cache(maxsize=8)
def _open(location: str) -> "tuple[FileSystem, str]":
    """Return the file system of a location and the path in it; retries are Storage's, with its patience."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    parts = urlsplit(location)
    filesystem = S3FileSystem(
        **dict(parse_qsl(parts.query)),
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
    )
    return filesystem, parts.netloc + parts.path.rstrip("/")
