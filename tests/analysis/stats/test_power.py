"""Planning numbers against R, G*Power, statsmodels and simulation, and their limits."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from analysis.stats.power import (
    detectable_difference,
    equivalence_power,
    seeds_for_difference,
    seeds_for_equivalence,
    seeds_for_non_inferiority,
    seeds_to_decide,
)


@pytest.mark.parametrize(
    ("effect", "seeds"),
    [(0.5, 34), (0.8, 15), (0.2, 199)],  # G*Power and power.t.test(type = "one.sample"): 33.4, 14.3, 198.2
)
def test_the_seeds_for_a_difference_are_those_of_r(effect: float, seeds: int) -> None:
    assert seeds_for_difference(1.0, effect) == seeds
    assert seeds_for_difference(0.002, -0.002 * effect) == seeds


@pytest.mark.parametrize("n", [3, 5, 10, 100])
@pytest.mark.parametrize("comparisons", [1, 12, 60])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_detectable_difference_has_the_power_that_statsmodels_gives(
    n: int, comparisons: int, power: float
) -> None:
    effect = detectable_difference(0.003, n, power=power, comparisons=comparisons) / 0.003
    got = TTestPower().power(effect, n, 0.05 / comparisons / 2, alternative="larger")
    assert got == pytest.approx(power, abs=1e-4)


@pytest.mark.parametrize("comparisons", [1, 8])
def test_the_seeds_for_a_difference_are_the_fewest_that_detect_it(comparisons: int) -> None:
    seeds = seeds_for_difference(1.0, 0.9, comparisons=comparisons)
    assert seeds is not None
    assert detectable_difference(1.0, seeds, comparisons=comparisons) <= 0.9
    assert detectable_difference(1.0, seeds - 1, comparisons=comparisons) > 0.9


@pytest.mark.parametrize("difference", [0.0, 0.5, -0.5])
@pytest.mark.parametrize(("margin", "n", "alpha"), [(1.0, 5, 0.05), (1.0, 10, 0.05), (0.8, 20, 0.01)])
def test_the_power_of_equivalence_is_the_simulated_one(
    margin: float, n: int, alpha: float, difference: float
) -> None:
    values = np.random.default_rng(n).normal(difference, size=(n, 20_000))
    reach = stats.t.ppf(1 - alpha, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    simulated = np.mean(np.abs(values.mean(axis=0)) + reach < margin)
    power = equivalence_power(margin, n, difference=difference, alpha=alpha)
    assert power == pytest.approx(simulated, abs=0.012)


def test_the_power_of_equivalence_goes_from_none_to_certain() -> None:
    powers = [equivalence_power(margin, 10) for margin in np.geomspace(1e-6, 1e6, 40)]
    assert powers[0] == pytest.approx(0, abs=1e-9)
    assert powers[-1] == pytest.approx(1, abs=1e-9)
    assert (np.diff(powers) >= -1e-9).all()


def test_the_seeds_for_equivalence_are_the_fewest_that_show_it() -> None:
    seeds = seeds_for_equivalence(2.0, 1.0, comparisons=4)
    assert seeds is not None
    assert (
        equivalence_power(0.5, seeds, alpha=0.05 / 4)
        >= 0.8
        > equivalence_power(0.5, seeds - 1, alpha=0.05 / 4)
    )


def test_seeds_decide_a_contrast_whichever_of_the_two_is_true() -> None:
    detect, equate = seeds_for_difference(1.0, 0.5), seeds_for_equivalence(1.0, 0.5)
    assert detect is not None
    assert equate is not None
    assert seeds_to_decide(1.0, 0.5) == max(detect, equate)
    assert seeds_for_equivalence(1.0, 0.5, difference=-0.5) is None


def test_more_comparisons_need_more_seeds() -> None:
    needed = [seeds_to_decide(1.0, 0.5, comparisons=m) for m in (1, 4, 16)]
    assert needed == sorted(needed, key=lambda seeds: seeds or 0)
    assert len(set(needed)) == 3


def test_beyond_ten_thousand_seeds_there_is_no_number() -> None:
    assert seeds_for_difference(1.0, 0.028) is None
    assert seeds_for_difference(1.0, 0.0281) is not None
    assert seeds_for_equivalence(1.0, 0.001) is None
    assert seeds_to_decide(1.0, 0.001) is None


def test_without_spread_three_seeds_do() -> None:
    assert seeds_for_difference(0.0, 0.1) == 3
    assert seeds_for_equivalence(0.0, 0.1) == 3
    assert detectable_difference(0.0, 5) == 0


@pytest.mark.parametrize("n", [0, 1, 2])
def test_below_three_pairs_nothing_is_detectable(n: int) -> None:
    assert np.isnan(detectable_difference(1.0, n))


@pytest.mark.parametrize("sd", [-1.0, np.nan, np.inf])
def test_a_plan_starts_from_a_known_spread(sd: float) -> None:
    with pytest.raises(ValueError, match=rf"sd must be a finite number of 0 or more, got {sd}"):
        seeds_to_decide(sd, 1.0)


def test_bad_requests_are_refused_with_their_value() -> None:
    with pytest.raises(ValueError, match=r"alpha and power must be in \(0, 1\), got 0\.05 and 80"):
        detectable_difference(1.0, 5, power=80)
    with pytest.raises(ValueError, match=r"comparisons must be 1 or more, got 0"):
        detectable_difference(1.0, 5, comparisons=0)
    with pytest.raises(ValueError, match=r"margin must be a finite number above 0, got 0"):
        seeds_for_equivalence(1.0, 0.0)
    with pytest.raises(ValueError, match=r"effect must be a finite number, got nan"):
        seeds_for_difference(1.0, np.nan)


def test_seeds_for_non_inferiority_have_their_power_and_are_fewer_than_equivalence_takes() -> None:
    n = seeds_for_non_inferiority(1.0, 0.8, alpha=0.05, power=0.8)
    assert n is not None
    drawn = np.random.default_rng(0).normal(0, 1, (20_000, n))
    shown = stats.ttest_1samp(drawn, 0.8, axis=1, alternative="less").pvalue <= 0.05
    assert 0.79 <= shown.mean() <= 0.86
    assert n < (seeds_for_equivalence(1.0, 0.8, alpha=0.05, power=0.8) or 0)
    assert seeds_to_decide(1.0, 0.8, one_sided=True) <= seeds_to_decide(1.0, 0.8)  # type: ignore[operator]
    with pytest.raises(ValueError, match="margin must be a finite number above 0, got 0"):
        seeds_for_non_inferiority(1.0, 0.0)
