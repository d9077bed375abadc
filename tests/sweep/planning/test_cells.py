"""From the search space to cells: what is merged, and what a plan knows before Phase A."""

from typing import Any

import numpy as np
import pytest

from sweep.config.study import validate_study
from sweep.planning.cells import Origin, PlannedCell, plan_cells, study_labels
from sweep.planning.inputs import Prepared, prepare
from trainables.ledger.schema import AA
from trainables.replay.pool import SelectionError
from trainables.replay.strategies import ORIGINAL


def planned(values: dict[str, Any], *, after_phase_a: bool = True) -> tuple[list[PlannedCell], Prepared]:
    study = validate_study(values, origin="test")
    prepared = prepare(study)
    losses = np.random.default_rng(0).random(len(prepared.task_a.train)) if after_phase_a else None
    origins = {seed: Origin(f"a{seed}", losses) for seed in prepared.artifacts}
    return plan_cells(study, prepared, origins=origins), prepared


def search(values: dict[str, Any], **axes: Any) -> dict[str, Any]:
    return {**values, "search": axes}


def test_mix_zero_is_one_cell_per_seed_whatever_the_strategy(study_values: dict[str, Any]) -> None:
    values = search(study_values, strategy=[*ORIGINAL, AA], mix=[0], seed=[0, 1, 2])
    cells, _ = planned(values)
    assert [cell.name for cell in cells] == [f"no replay, seed {seed}" for seed in (0, 1, 2)]


def test_the_original_design_with_seeds_has_eighteen_cells(study_values: dict[str, Any]) -> None:
    cells, _ = planned(search(study_values, strategy=[*ORIGINAL], mix=[0, 0.25], seed=[0, 1, 2]))
    assert len(cells) == 18


def test_equal_realised_streams_are_one_run_with_all_their_labels(study_values: dict[str, Any]) -> None:
    cells, _ = planned(search(study_values, strategy=[*ORIGINAL, AA], mix=[1.0], seed=[0]))
    assert len(cells) == 1
    assert [label.strategy for label in cells[0].labels] == [*ORIGINAL, AA]


def test_mixes_that_round_to_the_same_examples_are_one_run(study_values: dict[str, Any]) -> None:
    cells, _ = planned(search(study_values, strategy=["random"], mix=[0.5, 0.51], seed=[0]))
    assert len(cells) == 1


def test_before_phase_a_only_strategies_that_need_losses_wait(study_values: dict[str, Any]) -> None:
    cells, _ = planned(search(study_values, mix=[0.5], seed=[0]), after_phase_a=False)
    waiting = {cell.labels[0].strategy for cell in cells if cell.spec is None}
    assert waiting == {"loss_descending", "loss_ascending"}


def test_growing_the_search_keeps_the_keys_there_were(study_values: dict[str, Any]) -> None:
    small = {c.spec.key for c in planned(study_values)[0] if c.spec}
    grown = search(
        study_values, strategy=["random", "difficulty_hard", "difficulty_easy"], mix=[0, 0.5], seed=[0, 1]
    )
    assert small < {c.spec.key for c in planned(grown)[0] if c.spec}


@pytest.mark.parametrize("field", ["lr", "batch_size", "eval_every", "schedule"])
def test_every_hyperparameter_is_part_of_the_key(study_values: dict[str, Any], field: str) -> None:
    other = {"lr": 0.5, "batch_size": 3, "eval_every": 3, "schedule": "cosine"}[field]
    before = {c.spec.key for c in planned(study_values)[0] if c.spec}
    study_values["phase_b"][field] = other
    assert before.isdisjoint(c.spec.key for c in planned(study_values)[0] if c.spec)


def test_tokens_count_every_visit_of_every_example(study_values: dict[str, Any]) -> None:
    cells, prepared = planned(search(study_values, mix=[0], seed=[0]))
    assert cells[0].tokens == 2 * int(prepared.task_b.train.lengths.sum())


def test_a_mix_larger_than_the_pool_is_refused_with_the_numbers(study_values: dict[str, Any]) -> None:
    study_values["task_a"]["train"] = 5
    with pytest.raises(
        ValueError, match=r"search\.mix: 0\.5 of 12 task B examples are 6, and task A's training pool has 5"
    ):
        planned(study_values)


