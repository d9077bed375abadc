"""Workers that stop answering, and the processes of GPU tasks: on a real cluster with one logical GPU."""

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
from rich.console import Console

from sweep.cluster import mailbox, supervision
from sweep.cluster.local_ray import local_cluster
from sweep.cluster.phase_a import _phase_a_task, as_task
from sweep.config.sections import ResourceSettings
from sweep.config.study import validate_study
from sweep.console.progress import Progress
from sweep.session import run_study
from tests.sweep.waiting import wait_for
from trainables.ledger import schema
from trainables.ledger.storage.location import open_storage
from trainables.watchdog import end_process, process_mark
from trainables.worker import DriverLink, Inputs, WorkerBeat, train_cells
from trainables.worker_identity import requirement

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]
ON_LOGICAL_GPU = {"cpus": 1, "gpus": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def _started_by_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here processes are what is tested: every worker is one that Ray itself has started."""
    monkeypatch.delenv("WARM_START", raising=False)


@pytest.fixture
def one_gpu(_started_by_ray: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    with local_cluster(say=pytest.fail) as settings:
        ray.init(**settings, num_cpus=2, num_gpus=1, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()


class Saboteur(threading.Thread):
    """Stops (SIGSTOP) the process that trains Phase A, then the first that trains a cell; notes what it
    saw.
    """

    def __init__(self, storage: Path) -> None:
        super().__init__(daemon=True)
        self.storage = storage
        self.phase_a: set[int] = set()
        self.stopped: list[int] = []
        self.left_over: set[int] | None = None  # processes of Phase A that were there when a cell was begun

    def run(self) -> None:
        self.stop_first(schema.ARTIFACTS_DIRECTORY)
        wait_for(lambda: self.note_phase_a() or self.claims(schema.CELLS_DIRECTORY), "a cell")
        self.left_over = {pid for pid in self.phase_a if psutil.pid_exists(pid)}
        self.stop_first(schema.CELLS_DIRECTORY)

    def stop_first(self, folder: str) -> None:
        wait_for(lambda: any(self.storage.glob(f"{folder}/**/*checkpoint-*")), f"a checkpoint in {folder}")
        (pid,) = self.claims(folder)
        os.kill(pid, signal.SIGSTOP)
        self.stopped.append(pid)

    def note_phase_a(self) -> None:
        self.phase_a |= self.claims(schema.ARTIFACTS_DIRECTORY)

    def claims(self, folder: str) -> set[int]:
        """Return the processes that have claimed something in a folder of the study."""
        found = set()
        for path in self.storage.glob(f"{folder}/**/{schema.CLAIM_FILE}"):
            try:
                found.add(int(json.loads(path.read_text())["pid"]))
            except FileNotFoundError:
                continue
        return found


def test_a_stopped_worker_is_ended_by_the_driver_and_phase_a_leaves_its_gpu(
    one_gpu: None, study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervision, "MARGIN_SECONDS", 1.0)
    study_values["model"] |= {"attention": "eager", "compile": "off"}
    study_values["phase_a"] |= {"epochs": None, "steps": 400, "checkpoint_every": 20}
    study_values["phase_b"] |= {"epochs": None, "steps": 200, "eval_every": 50}
    study_values["search"] = {"strategy": ["random"], "mix": [0.5], "seed": [0]}
    study_values["resources"] = ON_LOGICAL_GPU | {"progress_timeout": 10, "retries": 10}
    saboteur = Saboteur(Path(study_values["storage"]))
    saboteur.start()
    with (tmp_path / "said").open("w") as file, Progress(Console(file=file, width=300)) as progress:
        outcome = run_study(validate_study(study_values, origin="test"), address=None, progress=progress)
    saboteur.join(timeout=10)
    assert outcome.states == {schema.DONE: 1}
    said = (tmp_path / "said").read_text()
    assert "computing on the CPU: resources.device is cpu, though the cluster has 1 GPUs" in said
    assert "Phase A, seed 0: no heartbeat for 11 s: its process was ended" in said
    assert "random 0.5, seed 0: no heartbeat for 11 s: its process was ended" in said
    assert len(set(saboteur.stopped)) == 2
    assert not any(map(psutil.pid_exists, saboteur.stopped))
    assert saboteur.phase_a - set(saboteur.stopped), "Phase A was taken over by another process"
    assert saboteur.left_over == set()
    check_that_every_try_is_another_process(tmp_path / "tries")
    check_that_a_worker_that_differs_leaves_its_work(study_values["storage"])


def check_that_every_try_is_another_process(tries: Path) -> None:
    tries.touch()

    def fail_twice() -> int:
        with tries.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if len(tries.read_text().split()) < 3:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return os.getpid()

    resources = ResourceSettings.model_validate(ON_LOGICAL_GPU)
    task = as_task(fail_twice, resources, cpus=1, max_retries=2, retry_exceptions=True)
    last = ray.get(task.remote())
    assert len(set(tries.read_text().split())) == 3
    wait_for(lambda: not psutil.pid_exists(last), "the end of the last process")


def check_that_a_worker_that_differs_leaves_its_work(storage: str) -> None:
    """As one does that was started again after its files had changed."""
    actor: Any = ray.remote(mailbox.Mailbox).remote()
    ours = requirement(on_gpu=False)
    required = replace(ours, modules=ours.modules | {"trainables/model/loss.py": "other"})
    link = DriverLink(open_storage(storage), fencing_token=1, mailbox=actor, timeout=9.0, required=required)
    nothing: Any = None
    inputs = Inputs(shared=nothing, weights=nothing, cells=nothing, work={"key": "work"})
    train_cells({"keys": ["key"]}, inputs=inputs, link=link)
    job: Any = SimpleNamespace(settings=SimpleNamespace(seed=0))
    assert _phase_a_task(job, nothing, link, 1.0) is False
    (line,) = ray.get(actor.refusals.remote())
    assert line.endswith("trainables/model/loss.py: not the driver's code")
    assert replace(link, required=ours).proves()


def test_no_process_is_ended_that_only_has_the_same_number() -> None:
    mark = process_mark(os.getpid())
    assert mark is not None
    assert mark == process_mark(os.getpid())
    assert not end_process(os.getpid(), mark=mark + "0")
    assert process_mark(2**22 + 1) is None  # beyond the largest id
    assert not end_process(2**22 + 1, mark=mark)


def test_a_worker_is_silent_at_work_and_between_two_pieces_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(mailbox.time, "monotonic", lambda: now[0])
    post, worker, other = mailbox.Mailbox(), *(WorkerBeat("node", "host", pid, "1", "work") for pid in (1, 2))
    for each in (worker, other):
        assert post.beat(each) is False
    now[0] = 8.0
    post.beat(other)
    now[0] = 11.0
    assert post.silent(10.0) == [(worker, True)]
    assert post.silent(10.0) == []  # it has as long again, should its node not answer
    now[0] = 25.0
    post.rest(other)
    assert post.silent(10.0) == [(worker, True)]
    now[0] = 30.0
    post.beat(worker)
    now[0] = 35.0
    assert post.silent(10.0) == [(other, False)]  # stopped between two cells, or idle
    post.beat(replace(other, work="its next"))
    now[0] = 45.0
    post.rest(worker)
    post.forget(worker)
    assert post.silent(10.0) == [(replace(other, work="its next"), True)]
    post.stop()
    assert post.beat(worker) is True


def test_what_another_try_would_find_again_is_told_once() -> None:
    post = mailbox.Mailbox()
    post.fail(["a", "b"], {"error": "ModelError: no", "log": "where"})
    assert post.take_failures() == {key: {"error": "ModelError: no", "log": "where"} for key in "ab"}
    assert post.take_failures() == {}
