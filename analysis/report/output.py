"""Writes files so that a reader sees the old one or the whole new one, never half."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any


def publish(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a temporary file beside `path`, sync it, and rename it to `path`.

    Who may read it is what the umask says, as of any file that the user makes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{secrets.token_hex(8)}{path.suffix}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def publish_text(path: Path, text: str) -> Path:
    """Publish `text` in UTF-8; half a surrogate pair, which JSON can hold and UTF-8 cannot, is spelled out."""
    return publish(
        path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    )
