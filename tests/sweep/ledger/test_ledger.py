"""The ledger under damage: every kind of file, one at a time, is noticed and named; nothing is lost."""

import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sweep.config.study import StudyConfig, validate_study
from sweep.console.progress import Progress
from sweep.console.tables import print_status
from sweep.ledger.ledger import Ledger, open_existing
from sweep.planning import study_record
from sweep.planning.inputs import Prepared
from sweep.planning.plan import make_plan, publish_plan
from sweep.session import Session, run_study
from tests.conftest import tiny_study
from tests.trainables.learning import Learning, folder_of, learn, path_of, run_cell
from trainables.ledger import schema
from trainables.ledger.forms import LedgerError
from trainables.ledger.storage.location import open_storage
from trainables.phase_a import make_artifact

Damage = Callable[[Path], None]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


DAMAGES: dict[str, Damage] = {"truncated": truncate, "empty": empty, "flipped": flip_a_bit, "missing": remove}


class Finished:
    """A study whose cells were run without Ray, with everything that a run leaves behind: run here, or
    copied.
    """

    def __init__(self, study: StudyConfig, *, copy_of: Path | None = None) -> None:
        if copy_of is not None:
            shutil.copytree(copy_of, study.storage)
        self.study = study
        self.learning: Learning = learn(study)
        self.prepared: Prepared = self.learning.prepared
        self.ledger = Ledger(open_storage(study.storage))
        if copy_of is None:
            self._run()

    def _run(self) -> None:
        study = self.study
        make_artifact(self.learning.job)
        plan = make_plan(study, self.prepared, self.ledger, say=print)
        study_record.open_study(
            self.ledger, study, fingerprint=self.prepared.fingerprint, details={}, precision="fp32"
        )
        study_record.write_validation(self.ledger, self.prepared)
        publish_plan(plan, study=study, ledger=self.ledger)
        for cell in plan.cells:
            assert cell.spec is not None
            store = self.learning.store(cell.spec.key)
            list(run_cell(cell.spec, shared=self.learning.shared(), store=store))

    @property
    def root(self) -> Path:
        return folder_of(self.ledger.storage)

    def plan(self, *, thorough: bool = False) -> Any:
        return make_plan(self.study, self.prepared, self.ledger, say=print, thorough=thorough)


