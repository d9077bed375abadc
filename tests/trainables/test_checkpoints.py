"""Checkpoints: whole or passed over."""

from pathlib import Path

import pytest
import torch

from trainables.checkpoints import load_newest_checkpoint, save_checkpoint
from trainables.columns import KEPT_CHECKPOINTS
from trainables.storage.base import Storage
from trainables.storage.locations import open_storage


def save_some(folder: Path, steps: int) -> Storage:
    storage = open_storage(str(folder))
    for step in range(1, steps + 1):
        save_checkpoint(
            storage, step=step, tensors={"w": torch.full((3,), float(step))}, values={"step": step}
        )
    return storage


def test_the_newest_checkpoint_is_read_back_as_it_was(tmp_path: Path) -> None:
    saved = load_newest_checkpoint(save_some(tmp_path, 3))
    assert saved is not None
    assert saved[0]["w"].tolist() == [3.0, 3.0, 3.0]
    assert saved[1] == {"step": 3}


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save_some(tmp_path, 5)
    assert len(list(tmp_path.iterdir())) == KEPT_CHECKPOINTS


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "values"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, damage: str) -> None:
    storage = save_some(tmp_path, 2)
    newest = max(tmp_path.iterdir())
    content = bytearray(newest.read_bytes())
    if damage == "empty":
        content = bytearray()
    elif damage == "truncated":
        content = content[:-4]
    elif damage == "flipped":
        content[-1] ^= 1
    else:
        content = bytearray(content.replace(b'\\"step\\": 2', b'\\"step\\": 9'))
    assert bytes(content) != newest.read_bytes()
    newest.write_bytes(content)
    messages: list[str] = []
    saved = load_newest_checkpoint(storage, warn=messages.append)
    assert saved is not None
    assert saved[1] == {"step": 1}
    assert str(newest) in messages[0]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_newest_checkpoint(open_storage(str(tmp_path / "absent"))) is None
