"""Claims: a worker that was given up may no longer write."""

from pathlib import Path

import pytest

from sweep.config.study import StudyConfig
from tests.trainables.learning import learn, result_of, run_cell
from trainables.ledger.fencing import ClaimLostError, take_claim
from trainables.ledger.schema import CLAIM_FILE
from trainables.ledger.storage.location import open_storage


def test_the_newest_attempt_may_write_and_no_other(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    first, second = take_claim(storage, fencing_token=1), take_claim(storage, fencing_token=1)
    second.check()
    with pytest.raises(ClaimLostError):
        first.check()


def test_a_worker_of_an_earlier_driver_cannot_take_work_back(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    newer = take_claim(storage, fencing_token=2)
    with pytest.raises(ClaimLostError, match="a later driver"):
        take_claim(storage, fencing_token=1)
    newer.check()


def test_a_torn_claim_belongs_to_nobody(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    claim = take_claim(storage, fencing_token=1)
    storage.write(CLAIM_FILE, b"{")
    with pytest.raises(ClaimLostError):
        claim.check()
    take_claim(storage, fencing_token=1).check()


def test_a_worker_that_was_given_up_leaves_the_cell_to_its_successor(study: StudyConfig) -> None:
    """As after a lost node: two processes train one cell, and only the later one's files count."""
    learning = learn(study)
    spec, shared = learning.spec(), learning.shared()
    given_up = run_cell(spec, shared=shared, store=learning.store("cell"))
    next(given_up)
    next(given_up)
    rows = list(run_cell(spec, shared=shared, store=learning.store("cell")))
    assert rows[-1]["step"] == 10
    before = {
        name: learning.store("cell").storage.read(name) for name in learning.store("cell").storage.files()
    }
    with pytest.raises(ClaimLostError):
        list(given_up)
    after = {
        name: learning.store("cell").storage.read(name) for name in learning.store("cell").storage.files()
    }
    assert after == before
    assert result_of(learning.store("cell")) is not None