@pytest.fixture(scope="module")
def original(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = tiny_study(tiny_model, storage=str(tmp_path_factory.mktemp("original") / "study"))
    return Finished(validate_study(values, origin="test")).root


@pytest.fixture
def finished(study: StudyConfig, original: Path) -> Finished:
    return Finished(study, copy_of=original)


CELL_FILES = [
    "result.json",
    "rows.json",
    "cell.json",
    "selection.json",
    "losses.safetensors",
    "adapter/adapter_model.safetensors",
    "adapter/adapter_config.json",
]


def test_a_finished_cell_with_any_damaged_file_does_not_count_and_is_named(finished: Finished) -> None:
    keys = [cell.spec.key for cell in finished.plan().cells]
    assert finished.ledger.counts() == {schema.DONE: 3}
    for name in CELL_FILES:
        for damage in DAMAGES.values():
            path = path_of(finished.ledger.cell(keys[0]), name)
            whole, times = path.read_bytes(), os.stat(path)
            damage(path)
            plan = finished.plan(thorough=True)
            if not (name == "result.json" and damage is remove):  # then it merely is not finished
                assert str(path) in plan.damaged[keys[0]], (name, damage)
            assert [cell.spec.key for cell in plan.pending] == [keys[0]], (name, damage)
            path.write_bytes(whole)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert finished.ledger.counts() == {schema.DONE: 3}


def test_a_file_that_is_gone_is_missed_without_reading_any(finished: Finished) -> None:
    key = finished.plan().cells[0].spec.key
    for name in CELL_FILES[1:]:
        path = path_of(finished.ledger.cell(key), name)
        whole = path.read_bytes()
        path.unlink()
        assert str(path) in finished.plan().damaged[key]
        path.write_bytes(whole)
    assert finished.ledger.counts() == {schema.DONE: 3}


def test_a_run_that_checks_names_the_cells_whose_files_are_damaged(finished: Finished) -> None:
    key = finished.plan().cells[0].spec.key
    path = path_of(finished.ledger.cell(key), schema.LOSSES_FILE)
    flip_a_bit(path)
    assert finished.ledger.counts() == {schema.DONE: 3}
    assert str(path) in str(finished.ledger.statuses([key], thorough=True)[key].damage)
    messages: list[str] = []
    run = Session(
        finished.study,
        finished.prepared,
        finished.ledger,
        lease=None,  # type: ignore[arg-type]
        outages=None,  # type: ignore[arg-type]
        interruption=None,  # type: ignore[arg-type]
        progress=Progress(console=_Listening(messages)),
    )
    plan = run.plan(thorough=True)
    assert any(f"{path} is damaged" in message and "runs again" in message for message in messages)
    assert [cell.spec.key for cell in plan.pending if cell.spec] == [key]
    assert finished.ledger.state(key) == schema.PARTIAL


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", [schema.STUDY_FILE, schema.PLAN_FILE, schema.VALIDATION_FILE])
def test_a_run_writes_the_studys_own_files_anew(finished: Finished, name: str, damage: Damage) -> None:
    entries = finished.ledger.plan()
    path = finished.root / name
    whole = path.read_bytes()
    damage(path)
    if damage is not remove and name != schema.VALIDATION_FILE:
        with pytest.raises(LedgerError, match=f"{name} is damaged"):
            finished.ledger.study_record() if name == schema.STUDY_FILE else finished.ledger.plan()
    messages: list[str] = []
    progress = Progress(console=_Listening(messages))
    outcome = run_study(finished.study, address=None, progress=progress)  # nothing to compute: starts no Ray
    assert outcome.states == {schema.DONE: 3}
    assert damage is remove or any(str(path) in message for message in messages)
    assert finished.ledger.plan() == entries
    assert finished.ledger.study_record() is not None
    assert name == schema.STUDY_FILE or path.read_bytes() == whole


def test_a_thorough_status_names_damaged_validation_examples(finished: Finished) -> None:
    flip_a_bit(finished.root / schema.VALIDATION_FILE)
    said = []
    for thorough in (False, True):
        console = Console(file=io.StringIO(), width=200)
        print_status(finished.ledger, thorough=thorough, console=console)
        said.append(console.file.getvalue())  # type: ignore[attr-defined]
    assert "validation.json" not in said[0]
    assert "validation.json is damaged" in said[1]


def test_the_validation_examples_are_recorded_with_the_tokens_that_losses_divide_by(
    finished: Finished,
) -> None:
    record = finished.ledger.storage.read_record(schema.VALIDATION_FILE)
    assert record is not None
    artifact = finished.plan().artifacts[0]
    for task, tokens in zip(("task_a", "task_b"), artifact.validation_tokens, strict=True):
        assert record[task]["tokens"] == tokens.tolist()
        assert {len(record[task][name]) for name in ("id", "level", "type", "tokens")} == {4}
    assert record["task_a"]["id"] == list(finished.prepared.task_a.validation.ids)


def declared(finished: Finished, values: dict[str, Any], done: int) -> list[tuple[float | None, int]]:
    """Declare, and return every smallest effect declared so far with the cells that were done by then."""
    study_record.open_study(
        finished.ledger,
        validate_study(values, origin="test"),
        fingerprint=finished.prepared.fingerprint,
        details={},
        precision="fp32",
        finished=done,
    )
    record = finished.ledger.study_record()
    assert record is not None
    assert all(each["date"].endswith("+00:00") for each in record["declarations"])
    return [(each["inference"]["smallest_effect"], each["finished_cells"]) for each in record["declarations"]]


def test_what_is_declared_of_inference_is_dated_by_the_cells_that_were_done(
    finished: Finished, study_values: dict[str, Any]
) -> None:
    later = study_values | {"inference": {"smallest_effect": 0.01}}
    assert declared(finished, study_values, 2) == [(None, 0)]
    assert declared(finished, later, 3) == [(None, 0), (0.01, 3)]
    assert declared(finished, later, 4) == [(None, 0), (0.01, 3)]
    assert declared(finished, study_values, 5) == [(None, 0), (0.01, 3), (None, 5)]


def test_every_command_that_starts_a_study_is_kept_and_a_repeated_one_counts_once(finished: Finished) -> None:
    def start(*command: str, revision: str = "abc") -> list[list[str]]:
        study_record.open_study(
            finished.ledger,
            finished.study,
            fingerprint=finished.prepared.fingerprint,
            details={"command": list(command), "revision": revision},
            precision="fp32",
        )
        record = finished.ledger.study_record()
        assert record is not None
        return [[*each["command"], each["revision"]] for each in record["starts"][1:]]

    first, second = ["run", "a.yaml", "abc"], ["resume", "a", "abc"]
    assert start("run", "a.yaml") == [first]
    assert start("run", "a.yaml") == [first]
    assert start("resume", "a") == [first, second]
    assert start("resume", "a", revision="def") == [first, second, ["resume", "a", "def"]]


class _Listening:
    """Stands in for a terminal that keeps what is said."""

    is_terminal = False

    def __init__(self, messages: list[str]) -> None:
        self.messages = messages

    def print(self, message: str, **_: Any) -> None:
        self.messages.append(message)


def test_the_labels_of_an_earlier_plan_outlive_a_damaged_one(
    finished: Finished, study_values: dict[str, Any]
) -> None:
    flip_a_bit(finished.root / schema.PLAN_FILE)
    study_record.mend(finished.ledger, say=print)
    narrower = validate_study(
        {**study_values, "search": {**study_values["search"], "mix": [0]}}, origin="test"
    )
    plan = make_plan(narrower, finished.prepared, finished.ledger, say=print)
    publish_plan(plan, study=narrower, ledger=finished.ledger)
    assert len(finished.ledger.plan()) == 3


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["manifest.json", "losses.safetensors", "adapter/adapter_model.safetensors"])
def test_a_damaged_artifact_counts_as_absent_and_comes_back_the_same(
    finished: Finished, name: str, damage: Damage
) -> None:
    before = finished.plan().artifacts[0]
    damage(path_of(finished.prepared.artifacts[0], name))
    messages: list[str] = []
    plan = make_plan(finished.study, finished.prepared, finished.ledger, say=messages.append)
    assert plan.artifacts == {0: None}
    assert (damage is remove and name == "manifest.json") or name in messages[0]
    make_artifact(finished.learning.job)
    after = finished.plan()
    assert after.artifacts[0].content == before.content
    assert not after.pending


