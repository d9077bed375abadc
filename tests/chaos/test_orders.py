"""The hooks that chaos works through: what is ordered happens in a process, once, and only what is
ordered.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.chaos.bench import SITE
from tests.chaos.driver import ROOT
from tests.chaos.watch import Journal
from tests.sweep.waiting import wait_for
from trainables.ledger.storage.location import open_storage

WRITE = """
import sys
from trainables.ledger.storage.location import open_storage
storage = open_storage(sys.argv[1])
storage.inside("artifacts/a").write("rows.json", b"not a cell's")
storage.inside("cells/k").write("rows.json", b"late")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders").mkdir()
    return tmp_path


def start(folder: Path, code: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(SITE), str(ROOT)])
    environment = os.environ | {"CHAOS_FOLDER": str(folder), "PYTHONPATH": paths}
    command = [sys.executable, "-c", code, str(folder / "study")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_one_write_of_a_cell_is_held_and_can_arrive_later(folder: Path) -> None:
    storage = open_storage(str(folder / "study"))
    storage.make()
    (folder / "orders" / "late").write_text("rows")
    with start(folder, WRITE) as worker:
        wait_for(lambda: Journal(folder / "journal").lines(), "the stuck write")
        worker.kill()
    assert not (folder / "orders" / "late").exists()
    assert set(storage.files()) == {"artifacts/a/rows.json"}
    with start(folder, WRITE) as successor:
        assert successor.wait() == 0
    storage.inside("cells/k").write("rows.json", b"the successor's")
    method, place, name, content = pickle.loads((folder / "late-write").read_bytes())
    getattr(place, method)(name, content)
    assert storage.read("cells/k/rows.json") == b"late"


def test_the_clock_steps_for_processes_that_are_ordered_so(folder: Path) -> None:
    (folder / "orders" / "clock").write_text("7200")
    with start(folder, "import psutil; print(psutil.boot_time())") as stepped:
        told = float(stepped.communicate()[0])
    assert told - psutil.boot_time() == pytest.approx(7200, abs=5)
