"""What every strategy must keep, and what each one promises."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.trainables.replay.pools import full_pool
from trainables.ledger.schema import AA
from trainables.replay.pool import COLUMNS, Pool, SelectionError, open_pool
from trainables.replay.selection import LENGTH_MATCHED, find_strategy, order_pool, select
from trainables.replay.strategies import STRATEGIES

SIZE = 40
EVERY = [*STRATEGIES, *(f"{LENGTH_MATCHED}{name}" for name in STRATEGIES if STRATEGIES[name].columns)]


def pool() -> Pool:
    return full_pool(SIZE)


def chosen(strategy: str, count: int, seed: int = 0) -> list[int]:
    return select(strategy, pool(), count=count, seed=seed).tolist()


@pytest.mark.parametrize("strategy", EVERY)
def test_a_selection_has_the_asked_size_without_repeats_in_ascending_order(strategy: str) -> None:
    for count in (0, 1, 7, SIZE):
        indices = chosen(strategy, count)
        assert len(indices) == count
        assert indices == sorted(set(indices))
        assert all(0 <= index < SIZE for index in indices)


@pytest.mark.parametrize("strategy", EVERY)
def test_a_larger_selection_contains_the_smaller_one(strategy: str) -> None:
    selections = [set(chosen(strategy, count)) for count in (0, 5, 20, SIZE)]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(selections))


@pytest.mark.parametrize("strategy", EVERY)
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


def with_columns(size: int = 6, **columns: Any) -> Pool:
    return Pool(size, np.full(size, np.nan), columns.pop("losses", None), columns)


def order(strategy: str, pool: Pool, seed: int = 0) -> list[int]:
    return order_pool(strategy, pool, seed=seed).tolist()


@pytest.mark.parametrize("strategy", EVERY)
def test_a_strategy_takes_no_column_but_those_it_names(strategy: str) -> None:
    """Where all others are gone it orders alike; without one of its own it is refused by that one's name."""
    whole, needs = pool(), find_strategy(strategy).columns
    difficulty = whole.difficulty if "difficulty" in needs else np.full(SIZE, np.nan)
    losses = whole.losses if "losses" in needs else None
    columns = {name: values for name, values in whole.columns.items() if name in needs}
    assert order(strategy, Pool(SIZE, difficulty, losses, columns)) == order(strategy, whole)
    for name in needs:
        lacking = Pool(
            SIZE,
            np.full(SIZE, np.nan) if name == "difficulty" else difficulty,
            None if name == "losses" else losses,
            {each: values for each, values in columns.items() if each != name},
        )
        with pytest.raises(SelectionError, match=f"{strategy!r} orders by {name!r}, which .* lacks"):
            order(strategy, lacking)


def test_the_columns_that_strategies_name_are_those_there_are() -> None:
    named = {name for strategy in STRATEGIES.values() for name in strategy.columns} | {"lengths"}
    assert named == set(COLUMNS)


def test_the_middle_of_the_losses_comes_first_and_the_extremes_last() -> None:
    found = order("loss_middle", with_columns(5, losses=np.array([9.0, 1.0, 5.0, 4.9, 6.5])))
    assert found == [2, 3, 4, 1, 0] or found == [2, 3, 4, 0, 1]


def test_every_prefix_of_a_stratified_order_has_the_pools_shares() -> None:
    strata = np.repeat([0, 1, 2], [60, 30, 10])
    found = np.array(order("stratified", with_columns(100, strata=strata)))
    for count in (10, 20, 50, 90):
        shares = np.bincount(strata[found[:count]], minlength=3) / count
        assert shares == pytest.approx([0.6, 0.3, 0.1], abs=1.5 / count)


def test_a_pool_of_one_stratum_is_refused_rather_than_drawn_from_at_random() -> None:
    examples: Any = SimpleNamespace(
        difficulty=np.full(3, np.nan), lengths=np.array([5, 6, 7]), levels=(None,) * 3, types=("a",) * 3
    )
    with pytest.raises(SelectionError, match="'stratified' orders by 'strata', which .* lacks"):
        order("stratified", open_pool(examples))


def test_coverage_by_loss_takes_from_every_range_and_leaves_the_hardest_for_last() -> None:
    losses = np.concatenate([np.linspace(0, 0.1, 80), [0.5, 0.9], np.linspace(5, 9, 9)])  # most are easy
    found = order("coverage_by_loss", with_columns(len(losses), losses=losses))
    assert set(found[-9:]) == set(range(82, 91))
    assert {80, 81} < set(found[:10]), "a range with one example has its turn with the first"


