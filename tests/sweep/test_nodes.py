"""Studies on several machines: namespaces with addresses of their own, whose links are cut and nodes killed."""

import os
import re
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
from sweep.ledger import Ledger
from tests.conftest import tiny_study
from tests.sweep.namespaces import HEAD, Network, RayCluster, kill
from tests.sweep.object_store import serve_objects
from tests.sweep.test_run import table
from tests.sweep.waiting import wait_for
from trainables import columns
from trainables.columns import CLAIM_FILE
from trainables.storage.locations import open_storage

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
WORKER = 1
CELLS = 4
ROW = re.compile(r"^  (.+): step (\d+)/\d+, A", re.MULTILINE)
RETRIED = "failed, trying again from its last checkpoint"


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(nodes=2) as network:
        yield network


@contextmanager
def started(network: Network) -> Iterator[RayCluster]:
    """Start a head; Ray's sockets need a directory with a short name."""
    short = tempfile.TemporaryDirectory(
        prefix="fs", dir=os.environ.get("RAY_TMPDIR"), ignore_cleanup_errors=True
    )
    with short as temporary:
        cluster = RayCluster(network, Path(temporary), gpus=1)
        cluster.start_head()
        yield cluster
        network.end_processes()


@pytest.fixture
def cluster(network: Network) -> Iterator[RayCluster]:
    """A head and one worker node."""
    with started(network) as cluster:
        cluster.start_worker(WORKER)
        yield cluster


def disturbed_study(model: Path, storage: Path | str) -> dict[str, Any]:
    """Return a study whose cells train long enough for something to happen meanwhile."""
    values = tiny_study(model, storage=str(storage))
    values["model"]["attention"] = "eager"  # not the fastest one of a busy moment
    values["phase_b"] |= {"epochs": 80, "eval_every": 10}
    values["search"] = {"strategy": ["random", "difficulty_hard"], "mix": [0.5], "seed": [0, 1]}
    values["resources"] = {"cpus": 1, "gpus": 1, "cells_per_worker": 1}
    return values


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table of `disturbed_study` from a cluster of one node that nothing happens to."""
    storage = tmp_path_factory.mktemp("undisturbed") / "study"
    cache = os.environ.get("FORGETTING_SWEEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    with Network(nodes=1) as network, started(network) as cluster:
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
        self.process = cluster.network.start(HEAD, command, everything, log=self.log)

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def steps(self) -> list[list[int]]:
        """Return the steps of the evaluation points that each cell reported, in their order."""
        found: dict[str, list[int]] = {}
        for cell, step in ROW.findall(self.printed):
            found.setdefault(cell, []).append(int(step))
        return list(found.values())

    def wait_until_trained_on(self, *nodes: int) -> None:
        """Wait until each node has been seen at work on a cell that has a checkpoint to go on from."""
        seen: set[int] = set()

        def trained() -> bool:
            assert self.process.poll() is None, self.printed
            keys = [entry["key"] for entry in self.ledger.plan()]
            for node in set(nodes) - seen:
                pids = {process.pid for process in self.cluster.network.processes(node)}
                if any(self._has_begun(key, pids) for key in keys):
                    seen.add(node)
            return seen == set(nodes)

        wait_for(trained, f"cells in training on nodes {nodes}")

    def _has_begun(self, key: str | None, pids: set[int]) -> bool:
        if key is None or self.ledger.state(key) != columns.PARTIAL or len(self.ledger.rows(key)) < 2:
            return False
        claim = self.ledger.cell(key).read_record(CLAIM_FILE)
        return claim is not None and claim["pid"] in pids

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
    driver.wait_until_trained_on(HEAD, WORKER)
    check_equal(driver, tmp_path / "study", undisturbed)


def cut_and_restore(cluster: RayCluster, values: dict[str, Any]) -> Driver:
    """Cut off the worker node while it trains, until its cell is tried again; then let it come back."""
    driver = Driver(cluster, values)
    driver.wait_until_trained_on(WORKER)
    cluster.network.cut(WORKER)
    driver.wait_until_a_cell_is_retried()
    cluster.network.restore(WORKER)
    wait_for(lambda: not cluster.at_work(WORKER), "the end of the trial that was cut off")
    cluster.start_worker(WORKER)
    return driver


def test_a_node_cut_off_while_it_trains_changes_no_number(
    cluster: RayCluster, tiny_model: Path, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    driver = cut_and_restore(cluster, disturbed_study(tiny_model, tmp_path / "study"))
    check_equal(driver, tmp_path / "study", undisturbed)
    check_went_on(driver)


def test_a_node_cut_off_from_its_object_store_changes_no_number(
    cluster: RayCluster, tiny_model: Path, undisturbed: pd.DataFrame
) -> None:
    with serve_objects(cluster.network.host) as store:
        storage = store.uri("study")
        driver = cut_and_restore(cluster, disturbed_study(tiny_model, storage))
        check_equal(driver, storage, undisturbed)
        check_went_on(driver)


def test_a_node_killed_while_it_trains_changes_no_number(
    cluster: RayCluster, tiny_model: Path, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    driver = Driver(cluster, disturbed_study(tiny_model, tmp_path / "study"))
    driver.wait_until_trained_on(WORKER)
    kill([cluster.raylet(WORKER)])
    driver.wait_until_a_cell_is_retried()
    check_equal(driver, tmp_path / "study", undisturbed)
    check_went_on(driver)


def test_a_study_whose_head_was_killed_goes_on_with_a_new_cluster(
    cluster: RayCluster, tiny_model: Path, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    values = disturbed_study(tiny_model, tmp_path / "study")
    driver = Driver(cluster, values)
    driver.wait_until_trained_on(WORKER)
    kill([each for each in cluster.network.processes(HEAD) if each.pid != driver.process.pid])
    assert driver.end() == EXIT_FAILED, driver.printed
    assert "Traceback" not in driver.printed
    assert re.search(rf"^error: the Ray cluster at {cluster.address} is gone", driver.printed, re.MULTILINE)
    cluster.network.end_processes()
    cluster.start_head()
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
