"""One cell, without Ray: rows, pairing, exact resumption, divergence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from sweep.config.study import StudyConfig, validate_study
from tests.trainables.learning import (
    Learning,
    folder_of,
    learn,
    path_of,
    read_json,
    result_of,
    run_cell,
    stop_at,
)
from tests.trainables.reference import plain_losses
from trainables.engine import session as session_module
from trainables.engine.cell_folder import Row
from trainables.engine.session import load_session
from trainables.ledger import schema
from trainables.model.base_weights import SharedWeightsError, read_base_weights
from trainables.phase_b import run_cells
from trainables.replay.batch_order import CellSpec


def measured(rows: list[Row]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in schema.MEASURED_COLUMNS} for row in rows]


def run(learning: Learning, name: str, strategy: str | None = "random", **spec: Any) -> list[Row]:
    cell = learning.spec(strategy, **spec)
    return list(run_cell(cell, shared=learning.shared(), store=learning.store(name)))


def stored(learning: Learning, name: str) -> list[Row]:
    rows: list[Row] = read_json(learning.store(name), schema.ROWS_FILE)["rows"]
    return rows


def test_rows_come_at_step_zero_every_interval_and_the_last_step(study: StudyConfig) -> None:
    learning = learn(study)
    rows = run(learning, "cell")
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8, 10]
    assert all(set(row) == set(schema.ROW_COLUMNS) for row in rows)
    assert stored(learning, "cell") == rows


def test_step_zero_is_phase_as_last_measurement(study: StudyConfig) -> None:
    learning = learn(study)
    first = run(learning, "cell")[0]
    summary = learning.shared().artifact.summary()
    assert first["task_a_loss"] == summary["task_a_loss_after"]
    assert first["task_b_loss"] == summary["task_b_loss_after"]


def test_training_on_task_b_lowers_its_loss(study: StudyConfig) -> None:
    rows = run(learn(study), "cell", None, mix=0)
    assert rows[-1]["task_b_loss"] < rows[0]["task_b_loss"] - 0.1


@pytest.mark.slow
def test_a_cell_stopped_after_any_microbatch_and_resumed_equals_an_uninterrupted_one(
    study: StudyConfig,
) -> None:
    """Ten steps and five evaluations of two tasks: a stop may come in the middle of each."""
    learning = learn(study)
    expected, shared, spec = run(learning, "whole"), learning.shared(), learning.spec()
    for stopped_at in range(1, 21):
        name = f"stopped-{stopped_at}"
        store = learning.store(name)
        list(run_cell(spec, shared=shared, store=store, heartbeat=stop_at(stopped_at)))
        assert result_of(store) is None
        list(run_cell(spec, shared=shared, store=learning.store(name)))
        assert measured(stored(learning, name)) == measured(expected)
        whole, resumed = (
            load_file(path_of(learning.store(each), schema.LOSSES_FILE)) for each in ("whole", name)
        )
        assert all(np.array_equal(whole[array], resumed[array]) for array in whole)


def test_a_resumed_cell_equals_an_uninterrupted_one_whatever_ran_in_between(study: StudyConfig) -> None:
    learning = learn(study)
    expected = run(learning, "whole")
    list(
        run_cell(
            learning.spec(), shared=learning.shared(), store=learning.store("stopped"), heartbeat=stop_at(7)
        )
    )
    run(learning, "other", "difficulty_hard", seed=3)  # another cell, in the same process
    run(learning, "stopped")
    assert measured(stored(learning, "stopped")) == measured(expected)


def test_a_cell_goes_on_with_other_microbatches_to_the_same_numbers(study: StudyConfig) -> None:
    learning = learn(study)
    expected, shared = run(learning, "whole"), learning.shared()
    list(run_cell(learning.spec(), shared=shared, store=learning.store("cell"), heartbeat=stop_at(7)))
    compute_plan = replace(shared.artifact.compute_plan, tokens={"training": 200, "evaluation": 300})
    smaller = replace(shared, artifact=replace(shared.artifact, compute_plan=compute_plan))
    list(run_cell(learning.spec(), shared=smaller, store=learning.store("cell")))
    assert_equal_runs(stored(learning, "cell"), expected, nats=1e-5)


def test_a_cell_killed_between_two_steps_loses_at_most_one_interval(study: StudyConfig) -> None:
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


def test_strategies_at_one_seed_and_mix_see_the_same_task_b_data(study: StudyConfig) -> None:
    learning = learn(study)
    for strategy in ("random", "difficulty_hard", "loss_ascending"):
        run(learning, strategy, strategy)
    cells = [
        read_json(learning.store(name), schema.CELL_FILE)
        for name in ("random", "difficulty_hard", "loss_ascending")
    ]
    assert len({cell["slots_hash"] for cell in cells}) == 1
    assert len({cell["order_hash"] for cell in cells}) == 3
    seen = [
        [row[schema.TASK_B_TOKENS] for row in stored(learning, name)] for name in ("random", "loss_ascending")
    ]
    assert seen[0] == seen[1]


def test_the_selection_is_recorded_example_by_example(study: StudyConfig) -> None:
    """Fault: `level` was read from the unfiltered set with indices of the filtered one."""
    learning = learn(study)
    run(learning, "cell", "difficulty_hard")
    selection = read_json(learning.store("cell"), schema.SELECTION_FILE)
    train = learning.prepared.task_a.train
    assert len(selection["id"]) == 6
    assert selection["id"] == [train.ids[index] for index in selection["index"]]
    assert selection["level"] == [train.levels[index] for index in selection["index"]]
    left_out = set(range(len(train))) - set(selection["index"])
    assert min(train.difficulty[selection["index"]]) >= max(train.difficulty[list(left_out)])


def test_the_final_adapter_loads_with_peft_and_gives_the_last_row(study: StudyConfig) -> None:
    learning = learn(study)
    rows = run(learning, "cell")
    base = AutoModelForCausalLM.from_pretrained(study.model.name)
    model = PeftModel.from_pretrained(base, path_of(learning.store("cell"), "adapter")).eval()
    nll, tokens = plain_losses(model, learning.prepared.task_a.validation)
    assert nll.sum() / tokens.sum() == pytest.approx(rows[-1]["task_a_loss"], rel=1e-5)


def test_adapters_are_kept_only_where_asked(study_values: dict[str, Any]) -> None:
    study_values["phase_b"]["keep_adapters"] = False
    learning = learn(validate_study(study_values, origin="test"))
    run(learning, "cell")
    assert not path_of(learning.store("cell"), "adapter").exists()


def test_a_finished_cell_leaves_no_checkpoint_behind(study: StudyConfig) -> None:
    learning = learn(study)
    run(learning, "cell")
    assert not list(folder_of(learning.store("cell")).glob("*checkpoint-*"))


def test_a_diverged_cell_is_an_outcome_with_finite_rows(study_values: dict[str, Any]) -> None:
    study_values["phase_b"] |= {"lr": 1e30, "gradient_clipping": None}
    learning = learn(validate_study(study_values, origin="test"))
    rows = run(learning, "cell")
    result = result_of(learning.store("cell"))
    assert result is not None
    assert result["state"] == schema.DIVERGED
    assert result["step"] > 0
    assert all(np.isfinite(row["task_a_loss"]) for row in rows)


@pytest.mark.parametrize("spoilt", ["adapter", "validation_nll", "pool_nll"])
def test_a_cell_that_begins_with_what_is_not_finite_has_diverged(study: StudyConfig, spoilt: str) -> None:
    learning = learn(study)
    shared = learning.shared()
    artifact = replace(shared.artifact, **{spoilt: with_nan(getattr(shared.artifact, spoilt))})
    store, specs = learning.store("cell"), [learning.spec("random", mix=1.0)]
    list(run_cells(specs, shared=replace(shared, artifact=artifact), stores={specs[0].key: store}))
    result = result_of(store)
    assert result is not None
    assert (result["state"], result["step"] == 0) == (
        (schema.DONE, False) if spoilt == "pool_nll" else (schema.DIVERGED, True)
    )


def with_nan(numbers: Any) -> Any:
    """Return an array, or the first one in a tuple or dict of arrays, with NaN in the place of all
    numbers.
    """
    if isinstance(numbers, tuple):
        return (with_nan(numbers[0]), *numbers[1:])
    if isinstance(numbers, dict):
        return {name: with_nan(array) for name, array in numbers.items()}
    return np.full_like(numbers, np.nan)


def together(learning: Learning, specs: list[CellSpec], **options: Any) -> dict[str, list[Row]]:
    """Run cells in one process and return the rows that their directories hold."""
    stores = {spec.key: learning.store(spec.key) for spec in specs}
    for _ in run_cells(specs, shared=learning.shared(), stores=stores, **options):
        pass
    return {spec.key: stored(learning, spec.key) for spec in specs}


def mixed_cells(learning: Learning) -> list[CellSpec]:
    """Cells that differ in what they replay, in their seed, length, rate and what is supervised."""
    long, short = learning.study.phase_b, learning.study.phase_b.model_copy(update={"epochs": 1, "lr": 0.003})
    everything = long.model_copy(update={"loss_on": "all"})
    return [
        learning.spec("random", seed=1),
        learning.spec("difficulty_hard", seed=1),
        learning.spec(None, mix=0, seed=2, training=short),
        learning.spec("loss_ascending", seed=3, training=everything),
    ]


def assert_equal_runs(found: list[Row], expected: list[Row], *, nats: float) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(measured(found), measured(expected), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, abs=nats), name


def test_cells_trained_together_equal_their_solo_runs(study: StudyConfig, tmp_path: Path) -> None:
    """Dropout included, through cells that end early and leave the others training."""
    learning = learn(study)
    fused = together(learning, mixed_cells(learning))
    alone = learn(study.model_copy(update={"storage": str(tmp_path / "alone")}))
    for spec in mixed_cells(alone):
        rows = together(alone, [spec])[spec.key]
        assert_equal_runs(fused[spec.key], rows, nats=1e-4)
        for name in ("task_a_nll", "task_b_nll", "steps"):
            ours, theirs = (
                load_file(path_of(where.store(spec.key), schema.LOSSES_FILE))[name]
                for where in (learning, alone)
            )
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)
        assert result_of(learning.store(spec.key)) is not None
        ours, theirs = (
            load_file(path_of(where.store(spec.key), "adapter/adapter_model.safetensors"))
            for where in (learning, alone)
        )
        assert all(np.allclose(ours[name], theirs[name], atol=1e-3) for name in theirs)


@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_cells_stopped_together_may_go_on_in_other_company(
    study: StudyConfig, tmp_path: Path, stop_after: int
) -> None:
    learning = learn(study)
    specs = mixed_cells(learning)
    together(learning, specs, heartbeat=stop_at(stop_after))
    resumed = together(learning, specs[:1]) | together(learning, specs[1:])
    alone = learn(study.model_copy(update={"storage": str(tmp_path / "alone")}))
    for spec in mixed_cells(alone):
        assert_equal_runs(resumed[spec.key], together(alone, [spec])[spec.key], nats=1e-4)


def test_a_cell_that_diverges_leaves_its_companions_as_they_were(study: StudyConfig, tmp_path: Path) -> None:
    learning = learn(study)
    wild = study.phase_b.model_copy(update={"lr": 1e30, "gradient_clipping": None})
    steady, diverging = learning.spec("random", seed=1), learning.spec("random", seed=2, training=wild)
    rows = together(learning, [diverging, steady])[steady.key]
    result = result_of(learning.store(diverging.key))
    assert result is not None
    assert result["state"] == schema.DIVERGED
    alone = learn(study.model_copy(update={"storage": str(tmp_path / "alone")}))
    assert_equal_runs(rows, together(alone, [alone.spec("random", seed=1)])[steady.key], nats=1e-4)


def test_overwritten_shared_weights_end_the_cell_without_a_result(study: StudyConfig) -> None:
    learning = learn(study)
    shared, spec = learning.shared(), learning.spec()
    session_module._loaded.clear()
    weights = read_base_weights(learning.prepared.source, precision="fp32")
    store = learning.store(spec.key)
    cell = run_cells([spec], shared=shared, stores={spec.key: store}, weights=weights)
    next(cell)
    next(iter(weights.arrays.values()))[0, 0] += 1
    with pytest.raises(SharedWeightsError, match="overwritten"):
        list(cell)
    assert result_of(store) is None
    session_module._loaded.clear()


def test_shared_weights_give_the_numbers_of_weights_of_ones_own(study: StudyConfig) -> None:
    learning = learn(study)
    shared, spec = learning.shared(), learning.spec()
    rows = run(learning, "own")
    session_module._loaded.clear()
    weights = read_base_weights(learning.prepared.source, precision="fp32")
    found = [
        row
        for _, row in run_cells(
            [spec], shared=shared, stores={spec.key: learning.store("lent")}, weights=weights
        )
    ]
    mapped = load_session(learning.prepared.setup).model.base.get_input_embeddings().weight
    assert any(mapped.data_ptr() == array.ctypes.data for array in weights.arrays.values())
    assert measured(found) == measured(rows)
    session_module._loaded.clear()
