"""Studies on a real Ray cluster whose next cells depend on how the last ones ended: looks and the gate."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from rich.console import Console

from sweep.cli import cli
from sweep.config.study import validate_study
from sweep.console.progress import Progress
from sweep.ledger.ledger import open_existing
from sweep.session import Outcome, run_study
from tests.sweep.test_run import results
from trainables.ledger import schema

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]
TWO = {"strategy": ["random", "difficulty_hard"], "mix": [0.5]}


def run(values: dict[str, Any]) -> tuple[Outcome, str]:
    console = Console(record=True, quiet=False, file=open("/dev/null", "w"), width=200)  # noqa: SIM115
    with Progress(console) as progress:
        outcome = run_study(validate_study(values, origin="test"), address=None, progress=progress)
    console.file.close()
    return outcome, console.export_text()


def forbid_computing(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a cluster was started")

    patch.setattr("sweep.stages.compute", refuse)


@pytest.fixture
def quiet_values(study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    return study_values


def test_looks_run_the_cells_of_the_fixed_study_and_stop_once_all_is_decided(
    quiet_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = {**quiet_values, "search": TWO | {"seeds": {"looks": [3, 4]}}}
    outcome, said = run(looked | {"inference": {"level": 1 - 1e-9}})  # nothing is decided at that level
    assert outcome.states == {schema.DONE: 8}, said
    assert "look at 3 seeds: 0 of 1 contrast with the baseline decided" in said
    assert "that was the last look: the study ends with 4 seeds" in said
    _forget_seed(quiet_values["storage"], 3)
    finished = results(quiet_values["storage"])
    forbid_computing(monkeypatch)
    outcome, said = run(looked | {"inference": {"smallest_effect": 10.0}})
    assert outcome.states == {schema.DONE: 6}
    assert "difficulty_hard 0.5: equivalent (n = 3)" in said
    assert "every contrast is decided: the study is complete with 3 seeds" in said
    fixed = quiet_values | {"search": TWO | {"seed": [0, 1, 2]}}
    assert run(fixed)[0].states == {schema.DONE: 6}
    assert results(quiet_values["storage"]) == finished


def _forget_seed(storage: str, seed: int) -> None:
    """Take a seed's cells away, as if they had never run."""
    for entry in open_existing(storage).plan():
        if entry["labels"][schema.SEED] == seed:
            shutil.rmtree(Path(storage, schema.CELLS_DIRECTORY, entry["key"]))


def invoke(values: dict[str, Any], tmp_path: Path) -> Result:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return CliRunner().invoke(cli, ["run", str(path)])


def test_a_study_that_learnt_nothing_stops_at_the_gate(
    quiet_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet_values["phase_a"]["lr"] = 1e-30  # no weight moves
    quiet_values["gate"] = True
    ended = invoke(quiet_values, tmp_path)
    assert ended.exit_code == 1, ended.output
    assert "stopped at the gate: Phase A did not learn task A" in ended.output
    assert "raise phase_a.epochs" in ended.output
    assert not results(quiet_values["storage"])
    forbid_computing(monkeypatch)
    again = invoke(quiet_values, tmp_path)
    assert again.exit_code == 1, again.output
    assert "stopped at the gate" in again.output
