"""One cell, without Ray: rows, pairing, exact resumption, divergence."""

import json
from typing import Any

import numpy as np
import pytest
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from sweep.configuration import Study, validate_study
from tests.trainables.learning import Learning, learn
from trainables import columns
from trainables.cell_store import Row
from trainables.evaluation import evaluate
from trainables.phase_b import run_cell
from trainables.trainee import load_trainee


def measured(rows: list[Row]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in columns.MEASURED_COLUMNS} for row in rows]


def run(learning: Learning, name: str, strategy: str | None = "random", **spec: Any) -> list[Row]:
    cell = learning.spec(strategy, **spec)
    return list(run_cell(cell, shared=learning.shared(), store=learning.store(name)))


def stored(learning: Learning, name: str) -> list[Row]:
    rows: list[Row] = json.loads((learning.store(name).folder / columns.ROWS_FILE).read_text())["rows"]
    return rows


def test_rows_come_at_step_zero_every_interval_and_the_last_step(study: Study) -> None:
    learning = learn(study)
    rows = run(learning, "cell")
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8, 10]
    assert all(set(row) == set(columns.ROW_COLUMNS) for row in rows)
    assert stored(learning, "cell") == rows


def test_step_zero_is_phase_as_last_measurement(study: Study) -> None:
    learning = learn(study)
    first = run(learning, "cell")[0]
    summary = learning.shared().artifact.summary()
    assert first["task_a_loss"] == summary["task_a_loss_after"]
    assert first["task_b_loss"] == summary["task_b_loss_after"]


def test_training_on_task_b_lowers_its_loss(study: Study) -> None:
    rows = run(learn(study), "cell", None, mix=0)
    assert rows[-1]["task_b_loss"] < rows[0]["task_b_loss"] - 0.1


@pytest.mark.parametrize("stop_after", range(1, 10))
def test_a_cell_stopped_at_any_step_and_resumed_equals_an_uninterrupted_one(
    study: Study, stop_after: int
) -> None:
    learning = learn(study)
    expected = run(learning, "whole")
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) == stop_after

    store = learning.store("stopped")
    list(run_cell(learning.spec(), shared=learning.shared(), store=store, should_stop=stop))
    assert store.result() is None
    run(learning, "other", "difficulty_hard", seed=3)  # another cell in between, in the same process
    list(run_cell(learning.spec(), shared=learning.shared(), store=store))
    assert measured(stored(learning, "stopped")) == measured(expected)
    whole, resumed = (
        load_file(learning.store(name).folder / columns.LOSSES_FILE) for name in ("whole", "stopped")
    )
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_a_cell_killed_between_two_steps_loses_at_most_one_interval(study: Study) -> None:
    learning = learn(study)
    expected = run(learning, "whole")
    store = learning.store("killed")
    cell = run_cell(learning.spec(), shared=learning.shared(), store=store)
    for _ in range(3):
        next(cell)
    cell.close()  # as abrupt as a kill: nothing is saved on the way out
    rows = list(run_cell(learning.spec(), shared=learning.shared(), store=store))
    assert rows[0]["step"] == 4
    assert measured(stored(learning, "killed")) == measured(expected)


def test_strategies_at_one_seed_and_mix_see_the_same_task_b_data(study: Study) -> None:
    learning = learn(study)
    for strategy in ("random", "difficulty_hard", "loss_ascending"):
        run(learning, strategy, strategy)
    cells = [
        json.loads((learning.store(name).folder / columns.CELL_FILE).read_text())
        for name in ("random", "difficulty_hard", "loss_ascending")
    ]
    assert len({cell["slots_hash"] for cell in cells}) == 1
    assert len({cell["order_hash"] for cell in cells}) == 3
    seen = [
        [row[columns.TASK_B_TOKENS] for row in stored(learning, name)]
        for name in ("random", "loss_ascending")
    ]
    assert seen[0] == seen[1]


def test_the_selection_is_recorded_example_by_example(study: Study) -> None:
    """Fault: `level` was read from the unfiltered set with indices of the filtered one."""
    learning = learn(study)
    run(learning, "cell", "difficulty_hard")
    selection = json.loads((learning.store("cell").folder / columns.SELECTION_FILE).read_text())
    train = learning.prepared.task_a.train
    assert len(selection["id"]) == 6
    assert selection["id"] == [train.ids[index] for index in selection["index"]]
    assert selection["level"] == [train.levels[index] for index in selection["index"]]
    left_out = set(range(len(train))) - set(selection["index"])
    assert min(train.difficulty[selection["index"]]) >= max(train.difficulty[list(left_out)])


def test_the_final_adapter_loads_with_peft_and_gives_the_last_row(study: Study) -> None:
    learning = learn(study)
    rows = run(learning, "cell")
    base = AutoModelForCausalLM.from_pretrained(study.model.name)
    model = PeftModel.from_pretrained(base, learning.store("cell").folder / "adapter")
    _, compute = load_trainee(learning.prepared.setup)
    validation = learning.prepared.task_a.validation
    nll = evaluate(model, validation, compute=compute)
    assert nll.sum() / validation.supervised_counts("completion").sum() == pytest.approx(
        rows[-1]["task_a_loss"], rel=1e-5
    )


def test_adapters_are_kept_only_where_asked(study_values: dict[str, Any]) -> None:
    study_values["phase_b"]["keep_adapters"] = False
    learning = learn(validate_study(study_values, origin="test"))
    run(learning, "cell")
    assert not (learning.store("cell").folder / "adapter").exists()


def test_a_finished_cell_leaves_no_checkpoint_behind(study: Study) -> None:
    learning = learn(study)
    run(learning, "cell")
    assert not list(learning.store("cell").folder.glob("checkpoint-*"))


def test_a_diverged_cell_is_an_outcome_with_finite_rows(study_values: dict[str, Any]) -> None:
    study_values["phase_b"] |= {"lr": 1e30, "gradient_clipping": None}
    learning = learn(validate_study(study_values, origin="test"))
    rows = run(learning, "cell")
    result = learning.store("cell").result()
    assert result is not None
    assert result["state"] == columns.DIVERGED
    assert result["step"] > 0
    assert all(np.isfinite(row["task_a_loss"]) for row in rows)
