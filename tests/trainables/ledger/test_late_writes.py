"""A worker that was given up while a write was stuck in the storage: whenever it wakes, nothing that counts
changes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from sweep.config.study import StudyConfig
from sweep.ledger.ledger import Ledger
from tests.trainables.learning import artifact_of, learn
from trainables.artifact import LOSSES_FILE, MANIFEST_FILE
from trainables.engine.cell_folder import CellStore
from trainables.ledger import schema
from trainables.ledger.fencing import ClaimLostError
from trainables.ledger.storage.base import Storage
from trainables.ledger.storage.directory import DirectoryStorage
from trainables.phase_a import make_artifact

KEY = "a" * 20


class StuckError(BaseException):
    """Stands in for the end of a process that never came back from the storage."""


class Stuck(DirectoryStorage):
    """A directory in which the first write of one file does not arrive until `wake` is called."""

    name: ClassVar[str]
    held: ClassVar[list[Callable[[], Any]]]

    def _write(self, name: str, content: bytes) -> None:
        self._hold(name, lambda: DirectoryStorage._write(self, name, content))

    def _create(self, name: str, content: bytes) -> bool:
        self._hold(name, lambda: DirectoryStorage._create(self, name, content))
        return True

    def _hold(self, name: str, write: Callable[[], Any]) -> None:
        if self.name in name and not self.held:
            self.held.append(write)
            raise StuckError
        write()

    def wake(self) -> None:
        (write,) = self.held
        write()


def stuck(storage: Storage, name: str) -> Stuck:
    """Return the same folder, in which the file with `name` in its own name is stuck."""
    kind: type[Stuck] = type("StuckOnce", (Stuck,), {"name": name, "held": []})
    return kind(storage.location, prefix=storage.prefix, patience=0.2)


def work(storage: Storage, value: float) -> None:
    """Take a cell and do all that a worker does to it, with content that `value` tells from others'."""
    store = CellStore(storage, fencing_token=1)
    store.take()
    store.describe(
        {"key": KEY, "strategy": "random", "mix": 0.5, "seed": 0, "hyperparameters": {}},
        {"id": [], "level": [], "type": [], "tokens": [], "value": value},
    )
    rows: list[dict[str, float | int | None]] = []
    for step in (0, 4):
        rows.append(dict.fromkeys(schema.ROW_COLUMNS, 0) | {"step": step, "task_a_loss": value})
        store.record_answers([{"step": step, "value": value}])
        store.record(rows, {"steps": np.array([step, value])})
        store.checkpoint(step, {"w": torch.full((2,), value)}, {"step": step})
    store.keep_adapter({"adapter_model.safetensors": b"%f" % value})
    store.finish({"state": schema.DONE, "step": 4, "seconds": 1.0, "artifact": "c"})


FILES = (*schema.CONTENT_FILES, "adapter_model", "checkpoint-00000004", schema.RESULT_FILE)


@pytest.mark.parametrize("name", FILES)
def test_a_late_write_of_a_given_up_worker_changes_nothing_of_a_finished_cell(
    tmp_path: Path, name: str
) -> None:
    ledger = Ledger(DirectoryStorage(str(tmp_path)).make())
    given_up = stuck(ledger.cell(KEY), name)
    with pytest.raises(StuckError):
        work(given_up, 1.0)
    work(ledger.cell(KEY), 2.0)
    before = ledger.statuses([KEY], thorough=True)[KEY]
    result = ledger.cell(KEY).read(schema.RESULT_FILE)
    given_up.wake()
    after = ledger.statuses([KEY], thorough=True)[KEY]
    assert (after.state, after.attempt) == (before.state, before.attempt) == (schema.DONE, before.attempt)
    assert ledger.cell(KEY).read(schema.RESULT_FILE) == result
    ledger.sweep({KEY: after})
    assert ledger.statuses([KEY], thorough=True)[KEY] == before
    assert before.leftovers == ()


def test_of_two_that_finish_a_cell_the_first_stands_and_the_second_is_told(tmp_path: Path) -> None:
    ledger = Ledger(DirectoryStorage(str(tmp_path)).make())
    given_up = stuck(ledger.cell(KEY), schema.RESULT_FILE)
    with pytest.raises(StuckError):
        work(given_up, 1.0)
    wake_before_the_end = replace(ledger.cell(KEY))
    store = CellStore(wake_before_the_end, fencing_token=1)
    store.take()
    given_up.wake()
    with pytest.raises(ClaimLostError, match=r"result\.json is there already"):
        store.finish({"state": schema.DONE, "step": 4, "seconds": 1.0, "artifact": "other"})
    assert ledger.statuses([KEY], thorough=True)[KEY].artifact == "c"
    with pytest.raises(ClaimLostError, match="finished by another"):
        CellStore(ledger.cell(KEY), fencing_token=1).take()


@pytest.mark.parametrize("name", [schema.FAILURE_FILE, schema.STOPPED_FILE])
def test_a_late_note_of_an_earlier_driver_takes_no_finished_cell_back(tmp_path: Path, name: str) -> None:
    ledger = Ledger(DirectoryStorage(str(tmp_path)).make())
    work(ledger.cell(KEY), 1.0)
    ledger.cell(KEY).write_record(name, {"error": "x", "log": "x", "attempts": 1, "step": 1, "reason": "x"})
    assert ledger.state(KEY) == schema.DONE


@pytest.mark.parametrize("name", [LOSSES_FILE, MANIFEST_FILE])
def test_a_late_write_of_a_given_up_phase_a_changes_nothing_of_the_artifact(
    study: StudyConfig, name: str
) -> None:
    learning = learn(study)
    place = stuck(learning.job.storage, name)
    with pytest.raises(StuckError):
        make_artifact(replace(learning.job, storage=place))
    make_artifact(learning.job)
    before, manifest = artifact_of(learning), learning.job.storage.read(MANIFEST_FILE)
    place.wake()
    assert artifact_of(learning).content == before.content
    assert learning.job.storage.read(MANIFEST_FILE) == manifest
