"""Pairing: the order is the seed's, and a strategy only fills the slots."""

from typing import Any

import numpy as np
import pytest

from tests.trainables.replay.pools import full_pool
from trainables.replay.batch_order import TASK_A, TASK_B, phase_a_stream, replay_count
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
