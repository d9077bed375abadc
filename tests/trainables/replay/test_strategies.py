"""What every strategy must keep, and what each one promises."""

import numpy as np
import pytest

from trainables.ledger.schema import AA
from trainables.replay.pool import Pool
from trainables.replay.selection import select
from trainables.replay.strategies import STRATEGIES

SIZE = 40


def pool() -> Pool:
    generator = np.random.default_rng(1)
    return Pool(SIZE, generator.integers(1, 6, SIZE).astype(float), generator.random(SIZE))


def chosen(strategy: str, count: int, seed: int = 0) -> list[int]:
    return select(strategy, pool(), count=count, seed=seed).tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_selection_has_the_asked_size_without_repeats_in_ascending_order(strategy: str) -> None:
    for count in (0, 1, 7, SIZE):
        indices = chosen(strategy, count)
        assert len(indices) == count
        assert indices == sorted(set(indices))
        assert all(0 <= index < SIZE for index in indices)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_larger_selection_contains_the_smaller_one(strategy: str) -> None:
    assert set(chosen(strategy, 5)) < set(chosen(strategy, 20))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_seeds_select_equally(strategy: str) -> None:
    assert chosen(strategy, 10, seed=3) == chosen(strategy, 10, seed=3)


def test_the_control_of_random_draws_like_it_from_a_stream_of_its_own() -> None:
    drawn = {strategy: [chosen(strategy, 10, seed) for seed in range(400)] for strategy in ("random", AA)}
    assert all(one != other for one, other in zip(*drawn.values(), strict=True))
    for selections in drawn.values():
        counts = np.bincount(np.concatenate(selections), minlength=SIZE)
        assert np.all(np.abs(counts - 100) < 5 * np.sqrt(75))  # each example is drawn 400 x 10/40 times


@pytest.mark.parametrize("strategy", ["random", "difficulty_hard", "difficulty_easy"])
def test_seeds_decide_draws_and_ties(strategy: str) -> None:
    """Fault: selection was fixed at seed 42, so there was nothing to put an error bar on."""
    assert len({tuple(chosen(strategy, 4, seed=seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("strategy", "column", "sign"),
    [
        ("difficulty_hard", "difficulty", -1),
        ("difficulty_easy", "difficulty", 1),
        ("loss_descending", "losses", -1),
        ("loss_ascending", "losses", 1),
    ],
)
def test_no_example_left_out_ranks_before_one_selected(strategy: str, column: str, sign: int) -> None:
    values = sign * getattr(pool(), column)
    indices = chosen(strategy, 10)
    left_out = np.delete(values, indices)
    assert values[indices].max() <= left_out.min()


def test_an_unknown_strategy_is_refused_with_the_choices() -> None:
    """Fault: unknown strategies fell back to random selection."""
    with pytest.raises(ValueError, match="unknown strategy 'hardest': choose one of random, difficulty_hard"):
        chosen("hardest", 3)


@pytest.mark.parametrize("strategy", ["difficulty_hard", "difficulty_easy"])
def test_a_pool_without_difficulty_is_refused_by_name(strategy: str) -> None:
    """Fault: missing columns fell back to random selection."""
    empty = Pool(SIZE, np.full(SIZE, np.nan), np.ones(SIZE))
    with pytest.raises(ValueError, match=f"{strategy}.*'difficulty'.*it has: losses"):
        select(strategy, empty, count=3, seed=0)


def test_examples_of_unknown_difficulty_come_last() -> None:
    difficulty = np.array([np.nan, 1.0, np.nan, 5.0])
    for strategy in ("difficulty_hard", "difficulty_easy"):
        indices = select(strategy, Pool(4, difficulty), count=2, seed=0)
        assert indices.tolist() == [1, 3]


def test_a_pool_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="41 replayed examples are asked for; .* has 40"):
        chosen("random", SIZE + 1)


@pytest.mark.parametrize("seed", range(4))
def test_an_order_is_that_of_a_sort_whose_ties_a_permutation_breaks(seed: int) -> None:
    values = np.random.default_rng(seed).choice([0.0, -0.0, 1.5, -2.0, np.nan, np.inf], 500)
    pool = Pool(len(values), values, -values)
    columns = {"difficulty_easy": values, "difficulty_hard": -values}
    columns |= {"loss_ascending": -values, "loss_descending": values}
    for name, column in columns.items():
        tie_break = np.random.default_rng(seed).permutation(len(values))
        expected = np.lexsort((tie_break, column))
        assert STRATEGIES[name].order(pool, np.random.default_rng(seed)).tolist() == expected.tolist()
