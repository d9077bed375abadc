"""Checkpoints: one safetensors file each, whole or absent, with a checksum over its content.

JSON values travel in the file's own header, so that tensors and values can never disagree.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from trainables.publish import publish_bytes

KEPT = 2
NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")

Tensors = dict[str, torch.Tensor]
Values = dict[str, Any]


def save_checkpoint(folder: Path, *, step: int, tensors: Tensors, values: Values) -> None:
    """Publish the state at `step` and delete all but the newest KEPT checkpoints."""
    text = json.dumps(values)
    metadata = {"values": text, "checksum": _checksum(tensors, text)}
    ordered = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}
    publish_bytes(folder / f"checkpoint-{step:08d}.safetensors", save(ordered, metadata=metadata))
    for old in _newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def load_newest_checkpoint(folder: Path) -> tuple[Tensors, Values] | None:
    """Return the newest checkpoint that reads back whole, or None; a damaged one is passed over."""
    for path in _newest_first(folder):
        read = _read(path)
        if read is not None:
            return read
    return None


def has_checkpoint(folder: Path) -> bool:
    """Say whether there is anything to continue from."""
    return bool(_newest_first(folder))


def delete_checkpoints(folder: Path) -> None:
    """Delete every checkpoint of a run that is finished."""
    for path in _newest_first(folder):
        path.unlink(missing_ok=True)


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if NAME.fullmatch(path.name)), reverse=True)


def _read(path: Path) -> tuple[Tensors, Values] | None:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError):
        return None
    text = metadata.get("values", "")
    if metadata.get("checksum") != _checksum(tensors, text):
        return None
    values: Values = json.loads(text)
    return tensors, values


def _checksum(tensors: Tensors, text: str) -> str:
    total = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
