"""Writes files so that a reader sees the old one or the whole new one, never half."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def publish(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a temporary file beside `path`, sync it, and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".writing-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def publish_text(path: Path, text: str) -> Path:
    """Publish `text` in UTF-8; half a surrogate pair, which JSON can hold and UTF-8 cannot, is spelled out."""
    return publish(
        path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    )
