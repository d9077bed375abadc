"""A checkpoint's safetensors files: which of a folder's are read, whether each is whole, what is in them.

Headers alone are read, except for numbers that are not finite, which each file is searched for once.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from trainables.cache.file_digests import remembered_digest
from trainables.cache.machine import keep, recall
from trainables.ledger.digests import digest_json
from trainables.ledger.errors import UserError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
POINTER = b"version https://git-lfs.github.com/spec/"
SMALL = {".json", ".model", ".txt", ".jinja"}  # endings of what is read beside the weights
SEARCHED = "not_finite"  # kind of entries in the machine's cache
BLOCK = 2**22  # numbers searched at a time
TAIL = 2**16  # bytes; a file that ends in as many zeros was given its room and never filled
HEADER_LIMIT = 100 * 2**20  # bytes; the safetensors library takes no longer one
# Unsigned integer of the size of each type of number, and the exponent's bits: all set in NaN and infinity.
EXPONENTS = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F800000),
    "F64": ("<u8", 0x7FF0000000000000),
}


class ModelError(UserError):
    """The base model cannot be found, read or trained; the message says what would help."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor's bytes are in its file, and what they are; `dtype` as safetensors names it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    start: int
    end: int

    def numbers(self) -> np.ndarray:
        """Return the numbers' bits, mapped and not read, of a type in EXPONENTS."""
        count = prod(self.shape)
        if count == 0:
            return np.empty(0, EXPONENTS[self.dtype][0])
        return np.memmap(self.file, EXPONENTS[self.dtype][0], "r", offset=self.start, shape=(count,))


def refuse_foreign_files(folder: Path) -> None:
    """Raise ModelError where the folder holds an adapter, a link to nothing, or a pointer for a small
    file.
    """
    if (folder / ADAPTER).exists():
        if (folder / "config.json").exists():
            raise ModelError(
                f"model.name: {folder} holds an adapter ({ADAPTER}) beside the model's own weights, which "
                f"would be added to them without a word: move {ADAPTER} and its weights elsewhere, and give "
                "that folder as phase_a.adapter if the study is to begin from it"
            )
        raise ModelError(
            f"model.name: {folder} is an adapter ({ADAPTER}), not a base model: give its base model as "
            "model.name and this folder as phase_a.adapter"
        )
    for file in sorted(file for file in folder.iterdir() if file.suffix in {*SMALL, ".safetensors"}):
        if file.is_symlink() and not file.exists():
            raise ModelError(
                f"model.name: {file} is a link to {file.readlink()}, which is not there: fetch it again"
            )
        if file.is_file() and file.suffix in SMALL:
            refuse_pointer(file)


def refuse_pointer(file: Path) -> None:
    """Raise ModelError where git-lfs has left a pointer in the place of a file."""
    if is_pointer(file):
        raise ModelError(
            f"model.name: {file} is a git-lfs pointer, not the file itself: run `git lfs pull` in "
            f"{file.parent}"
        )


def is_pointer(file: Path) -> bool:
    """Say whether git-lfs has left a pointer in the place of a file."""
    with file.open("rb") as opened:
        return opened.read(len(POINTER)) == POINTER


def weight_files(folder: Path) -> list[Path]:
    """Return the files that the model is loaded from: one, or those that the index names.

    Raises ModelError where one of them is not there, or only a pointer to it.
    """
    if (folder / WEIGHTS).is_file():
        refuse_pointer(folder / WEIGHTS)
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        held = ", ".join(sorted(file.name for file in folder.glob("*.safetensors*"))) or "none"
        raise ModelError(
            f"model.name: {folder} has neither {WEIGHTS} nor {INDEX}, by which weights are found; of "
            f"safetensors it holds {held}"
        )
    names = sorted(set(_read_index(folder / INDEX).values()))
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        begun = sorted(file.name for file in folder.glob("*.incomplete"))
        raise ModelError(
            f"model.name: {folder / INDEX} names {len(names)} files, and {_first(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} not there"
            + (f"; {_first(begun)} is a download that did not end" if begun else "")
            + ": fetch the model again"
        )
    for name in names:
        refuse_pointer(folder / name)
    return [folder / name for name in names]


