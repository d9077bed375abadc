"""Pairing: the order is the seed's, and a strategy only fills the slots."""

from typing import Any, get_args

import numpy as np
import pytest

from tests.trainables.replay.pools import full_pool
from trainables.replay.batch_order import SCHEDULES, TASK_A, TASK_B, phase_a_stream, replay_count
from trainables.replay.realisation import Realisation, realise
from trainables.replay.strategies import STRATEGIES
from trainables.settings import PhaseASettings, PhaseBSettings

SIZE_A, SIZE_B = 50, 40


def realised(strategy: str | None, *, mix: float = 0.2, seed: int = 0, **training: Any) -> Realisation:
    pool = full_pool(SIZE_A)
    length = {} if "steps" in training else {"epochs": 2}
    settings = PhaseBSettings(**{"batch_size": 7, **length, **training})
    return realise(strategy, mix=mix, seed=seed, pool=pool, task_b_size=SIZE_B, training=settings)


@pytest.mark.parametrize("mode", ["add", "substitute"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_strategies_see_the_same_task_b_examples_at_the_same_steps(strategy: str, mode: str) -> None:
    one, other = realised("random", mix_mode=mode), realised(strategy, mix_mode=mode)
    assert one.slots_hash == other.slots_hash
    assert one.stream.steps == other.stream.steps
    for step in range(one.stream.steps):
        (sources, indices), (other_sources, other_indices) = one.stream.batch(step), other.stream.batch(step)
        assert np.array_equal(sources, other_sources)
        assert np.array_equal(indices[sources == TASK_B], other_indices[other_sources == TASK_B])


def test_replay_slots_hold_exactly_the_selection_in_every_epoch() -> None:
    cell = realised("difficulty_hard")
    stream = cell.stream
    per_epoch = SIZE_B + len(cell.selection)
    for epoch in range(2):
        span = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
        replayed = stream.indices[span][stream.sources[span] == TASK_A]
        assert sorted(replayed) == cell.selection.tolist()
        assert sorted(stream.indices[span][stream.sources[span] == TASK_B]) == list(range(SIZE_B))


def test_another_seed_gives_another_order() -> None:
    """Fault: shuffles were fixed at seed 42."""
    assert realised(None, seed=0).slots_hash != realised(None, seed=1).slots_hash


def test_the_same_seed_gives_the_same_order() -> None:
    assert realised("random", seed=5).stream.digest == realised("random", seed=5).stream.digest


def test_without_replay_no_task_a_example_is_seen() -> None:
    assert set(realised(None, mix=0).stream.sources) == {TASK_B}


def test_adding_keeps_every_task_b_example_and_substituting_keeps_the_total() -> None:
    added, substituted = realised("random").stream, realised("random", mix_mode="substitute").stream
    count = replay_count(0.2, SIZE_B)
    assert len(added.indices) == 2 * (SIZE_B + count)
    assert len(substituted.indices) == 2 * SIZE_B
    assert int((substituted.sources == TASK_A).sum()) == 2 * count


def test_a_selection_of_the_whole_pool_is_one_stream_whatever_the_strategy() -> None:
    digests = {realised(name, mix=SIZE_A / SIZE_B).stream.digest for name in STRATEGIES}
    assert len(digests) == 1


def test_strategies_that_select_differently_have_different_streams() -> None:
    assert realised("difficulty_hard").stream.digest != realised("difficulty_easy").stream.digest


@pytest.mark.parametrize("steps", [1, 6, 7, 8, 20])
def test_steps_cut_or_repeat_epochs_at_exactly_that_many_batches(steps: int) -> None:
    whole = realised("random", epochs=4).stream
    cut = realised("random", steps=steps).stream
    assert cut.steps == steps
    length = cut.offsets[-1]
    assert np.array_equal(cut.indices, whole.indices[:length])


def test_phase_a_sees_each_example_once_an_epoch() -> None:
    stream = phase_a_stream(SIZE_A, seed=0, training=PhaseASettings(batch_size=8, epochs=3))
    assert sorted(stream.indices) == sorted(list(range(SIZE_A)) * 3)
    assert stream.epoch_steps == 7
    assert set(stream.sources) == {TASK_A}


SCHEDULED = [
    (schedule, mode, mix)
    for schedule in SCHEDULES
    for mode, mix in (("add", 0.2), ("add", 1.0), ("substitute", 0.2), ("substitute", 0.75), ("add", 0.0))
]


def test_the_schedules_are_those_that_a_study_may_ask_for() -> None:
    declared = get_args(PhaseBSettings.model_fields["replay_schedule"].annotation)
    assert set(declared) == {"uniform", *SCHEDULES}


@pytest.mark.parametrize(("schedule", "mode", "mix"), SCHEDULED)
@pytest.mark.parametrize("length", [{"epochs": 2}, {"steps": 9}])
def test_a_schedule_moves_replay_and_nothing_else(
    schedule: str, mode: str, mix: float, length: dict[str, int]
) -> None:
    """The same visits, task B's and the replayed ones each in the order they had, in as many batches."""
    given = {"mix": mix, "mix_mode": mode, **length}
    uniform = realised("difficulty_hard", **given)
    moved = realised("difficulty_hard", replay_schedule=schedule, **given)
    assert np.array_equal(moved.stream.offsets, uniform.stream.offsets)
    for task in (TASK_A, TASK_B):
        ours, theirs = (each.stream.indices[each.stream.sources == task] for each in (moved, uniform))
        assert np.array_equal(ours, theirs)
    if 0 < mix < 1:
        assert moved.slots_hash != uniform.slots_hash
    other = realised("loss_ascending", replay_schedule=schedule, **given)
    assert other.slots_hash == moved.slots_hash, "strategies are paired within a schedule"


def shares(schedule: str, **given: Any) -> tuple[float, float]:
    """Return what share of the replayed visits is in the first half of the run, and in the last."""
    found = realised("random", mix=0.2, replay_schedule=schedule, **given).stream.sources == TASK_A
    half = len(found) // 2
    return found[:half].sum() / found.sum(), found[half:].sum() / found.sum()


def test_early_replay_is_in_the_first_half_and_late_replay_in_the_last() -> None:
    for seed in range(5):
        assert shares("early", seed=seed) == (1.0, 0.0)
        assert shares("late", seed=seed) == (0.0, 1.0)
        assert 0.2 < shares("uniform", seed=seed)[0] < 0.8


def test_early_replay_that_does_not_fit_into_the_first_half_comes_first() -> None:
    stream = realised("random", mix=0.75, mix_mode="substitute", replay_schedule="early").stream
    assert set(stream.sources[: int(0.75 * len(stream.sources))]) == {TASK_A}


def test_blocked_replay_fills_whole_batches_that_are_spread_over_the_run() -> None:
    stream = realised("random", mix=0.35, replay_schedule="blocked").stream  # 14 replayed, batches of 7
    kinds = [set(stream.batch(step)[0].tolist()) for step in range(stream.steps)]
    pure = [step for step, kind in enumerate(kinds) if kind == {TASK_A}]
    assert sum(len(kind) == 2 for kind in kinds) <= 1
    assert len(pure) >= 3
    assert max(np.diff(pure)) <= 2 * min(np.diff(pure))


def test_when_replay_comes_is_drawn_from_the_seed() -> None:
    found = {realised("random", replay_schedule="early", seed=seed).slots_hash for seed in (0, 0, 1, 2)}
    assert len(found) == 3