def test_labels_come_seed_by_seed(study_values: dict[str, Any]) -> None:
    study = validate_study(search(study_values, mix=[0, 0.5], seed=[0, 1], lr=[0.1, 0.2]), origin="test")
    seeds = [label.seed for label in study_labels(study)]
    assert seeds == sorted(seeds)
    assert len(seeds) == 2 * 2 * (1 + 5)


def test_with_an_adapter_a_replicate_cells_of_other_seeds_start_from_other_artifacts(
    study_values: dict[str, Any],
) -> None:
    values = search(study_values, strategy=["random"], mix=[0, 0.25], seed=[3, 5])
    shared, prepared = planned(values)
    assert list(prepared.artifacts) == [0]
    values["phase_a"] = values["phase_a"] | {"seeds": "per_replicate"}
    apart, prepared = planned(values)
    assert list(prepared.artifacts) == [3, 5]
    assert len({storage.prefix for storage in prepared.artifacts.values()}) == 2
    orders = [[cell.spec.order_hash for cell in cells if cell.spec] for cells in (shared, apart)]
    assert orders[0] == orders[1]
    keys = [{cell.spec.key for cell in cells if cell.spec} for cells in (shared, apart)]
    assert not keys[0] & keys[1]


def test_an_artifact_is_the_same_for_every_study_that_trains_it_with_its_seed(
    study_values: dict[str, Any],
) -> None:
    values = search(study_values, strategy=["random"], mix=[0.25], seed=[3])
    one = prepare(validate_study(values | {"phase_a": values["phase_a"] | {"seed": 3}}, origin="test"))
    values["phase_a"] = values["phase_a"] | {"seeds": "per_replicate"}
    other = prepare(validate_study(values, origin="test"))
    assert one.artifacts == other.artifacts


def test_a_mix_of_tokens_replays_the_examples_that_have_them_on_average(study_values: dict[str, Any]) -> None:
    by_tokens = study_values | {"phase_b": study_values["phase_b"] | {"mix_unit": "tokens"}}
    values = search(by_tokens, strategy=["random", "fresh_b"], mix=[0, 0.5], seed=[0])
    values["task_a"] = values["task_a"] | {"train": 30}
    cells, prepared = planned(values)
    supervised = [
        task.train.supervised_counts("completion").mean() for task in (prepared.task_a, prepared.task_b)
    ]
    count = round(0.5 * 12 * supervised[1] / supervised[0])
    assert 0 < count < 6  # worked sums are longer than names
    steps = {cell.labels[0].strategy: cell.steps for cell in cells}
    assert steps["random"] == steps["fresh_b"] == 2 * -(-(12 + count) // 4)
    assert prepared.task_b.fresh is not None
    assert len(prepared.task_b.fresh) == count


def test_the_unit_of_a_mix_is_an_axis_and_its_default_means_what_it_did(study_values: dict[str, Any]) -> None:
    before = {cell.spec.key for cell in planned(study_values)[0] if cell.spec}
    named = study_values | {"phase_b": study_values["phase_b"] | {"mix_unit": "examples"}}
    assert {cell.spec.key for cell in planned(named)[0] if cell.spec} == before
    both = search(study_values, strategy=["random"], mix=[0.5], seed=[0], mix_unit=["examples", "tokens"])
    cells, _ = planned(both)
    assert len({cell.spec.key for cell in cells if cell.spec}) == 2


def test_a_mix_of_tokens_that_leaves_no_task_b_example_is_refused(study_values: dict[str, Any]) -> None:
    values = study_values | {"task_a": {"name": "multihop", "train": 200, "validation": 4}}
    values |= {"task_b": {"name": "arithmetic", "train": 12, "validation": 4}}
    values["phase_b"] = values["phase_b"] | {"mix_unit": "tokens", "mix_mode": "substitute"}
    with pytest.raises(SelectionError, match=r"by supervised tokens, replaces \d+ of 12 .* leaves none"):
        planned(search(values, strategy=["random"], mix=[0.9], seed=[0]))
