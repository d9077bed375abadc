"""A local cluster as its user meets it: nobody else reaches it, and signals, lost terminals and lost daemons
end readably.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from ray._private import ray_constants

from sweep.cli import EXIT_FAILED
from sweep.cluster.local_ray import (
    LONGEST_DIRECTORY,
    SHORT_DIRECTORY,
    TOKEN_VARIABLES,
    local_cluster,
    ray_directory,
)
from sweep.cluster.ray_cluster import (
    GPU_ALLOCATOR,
    TUNE_ENVIRONMENT,
    UV_VARIABLE,
    WORKER_ENVIRONMENT,
    _prepare_environment,
    _worker_environment,
)
from sweep.config.errors import ClusterError
from tests.sweep.test_run import ROOT, command
from tests.sweep.waiting import wait_for
from trainables.ledger import schema

pytestmark = pytest.mark.cluster
PATIENCE = 600  # seconds for one step of a run on a machine that is busy with other work
Found = TypeVar("Found")
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


@pytest.fixture(autouse=True)
def _started_by_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here processes are what is tested: every worker is one that Ray itself has started."""
    monkeypatch.delenv("WARM_START", raising=False)


class LocalRun:
    """A `python -m sweep run` in a process group of its own, whose output is a pipe."""

    def __init__(self, values: dict[str, Any], folder: Path, environment: dict[str, str]) -> None:
        self.storage = Path(values["storage"])
        self.process = subprocess.Popen(
            command(values, folder),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
            env=os.environ | {"RAY_worker_niceness": "0"} | environment,  # else it starves beside other work
        )

    def checkpoints(self) -> list[Path]:
        return list((self.storage / schema.CELLS_DIRECTORY).glob("*/*-checkpoint-*"))

    def wait_until_it_trains(self) -> list[psutil.Process]:
        """Return its processes once a cell has written rows."""
        cells = self.storage / schema.CELLS_DIRECTORY
        wait_for(
            lambda: self.process.poll() is not None or any(cells.glob(f"*/*-{schema.ROWS_FILE}")),
            "a cell in training",
            seconds=PATIENCE,
        )
        assert self.process.poll() is None, self.process.communicate()[0]
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


@contextmanager
def running(values: dict[str, Any], folder: Path, **environment: str) -> Iterator[LocalRun]:
    run = LocalRun(values, folder, environment)
    try:
        yield run
    finally:
        with suppress(ProcessLookupError):
            run.process.kill()
        run.process.wait()
        assert run.process.stdout
        run.process.stdout.close()


@pytest.fixture
def long_study(study_values: dict[str, Any]) -> dict[str, Any]:
    study_values["model"] |= {"attention": "eager", "compile": "off"}
    study_values["phase_b"] |= {"epochs": 4000, "eval_every": 5}
    study_values["search"] = {"strategy": ["random"], "mix": [0], "seed": [0]}
    return study_values


