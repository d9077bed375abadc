"""A study that earlier code finished goes on under this one, and a strategy of the user's own joins it.

`data/finished_study.tar.gz` holds a configuration, its model and the study as an earlier version left it.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.ledger.ledger import Ledger
from sweep.planning import inputs
from trainables.ledger import schema
from trainables.ledger.storage.location import open_storage

ROOT = Path(__file__).parents[2]
FINISHED = Path(__file__).parent / "data" / "finished_study.tar.gz"
OWN = '''
def order_as_they_come(pool: Pool, generator: np.random.Generator) -> Indices:
    """In the order of the pool."""
    return np.arange(pool.size)


STRATEGIES: dict[str, Strategy] = {
    "as_they_come": Strategy(order_as_they_come),
'''

pytestmark = pytest.mark.cluster


@pytest.fixture
def finished(tmp_path: Path) -> dict[str, Any]:
    """Unpack the study; return its configuration. Its torch and transformers are those of this machine."""
    with tarfile.open(FINISHED) as archive:
        archive.extractall(tmp_path, filter="data")
    values = yaml.safe_load((tmp_path / "study.yaml").read_text())
    values |= {"storage": str(tmp_path / "study")}
    values["model"] |= {"name": str(tmp_path / "model")}
    ledger = Ledger(open_storage(values["storage"]))
    record = ledger.study_record()
    assert record is not None
    versions = {name: inputs.version(name).partition("+")[0] for name in inputs.CODE_PACKAGES}
    record["fingerprint"]["code"] |= versions
    ledger.write(schema.STUDY_FILE, record)
    return values


def with_changed_strategies(folder: Path, before: str, after: str) -> Path:
    """Return a folder with copies of the packages in which the module of strategies was changed."""
    for package in ("sweep", "trainables", "analysis"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "trainables" / "replay" / "strategies.py"
    source = module.read_text()
    assert source.count(before) == 1
    module.write_text(source.replace(before, after))
    return folder


def sweep(command: str, values: dict[str, Any], *, code: Path) -> tuple[int, str]:
    path = Path(values["storage"]).parent / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "sweep", command, str(path)],
        cwd=code,
        env=os.environ | {"PYTHONPATH": str(code), "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def contents(storage: str) -> dict[str, bytes]:
    cells = Path(storage, schema.CELLS_DIRECTORY)
    return {str(path.relative_to(cells)): path.read_bytes() for path in cells.rglob("*") if path.is_file()}


def test_a_strategy_of_ones_own_joins_a_study_that_earlier_code_finished(
    finished: dict[str, Any], tmp_path: Path
) -> None:
    before = contents(finished["storage"])
    own = with_changed_strategies(
        tmp_path / "own", "STRATEGIES: dict[str, Strategy] = {\n", OWN.lstrip("\n") + ""
    )
    grown = finished | {"search": finished["search"] | {"seed": [0, 1]}}
    grown["search"]["strategy"] = [*grown["search"]["strategy"], "as_they_come"]
    code, said = sweep("run", grown, code=own)
    assert code == 0, said
    assert "the study was last run by other code of the same numerics" in said
    assert "5 cells to run, 3 already finished" in said
    after = contents(finished["storage"])
    assert {name: after.get(name) for name in before} == before

    changed = with_changed_strategies(
        tmp_path / "changed", "return generator.permutation(pool.size)", "return np.arange(pool.size)"
    )
    code, said = sweep("plan", finished, code=changed)
    assert code == 2, said
    assert "strategies.random: finished with" in said
    assert "as_they_come" not in said, "a strategy that is left out is no difference"