def test_finished_cells_are_not_mixed_with_those_of_another_adapter(finished: Finished) -> None:
    finished.learning.session().model  # noqa: B018 (loads it)
    folder = folder_of(finished.prepared.artifacts[0])
    remove(folder / "manifest.json")
    job = finished.learning.job
    other = job.settings.model_copy(update={"lr": 0.02})
    make_artifact(
        type(job)(job.setup, other, job.task_a, job.task_b, batch_size=4, tokens=1.0, storage=job.storage)
    )
    with pytest.raises(LedgerError, match="began from another Phase A adapter"):
        finished.plan()


def test_a_moved_or_copied_study_is_the_same_study(finished: Finished, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "elsewhere"
    shutil.copytree(finished.root, copy)  # every file gets a new date
    time.sleep(0.01)
    assert open_existing(str(copy)).counts() == {schema.DONE: 3}
    moved = tmp_path / "moved"
    finished.root.rename(moved)
    assert open_existing(str(moved)).counts() == {schema.DONE: 3}


def test_a_key_from_a_file_cannot_leave_the_study(finished: Finished) -> None:
    entries = finished.ledger.plan()
    entries[0]["key"] = "../../elsewhere"
    finished.ledger.write(schema.PLAN_FILE, {"schema": schema.SCHEMA_VERSION, "cells": entries})
    with pytest.raises(LedgerError, match=r"cells\.0\.key.*got '\.\./\.\./elsewhere'"):
        finished.ledger.counts()


def test_a_record_of_another_version_is_refused_by_its_number(finished: Finished) -> None:
    record = finished.ledger.study_record()
    assert record is not None
    finished.ledger.write(schema.STUDY_FILE, record | {"schema": 1})
    with pytest.raises(LedgerError, match="has schema 1, this version reads 2"):
        open_existing(str(finished.root))


def test_the_plan_says_how_much_room_the_study_takes(finished: Finished) -> None:
    from sweep.planning.disk import disk_need

    need = disk_need(finished.plan().cells, study=finished.study, prepared=finished.prepared)
    cells = finished.root / schema.CELLS_DIRECTORY
    used = sum(path.stat().st_size for path in cells.rglob("*") if path.is_file())
    assert used / 2 < need.cells < 2 * used
    assert np.isfinite(need.worker)
