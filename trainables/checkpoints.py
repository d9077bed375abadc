"""Checkpoints: one safetensors file each, whole or absent, with a checksum over its content.

JSON values travel in the file's own header, so that tensors and values can never disagree.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from trainables.columns import KEPT_CHECKPOINTS
from trainables.storage.base import Storage

NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")

Tensors = dict[str, torch.Tensor]
Values = dict[str, Any]


def save_checkpoint(storage: Storage, *, step: int, tensors: Tensors, values: Values) -> None:
    """Publish the state at `step` and delete all but the newest KEPT_CHECKPOINTS. Raises StorageError."""
    text = json.dumps(values)
    metadata = {"values": text, "checksum": _checksum(tensors, text)}
    ordered = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}
    storage.write(f"checkpoint-{step:08d}.safetensors", save(ordered, metadata=metadata))
    for old in _newest_first(storage)[KEPT_CHECKPOINTS:]:
        storage.delete(old)


def load_newest_checkpoint(
    storage: Storage, *, warn: Callable[[str], None] = lambda message: None
) -> tuple[Tensors, Values] | None:
    """Return the newest checkpoint that reads back whole, or None.

    A damaged one is deleted, and passed over with a word to `warn`.
    """
    for name in _newest_first(storage):
        try:
            return _parse(storage.read(name))
        except (FileNotFoundError, SafetensorError, ValueError, KeyError, RecursionError):
            storage.delete(name)
            warn(f"{storage.describe(name)} is damaged: going back to the checkpoint before it")
    return None


def delete_checkpoints(storage: Storage) -> None:
    """Delete every checkpoint of a run that is finished."""
    for name in _newest_first(storage):
        storage.delete(name)


def _newest_first(storage: Storage) -> list[str]:
    return sorted((name for name in storage.files() if NAME.fullmatch(name)), reverse=True)


def _parse(content: bytes) -> tuple[Tensors, Values]:
    """Return what a checkpoint file holds. Raises SafetensorError, KeyError or ValueError if it is damaged."""
    tensors = load(content)
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    text = metadata["values"]
    if metadata["checksum"] != _checksum(tensors, text):
        raise ValueError("the content does not match its checksum")
    values: Values = json.loads(text)
    return tensors, values


def _checksum(tensors: Tensors, text: str) -> str:
    total = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
