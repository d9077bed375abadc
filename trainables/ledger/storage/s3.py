"""Storage under a prefix of an object store: through pyarrow, which Ray uses too, and botocore.

An object is put whole and never renamed. botocore does what pyarrow cannot: put an object unless it is there.
Credentials come from the environment, which both read alike, never from the location.
"""

import errno
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from trainables.ledger.storage.base import FileInfo, Listing, Storage, StorageError, join
from trainables.ledger.storage.directory import MARKER

CONNECT_SECONDS, REQUEST_SECONDS = 5, 20
THERE, CONFLICT = 412, 409  # HTTP: the object is there; another is being put at this moment
NEVER = {401, 403, 404, 405, 501}  # HTTP: trying again cannot help

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


class ObjectStorage(Storage):
    """`location` is s3://bucket/prefix, with pyarrow's options as its query."""

    scheme = "s3"

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
        marker = join(root, MARKER)
        if _put_unless_there(self.location, marker, b"") and _put_unless_there(self.location, marker, b""):
            raise OSError(
                errno.EPERM,
                "this store puts objects over those that are there, though asked not to (If-None-Match: *): "
                "drivers could not be kept apart; take one that supports conditional puts",
            )

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
        _, path = self._object(name)
        if _put_unless_there(self.location, path, content):
            return True
        try:
            return self._read(name) == content  # put by an earlier try, of which the answer was lost
        except FileNotFoundError as error:
            raise OSError(errno.EAGAIN, "the object was deleted while it was created") from error

    def _touch(self, name: str, content: bytes) -> None:
        self._write(name, content)  # dates are of whole seconds

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
        yield from self._objects(folder, deep=True)

    def _listing(self, folder: str, *, deep: bool) -> Listing:
        return Listing(dict(self._objects(folder, deep=deep)))

    def _objects(self, folder: str, *, deep: bool) -> Iterator[tuple[str, FileInfo]]:
        from pyarrow.fs import FileSelector, FileType

        filesystem, path = self._object(folder)
        for info in filesystem.get_file_info(FileSelector(path, recursive=deep, allow_not_found=True)):
            if info.type == FileType.File and info.base_name != MARKER:
                yield info.path.removeprefix(path + "/"), FileInfo(info.size, info.mtime.timestamp())


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
        allow_delayed_open=True,  # a small object in one request, not in three
    )
    return filesystem, parts.netloc + parts.path.rstrip("/")


def _put_unless_there(location: str, path: str, content: bytes) -> bool:
    """Put an object unless there is one at `path`, which the store itself sees to; return whether it was
    put.
    """
    client, errors = _client(location)
    bucket, _, key = path.partition("/")
    try:
        client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except errors.ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == THERE:
            return False
        raise OSError(errno.EACCES if status in NEVER else errno.EAGAIN, str(error)) from error
    except errors.NoCredentialsError as error:
        raise OSError(errno.EACCES, str(error)) from error
    except (errors.BotoCoreError, errors.HTTPClientError) as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    return True


@lru_cache(maxsize=8)
def _client(location: str) -> tuple[Any, Any]:
    """Return botocore's client of a location, set as `_open` sets pyarrow's, and the errors it raises."""
    try:
        from botocore import exceptions
        from botocore.config import Config
        from botocore.session import Session
    except ModuleNotFoundError as error:
        raise StorageError(
            f"{location.partition('?')[0]} needs botocore: pip install 'forgetting-sweep[s3]' on every node"
        ) from error
    options = dict(parse_qsl(urlsplit(location).query))
    endpoint = options.get("endpoint_override")
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=REQUEST_SECONDS,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path" if endpoint else "virtual"},
        request_checksum_calculation="when_required",
    )
    client = Session().create_client(
        "s3",
        region_name=options.get("region"),
        endpoint_url=f"{options.get('scheme', 'https')}://{endpoint}" if endpoint else None,
        config=config,
    )
    return client, exceptions


KIND = ObjectStorage
