"""Studies on several machines: namespaces with addresses of their own, whose links are cut and nodes
killed.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from sweep.cli import EXIT_FAILED, EXIT_USER_ERROR
from sweep.ledger.ledger import Ledger
from tests.conftest import tiny_study
from tests.sweep.namespaces import HEAD, ROOT, Network, RayCluster, kill
from tests.sweep.object_store import serve_objects
from tests.sweep.test_run import table
from tests.sweep.waiting import wait_for
from trainables.ledger import schema
from trainables.ledger.fencing import CLAIM_FILE
from trainables.ledger.storage.location import open_storage

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]
WORKERS = (1, 2)
CELLS = 4
ROW = re.compile(r"^  (.+): step (\d+)/\d+, A", re.MULTILINE)
RETRIED = "failed, trying again from its last checkpoint"


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(nodes=3) as network:
        yield network


@contextmanager
def started(network: Network) -> Iterator[RayCluster]:
    """Start a head; Ray's sockets need a directory with a short name."""
    short = tempfile.TemporaryDirectory(
        prefix="fs", dir=os.environ.get("RAY_TMPDIR"), ignore_cleanup_errors=True
    )
    with short as temporary:
        cluster = RayCluster(network, Path(temporary))
        cluster.start_head()
        yield cluster
        network.end_processes()


@pytest.fixture
def cluster(network: Network) -> Iterator[RayCluster]:
    """A head and two worker nodes of one slot each."""
    with started(network) as cluster:
        cluster.start_workers(*WORKERS)
        yield cluster


