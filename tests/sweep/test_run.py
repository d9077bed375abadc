"""Whole studies on a real Ray cluster: run, grow, kill, resume, fail, export."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

import analysis
from sweep.cli import cli
from sweep.cluster.ray_cluster import connected
from sweep.config.study import validate_study
from sweep.console.progress import Progress
from sweep.ledger.ledger import Ledger, open_existing, stored_study
from sweep.planning.study_record import OtherStudyError
from sweep.session import Outcome, run_study
from tests.sweep.object_store import ObjectStore, object_store  # noqa: F401 (a fixture)
from trainables.ledger import schema
from trainables.ledger.storage.location import open_storage

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]
ROOT = Path(__file__).parents[2]


def run(values: dict[str, Any], address: str | None = None) -> Outcome:
    with Progress(Console(quiet=True)) as progress:
        return run_study(validate_study(values, origin="test"), address=address, progress=progress)


def table(storage: str | Path) -> pd.DataFrame:
    frame = analysis.load(storage)
    labels = [*schema.LABEL_COLUMNS, schema.STEP]
    return frame.sort_values(labels).reset_index(drop=True)[[*labels, *schema.MEASURED_COLUMNS[1:]]]


def results(storage: str | Path) -> dict[str, float]:
    paths = (Path(storage) / schema.CELLS_DIRECTORY).glob(f"*/{schema.RESULT_FILE}")
    return {path.parent.name: path.stat().st_mtime_ns for path in paths}


@pytest.fixture(autouse=True, scope="module")
def local_ray() -> Iterator[None]:
    """One local cluster for the runs in this process, as `run` starts it; none of them loses it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        with connected(None):
            yield


def ledger_of(values: dict[str, Any]) -> Ledger:
    return Ledger(open_storage(values["storage"]))


def break_cell(values: dict[str, Any], key: str) -> Path:
    """Put a directory where a cell's claim is to be published, so that it fails; return the directory."""
    path = Path(values["storage"], schema.CELLS_DIRECTORY, key, schema.CLAIM_FILE)
    path.mkdir(parents=True)
    return path


def command(values: dict[str, Any], tmp_path: Path) -> list[str]:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return [sys.executable, "-m", "sweep", "run", str(path)]


def test_a_study_grows_without_running_a_finished_cell_again(study_values: dict[str, Any]) -> None:
    storage = study_values["storage"]
    assert run(study_values).states == {schema.DONE: 3}
    first = results(storage)
    study_values["search"]["seed"] = [0, 1]
    assert run(study_values).states == {schema.DONE: 6}
    second = results(storage)
    assert len(second) == 6
    assert all(second[key] == when for key, when in first.items())
    assert run(study_values).states == {schema.DONE: 6}
    assert results(storage) == second
    frame = table(storage)
    assert set(frame[schema.SEED]) == {0, 1}
    record = Ledger(open_storage(storage)).study_record()
    assert record is not None
    assert record["provenance"]["tasks"]["task_a"] | {"duplicates": 0} == {
        "source": "generated",
        "dropped": 0,
        "duplicates": 0,
        "without_paragraphs": 0,
        "notes": [],
    }
    study_values["phase_b"]["lr"] = 0.02
    with pytest.raises(OtherStudyError, match=r"phase_b\.lr: finished with 0\.01, now 0\.02"):
        run(study_values)
    assert results(storage) == second


