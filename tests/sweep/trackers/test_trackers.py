"""Every tracker, with its real library where that is installed: what it is given can be read back."""

import importlib
import io
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.config.errors import ConfigurationError
from sweep.config.study import validate_study
from sweep.console.progress import Progress
from sweep.session import run_study
from sweep.trackers.trackers import TRACKERS, MissingTrackerError, MLflow, Run, TensorBoard, TrackerError
from tests.sweep.fake_study import FakeStudy, _row
from trainables.ledger import schema

pytestmark = pytest.mark.filterwarnings("ignore")
Points = dict[int, float]
LOG_BLOCK = 32768  # bytes


def read_tensorboard(folder: Path, run: Run) -> Points:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (place,) = (folder / "tensorboard").iterdir()
    assert place.name == "random_0.5_seed_0"
    events = accumulator.EventAccumulator(str(place)).Reload()
    assert "parameters/text_summary" in events.Tags()["tensors"]
    return {event.step: event.value for event in events.Scalars(schema.TASK_A_LOSS)}


def read_mlflow(folder: Path, run: Run) -> Points:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=MLflow("tiny", folder).uri)
    experiment = client.get_experiment_by_name("tiny")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == run.name
    assert found.info.status == "FINISHED"
    assert found.data.params["lr"] == "0.01"
    history = client.get_metric_history(found.info.run_id, schema.TASK_A_LOSS)
    return {each.step: each.value for each in history}


def read_wandb(folder: Path, run: Run) -> Points:
    from wandb.proto import wandb_internal_pb2

    points: Points = {}
    for path in sorted((folder / "wandb").glob(f"offline-run-*-{run.key}/*.wandb")):
        for content in log_records(path.read_bytes()[7:], first=7):  # behind ":W&B" and its version
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            if record.WhichOneof("record_type") == "run":
                assert record.run.display_name == run.name
            if record.WhichOneof("record_type") == "history":
                values = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                if schema.TASK_A_LOSS in values:
                    points[int(values["_step"])] = values[schema.TASK_A_LOSS]
    return points


def log_records(content: bytes, *, first: int) -> Iterator[bytes]:
    """Yield the records of a LevelDB log, whose first block begins `first` bytes in."""
    place, whole = 0, b""
    while place < len(content):
        left = LOG_BLOCK - (first + place) % LOG_BLOCK
        if left < 7:  # no header fits: padding
            place += left
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or a record's last part
            yield whole
            whole = b""


READERS: dict[str, Callable[[Path, Run], Points]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "wandb": read_wandb,
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_a_run_that_goes_on_in_another_session_is_one_run_with_all_points(name: str, tmp_path: Path) -> None:
    for package in TRACKERS[name].packages:
        pytest.importorskip(package)
    run = Run("0" * 20, "random 0.5, seed 0", {"lr": 0.01, "modules": ["q", "v"], "steps": None})
    for steps, ended in (([0, 2], False), ([4], True)):
        tracker = TRACKERS[name]("tiny", tmp_path)
        tracker.check()
        tracker.log(run, [_row(step, 2.0 - step / 4) for step in steps], ended=ended)
        tracker.close()
    assert READERS[name](tmp_path, run) == {0: 2.0, 2: 1.5, 4: 1.0}


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_refused_with_what_installs_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(package: str) -> None:
        raise ImportError(package)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MissingTrackerError, match=rf"pip install 'forgetting-sweep\[{name}\]'"):
        TRACKERS[name]("tiny", tmp_path).check()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_an_error_before_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(MissingTrackerError, match="does not answer"):
        MLflow("tiny", tmp_path).check()


def test_an_unknown_tracker_is_refused_with_the_choices(study_values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="choose from tensorboard, wandb, mlflow"):
        validate_study(study_values | {"trackers": ["comet"]}, origin="test")


@pytest.fixture
def finished(study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeStudy:
    fake = FakeStudy(study_values, monkeypatch)
    fake.phase_a()
    fake.end(lambda label: 0.1)
    fake.declare(trackers=["tensorboard"])
    return fake


def run_again(fake: FakeStudy) -> str:
    console = Console(file=io.StringIO(), width=300)
    outcome = run_study(fake.study, address=None, progress=Progress(console))
    assert outcome.states == {schema.DONE: 3}
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_tracker_joins_a_finished_study_and_is_given_each_row_once(finished: FakeStudy) -> None:
    before = finished.prepared.fingerprint
    run_again(finished)
    files = set((finished.root / "tensorboard").rglob("events*"))
    assert {path.parent.name for path in files} == {
        "no_replay_seed_0",
        "random_0.5_seed_0",
        "difficulty_hard_0.5_seed_0",
    }
    run_again(finished)
    assert set((finished.root / "tensorboard").rglob("events*")) == files
    record = finished.ledger.study_record()
    assert record is not None
    assert record["fingerprint"] == before


def test_a_tracker_that_dies_is_said_once_and_the_next_run_catches_up(
    finished: FakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TrackerError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(TensorBoard, "log", fail)
        assert run_again(finished).count("tracker tensorboard: the disk is gone") == 1
    run_again(finished)
    assert len(list((finished.root / "tensorboard").iterdir())) == 3
