"""Controls train for the same steps with the same slots as replay; only what fills them is another thing."""

from typing import Any

import numpy as np
import pytest

from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig, validate_study
from sweep.planning.cells import Origin, PlannedCell, plan_cells
from sweep.planning.inputs import prepare
from tests.trainables.learning import learn, run_cell
from tests.trainables.replay.test_batch_order import SIZE_A, SIZE_B, realised
from trainables.ledger import schema
from trainables.replay.batch_order import TASK_A, TASK_B
from trainables.replay.controls import CONTROLS
from trainables.replay.strategies import STRATEGIES

MODES = ("add", "substitute")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_has_the_steps_and_slots_of_replay(name: str, mode: str) -> None:
    control, replay = realised(name, mix_mode=mode), realised("random", mix_mode=mode)
    assert control.slots_hash == replay.slots_hash
    assert np.array_equal(control.stream.offsets, replay.stream.offsets)
    assert control.stream.digest != replay.stream.digest
    assert name not in STRATEGIES


@pytest.mark.parametrize("mode", MODES)
def test_fresh_b_puts_an_unseen_example_into_each_slot_and_leaves_the_rest(mode: str) -> None:
    control, replay = realised("fresh_b", mix_mode=mode), realised("random", mix_mode=mode)
    slots = replay.stream.sources == TASK_A
    assert set(control.stream.sources) == {TASK_B}
    assert np.array_equal(control.stream.indices[~slots], replay.stream.indices[~slots])
    fresh = control.stream.indices[slots]
    count = len(replay.selection)
    assert sorted(fresh) == sorted(2 * list(range(SIZE_B, SIZE_B + count)))  # each once an epoch
    assert len(control.selection) == 0
    assert not slots[~slots].any()


@pytest.mark.parametrize("mode", MODES)
def test_a_only_replays_what_random_does_and_fills_the_rest_with_task_a(mode: str) -> None:
    control, replay = realised("a_only", mix_mode=mode), realised("random", mix_mode=mode)
    slots = replay.stream.sources == TASK_A
    assert set(control.stream.sources) == {TASK_A}
    assert np.array_equal(control.stream.indices[slots], replay.stream.indices[slots])
    assert np.array_equal(control.selection, replay.selection)
    others = control.stream.indices[~slots]
    assert others.max() < SIZE_A
    replaced = replay.stream.indices[~slots]
    assert len(np.unique(np.stack([replaced, others]), axis=1).T) == len(np.unique(replaced))  # one for one


def test_a_small_pool_is_gone_through_again_before_anything_comes_twice() -> None:
    counts = np.bincount(realised("a_only", steps=6, mix=0.025).stream.indices, minlength=SIZE_A)
    assert counts.max() <= 2


def asking(values: dict[str, Any], *, strategy: list[str], mix: list[float]) -> StudyConfig:
    return validate_study(values | {"search": {"strategy": strategy, "mix": mix, "seed": [0]}}, origin="test")


def planned(study: StudyConfig) -> list[PlannedCell]:
    prepared = prepare(study)
    return plan_cells(
        study, prepared, origins={seed: Origin(f"a{seed}", None) for seed in prepared.artifacts}
    )


def keys(study: StudyConfig) -> dict[str, str]:
    return {cell.name: cell.spec.key for cell in planned(study) if cell.spec}


def test_fresh_examples_are_in_no_other_set_and_leave_those_as_they_are(study_values: dict[str, Any]) -> None:
    plain = prepare(asking(study_values, strategy=["random"], mix=[0.5])).task_b
    with_fresh = prepare(asking(study_values, strategy=["random", "fresh_b"], mix=[0.25, 0.5])).task_b
    assert with_fresh.fresh is not None
    assert len(with_fresh.fresh) == 6
    assert not {*with_fresh.fresh.ids} & {*with_fresh.train.ids, *with_fresh.validation.ids}
    assert plain.fresh is None
    assert plain.digest == with_fresh.digest
    joined = with_fresh.all_training
    assert joined.ids == with_fresh.train.ids + with_fresh.fresh.ids
    assert np.array_equal(joined.example(12), with_fresh.fresh.example(0))
    assert joined.first(12).digest == with_fresh.train.digest


def test_a_study_grows_by_controls_and_mixes_without_a_cell_that_changes(
    study_values: dict[str, Any],
) -> None:
    small = keys(asking(study_values, strategy=["random", "fresh_b"], mix=[0, 0.25]))
    grown = keys(asking(study_values, strategy=["random", "fresh_b", "a_only"], mix=[0, 0.25, 0.5]))
    assert small.items() <= grown.items()
    assert len(grown) == 7


def test_a_control_that_fills_no_slot_is_the_run_that_it_equals(study_values: dict[str, Any]) -> None:
    cells = planned(asking(study_values, strategy=["random", "fresh_b", "a_only"], mix=[0, 0.01]))
    names = [cell.name for cell in cells]
    assert names[0] == "no replay, seed 0 = random 0.01, seed 0 = fresh_b 0.01, seed 0"
    assert names[1] == "a_only 0.01, seed 0"


def test_a_plan_counts_the_tokens_that_a_control_trains_on(study_values: dict[str, Any]) -> None:
    study = asking(study_values, strategy=["random", "fresh_b", "a_only"], mix=[0.5])
    prepared = prepare(study)
    lengths = prepared.task_a.train.lengths, prepared.task_b.all_training.lengths
    tokens = {cell.labels[0].strategy: cell.tokens for cell in planned(study)}
    assert tokens["fresh_b"] == 2 * lengths[1].sum()  # 12 and 6 examples, two epochs
    assert tokens["a_only"] > 0


def test_what_a_control_saw_is_in_its_rows_and_it_pairs_with_replay(study_values: dict[str, Any]) -> None:
    learning = learn(asking(study_values, strategy=["random", "fresh_b", "a_only"], mix=[0.5]))
    rows = {}
    for name in ("random", "fresh_b", "a_only"):
        spec = learning.spec(name, mix=0.5)
        rows[name] = list(run_cell(spec, shared=learning.shared(), store=learning.store(name)))[-1]
    assert {row[schema.STEP] for row in rows.values()} == {10}
    assert (rows["fresh_b"][schema.TASK_A_EXAMPLES], rows["fresh_b"][schema.TASK_B_EXAMPLES]) == (0, 36)
    assert (rows["a_only"][schema.TASK_A_EXAMPLES], rows["a_only"][schema.TASK_B_EXAMPLES]) == (36, 0)
    assert (rows["random"][schema.TASK_A_EXAMPLES], rows["random"][schema.TASK_B_EXAMPLES]) == (12, 24)


def test_a_control_is_no_baseline(study_values: dict[str, Any]) -> None:
    values = study_values | {"inference": {"baseline": "fresh_b"}}
    with pytest.raises(ConfigurationError, match="'fresh_b' is a control"):
        asking(values, strategy=["random", "fresh_b"], mix=[0.5])