def test_a_killed_and_resumed_study_equals_an_undisturbed_one(
    study_values: dict[str, Any], tmp_path: Path
) -> None:
    study_values["phase_b"] |= {"epochs": 12, "eval_every": 2}
    study_values["search"]["strategy"] = ["random"]
    assert run({**study_values, "storage": str(tmp_path / "whole")}).states == {schema.DONE: 2}
    storage = Path(study_values["storage"])
    driver = subprocess.Popen(command(study_values, tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL)
    _wait_for(lambda: any((storage / schema.CELLS_DIRECTORY).glob("*/*checkpoint-*")), driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert len(results(storage)) < 2
    assert run(study_values).states == {schema.DONE: 2}
    pd.testing.assert_frame_equal(table(storage), table(tmp_path / "whole"), check_exact=True)


def test_each_replicate_starts_from_its_own_adapter_where_it_is_asked_for(
    study_values: dict[str, Any], tmp_path: Path
) -> None:
    """Every replicate equals that of a study of its own, whose only Phase A has the replicate's seed."""
    study_values["search"] = {"strategy": ["loss_descending"], "mix": [0.25], "seed": [0, 1]}
    apart = study_values | {"phase_a": study_values["phase_a"] | {"seeds": "per_replicate"}}
    assert run(apart).states == {schema.DONE: 2}
    frame = table(apart["storage"])
    starts = frame[frame[schema.STEP] == 0]
    assert starts[schema.TASK_A_LOSS].nunique() == 2
    alone = study_values | {
        "storage": str(tmp_path / "alone"),
        "phase_a": study_values["phase_a"] | {"seed": 1},
        "search": study_values["search"] | {"seed": [1]},
    }
    assert run(alone).states == {schema.DONE: 1}
    second = frame[frame[schema.SEED] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(second, table(alone["storage"]), check_exact=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])  # the others: test_local_cluster
def test_an_interrupted_study_checkpoints_and_says_how_to_go_on(
    study_values: dict[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    study_values["phase_b"] |= {"epochs": 400, "eval_every": 1000}
    study_values["model"]["compile"] = "off"  # which so many epochs would repay on a slow machine
    storage = Path(study_values["storage"])
    driver = subprocess.Popen(command(study_values, tmp_path), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    _wait_for(lambda: any((storage / schema.CELLS_DIRECTORY).glob(f"*/*{schema.ROWS_FILE}")), driver)
    time.sleep(1)
    driver.send_signal(number)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 128 + number
    assert f"python -m sweep resume {storage}" in output
    assert any((storage / schema.CELLS_DIRECTORY).glob("*/*checkpoint-*"))
    assert not results(storage)


def test_cells_that_share_a_worker_give_the_tables_of_cells_alone(
    study_values: dict[str, Any], tmp_path: Path
) -> None:
    study_values["search"]["seed"] = [0, 1]
    frames = []
    for together in (1, 3):
        storage = tmp_path / str(together)
        resources = {"cells_per_worker": together, "max_concurrent": 1}
        assert run({**study_values, "storage": str(storage), "resources": resources}).states == {
            schema.DONE: 6
        }
        frames.append(table(storage))
    pd.testing.assert_frame_equal(*frames, check_exact=False, rtol=0, atol=1e-4)


def test_a_cell_that_fails_does_not_fail_those_it_trained_with(study_values: dict[str, Any]) -> None:
    study_values["resources"] = {"cells_per_worker": 3, "max_concurrent": 1, "retries": 0}
    run({**study_values, "search": {**study_values["search"], "mix": [0]}})
    study_values["search"]["seed"] = [0, 1]
    broken, *others = _pending_keys(study_values)
    ledger = ledger_of(study_values)
    break_cell(study_values, broken)
    assert run(study_values).states == {schema.DONE: 1 + len(others), schema.FAILED: 1}
    assert ledger.failure(broken)["attempts"] == 1  # alone: the try with the others was nobody's own
    assert all(ledger.state(key) == schema.DONE for key in others)


def test_a_failing_cell_is_retried_then_reported_while_the_others_go_on(study_values: dict[str, Any]) -> None:
    study_values["search"] |= {"strategy": ["random"], "mix": [0, 0.5]}
    study_values["resources"] = {"retries": 1}
    ledger = ledger_of(study_values)
    run({**study_values, "search": {**study_values["search"], "mix": [0]}})
    values = {**study_values, "search": {**study_values["search"], "seed": [0, 1]}}
    broken = _pending_keys(values)[0]
    in_the_way = break_cell(study_values, broken)
    outcome = run(values)
    assert outcome.states == {schema.DONE: 3, schema.FAILED: 1}
    failure = ledger.failure(broken)
    assert failure["attempts"] == 2
    assert "IsADirectoryError" in ledger.storage.read(failure["log"]).decode()
    in_the_way.rmdir()
    assert run(values).states == {schema.DONE: 4}


def test_a_study_in_an_object_store_equals_the_one_in_a_directory(
    study_values: dict[str, Any],
    tmp_path: Path,
    object_store: ObjectStore,  # noqa: F811
) -> None:
    """Also after a kill, resumed from the configuration in the store alone; and both commands read it."""
    study_values["search"]["strategy"] = ["random"]
    study_values["phase_b"] |= {"epochs": 6, "eval_every": 3}
    assert run(study_values).states == {schema.DONE: 2}
    location = object_store.uri()
    driver = subprocess.Popen(
        command({**study_values, "storage": location}, tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL
    )
    study = open_storage(location)
    _wait_for(lambda: any("checkpoint-" in name for name in study.files(schema.CELLS_DIRECTORY)), driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert run(stored_study(open_existing(location)).model_dump(mode="json")).states == {schema.DONE: 2}
    pd.testing.assert_frame_equal(table(location), table(study_values["storage"]), check_exact=True)
    status = CliRunner().invoke(cli, ["status", location])
    assert "2 of 2 cells done" in status.output
    assert not [name for name in study.files() if "checkpoint-" in name or "claim" in name]


def test_export_writes_histories_that_plot(study_values: dict[str, Any], tmp_path: Path) -> None:
    run(study_values)
    storage = study_values["storage"]
    runner = CliRunner()
    written = runner.invoke(cli, ["export", storage, "--format", "original", "-o", str(tmp_path / "out")])
    assert written.exit_code == 0, written.output
    path = tmp_path / "out" / "forgetting_history_arithmetic_to_multihop_random_50pct_fp32.json"
    history = json.loads(path.read_text())
    assert history["steps"] == [0, 2, 4, 6, 8, 10]
    assert (history["selection_method"], history["mix_percentage"], history["seed"]) == ("random", 50, 0)
    frame = table(storage)
    rows = frame[(frame[schema.STRATEGY] == "random")]
    assert history["arithmetic_loss"] == rows[schema.TASK_A_LOSS].tolist()
    from analysis.cli import main as analysis_cli

    picture = tmp_path / "out.png"
    plotted = runner.invoke(analysis_cli, ["plot", str(tmp_path / "out" / "*.json"), "-o", str(picture)])
    assert plotted.exit_code == 0, plotted.output
    assert picture.stat().st_size > 10_000
    status = runner.invoke(cli, ["status", storage])
    assert "3 of 3 cells done" in status.output


def test_a_users_mistake_is_one_block_and_exit_code_two(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: a\nphase_b: {lr: fast}\n")
    for arguments in (["run", str(path)], ["status", str(tmp_path)], ["run", "nowhere.yaml"], ["fly"]):
        ended = subprocess.run(
            [sys.executable, "-m", "sweep", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2, ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.stderr.strip()


def _pending_keys(values: dict[str, Any]) -> list[str]:
    from sweep.planning.inputs import prepare
    from sweep.planning.plan import make_plan

    study = validate_study(values, origin="test")
    plan = make_plan(study, prepare(study), Ledger(open_storage(study.storage)), say=print)
    return [cell.spec.key for cell in plan.pending if cell.spec]


def _wait_for(condition: Any, driver: "subprocess.Popen[Any]", seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, "the driver ended before it was disturbed"
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.05)
