"""Choosing again while training: by the losses of the adapter as it is, and pairing, resuming and company as
ever.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from sweep.config.errors import ConfigurationError
from sweep.config.study import validate_study
from sweep.planning.cells import Origin, plan_cells
from tests.trainables.learning import Learning, learn, path_of, read_json, run_cell, stop_at
from tests.trainables.reference import plain_losses
from trainables.cell import Cell
from trainables.engine.cell_folder import Row
from trainables.ledger import schema
from trainables.phase_b import run_cells
from trainables.replay.batch_order import TASK_B, CellSpec
from trainables.replay.pool import open_pool
from trainables.replay.selection import select

HARD = "loss_descending"


@pytest.fixture
def values(study_values: dict[str, Any]) -> dict[str, Any]:
    study_values["phase_b"] |= {"schedule": "constant", "lr": 0.05, "reselect_every": 2}
    study_values["search"]["strategy"] = ["random", HARD]
    study_values["model"]["lora"]["dropout"] = 0.0
    return study_values


@pytest.fixture
def learning(values: dict[str, Any]) -> Learning:
    return learn(validate_study(values, origin="test"))


def run(learning: Learning, spec: CellSpec, name: str) -> list[Row]:
    return list(run_cell(spec, shared=learning.shared(), store=learning.store(name)))


def chosen_again(learning: Learning, name: str) -> dict[int, list[int]]:
    record = read_json(learning.store(name), schema.SELECTION_FILE)
    return {each["step"]: each["index"] for each in record.get("chosen_again", [])}


def losses_of(learning: Learning, name: str) -> dict[str, np.ndarray]:
    return load_file(path_of(learning.store(name), schema.LOSSES_FILE))


def test_a_strategy_chooses_again_by_the_losses_of_the_adapter_as_it_is(learning: Learning) -> None:
    """The adapter of a run that ended where this one chose again, measured plainly by PEFT."""
    spec = learning.spec(HARD, mix=0.25)
    run(learning, spec, "again")
    found = chosen_again(learning, "again")
    steps = learning.study.phase_b.epochs or 0
    assert list(found) == list(range(2, 4 * steps, 2))
    until = spec.training.model_copy(update={"steps": 2, "epochs": None, "reselect_every": None})
    run(learning, learning.spec(HARD, mix=0.25, training=until), "until")
    base = AutoModelForCausalLM.from_pretrained(learning.study.model.name)
    model = PeftModel.from_pretrained(base, path_of(learning.store("until"), "adapter")).eval()
    train = learning.prepared.task_a.train
    nll, tokens = plain_losses(model, train)
    expected = select(HARD, open_pool(train, losses=nll / tokens), count=3, seed=0)
    first = read_json(learning.store("again"), schema.SELECTION_FILE)["index"]
    assert found[2] == expected.tolist()
    assert any(chosen != first for chosen in found.values()), "else this shows nothing"


def test_what_is_replayed_changes_and_task_b_stays_at_its_steps(learning: Learning) -> None:
    shared, spec = learning.shared(), learning.spec(HARD, mix=0.25)
    cell = Cell(spec, shared=shared, store=learning.store("cell"), session=learning.session())
    before = cell.run.stream
    cell.run.counters.step = 4
    assert cell.chooses_again
    cell.choose_again(np.arange(12)[::-1] * 1000.0 * shared.artifact.pool_tokens)  # the first are the hardest
    after = cell.run.stream
    assert not cell.chooses_again
    assert np.array_equal(before.sources, after.sources)
    of_task_b = before.sources == TASK_B
    assert np.array_equal(before.indices[of_task_b], after.indices[of_task_b])
    earlier = np.arange(len(before.sources)) < before.offsets[4]
    assert np.array_equal(before.indices[earlier], after.indices[earlier])
    assert set(after.indices[~earlier & ~of_task_b]) <= {0, 1, 2}


@pytest.mark.slow
def test_a_cell_that_was_stopped_anywhere_chooses_and_ends_as_if_it_had_not(learning: Learning) -> None:
    spec = learning.spec(HARD, mix=0.25)
    run(learning, spec, "whole")
    for stopped_at in range(1, 20, 2):
        name = f"stopped-{stopped_at}"
        list(
            run_cell(
                spec, shared=learning.shared(), store=learning.store(name), heartbeat=stop_at(stopped_at)
            )
        )
        run(learning, spec, name)
        assert chosen_again(learning, name) == chosen_again(learning, "whole")
        whole, resumed = losses_of(learning, "whole"), losses_of(learning, name)
        assert all(np.array_equal(whole[array], resumed[array]) for array in whole)


def test_cells_that_train_together_choose_as_they_do_alone(learning: Learning) -> None:
    specs = [learning.spec(HARD, mix=0.25, seed=seed) for seed in (0, 1)]
    specs.append(learning.spec("random", mix=0.25, seed=1))
    stores = {spec.key: learning.store(f"fused-{spec.key}") for spec in specs}
    list(run_cells(specs, shared=learning.shared(), stores=stores))
    for spec in specs:
        run(learning, spec, f"alone-{spec.key}")
        ours, theirs = (losses_of(learning, f"{how}-{spec.key}") for how in ("fused", "alone"))
        np.testing.assert_allclose(ours["task_a_nll"], theirs["task_a_nll"], rtol=1e-4)
        if spec.strategy == HARD:
            fused, alone = (chosen_again(learning, f"{how}-{spec.key}") for how in ("fused", "alone"))
            assert fused == alone


def test_choosing_again_is_another_run_only_where_there_is_something_to_choose(
    values: dict[str, Any],
) -> None:
    """Cells of random, without replay, and of the whole pool are those of a study that chooses once."""
    values["search"] |= {"mix": [0, 0.25, 1.0]}
    keys = {}
    for every in (None, 2):
        values["phase_b"]["reselect_every"] = every
        learning = learn(validate_study(values, origin="test"))
        losses = np.random.default_rng(0).random(12)
        cells = plan_cells(learning.study, learning.prepared, origins={0: Origin("a", losses)})
        keys[every] = {cell.name: cell.spec.key for cell in cells if cell.spec}
    assert keys[None].keys() == keys[2].keys()
    differ = {name for name, key in keys[None].items() if keys[2][name] != key}
    assert differ == {f"{HARD} 0.25, seed 0"}


@pytest.mark.parametrize(
    ("strategies", "message"),
    [
        (["random", "difficulty_hard"], "is for strategies that choose by losses.*random, difficulty_hard"),
        (["random", "learnability"], "'learnability' chooses by base_losses too"),
    ],
)
def test_what_could_not_choose_again_is_refused(
    values: dict[str, Any], strategies: list[str], message: str, tmp_path: Path
) -> None:
    values["search"]["strategy"] = strategies
    with pytest.raises(ConfigurationError, match=message):
        validate_study(values, origin="test")
