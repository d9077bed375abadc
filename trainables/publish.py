"""Publishing files whole: written under a temporary name, synced, then renamed.

A reader never sees half a file, and a kill leaves at most a temporary name behind.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY_PREFIX = ".writing-"


def publish_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, its folder made, so that the file is either absent, old or complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(path, content)


def replace_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path` in a folder that is there, so that the file is absent, old or complete."""
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def publish_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; NaN and infinities are refused, for readers other than Python."""
    publish_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


@contextmanager
def publish_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes `target` when the block ends without an error.

    A `target` that another process published meanwhile is kept: equal names hold equal content.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync_file(file)
        if not target.exists():
            os.rename(temporary, target)
            _sync_directory(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
