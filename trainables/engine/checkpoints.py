"""Checkpoints: one safetensors file each, whole or absent, with a checksum over its content.

JSON values travel in the file's own header, so that tensors and values can never disagree. A file carries its
attempt's name: those of the newest attempt come first, so one that an earlier attempt writes late never does.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from trainables.ledger.fencing import Claim
from trainables.ledger.manifest import split_name, stored_name
from trainables.ledger.schema import ATTEMPT_FORM, CHECKPOINT_FORM, KEPT_CHECKPOINTS

NAME = re.compile(rf"(?:{ATTEMPT_FORM}-)?{CHECKPOINT_FORM}")

Tensors = dict[str, torch.Tensor]
Values = dict[str, Any]


def save_checkpoint(claim: Claim, *, step: int, tensors: Tensors, values: Values) -> None:
    """Publish the state at `step` and delete all but the newest KEPT_CHECKPOINTS. Raises StorageError."""
    storage, text = claim.storage, json.dumps(values)
    metadata = {"values": text, "checksum": _checksum(tensors, text)}
    ordered = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}
    name = stored_name(f"checkpoint-{step:08d}.safetensors", claim.attempt)
    storage.write(name, save(ordered, metadata=metadata))
    for old in newest_first(storage.listing(deep=False).files)[KEPT_CHECKPOINTS:]:
        storage.delete(old)


def load_newest_checkpoint(
    claim: Claim, *, warn: Callable[[str], None] = lambda message: None
) -> tuple[Tensors, Values] | None:
    """Return the newest checkpoint that was there when the claim was taken and reads back whole, or None.

    A damaged one is deleted, and passed over with a word to `warn`.
    """
    storage = claim.storage
    for name in newest_first(claim.found):
        try:
            return _parse(storage.read(name))
        except FileNotFoundError:  # its attempt, which may not know yet that it was given up, has newer ones
            continue
        except (SafetensorError, ValueError, KeyError, RecursionError):
            storage.delete(name)
            warn(f"{storage.describe(name)} is damaged: going back to the checkpoint before it")
    return None


def newest_first(names: Iterable[str]) -> list[str]:
    """Return the checkpoints among `names`, those of the newest attempt first."""
    found = [(split_name(name), name) for name in names if NAME.fullmatch(name)]
    return [name for _, name in sorted(found, reverse=True)]


def _parse(content: bytes) -> tuple[Tensors, Values]:
    """Return what a checkpoint file holds. Raises SafetensorError, KeyError or ValueError if it is
    damaged.
    """
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