def _read_index(path: Path) -> dict[str, str]:
    """Return the file that each tensor is in, by the tensor's name."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        placed, _ = index["weight_map"], index["metadata"]  # transformers reads both
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"model.name: {path} is not a readable index of weights: {error!r:.200}") from error
    plain = isinstance(placed, dict) and all(
        isinstance(name, str) and name == Path(name).name for name in placed.values()
    )
    if not plain or not placed:
        raise ModelError(f"model.name: {path}: weight_map must give each tensor the name of a file beside it")
    return dict(placed)


def read_headers(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Return every tensor in `files` by name. Raises ModelError where a file is not whole."""
    return {name: stored for file in files for name, stored in read_header(file).items()}


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Return a file's tensors by name. Raises ModelError where it is empty, cut off or no safetensors."""
    size = file.stat().st_size
    if size == 0:
        raise ModelError(f"model.name: {file} is empty: fetch it again")
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > min(HEADER_LIMIT, size):
                raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
            header = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        tensors = {name: _stored(file, 8 + length, entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"model.name: {file} is not a whole safetensors file ({error!s:.200}): fetch it again"
        ) from error
    expected = max((stored.end for stored in tensors.values()), default=8 + length)
    if size != expected:
        raise ModelError(
            f"model.name: {file} has {size:,} bytes where its header asks for {expected:,}: it was not "
            "copied whole, fetch it again"
        )
    refuse_unfilled(file)
    return tensors


def refuse_unfilled(file: Path) -> None:
    """Raise ModelError where a download or copy has set room aside for the file and not filled it."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - TAIL))
        tail = opened.read()
    if tail == bytes(TAIL):
        raise ModelError(
            f"model.name: {file} ends in {TAIL:,} zeros or more: its room was set aside, and a download or "
            "copy did not fill it; fetch it again"
        )


def _stored(file: Path, origin: int, entry: dict[str, list[int]]) -> StoredTensor:
    start, end = entry["data_offsets"]
    shape, dtype = tuple(int(size) for size in entry["shape"]), str(entry["dtype"])
    if dtype in EXPONENTS and end - start != prod(shape) * np.dtype(EXPONENTS[dtype][0]).itemsize:
        raise ValueError(f"{end - start} bytes for shape {shape} of {dtype}")
    return StoredTensor(file, shape, dtype, origin + start, origin + end)


def not_finite(file: Path) -> list[str]:
    """Return the names of a file's tensors that hold NaN or infinity; a file is searched once a content."""
    key = digest_json({"sha256": remembered_digest(file)})
    kept = recall(SEARCHED, key)
    if kept is not None:
        return [str(name) for name in json.loads(kept)]
    names = [name for name, stored in read_header(file).items() if _holds_not_finite(stored)]
    keep(SEARCHED, key, json.dumps(names).encode())
    return names


def _holds_not_finite(stored: StoredTensor) -> bool:
    if stored.dtype not in EXPONENTS:
        return False
    numbers, exponent = stored.numbers(), EXPONENTS[stored.dtype][1]
    return any(
        bool((numbers[start : start + BLOCK] & exponent == exponent).any())
        for start in range(0, len(numbers), BLOCK)
    )


def same_numbers(one: StoredTensor, other: StoredTensor) -> bool:
    """Say whether two stored tensors are equal bit for bit."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    first, second = one.numbers(), other.numbers()
    return all(
        np.array_equal(first[start : start + BLOCK], second[start : start + BLOCK])
        for start in range(0, len(first), BLOCK)
    )


def _first(names: list[str], *, count: int = 3) -> str:
    """Return the first few names and how many more there are."""
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
