"""This machine's cache: results that can be made again, each under the key of all that it depends on.

A damaged or unreadable entry counts as absent, and a cache that cannot be written is done without, but for
folders.
"""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from trainables.ledger.atomic_write import publish_bytes

CACHE_VARIABLE = "FORGETTING_SWEEP_CACHE"


def cache_directory() -> Path:
    """Return the cache's folder: $FORGETTING_SWEEP_CACHE or ~/.cache/forgetting-sweep."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "forgetting-sweep"


def check_can_keep(kind: str) -> None:
    """Raise OSError, with what to do, where no folder can be kept that nothing can do without."""
    folder = cache_directory() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written to ({error.strerror}): set {CACHE_VARIABLE} to a directory that can"
        ) from error


def recall(kind: str, key: str) -> bytes | None:
    """Return what was kept under `key`, None where nothing was or a bit of it has changed."""
    try:
        content = (cache_directory() / kind / key).read_bytes()
    except OSError:
        return None
    checksum, _, payload = content.partition(b"\n")
    return payload if checksum == _checksum(key, payload) else None


def keep(kind: str, key: str, payload: bytes) -> None:
    """Keep `payload` for later processes; nothing is kept where the disk is read-only or full."""
    with contextlib.suppress(OSError):
        publish_bytes(cache_directory() / kind / key, _checksum(key, payload) + b"\n" + payload)


def _checksum(key: str, payload: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\n" + payload).hexdigest().encode()
