"""Which cells train in one process."""

import itertools
from functools import partial

from sweep.cluster import grouping
from trainables.replay.batch_order import CellSpec
from trainables.settings import PhaseBSettings

group_cells = partial(grouping.group_cells, phase_a_seed=lambda seed: 0)  # all start from one adapter


def cells(count: int, *, mix: float = 0.1, **training: object) -> list[CellSpec]:
    settings = PhaseBSettings.model_validate(training)
    return [
        CellSpec(f"{mix}-{number}-{sorted(training.items())}", "random", mix, number, settings, "order")
        for number in range(count)
    ]


def test_every_cell_is_in_one_group_in_its_order() -> None:
    specs = cells(7)
    groups = group_cells(specs, together=3, slots=1)
    assert list(itertools.chain(*groups)) == specs
    assert [len(group) for group in groups] == [3, 3, 1]


def test_no_worker_is_left_idle_for_the_sake_of_larger_groups() -> None:
    assert [len(group) for group in group_cells(cells(8), together=8, slots=4)] == [2, 2, 2, 2]
    assert [len(group) for group in group_cells(cells(3), together=8, slots=4)] == [1, 1, 1]


def test_cells_of_other_batches_lengths_or_evaluation_points_train_apart() -> None:
    kinds = [cells(2), cells(2, batch_size=8), cells(2, eval_every=3), cells(2, mix=0.2), cells(2, epochs=1)]
    groups = group_cells(list(itertools.chain(*kinds)), together=2, slots=1)
    assert groups == kinds


def test_cells_that_differ_in_rate_or_seed_train_together() -> None:
    specs = cells(2, lr=1e-4) + cells(2, lr=2e-4)
    assert group_cells(specs, together=4, slots=1) == [specs]


def test_cells_that_start_from_different_adapters_train_apart() -> None:
    specs = cells(2) + cells(2, lr=2e-4)
    groups = grouping.group_cells(specs, together=4, slots=1, phase_a_seed=lambda seed: seed)
    assert groups == [[specs[0], specs[2]], [specs[1], specs[3]]]


def test_replicates_are_begun_one_after_the_other_whatever_their_cells_are_like() -> None:
    specs = [spec for pair in zip(cells(3), cells(3, mix=0.2), strict=True) for spec in pair]
    assert list(itertools.chain(*group_cells(specs, together=1, slots=1))) == specs
