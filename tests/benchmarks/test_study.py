"""The command that times whole studies: what it hands on, and what it reads back from our ledger."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import study as command
from benchmarks.__main__ import COMMANDS
from benchmarks.study import CONFIG, complete_overrides, our_record
from sweep.config.study import load_study, validate_study
from sweep.ledger.ledger import Ledger
from sweep.planning.cells import study_labels
from sweep.planning.study_record import open_study, publish_plan
from tests.trainables.learning import learn, run_cell
from trainables.ledger.schema import STEP, TASK_A_LOSS
from trainables.ledger.storage.location import open_storage


@pytest.mark.parametrize("name", ["study.yaml", "study_quick.yaml"])
def test_the_shipped_configurations_are_valid_and_hold_replay_and_its_control(name: str) -> None:
    study = load_study(CONFIG.with_name(name))
    strategies = {label.strategy for label in study_labels(study)}
    assert strategies == {"none", *study.search.strategy}


def test_data_fills_in_the_paths_of_built_in_tasks_that_have_none(tmp_path: Path) -> None:
    for file in command.DATA_FILES.values():
        (tmp_path / file).touch()
    chosen = complete_overrides(CONFIG, ("phase_b.lr=1e-3",), data=tmp_path)
    study = load_study(CONFIG, chosen)
    assert study.task_a.path == tmp_path / "competition_math.jsonl"
    assert study.task_b.path == tmp_path / "hotpot_qa_distractor.jsonl"
    assert study.phase_b.lr == 1e-3
    generated = CONFIG.with_name("study_quick.yaml")
    assert complete_overrides(generated, (), data=tmp_path) == ("phase_a.cache=null",)


def test_a_cache_of_artifacts_would_spare_us_phase_a_and_is_left_out(
    study_values: dict[str, Any], tmp_path: Path
) -> None:
    study_values["phase_a"]["cache"] = str(tmp_path / "cache")
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(study_values))
    assert load_study(config, complete_overrides(config, (), data=None)).phase_a.cache is None


def test_our_record_holds_every_cell_of_the_ledger_with_its_rows(study_values: dict[str, Any]) -> None:
    study_values["search"]["strategy"] = ["random"]
    learning = learn(validate_study(study_values, origin="test"))
    ledger = Ledger(open_storage(learning.study.storage))
    ledger.storage.make()
    control, replay = study_labels(learning.study)
    fingerprint = learning.prepared.fingerprint
    open_study(ledger, learning.study, fingerprint=fingerprint, details={}, precision="fp32")
    specs = {
        control: replace(learning.spec(None, mix=0), key=f"{0:020x}"),
        replay: replace(learning.spec("random", mix=0.5), key=f"{1:020x}"),
    }
    rows = {
        label: list(run_cell(spec, shared=learning.shared(), store=learning.store(spec.key)))
        for label, spec in specs.items()
    }
    cells = [{"labels": label.record(), "key": spec.key} for label, spec in specs.items()]
    publish_plan(ledger, cells)
    record = our_record(learning.study, Path(learning.study.storage))
    assert [cell["cell"] for cell in record["cells"]] == ["no replay, seed 0", "random 0.5, seed 0"]
    for label, cell in zip(specs, record["cells"], strict=True):
        assert [row[STEP] for row in cell["rows"]] == [row[STEP] for row in rows[label]]
        assert cell["rows"][-1][TASK_A_LOSS] == pytest.approx(rows[label][-1][TASK_A_LOSS])
    assert record["steps_run"] == record["steps_planned"] == 6 + 10


def test_the_list_of_commands_needs_none_of_their_libraries() -> None:
    code = (
        "import sys; from benchmarks.__main__ import cli; cli(['-h'], standalone_mode=False); "
        "print([name for name in ('torch', 'ray', 'transformers') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"
    assert all(name in output for name in COMMANDS)
