"""Content digests: equal content has an equal name, on every machine and in every process."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

KEY_LENGTH = 20  # hex digits of a key: 80 bits


def digest_json(value: Any) -> str:
    """Return the key of a JSON value; the order of its keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def digest_arrays(*arrays: npt.NDArray[Any]) -> str:
    """Return the key of a sequence of arrays: their types, shapes and values."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:KEY_LENGTH]


def digest_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(paths: Iterable[Path], *, digest: Callable[[Path], str] = digest_file) -> str:
    """Return the key of files, by name and content; `digest` gives a file's SHA-256."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.name}\0{digest(path)}\n".encode())
    return total.hexdigest()[:KEY_LENGTH]
