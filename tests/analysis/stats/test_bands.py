"""Simultaneous bands: which kind where, what counts as a point, and their quantiles against other routes."""

import numpy as np
import pytest
from scipy import stats

from analysis.stats.bands import BONFERRONI, POINTWISE, SUP_T, band, simultaneous_band, sup_t_quantile
from analysis.stats.intervals import Values, pointwise_interval


def curves(n: int, *, points: int = 8, start: float | None = 1.0) -> Values:
    """Random walks (n, points); with `start`, all from that value."""
    values = np.random.default_rng(n).normal(size=(n, points)).cumsum(axis=1)
    if start is not None:
        values[:, 0] = start
    return values


@pytest.mark.parametrize(("n", "kind"), [(3, BONFERRONI), (9, BONFERRONI), (10, SUP_T), (20, SUP_T)])
def test_the_kind_of_the_band_follows_the_number_of_replicates(n: int, kind: str) -> None:
    assert band(curves(n), simultaneous=True)[1] == kind
    assert band(curves(n), simultaneous=False)[1] == POINTWISE


def test_a_band_that_is_not_simultaneous_is_the_pointwise_one() -> None:
    values = curves(5)
    shown, _ = band(values, level=0.9, simultaneous=False)
    assert np.array_equal(shown.half_width, pointwise_interval(values, level=0.9).half_width)


def test_bonferroni_counts_the_points_after_the_fixed_start() -> None:
    values = curves(5)
    shown, _ = simultaneous_band(values)
    seven = pointwise_interval(values, level=1 - 0.05 / 7)
    assert shown.half_width[1:] == pytest.approx(seven.half_width[1:])
    assert shown.half_width[0] == 0
    assert shown.mean == pytest.approx(values.mean(axis=0))


def test_without_a_fixed_start_the_first_point_counts() -> None:
    values = curves(5, start=None)
    shown, _ = simultaneous_band(values, fixed_start=False)
    assert shown.half_width == pytest.approx(pointwise_interval(values, level=1 - 0.05 / 8).half_width)


def test_a_fixed_start_that_varies_gets_no_interval() -> None:
    shown, _ = simultaneous_band(curves(5, start=None))
    assert np.isnan(shown.half_width[0])
    assert np.isfinite(shown.half_width[1:]).all()


@pytest.mark.parametrize("n", [5, 12])
def test_a_point_without_variance_or_with_nan_does_not_count(n: int) -> None:
    values = curves(n)
    spoiled = np.insert(values, [3, 5], [[2.5, np.nan]], axis=1)
    expected, _ = simultaneous_band(values)
    shown, _ = simultaneous_band(spoiled)
    assert np.delete(shown.half_width, [3, 6]) == pytest.approx(expected.half_width)
    assert shown.half_width[3] == 0
    assert np.isnan(shown.half_width[6])


@pytest.mark.parametrize("n", [0, 1, 2])
def test_there_is_no_band_at_two_replicates_or_fewer(n: int) -> None:
    shown, _ = simultaneous_band(curves(n))
    assert np.isnan(shown.half_width).all()
    assert shown.n == n


def test_equal_curves_have_a_band_without_width() -> None:
    shown, _ = simultaneous_band(np.tile([1.0, 1.1, 1.3], (12, 1)))
    assert (shown.half_width == 0).all()


def test_one_point_needs_no_more_than_students_t() -> None:
    quantile = sup_t_quantile(curves(12)[:, 1:2], level=0.95)
    assert quantile == pytest.approx(stats.t.ppf(0.975, 11), rel=0.03)


def test_points_that_move_as_one_need_no_more_than_one_point() -> None:
    one = curves(12)[:, 1:2]
    together = one * np.array([1.0, -2.0, 0.5])
    assert sup_t_quantile(together, level=0.95) == pytest.approx(sup_t_quantile(one, level=0.95))


def test_with_many_replicates_sup_t_is_the_multivariate_t() -> None:
    values = curves(60, points=6)[:, 1:]
    rows = stats.multivariate_t.rvs(shape=np.corrcoef(values.T), df=59, size=50_000, random_state=1)
    expected = np.quantile(np.abs(rows).max(axis=1), 0.95)
    assert sup_t_quantile(values, level=0.95) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("n", [10, 20])
def test_the_sup_t_band_is_wider_than_pointwise_narrower_than_bonferroni_and_repeats_itself(n: int) -> None:
    values = curves(n)
    shown, _ = simultaneous_band(values)
    pointwise = pointwise_interval(values).half_width[1:]
    bonferroni = pointwise_interval(values, level=1 - 0.05 / 7).half_width[1:]
    assert (pointwise < shown.half_width[1:]).all()
    assert (shown.half_width[1:] < bonferroni).all()
    assert np.array_equal(shown.half_width, simultaneous_band(values)[0].half_width, equal_nan=True)


def test_a_higher_level_gives_a_wider_sup_t_band() -> None:
    values = curves(12)[:, 1:]
    assert sup_t_quantile(values, level=0.9) < 0.95 * sup_t_quantile(values, level=0.99)
