"""Checkpoints: whole or passed over."""

from pathlib import Path

import pytest
import torch

from trainables.engine.checkpoints import load_newest_checkpoint, save_checkpoint
from trainables.ledger.fencing import Claim, take_claim
from trainables.ledger.schema import CLAIM_FILE, KEPT_CHECKPOINTS
from trainables.ledger.storage.location import open_storage


def save(claim: Claim, step: int) -> None:
    save_checkpoint(claim, step=step, tensors={"w": torch.full((3,), float(step))}, values={"step": step})


def save_some(folder: Path, steps: int) -> Claim:
    """Save checkpoints up to `steps`, and return the claim of a worker that goes on from them."""
    storage = open_storage(str(folder))
    claim = take_claim(storage, fencing_token=1)
    for step in range(1, steps + 1):
        save(claim, step)
    return take_claim(storage, fencing_token=1)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != CLAIM_FILE)


def test_the_newest_checkpoint_is_read_back_as_it_was(tmp_path: Path) -> None:
    saved = load_newest_checkpoint(save_some(tmp_path, 3))
    assert saved is not None
    assert saved[0]["w"].tolist() == [3.0, 3.0, 3.0]
    assert saved[1] == {"step": 3}


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save_some(tmp_path, 5)
    assert len(files_of(tmp_path)) == KEPT_CHECKPOINTS


def test_a_checkpoint_that_an_attempt_writes_after_its_successor_began_is_never_the_newest(
    tmp_path: Path,
) -> None:
    storage = open_storage(str(tmp_path))
    given_up = take_claim(storage, fencing_token=1)
    save(given_up, 3)
    successor = take_claim(storage, fencing_token=1)
    save(given_up, 9)  # was stuck in the storage, and wakes
    saved = load_newest_checkpoint(successor)
    assert saved is not None
    assert saved[1] == {"step": 3}
    save(successor, 5)
    save(given_up, 12)
    saved = load_newest_checkpoint(take_claim(storage, fencing_token=1))
    assert saved is not None
    assert saved[1] == {"step": 5}
    assert any(path.name.startswith(successor.attempt) for path in files_of(tmp_path))


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "values"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, damage: str) -> None:
    claim = save_some(tmp_path, 2)
    newest = files_of(tmp_path)[-1]
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
    saved = load_newest_checkpoint(claim, warn=messages.append)
    assert saved is not None
    assert saved[1] == {"step": 1}
    assert str(newest) in messages[0]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_newest_checkpoint(take_claim(open_storage(str(tmp_path)), fencing_token=1)) is None