def of_each(processes: list[psutil.Process], ask: Callable[[psutil.Process], Found]) -> list[Found]:
    """Return what is found of each process; of one that has ended since there is nothing to find."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            found.append(ask(process))
    return found


def listening(processes: list[psutil.Process]) -> set[str]:
    """Return the addresses that any of the processes listens on."""
    connections = of_each(processes, lambda process: process.net_connections())
    return {socket.laddr.ip for each in connections for socket in each if socket.status == psutil.CONN_LISTEN}


def named(processes: list[psutil.Process], name: str) -> psutil.Process:
    (found,) = [
        process for process, known in of_each(processes, lambda each: (each, each.name())) if known == name
    ]
    return found


def test_a_local_cluster_is_reached_by_nobody_else_and_its_groups_signal_is_a_clean_stop(
    long_study: dict[str, Any], tmp_path: Path
) -> None:
    with running(long_study, tmp_path) as run:
        processes = run.wait_until_it_trains()
        assert listening([*processes, psutil.Process(run.process.pid)]) <= set(LOOPBACK)
        assert run.process.pid not in of_each(processes, lambda each: os.getpgid(each.pid))
        environments = [named(processes, name).environ() for name in ("raylet", "gcs_server")]
        assert all(len(found["RAY_AUTH_TOKEN"]) > 20 for found in environments)
        for _ in range(2):  # as `timeout` and a shell that loses its terminal do
            os.killpg(run.process.pid, signal.SIGTERM)
        code, said = run.end()
    assert code == 128 + signal.SIGTERM, said
    assert "\nstopping: " in said
    assert f"python -m sweep resume {run.storage}" in said
    assert run.checkpoints()


@pytest.mark.parametrize(
    ("chosen", "own"),
    [
        ({}, True),
        ({"RAY_AUTH_MODE": "token"}, True),  # as a plain `ray.init()` in this process leaves it
        ({"RAY_AUTH_MODE": ""}, True),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 32}, False),
        ({"RAY_AUTH_TOKEN": "t" * 32}, False),
        ({"RAY_AUTH_MODE": "disabled"}, False),
    ],
)
def test_a_local_cluster_has_a_token_of_its_own_unless_the_user_has_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], own: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    stale = tmp_path / ".ray" / "auth_token"  # as a plain `ray.init()` leaves it, for whoever may read it
    stale.parent.mkdir()
    stale.write_text("s" * 32)
    for name in TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    with local_cluster(say=lambda message: None):
        found = {name: os.environ[name] for name in TOKEN_VARIABLES if name in os.environ}
    assert found["RAY_AUTH_MODE"] == (chosen.get("RAY_AUTH_MODE") or "token")
    assert found.get("RAY_AUTH_TOKEN") == chosen.get("RAY_AUTH_TOKEN") or (
        own and len(found["RAY_AUTH_TOKEN"]) > 20
    )
    assert {name: os.environ[name] for name in TOKEN_VARIABLES if name in os.environ} == chosen


def test_a_file_for_a_token_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    said = pytest.raises(ClusterError, match="RAY_AUTH_TOKEN_PATH: .*/none cannot be read")
    with said, local_cluster(say=lambda message: None):
        pass


def test_a_run_whose_terminal_is_gone_ends_with_a_checkpoint(
    long_study: dict[str, Any], tmp_path: Path
) -> None:
    with running(long_study, tmp_path) as run:
        run.wait_until_it_trains()
        assert run.process.stdout
        run.process.stdout.close()
        os.killpg(run.process.pid, signal.SIGHUP)
        assert run.process.wait(PATIENCE) == 128 + signal.SIGHUP
    assert run.checkpoints()


@pytest.mark.parametrize("lost", ["gcs_server", "raylet"])
def test_a_local_cluster_that_is_lost_is_one_line_and_leaves_no_process(
    long_study: dict[str, Any], tmp_path: Path, lost: str
) -> None:
    with running(long_study, tmp_path) as run:
        processes = run.wait_until_it_trains()
        agents = {each.pid: each.name().endswith("Agent") for each in processes if each.is_running()}
        named(processes, lost).kill()
        code, said = run.end()
    check_loss(code, said)
    own = [each for each in processes if not agents.get(each.pid)]
    _, left = psutil.wait_procs(own, timeout=PATIENCE)
    assert not left, "only Ray's agents try for another minute to reach their head"


def check_loss(code: int, said: str) -> None:
    assert code == EXIT_FAILED, said
    errors = said[said.index("error:") :]
    assert errors.startswith("error: the Ray cluster at this machine is gone"), said
    assert len(errors.splitlines()) == 1, said
    log = Path(errors.rpartition("Ray's log: ")[2].strip())
    assert log.is_file()
    log.unlink()


def test_ray_gets_a_directory_that_its_sockets_fit_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    long = tmp_path / ("d" * LONGEST_DIRECTORY)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(long))
    assert ray_directory(say=said.append) == SHORT_DIRECTORY
    assert "too long for Ray's sockets" in said[0]
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert ray_directory(say=pytest.fail) == "/tmp/ray"


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("/tmp/" + "d" * LONGEST_DIRECTORY, "too long"),
        ("/proc/version", "is a file"),
        ("/proc/new", "cannot be written"),
    ],
)
def test_a_directory_of_the_users_that_ray_cannot_use_is_refused(
    monkeypatch: pytest.MonkeyPatch, chosen: str, said: str
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", chosen)
    with pytest.raises(ClusterError, match=f"RAY_TMPDIR: .*{said}"):
        ray_directory(say=pytest.fail)


def test_what_the_user_or_the_job_sets_for_workers_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    job = {"runtime_env": {"env_vars": {"TQDM_DISABLE": "0"}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    found = _worker_environment()
    assert found["GLIBC_TUNABLES"] == "glibc.malloc.check=1"
    ours = WORKER_ENVIRONMENT.keys() | GPU_ALLOCATOR.keys()
    assert found.keys() == ours - {"TQDM_DISABLE"}  # Ray refuses what is set twice
    assert found["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    assert "PYTORCH_ALLOC_CONF" not in _worker_environment()  # torch would go by it alone


@pytest.mark.parametrize("chosen", [None, "1"])
def test_uv_run_does_not_upload_its_checkout_unless_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None
) -> None:
    monkeypatch.setattr(ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", True)
    monkeypatch.delenv(UV_VARIABLE, raising=False)
    if chosen:
        monkeypatch.setenv(UV_VARIABLE, chosen)
    for name in TUNE_ENVIRONMENT:
        monkeypatch.setenv(name, "the user's")
    _prepare_environment()
    assert ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV is (chosen is not None)
    assert {os.environ[name] for name in TUNE_ENVIRONMENT} == {"the user's"}
