"""Accuracy item by item: the interval's coverage over seeds and prompts, and what is counted."""

import numpy as np
import pandas as pd
import pytest

from analysis.findings.answers import compare, find_answers
from analysis.reading.answers import AnsweredItems
from analysis.reading.study import RecordedStudy
from analysis.stats.intervals import paired_p_values, spread_by_grid


def drawn(generator: np.random.Generator, *, seeds: int, items: int, effect: float) -> np.ndarray:
    """Return differences of right answers, (seeds, items), of two strategies with noise of every kind."""
    easiness = generator.normal(0.3, 1.0, items)
    by_item = generator.normal(0, 0.5, items)  # how much a prompt suits the strategy
    by_seed = generator.normal(0, 0.4, (seeds, 1))
    baseline = easiness + generator.normal(0, 0.6, (seeds, items)) > 0
    own = easiness + effect + by_item + by_seed + generator.normal(0, 0.6, (seeds, items)) > 0
    return own.astype(float) - baseline


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "items"), [(5, 60), (10, 40)])
def test_the_interval_covers_the_mean_over_new_seeds_and_new_prompts(seeds: int, items: int) -> None:
    generator = np.random.default_rng(seeds)
    truth = drawn(generator, seeds=2000, items=2000, effect=0.4).mean()
    studies = [drawn(generator, seeds=seeds, items=items, effect=0.4) for _ in range(300)]
    intervals = [compare(each, level=0.95) for each in studies]
    covered = np.mean([each.low <= truth <= each.high for each in intervals])
    assert 0.92 <= covered <= 0.995
    over_pairs = [(each.mean(), each.std() / np.sqrt(each.size)) for each in studies]
    naive = np.mean([abs(mean - truth) <= 1.96 * error for mean, error in over_pairs])
    assert naive < 0.75  # as if each pair of answers were a draw of its own


@pytest.mark.slow
@pytest.mark.parametrize(("items", "easiness"), [(24, (2, 1)), (24, (20, 1)), (100, (20, 1))])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 12])
def test_shares_of_few_answers_keep_the_level_of_the_test(
    items: int, easiness: tuple[int, int], alpha: float
) -> None:
    """Three runs of which each gained the same answer differ by the same share: no spread, p = 0."""
    generator = np.random.default_rng(items)
    chance = generator.beta(*easiness, items)
    counts = [(generator.random((4000, 3, items)) < chance).sum(axis=2) for _ in range(2)]
    differences = (counts[0] - counts[1]).T / items  # (seeds, studies)
    kept = np.stack([spread_by_grid(each, 1 / items) for each in differences.T], axis=1)
    rejected = np.mean(paired_p_values(kept) <= alpha)
    assert rejected <= alpha + 3 * np.sqrt(alpha / 4000)
    if alpha < 0.01 and items == 24:
        assert np.mean(paired_p_values(differences) <= alpha) > 2 * alpha


def test_the_grid_adds_its_variance_and_leaves_the_mean() -> None:
    values = np.array([0.25, 0.5, 0.5, 0.75])
    spread = spread_by_grid(values, 0.25)
    assert spread.mean() == pytest.approx(values.mean())
    assert spread.var(ddof=1) == pytest.approx(values.var(ddof=1) + 0.25**2 / 12)
    equal = spread_by_grid(np.full(5, 0.25), 0.125)
    assert equal.mean() == pytest.approx(0.25)
    assert equal.var(ddof=1) == pytest.approx(0.125**2 / 12)
    assert spread_by_grid(values, 0.0) is values


def test_there_is_no_interval_over_two_seeds_nor_where_all_differ_alike() -> None:
    assert np.isnan(compare(np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), level=0.95).low)
    everywhere = compare(np.full((3, 4), -1.0), level=0.95)
    assert everywhere.difference == -1.0
    assert np.isnan(everywhere.low), "how it varies over new seeds and prompts nothing tells"


def test_pairs_are_counted_by_who_alone_was_right() -> None:
    study = RecordedStudy({}, (), pd.DataFrame(), pd.DataFrame())
    pairs = pd.DataFrame(
        [("hard", 0.1, f"h{seed}", f"r{seed}", seed != 3) for seed in range(4)],
        columns=["strategy", "mix", "cell", "cell_baseline", "matched"],
    )
    right = {f"r{seed}": np.array([1.0, 1.0, 0.0, 1.0]) for seed in range(4)}
    right |= {f"h{seed}": np.array([0.0, 1.0, 1.0, 0.0]) for seed in range(4)}
    (row,) = find_answers(
        pairs, study=study, answered=AnsweredItems({"task_a": right}, ()), level=0.95
    ).to_dict("records")
    assert (row["n"], row["items"], row["lost"], row["gained"]) == (3, 4, 6, 3)
    assert (row["accuracy"], row["accuracy_baseline"]) == (0.5, 0.75)
    assert row["p_mcnemar"] == pytest.approx(2 * 130 / 512)  # P(at most 3 of 9)
    assert row["low"] < row["difference"] == -0.25 < row["high"]


def test_with_two_draws_of_the_baseline_their_mean_is_compared_with() -> None:
    study = RecordedStudy({}, (), pd.DataFrame(), pd.DataFrame())
    columns = ["strategy", "mix", "cell", "cell_baseline", "cell_baseline_second", "matched"]
    pairs = pd.DataFrame([("hard", 0.1, "h", "r", "s", True)], columns=columns)
    right = {"h": np.zeros(4), "r": np.ones(4), "s": np.zeros(4)}
    answered = AnsweredItems({"task_a": right}, ())
    (row,) = find_answers(pairs, study=study, answered=answered, level=0.95).to_dict("records")
    assert (row["accuracy_baseline"], row["difference"], row["lost"]) == (0.5, -0.5, 0)


def test_answers_to_other_prompts_are_not_compared() -> None:
    study = RecordedStudy({}, (), pd.DataFrame(), pd.DataFrame())
    pairs = pd.DataFrame(
        [("hard", 0.1, "h", "r", True)], columns=["strategy", "mix", "cell", "cell_baseline", "matched"]
    )
    right = {"h": np.ones(3), "r": np.ones(4)}
    assert find_answers(pairs, study=study, answered=AnsweredItems({"task_a": right}, ()), level=0.95).empty