def disturbed_study(model: Path, storage: Path | str) -> dict[str, Any]:
    """Return a study whose cells train long enough for something to happen meanwhile."""
    values = tiny_study(model, storage=str(storage))
    values["model"] |= {"attention": "eager", "compile": "off"}  # not the fastest of a busy moment
    values["phase_b"] |= {"epochs": 60, "eval_every": 10}
    values["search"] = {"strategy": ["random", "difficulty_hard"], "mix": [0.5], "seed": [0, 1]}
    values["resources"] = {"cpus": 1, "gpus": 1, "device": "cpu", "cells_per_worker": 1}
    return values


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table of `disturbed_study` from one node that nothing happens to."""
    storage = tmp_path_factory.mktemp("undisturbed") / "study"
    cache = os.environ.get("FORGETTING_SWEEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    with Network(nodes=2) as network, started(network) as cluster:
        cluster.start_workers(WORKERS[0], slots=2)
        driver = Driver(cluster, disturbed_study(tiny_model, storage), FORGETTING_SWEEP_CACHE=cache)
        assert driver.end() == 0, driver.printed
    return table(storage)


class Driver:
    """A `python -m sweep run` on the head, what it printed so far and what its study holds."""

    def __init__(self, cluster: RayCluster, values: dict[str, Any], **environment: str) -> None:
        handle, name = tempfile.mkstemp(suffix=".yaml", dir=cluster.temporary)
        with open(handle, "w") as file:
            yaml.safe_dump(values, file)
        self.cluster, self.log = cluster, Path(name).with_suffix(".log")
        self.ledger = Ledger(open_storage(values["storage"]))
        command = [sys.executable, "-m", "sweep", "run", name, "--address", cluster.address]
        everything = cluster.environment() | environment
        # Ray lets workers import from the driver's folder first: it is none that holds our packages.
        self.process = cluster.network.start(
            HEAD, command, everything, log=self.log, folder=cluster.temporary
        )

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def steps(self) -> list[list[int]]:
        """Return the steps of the evaluation points that each cell reported, in their order."""
        found: dict[str, list[int]] = {}
        for cell, step in ROW.findall(self.printed):
            found.setdefault(cell, []).append(int(step))
        return list(found.values())

    def nodes_at_work(self) -> set[int]:
        """Return the nodes with a process at work on a cell that has a checkpoint to go on from."""
        assert self.process.poll() is None, self.printed
        begun = {self._claimant(entry["key"]) for entry in self.ledger.plan()}
        processes = {node: self.cluster.network.processes(node) for node in WORKERS}
        return {node for node, found in processes.items() if begun & {process.pid for process in found}}

    def wait_until_a_node_trains(self) -> int:
        """Return the number of a node at work."""
        found: set[int] = set()
        wait_for(lambda: found.update(self.nodes_at_work()) or found, "a cell in training")
        return found.pop()

    def _claimant(self, key: str | None) -> int | None:
        """Return the process at work on a cell that was evaluated twice, None if there is none."""
        if key is None or len(self.ledger.rows(key)) < 2:
            return None
        claim = self.ledger.cell(key).read_record(CLAIM_FILE)
        return None if claim is None else int(claim["pid"])

    def wait_until_a_cell_is_retried(self) -> None:
        wait_for(lambda: RETRIED in self.printed, "a cell that is tried again")

    def end(self, *, seconds: float = 300) -> int:
        """Return the exit code."""
        return self.process.wait(timeout=seconds)


def check_equal(driver: Driver, storage: Path | str, undisturbed: pd.DataFrame) -> None:
    assert driver.end() == 0, driver.printed
    assert f"{CELLS} done" in driver.printed
    pd.testing.assert_frame_equal(table(storage), undisturbed, check_exact=True)


def check_went_on(driver: Driver) -> None:
    """Check that one cell, and one only, was tried again, and not from its beginning."""
    assert driver.printed.count(RETRIED) == 1, driver.printed
    began = [steps.count(0) for steps in driver.steps()]
    assert began == [1] * CELLS, driver.printed


def test_two_nodes_give_the_tables_of_one(
    cluster: RayCluster, tiny_model: Path, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    driver = Driver(cluster, disturbed_study(tiny_model, tmp_path / "study"))
    seen: set[int] = set()
    wait_for(lambda: seen.update(driver.nodes_at_work()) or seen == set(WORKERS), "cells on both nodes")
    check_equal(driver, tmp_path / "study", undisturbed)


def cut_and_restore(cluster: RayCluster, values: dict[str, Any]) -> Driver:
    """Cut off a node while it trains, until its cell is tried again on the other; then let it come back."""
    driver = Driver(cluster, values)
    node = driver.wait_until_a_node_trains()
    cluster.network.cut(node)
    driver.wait_until_a_cell_is_retried()
    cluster.network.restore(node)
    wait_for(lambda: not cluster.at_work(node), "the end of the trial that was cut off")
    cluster.start_workers(node)
    return driver


@pytest.mark.chaos
def test_a_node_cut_off_while_it_trains_changes_no_number(
    cluster: RayCluster, tiny_model: Path, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    driver = cut_and_restore(cluster, disturbed_study(tiny_model, tmp_path / "study"))
    check_equal(driver, tmp_path / "study", undisturbed)
    check_went_on(driver)


@pytest.mark.chaos
def test_a_node_cut_off_from_its_object_store_changes_no_number(
    cluster: RayCluster, tiny_model: Path, undisturbed: pd.DataFrame
) -> None:
    with serve_objects(cluster.network.host) as store:
        storage = store.uri("study")
        driver = cut_and_restore(cluster, disturbed_study(tiny_model, storage))
        check_equal(driver, storage, undisturbed)
        check_went_on(driver)


@pytest.mark.chaos
def test_a_node_killed_while_it_trains_changes_no_number(
    cluster: RayCluster, tiny_model: Path, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    driver = Driver(cluster, disturbed_study(tiny_model, tmp_path / "study"))
    kill([cluster.raylet(driver.wait_until_a_node_trains())])
    driver.wait_until_a_cell_is_retried()
    check_equal(driver, tmp_path / "study", undisturbed)
    check_went_on(driver)


@pytest.mark.chaos
def test_a_study_whose_head_was_killed_goes_on_with_a_new_cluster(
    cluster: RayCluster, tiny_model: Path, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    values = disturbed_study(tiny_model, tmp_path / "study")
    driver = Driver(cluster, values)
    driver.wait_until_a_node_trains()
    kill([each for each in cluster.network.processes(HEAD) if each.pid != driver.process.pid])
    assert driver.end() == EXIT_FAILED, driver.printed
    assert "Traceback" not in driver.printed
    assert re.search(rf"^error: the Ray cluster at {cluster.address}.* is gone", driver.printed, re.MULTILINE)
    cluster.network.end_processes()
    cluster.start_head()
    cluster.start_workers(*WORKERS)
    check_equal(Driver(cluster, values), tmp_path / "study", undisturbed)


@pytest.mark.parametrize(
    "token", ["", "another-token-0123456789abcdef-0123"], ids=["no_token", "wrong_token"]
)
def test_a_driver_without_the_clusters_token_is_refused(
    cluster: RayCluster, tiny_model: Path, tmp_path: Path, token: str
) -> None:
    values = disturbed_study(tiny_model, tmp_path / "study")
    driver = Driver(cluster, values, RAY_AUTH_TOKEN=token, HOME=str(tmp_path))
    assert driver.end() == EXIT_USER_ERROR, driver.printed
    assert "Traceback" not in driver.printed
    assert "RAY_AUTH_TOKEN" in driver.printed.splitlines()[-1]


def other_packages(folder: Path, *, line: str) -> Path:
    """Copy our packages with one more line in one module, as a node may have them installed."""
    for package in ("sweep", "trainables", "analysis"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "trainables" / "model" / "loss.py").open("a") as losses:
        losses.write(f"\n{line}\n")
    return folder


def test_nodes_that_compute_with_something_else_are_named_and_nothing_is_computed(
    network: Network, tiny_model: Path, tmp_path: Path
) -> None:
    """Other code, a package that is broken, no GPU where one is asked for; then a node that joins while cells
    train.
    """
    with started(network) as cluster:
        other = other_packages(tmp_path / "other", line="hidden_states = output_layer")
        cluster.start_workers(1, packages=other)
        cluster.start_workers(2, packages=other_packages(tmp_path / "broken", line="def"))
        values = disturbed_study(tiny_model, tmp_path / "study")
        driver = Driver(cluster, values | {"resources": {"gpus": 1}})
        assert driver.end() == EXIT_USER_ERROR, driver.printed
        assert "2 of 2 nodes cannot compute this study; nothing was computed" in driver.printed
        lines = {
            node: line
            for node in (1, 2)
            for line in driver.printed.splitlines()
            if network.address(node) in line
        }
        assert "trainables/model/loss.py: not the driver's code" in lines[1]
        assert "resources.gpus asks for a GPU and there is none" in lines[1]
        assert "forgetting-sweep cannot be used there: SyntaxError: invalid syntax (loss.py, line" in lines[2]
        assert "Traceback" not in driver.printed
        assert not driver.ledger.storage.files(schema.ARTIFACTS_DIRECTORY)

        kill([cluster.raylet(node) for node in WORKERS])
        cluster.start_workers(1)
        driver = Driver(cluster, values | {"phase_b": values["phase_b"] | {"epochs": 1000}})
        driver.wait_until_a_node_trains()
        cluster.start_workers(2, packages=other)
        assert driver.end() == EXIT_USER_ERROR, driver.printed
        assert "a worker cannot compute this study" in driver.printed
        assert f"({network.address(2)}): trainables/model/loss.py: not the driver's code" in driver.printed
        assert "Traceback" not in driver.printed
