"""Intervals, tests and verdicts against plain formulas and other libraries, and their policy at small n."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from analysis.findings.verdicts import DIFFERENT, EQUIVALENT, UNRESOLVED, equivalence, judge
from analysis.stats.intervals import (
    FEWEST_FOR_SIGN_FLIP,
    MOST_FLIPS,
    Values,
    effect_size,
    inside,
    mean_interval,
    paired_interval,
    paired_p_values,
    paired_test,
    pointwise_interval,
    sign_flip,
    skew_p,
    wide_p,
)

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


DIFFERENCES = np.array([0.9, 0.2, 1.4, -0.3, 0.8, 1.1, 0.5])
TOO_FEW = [np.array([]), np.array([1.0]), np.array([1.0, 2.0])]


def test_the_paired_test_is_the_one_scipy_gives() -> None:
    expected = stats.ttest_1samp(DIFFERENCES, 0.0)
    low, high = expected.confidence_interval(0.9)
    test = paired_test(DIFFERENCES, level=0.9)
    assert test == pytest.approx((7, DIFFERENCES.mean(), DIFFERENCES.std(ddof=1), low, high, expected.pvalue))


def test_the_paired_test_of_students_sleep_data_is_what_r_prints() -> None:
    # t.test(extra ~ group, data = sleep, paired = TRUE): t = -4.0621, df = 9, p = 0.002833, -2.46 .. -0.70
    sleep = np.array([-1.2, -2.4, -1.3, -1.3, 0.0, -1.0, -1.8, -0.8, -4.6, -1.4])
    test = paired_test(sleep)
    assert test.mean == pytest.approx(-1.58)
    assert test.p == pytest.approx(0.002833, abs=5e-7)
    assert (test.low, test.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-6)


def test_each_column_has_the_p_value_it_has_alone() -> None:
    columns = np.column_stack([DIFFERENCES, np.full(7, 0.1), np.zeros(7), -3 * DIFFERENCES + 1])
    alone = [paired_test(column).p for column in columns.T]
    assert paired_p_values(columns) == pytest.approx(alone)


@pytest.mark.parametrize("differences", TOO_FEW)
def test_below_three_pairs_nothing_is_tested(differences: Values) -> None:
    test = paired_test(differences)
    assert test.n == len(differences)
    assert np.isnan(
        [test.low, test.high, test.p, inside(differences, low=-1.0, high=1.0), *effect_size(differences)]
    ).all()
    assert np.isnan(test.mean) == (len(differences) == 0)
    assert np.isnan(test.sd) == (len(differences) < 2)


@pytest.mark.parametrize(("value", "p"), [(0.1, 0.0), (-0.1, 0.0), (0.0, 1.0)])
def test_equal_differences_have_an_interval_without_width_and_no_effect_size(value: float, p: float) -> None:
    differences = np.full(5, value)
    test = paired_test(differences)
    assert test == pytest.approx((5, value, 0.0, value, value, p))
    assert test.sd == 0
    assert np.isnan(effect_size(differences)).all()
    assert (inside(differences, low=-0.2, high=0.2), inside(differences, low=-0.05, high=0.05)) == (
        0.0,
        float(value != 0),
    )


def test_differences_equal_up_to_the_rounding_of_a_float_are_equal() -> None:
    baseline = np.array([1.0141, 1.0459, 1.0438, 1.0415])
    test = paired_test(baseline + 0.5 - baseline)
    assert test.sd == 0
    assert test.p == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_difference_that_is_no_number_is_refused(bad: float) -> None:
    for function in (paired_test, effect_size, sign_flip, lambda values: inside(values, low=-1.0, high=1.0)):
        with pytest.raises(ValueError, match=r"finite numbers, one a pair, got .*(nan|inf)"):
            function(np.array([1.0, bad, 2.0]))


def test_the_effect_size_is_hedges_correction_of_the_paired_d() -> None:
    d = DIFFERENCES.mean() / DIFFERENCES.std(ddof=1)
    assert effect_size(DIFFERENCES).value == pytest.approx(d * (1 - 3 / (4 * 6 - 1)), rel=2e-3)
    assert effect_size(np.array([1.0, 2.0, 3.0])).value == pytest.approx(
        2 / np.sqrt(np.pi)
    )  # J(2) = 1/sqrt(pi)


@pytest.mark.parametrize("differences", [DIFFERENCES, -DIFFERENCES, DIFFERENCES[:3] - 0.5])
def test_the_ends_of_the_effect_sizes_interval_put_the_observed_t_at_the_tails(differences: Values) -> None:
    n = len(differences)
    t = stats.ttest_1samp(differences, 0.0).statistic
    size = effect_size(differences, level=0.9)
    assert stats.nct.cdf(t, n - 1, size.low * np.sqrt(n)) == pytest.approx(0.95, abs=1e-4)
    assert stats.nct.cdf(t, n - 1, size.high * np.sqrt(n)) == pytest.approx(0.05, abs=1e-4)
    assert size.low < size.value < size.high


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("sign", [1, -1])
def test_nearly_equal_differences_have_an_effect_size_in_proportion(scale: float, sign: int) -> None:
    size = effect_size(sign * (1 + scale * np.array([-1.0, 0.0, 1.0])))
    assert size.value == pytest.approx(sign / scale / np.sqrt(np.pi), rel=1e-4)
    assert sign * size.low * scale > 0.15
    assert size.low < size.value < size.high


@pytest.mark.parametrize("n", [6, 9])
def test_the_sign_flip_test_counts_every_assignment_of_signs(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.5, 1, n)
    signs = np.array(list(product([-1, 1], repeat=n)))
    means = np.abs((signs * differences).mean(axis=1))
    expected = np.mean(means >= abs(differences.mean()) - 1e-12)
    assert sign_flip(differences) == pytest.approx((expected, 2.0 ** (1 - n)))


@pytest.mark.parametrize(("n", "smallest"), [(0, 1.0), (1, 1.0), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_the_sign_flip_test_says_the_smallest_p_it_can_attain(n: int, smallest: float) -> None:
    flip = sign_flip(np.linspace(1, 2, n))
    assert flip.smallest == smallest
    assert flip.p == smallest if n >= FEWEST_FOR_SIGN_FLIP else np.isnan(flip.p)


def test_beyond_sixteen_pairs_the_sign_flip_test_is_drawn_and_repeats_itself() -> None:
    differences = np.random.default_rng(1).normal(0.4, 1, 25)
    flip = sign_flip(differences)
    assert flip == sign_flip(differences)
    assert flip.p == pytest.approx(paired_test(differences).p, rel=0.2)
    assert sign_flip(np.full(25, 1.0)).p <= 2 / 2**16


@pytest.mark.parametrize("margin", [0.3, 1.0, 2.0])
def test_equivalence_is_two_one_sided_tests(margin: float) -> None:
    above = stats.ttest_1samp(DIFFERENCES, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(DIFFERENCES, margin, alternative="less").pvalue
    assert inside(DIFFERENCES, low=-margin, high=margin) == pytest.approx(max(above, below))
    low, high = stats.ttest_1samp(DIFFERENCES, 0.0).confidence_interval(0.9)
    assert (inside(DIFFERENCES, low=-margin, high=margin) <= 0.05) == (-margin < low and high < margin)


def test_with_one_end_it_is_one_one_sided_test() -> None:
    below = stats.ttest_1samp(DIFFERENCES, 0.5, alternative="less").pvalue
    assert inside(DIFFERENCES, low=-np.inf, high=0.5) == pytest.approx(below)
    assert inside(-DIFFERENCES, low=-0.5, high=np.inf) == pytest.approx(below)


@pytest.mark.parametrize(
    ("p", "p_equivalence", "verdict"),
    [
        (0.05, 0.2, DIFFERENT),
        (0.06, 0.05, EQUIVALENT),
        (0.01, 0.01, EQUIVALENT),
        (0.06, 0.06, UNRESOLVED),
        (np.nan, np.nan, UNRESOLVED),
        (0.01, np.nan, DIFFERENT),
    ],
)
def test_the_verdict_follows_from_the_two_p_values(p: float, p_equivalence: float, verdict: str) -> None:
    second = equivalence(1.0)
    assert judge(p, p_equivalence, alpha=0.05, second=second, mean=0.5) == verdict


@pytest.mark.parametrize("n", [6, 12, 17])
def test_the_sign_flip_test_is_scipys_to_the_bit_ties_and_all(n: int) -> None:
    draws = np.random.default_rng(n).normal(0.2, 1, (2, n))
    kinds = (draws[0], draws[1].round(1) * 0.1, np.resize([0.1, -0.3], n), np.zeros(n), draws[0] + 9)
    for differences in kinds:
        expected = stats.permutation_test(
            (differences,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            n_resamples=MOST_FLIPS,
            batch=MOST_FLIPS // 16,
            rng=np.random.default_rng(0),
        )
        assert sign_flip(differences).p == expected.pvalue


def test_two_equal_differences_have_no_interval_either() -> None:
    test = paired_test(np.array([0.5, 0.5]))
    assert (test.mean, test.sd) == (0.5, 0.0)
    assert np.isnan([test.low, test.high, test.p]).all()


def test_the_wide_reference_is_students_statistic_on_fewer_degrees() -> None:
    for n, degrees in ((4, 1), (5, 2), (20, 2)):
        values = np.random.default_rng(n).normal(1, 1, n)
        t = stats.ttest_1samp(values, 0).statistic
        assert wide_p(values) == pytest.approx(2 * stats.t.sf(abs(t), degrees))
        upper, lower = ((2 + sign * values.mean()) / values.std(ddof=1) * np.sqrt(n) for sign in (-1, 1))
        assert inside(values, low=-2.0, high=2.0, wide=True) == pytest.approx(
            stats.t.sf(min(upper, lower), degrees)
        )
        assert wide_p(values) > paired_test(values).p
    assert np.isnan(wide_p(np.array([1.0, 2.0])))
    assert wide_p(np.full(4, 2.0)) == 0


def test_skewness_is_tested_from_eight_pairs_on() -> None:
    values = np.random.default_rng(0).lognormal(0, 1, 30)
    assert skew_p(values) == pytest.approx(stats.skewtest(values).pvalue)
    assert np.isnan([skew_p(values[:7]), skew_p(np.full(9, 1.0))]).all()
