"""Own strategies from a file: run where the command line says so, planned like others, run by no worker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig, validate_study
from sweep.planning.cells import Origin, plan_cells
from sweep.planning.inputs import prepare
from trainables.replay import own
from trainables.replay.own import OwnStrategiesError, load_own
from trainables.replay.pool import SelectionError
from trainables.replay.strategies import STRATEGIES

SHORTEST = """
import numpy as np
from trainables.replay.strategies import Strategy

def order_by_length(pool, generator):
    return np.argsort(pool.column("lengths"), kind="stable")

STRATEGIES = {"shortest": Strategy(order_by_length, needs="lengths")}
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no strategy of a test behind."""
    before = dict(STRATEGIES)
    monkeypatch.setattr(own, "loaded", own.loaded)
    yield
    for name in STRATEGIES.keys() - before.keys():
        del STRATEGIES[name], own.loaded[name]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SHORTEST)
    return path


@pytest.fixture
def values(study_values: dict[str, Any], file: Path) -> dict[str, Any]:
    study_values["search"]["strategy"] = ["random", "shortest"]
    return study_values | {"strategies": str(file)}


def study(values: dict[str, Any]) -> StudyConfig:
    return validate_study(values, origin="test")


def test_a_file_that_only_the_configuration_names_is_not_run(values: dict[str, Any], file: Path) -> None:
    file.write_text(SHORTEST + f"open({str(file.with_suffix('.ran'))!r}, 'w')")
    with pytest.raises(ConfigurationError, match="is code, and run only where .* add --strategies"):
        study(values)
    assert not file.with_suffix(".ran").exists()


def test_a_file_that_only_the_command_line_names_is_no_part_of_the_study(
    values: dict[str, Any], file: Path
) -> None:
    load_own(file)
    del values["strategies"]
    with pytest.raises(ConfigurationError, match="'shortest' is of .*: name that file here too"):
        study(values)


def test_an_own_strategy_is_planned_like_any_other(values: dict[str, Any], file: Path) -> None:
    load_own(file)
    found = study(values)
    prepared = prepare(found)
    cells = plan_cells(found, prepared, origins={0: Origin("a", None)})
    (cell,) = (cell for cell in cells if cell.labels[0].strategy == "shortest")
    assert cell.spec is not None
    assert cell.spec.selection is not None
    lengths = prepared.task_a.train.lengths
    assert lengths[cell.spec.selection].max() <= sorted(lengths)[len(cell.spec.selection)]
    digest = prepared.fingerprint["strategies"]["shortest"]
    file.write_text(SHORTEST.replace("stable", "mergesort"))
    load_own(file)
    assert prepare(study(values)).fingerprint["strategies"]["shortest"] != digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("STRATEGIES = {}", "must define STRATEGIES"),
        ("x = 1", "must define STRATEGIES"),
        ("import nothing_of_that_name", "cannot be loaded: ModuleNotFoundError"),
        ("def broken(:", "cannot be loaded: SyntaxError"),
        ("STRATEGIES = {'mine': 5}", "'mine' must be a Strategy, got 5"),
        (SHORTEST.replace('"shortest"', '"random"'), "there is a strategy 'random' already"),
        (SHORTEST.replace('"shortest"', '"fresh_b"'), "there is a strategy 'fresh_b' already"),
        (SHORTEST.replace('"shortest"', '"my own"'), "must be a word"),
        (SHORTEST.replace('needs="lengths"', "needs=5"), "needs one column's name.* got 5"),
        (SHORTEST.replace('needs="lengths"', 'stream="mine"'), "draws from 'mine', which is no random"),
        ("x = {}['gone']", "cannot be loaded: KeyError"),
        (SHORTEST.replace('"lengths"', '"length"'), "needs 'length', which is no column: .*lengths"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(file: Path, content: str, message: str) -> None:
    before = dict(STRATEGIES)
    file.write_text(content)
    with pytest.raises(OwnStrategiesError, match=message):
        load_own(file)
    assert before == STRATEGIES


@pytest.mark.parametrize(
    "wrong", ["[0, 1]", "np.zeros(pool.size, int)", "np.arange(pool.size) - 1", "np.arange(pool.size) / 2"]
)
def test_an_order_that_is_none_of_the_pool_is_refused_before_anything_runs(
    values: dict[str, Any], file: Path, wrong: str
) -> None:
    file.write_text(SHORTEST.replace('np.argsort(pool.column("lengths"), kind="stable")', wrong))
    load_own(file)
    found = study(values)
    with pytest.raises(SelectionError, match="'shortest' must return each of the pool's 12 positions once"):
        plan_cells(found, prepare(found), origins={0: Origin("a", None)})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('np.argsort(pool.column("losses"))', "gives it lengths .*: SelectionError: .*lacks 'losses'"),
        ("pool.nothing", "AttributeError"),
        ('pool.column("lengths").sort()', "ValueError: .*read-only"),
    ],
)
def test_a_strategy_that_fails_is_named_and_changes_nothing_for_others(
    values: dict[str, Any], file: Path, wrong: str, message: str
) -> None:
    file.write_text(SHORTEST.replace('np.argsort(pool.column("lengths"), kind="stable")', wrong))
    load_own(file)
    found = study(values)
    with pytest.raises(SelectionError, match=message):
        plan_cells(found, prepare(found), origins={0: Origin("a", None)})


def test_one_that_goes_by_losses_cannot_choose_again_where_its_code_is_not_run(
    values: dict[str, Any], file: Path
) -> None:
    file.write_text(SHORTEST.replace('"lengths"', '"losses"'))
    load_own(file)
    values["phase_b"]["reselect_every"] = 2
    with pytest.raises(ConfigurationError, match="'shortest' is a strategy of yours, whose code workers"):
        study(values)


@pytest.mark.slow
def test_the_command_line_takes_the_file(values: dict[str, Any], tmp_path: Path, file: Path) -> None:
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(values))

    def plan(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sweep", "plan", str(config), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)

    assert plan().returncode == 2
    assert "--strategies" in plan().stderr
    ended = plan("--strategies", str(file))
    assert ended.returncode == 0, ended.stderr
    assert "shortest 0.5, seed 0" in ended.stdout
