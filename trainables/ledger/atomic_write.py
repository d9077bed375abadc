"""Publishing files whole: written under a temporary name, synced, then renamed.

A reader never sees half a file, and a kill leaves at most a temporary name behind.
"""

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY_PREFIX = ".writing-"
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def publish_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, its folder made, so that the file is either absent, old or complete."""
    make_folder(path.parent)
    replace_whole(path, content)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing, so that a crash does not lose them again."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):  # another was faster
        folder.mkdir()
        sync_directory(folder.parent)


def replace_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path` in a folder that is there, so that the file is absent, old or complete."""
    with _written_beside(path, content) as temporary:
        os.replace(temporary, path)
    sync_directory(path.parent)


def create_whole(path: Path, content: bytes) -> bool:
    """Write `content` to `path` unless there is a file; return whether this call did. It is absent or
    complete.

    Where the file system has no hard links, a kill in the middle leaves a torn file.
    """
    with _written_beside(path, content) as temporary:
        try:
            os.link(temporary, path)
            created = True
        except FileExistsError:
            created = os.stat(temporary).st_nlink > 1  # ours: a network file system asked twice
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            created = _create_in_place(path, content)
        temporary.unlink()
    sync_directory(path.parent)
    return created


@contextmanager
def _written_beside(path: Path, content: bytes) -> Iterator[Path]:
    """Yield a synced temporary file with `content` in the folder of `path`; an error removes it."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        _write_new(temporary, content)
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _create_in_place(path: Path, content: bytes) -> bool:
    try:
        _write_new(path, content)
    except FileExistsError:
        return False
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _write_new(path: Path, content: bytes) -> None:
    """Write and sync a file that is not there yet; who may read it follows from the umask."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def publish_file(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a file beside `path`, of the same suffix, and rename it to `path` once it is
    synced.
    """
    make_folder(path.parent)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{path.suffix}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        write(temporary)
        _sync_file(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def publish_text(path: Path, text: str) -> Path:
    """Write `text` in UTF-8; half a surrogate pair, which JSON can hold and UTF-8 cannot, is spelled out."""
    publish_bytes(path, text.encode(errors="backslashreplace"))
    return path


def publish_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; NaN and infinities are refused, for readers other than Python."""
    publish_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


@contextmanager
def publish_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes `target` when the block ends without an error.

    A `target` that another process published meanwhile is kept: equal names hold equal content.
    """
    make_folder(target.parent)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync_file(file)
        if not target.exists():
            os.rename(temporary, target)
            sync_directory(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make the names in a directory outlive a crash."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
