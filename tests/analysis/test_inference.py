"""The intervals: their coverage, their policy at small n, and the paired form."""

import numpy as np
import pytest
from scipy import stats

from analysis.inference import mean_interval, paired_interval, pointwise_interval

REPETITIONS = 20_000


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_covers_the_true_mean_as_often_as_it_says(n: int) -> None:
    values = np.random.default_rng(n).normal(1.05, 0.003, size=(n, REPETITIONS))
    band = pointwise_interval(values)
    coverage = np.mean(np.abs(band.mean - 1.05) <= band.half_width)
    assert 0.943 < coverage < 0.957


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_paired_interval_covers_the_true_difference_under_a_shared_seed_effect(n: int) -> None:
    rng = np.random.default_rng(n)
    covered = []
    for _ in range(2000):
        block = rng.normal(0, 0.05, n)
        baseline = 1.05 + block + rng.normal(0, 0.001, n)
        interval = paired_interval(baseline + 0.004 + rng.normal(0, 0.002, n), baseline)
        covered.append(abs(interval.mean - 0.004) <= interval.half_width)
    assert 0.93 < np.mean(covered) < 0.97


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_the_interval_is_the_one_scipy_gives(level: float) -> None:
    values = np.array([1.0459, 1.0438, 1.0415, 1.0502])
    low, high = stats.t.interval(level, df=3, loc=values.mean(), scale=stats.sem(values))
    interval = mean_interval(values, level=level)
    assert interval.mean - interval.half_width == pytest.approx(low)
    assert interval.mean + interval.half_width == pytest.approx(high)


def test_a_shared_seed_effect_does_not_widen_a_paired_interval() -> None:
    baseline = np.array([1.0, 2.0, 3.0, 4.0])
    interval = paired_interval(baseline + 0.5, baseline)
    assert interval.mean == pytest.approx(0.5)
    assert interval.half_width == pytest.approx(0.0)
    assert interval.n == 4


@pytest.mark.parametrize(("values", "mean"), [([], np.nan), ([1.0], 1.0), ([1.0, 2.0], 1.5)])
def test_there_is_no_interval_at_two_replicates_or_fewer(values: list[float], mean: float) -> None:
    interval = mean_interval(np.array(values, dtype=float))
    assert interval.mean == pytest.approx(mean, nan_ok=True)
    assert np.isnan(interval.half_width)
    assert interval.n == len(values)


def test_a_point_with_nan_spoils_only_its_own_interval() -> None:
    band = pointwise_interval(np.array([[1.0, np.nan], [2.0, 1.0], [3.0, 1.0]]))
    assert np.isfinite(band.half_width[0])
    assert np.isnan([band.mean[1], band.half_width[1]]).all()


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_outside_the_unit_interval_is_refused_with_its_value(level: float) -> None:
    with pytest.raises(ValueError, match=str(level)):
        mean_interval(np.ones(3), level=level)


def test_unequal_numbers_of_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="3 values and 2"):
        paired_interval(np.ones(3), np.ones(2))