def test_learnability_is_what_phase_a_has_lowered() -> None:
    columns = {"losses": np.array([1.0, 1.0, 3.0]), "base_losses": np.array([2.0, 5.0, 3.5])}
    assert order("learnability", with_columns(3, **columns)) == [1, 0, 2]


def test_the_most_unstable_rose_most_on_the_way_wherever_it_ended() -> None:
    curve = np.array([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [1.0, 3.0, 0.1]])
    assert order("unstable", with_columns(3, learning_curve=curve)) == [2, 1, 0]


def test_the_most_forgotten_comes_first() -> None:
    assert order("forgotten", with_columns(3, forgotten=np.array([0.1, 0.9, -0.3]))) == [1, 0, 2]


def test_coverage_visits_every_cluster_before_any_twice() -> None:
    centres = np.eye(5)[np.repeat(np.arange(5), [50, 10, 10, 5, 1])]
    noise = np.random.default_rng(0).standard_normal(centres.shape) * 0.01
    labels = np.repeat(np.arange(5), [50, 10, 10, 5, 1])
    for seed in range(3):
        found = order("coverage", with_columns(76, embeddings=centres + noise), seed)
        assert set(labels[found[:5]]) == set(range(5))
    assert len({order("coverage", with_columns(76, embeddings=centres + noise), s)[0] for s in range(9)}) > 3


def test_herding_keeps_the_mean_of_the_chosen_nearer_to_the_pools_than_chance() -> None:
    pool = full_pool(200)
    herded = order("herding", pool)[:10]
    random = [order("random", pool, seed)[:10] for seed in range(50)]
    target = pool.directions.mean(axis=0)
    off = [float(np.linalg.norm(pool.directions[each].mean(axis=0) - target)) for each in (herded, *random)]
    assert off[0] < min(off[1:])


def test_likeness_to_task_b_is_by_direction_and_its_opposite_the_other_way_round() -> None:
    embeddings = np.array([[9.0, 0.1], [-9.0, 0.2], [0.0, 5.0], [0.0, -5.3]])
    columns = {"embeddings": embeddings, "task_b_embeddings": np.array([[2.0, 0.0], [4.0, 0.0]])}
    near, far = (order(name, with_columns(4, **columns)) for name in ("similar_to_b", "dissimilar_to_b"))
    assert (near[0], far[0]) == (0, 1)
    assert (near[-1], far[-1]) == (1, 0)


def test_alignment_with_task_b_is_of_directions_not_of_sizes() -> None:
    gradients = np.array([[100.0, 100.0], [0.1, 0.0], [-5.0, 0.1]])
    columns = {"gradients": gradients, "task_b_gradients": np.array([[1.0, 0.0], [50.0, 0.0]])}
    assert order("gradient_aligned", with_columns(3, **columns)) == [1, 0, 2]
    assert order("gradient_opposed", with_columns(3, **columns)) == [2, 0, 1]


def test_a_length_matched_control_replays_as_long_examples_and_others() -> None:
    """Lengths of the loss's order, drawn from the same twentieths: near in their mean, and other examples."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(20, 2000, 400)
    pool = with_columns(400, losses=lengths + generator.random(400) * 1500, lengths=lengths)
    chosen, matched = (
        order(name, pool)[:40] for name in ("loss_descending", "length_matched_loss_descending")
    )
    assert lengths[matched].mean() == pytest.approx(lengths[chosen].mean(), rel=0.03)
    assert lengths[order("random", pool)[:40]].mean() < 0.8 * lengths[chosen].mean()
    assert len(set(chosen) & set(matched)) < 30
    assert len({tuple(order("length_matched_loss_descending", pool, seed)[:40]) for seed in range(3)}) == 3


@pytest.mark.parametrize("name", ["length_matched_random", "length_matched_", "length_matched_hardest"])
def test_only_what_chooses_has_a_length_matched_control(name: str) -> None:
    with pytest.raises(ValueError, match="unknown strategy"):
        find_strategy(name)


def test_a_strategy_and_its_control_are_known_apart() -> None:
    digests = {find_strategy(name).digest for name in EVERY}
    assert len(digests) == len(EVERY)
