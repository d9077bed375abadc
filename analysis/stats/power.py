"""Planning: what n paired seeds can detect, and how many seeds a question needs. Student's t throughout.

Effects, margins and standard deviations are in the measure's unit (nats a token); `sd` is that of the
paired differences. `comparisons` divides alpha: the family's size is the closed test's first, most demanding
step; with looks it is looks * contrasts.
"""

from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import special, stats

from analysis.stats.intervals import FEWEST_FOR_INTERVAL, Values

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 10_000


def detectable_difference(
    sd: float, n: int, *, alpha: float = ALPHA, power: float = POWER, comparisons: float = 1
) -> float:
    """Return the smallest true difference that n pairs detect with `power`; NaN where n < 3.

    The two-sided paired t test at alpha / comparisons, rejecting in the true direction (noncentral t, as R's
    power.t.test has it).
    """
    each = _checked_alpha(sd, alpha=alpha, power=power, comparisons=comparisons)
    if n < FEWEST_FOR_INTERVAL:
        return float("nan")
    return sd * _detectable_effect(n, alpha=each, power=power)


def seeds_for_difference(
    sd: float, effect: float, *, alpha: float = ALPHA, power: float = POWER, comparisons: float = 1
) -> int | None:
    """Return the fewest pairs that detect a true difference of +-`effect` with `power`.

    At least three, below which nothing is tested; None where it takes more than 10,000 (or effect is 0).
    """
    each = _checked_alpha(sd, alpha=alpha, power=power, comparisons=comparisons)
    if not np.isfinite(effect):
        raise ValueError(f"effect must be a finite number, got {effect}")
    if effect == 0:
        return None
    return _fewest(lambda n: sd * _detectable_effect(n, alpha=each, power=power) <= abs(effect))


def seeds_for_equivalence(
    sd: float,
    margin: float,
    *,
    difference: float = 0.0,
    alpha: float = ALPHA,
    power: float = POWER,
    comparisons: float = 1,
) -> int | None:
    """Return the fewest pairs whose TOST shows equivalence within +-`margin` with `power` if the truth is
    `difference`.

    At least three; None where it takes more than 10,000, or where the truth is not inside the margin.
    """
    each = _checked_alpha(sd, alpha=alpha, power=power, comparisons=comparisons)
    if not (np.isfinite(margin) and margin > 0):
        raise ValueError(f"margin must be a finite number above 0, got {margin}")
    if abs(difference) >= margin:
        return None
    if sd == 0:
        return FEWEST_FOR_INTERVAL
    return _fewest(
        lambda n: equivalence_power(margin / sd, n, difference=difference / sd, alpha=each) >= power
    )


def seeds_for_non_inferiority(
    sd: float, margin: float, *, alpha: float = ALPHA, power: float = POWER, comparisons: float = 1
) -> int | None:
    """Return the fewest pairs whose one-sided test shows a true difference of 0 to be below `margin`.

    At least three; None where it takes more than 10,000. It is half of a two-sided test at twice the alpha.
    """
    each = _checked_alpha(sd, alpha=alpha, power=power, comparisons=comparisons)
    if not (np.isfinite(margin) and margin > 0):
        raise ValueError(f"margin must be a finite number above 0, got {margin}")
    return _fewest(lambda n: sd * _detectable_effect(n, alpha=2 * each, power=power) <= margin)


def seeds_to_decide(
    sd: float,
    effect: float,
    *,
    alpha: float = ALPHA,
    power: float = POWER,
    comparisons: float = 1,
    share_equivalent: float = 1.0,
    one_sided: bool = False,
) -> int | None:
    """Return the pairs that find a true difference of +-`effect`, and equate one of 0 with less than that.

    `one_sided`: or show that one of 0 is not as much worse.

    What is equivalent has `share_equivalent` of the alpha of a comparison.

    Both with `power`; None where either takes more than 10,000. From the smallest effect of interest, never
    from an estimate, whose error such a number would chase (Hoenig & Heisey 2001).
    """
    options = {"alpha": alpha, "power": power}
    detect = seeds_for_difference(sd, effect, comparisons=comparisons, **options)
    show = seeds_for_non_inferiority if one_sided else seeds_for_equivalence
    equate = show(sd, effect, comparisons=comparisons / share_equivalent, **options)
    return None if detect is None or equate is None else max(detect, equate)


def equivalence_power(margin: float, n: int, *, difference: float = 0.0, alpha: float = ALPHA) -> float:
    """Return the power of TOST at a true `difference` inside the `margin`, both in standard deviations.

    With u = s / sigma and t = t(n-1, 1-alpha), TOST succeeds where |mean| < margin - t s / sqrt(n), so the
    power is the mean over the u below sqrt(n) margin / t of Phi(sqrt(n) (margin - d) - t u) -
    Phi(t u - sqrt(n) (margin + d)) (Phillips 1990).
    """
    degrees = n - 1
    quantile = float(stats.t.ppf(1 - alpha, degrees))
    widest = np.sqrt(n) * margin / quantile
    spread = stats.chi(degrees, scale=1 / np.sqrt(degrees))
    low, high = (float(spread.ppf(tail)) for tail in (1e-12, 1 - 1e-12))
    if widest <= low:
        return 0.0
    nodes, weights = _nodes()
    half = (min(widest, high) - low) / 2
    u = low + half * (nodes + 1)
    upper, lower = (np.sqrt(n) * (margin + sign * difference) - quantile * u for sign in (-1, 1))
    success = stats.norm.cdf(upper) - stats.norm.cdf(-lower)
    return float(half * np.sum(weights * success * spread.pdf(u)))


@lru_cache
def _nodes() -> tuple[Values, Values]:
    return np.polynomial.legendre.leggauss(200)


def _checked_alpha(sd: float, *, alpha: float, power: float, comparisons: float) -> float:
    """Return the alpha of each of the comparisons, or raise for what no plan can start from."""
    if not (np.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd must be a finite number of 0 or more, got {sd}")
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha and power must be in (0, 1), got {alpha} and {power}")
    if comparisons < 1:
        raise ValueError(f"comparisons must be 1 or more, got {comparisons}")
    return alpha / comparisons


def _detectable_effect(n: int, *, alpha: float, power: float) -> float:
    """Return the true difference, in standard deviations, whose upper tail alone has the power.

    The noncentrality at which t(n-1) stays below its critical value with probability 1 - power, over
    sqrt(n). A rejection in the wrong direction detects nothing and is not counted.
    """
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    return float(special.nctdtrinc(n - 1, 1 - power, critical) / np.sqrt(n))


def _fewest(suffices: Callable[[int], bool]) -> int | None:
    """Return the smallest n >= 3 that suffices, as every larger n does; None above 10,000."""
    if not suffices(MOST_SEEDS):
        return None
    return bisect_left(range(MOST_SEEDS), True, lo=FEWEST_FOR_INTERVAL, key=suffices)
