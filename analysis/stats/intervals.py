"""Intervals: pure functions of arrays, Student's t, replicates along the first axis.

Policy: with two replicates or fewer there is no interval (NaN half-width). At n = 2 the t quantile
is 12.7, and an interval that rests on one difference says more about luck than about the runs.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

LEVEL = 0.95
FEWEST_FOR_INTERVAL = 3
FEWEST_FOR_SIGN_FLIP = 6
FEWEST_FOR_WIDE = 5
FEWEST_FOR_SKEW = 8
MOST_FLIPS = 2**16
_LARGE_T = 1000.0
HUGE = 1e100  # whose squares and sums might not be numbers any more
SHEPPARD_LEAST = 1e-9  # of a grid's variance: less is a float's rounding
_ROUNDING = 20 * float(np.finfo(np.float64).eps)

Values = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A mean, the half-width of its interval (NaN where there is none), and how many replicates."""

    mean: float
    half_width: float
    n: int


class Band(NamedTuple):
    """The same for many points at once: `mean` and `half_width` are (P,)."""

    mean: Values
    half_width: Values
    n: int


def pointwise_interval(values: Values, *, level: float = LEVEL) -> Band:
    """Return the t interval of the mean over replicates at each point of `values` (n, P).

    The half-width is t(n-1, (1+level)/2) s / sqrt(n). NaN in a column gives NaN for that column.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    n, points = values.shape
    if n == 0:
        return Band(np.full(points, np.nan), np.full(points, np.nan), 0)
    unit = _unit(values)
    mean = unit * (values / unit).mean(axis=0)
    if n < FEWEST_FOR_INTERVAL:
        return Band(mean, np.full(points, np.nan), n)
    quantile = _t_quantile((1 + level) / 2, n - 1)
    half_width = unit * (quantile * (values / unit).std(axis=0, ddof=1) / np.sqrt(n))
    return Band(mean, np.asarray(half_width, dtype=np.float64), n)


def _unit(values: Values) -> float:
    """Return the power of two in which `values` can be squared: 1, which changes no bit, unless they are
    huge.
    """
    largest = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
    return 1.0 if largest < HUGE else float(2.0 ** np.frexp(largest)[1] / 2)


@lru_cache
def _t_quantile(probability: float, degrees: int) -> float:
    return float(stats.t.ppf(probability, df=degrees))


def mean_interval(values: Values, *, level: float = LEVEL) -> Interval:
    """Return the t interval of the mean of `values` (n,)."""
    band = pointwise_interval(values[:, np.newaxis], level=level)
    return Interval(float(band.mean[0]), float(band.half_width[0]), band.n)


def paired_interval(values: Values, baseline: Values, *, level: float = LEVEL) -> Interval:
    """Return the t interval of the mean of `values - baseline`, both (n,) and in the same order of pairs."""
    if values.shape != baseline.shape:
        raise ValueError(f"pairs must match: got {len(values)} values and {len(baseline)} of the baseline")
    return mean_interval(values - baseline, level=level)


def interval_name(kind: str, *, level: float = LEVEL) -> str:
    """Return the words a caption uses, such as '95 % paired t interval'."""
    return f"{100 * level:g} % {kind} interval"


class PairedTest(NamedTuple):
    """n pairs: mean, sd and t interval of their differences, two-sided p; NaN where n is too small."""

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p: float


class EffectSize(NamedTuple):
    """Standardised mean difference with its interval; NaN where there is none."""

    value: float
    low: float
    high: float


class SignFlip(NamedTuple):
    """The p of the sign-flip test (NaN below six pairs) and the smallest that n pairs can attain."""

    p: float
    smallest: float


def paired_test(differences: Values, *, level: float = LEVEL) -> PairedTest:
    """Return the paired t test of `differences` (n,) against 0, two-sided, with the mean's interval.

    n = 0: all NaN; n = 1: the mean; n = 2: mean and sd, no interval and no p. Where all differences are
    equal the sd is 0, the interval has width 0, and p is 0, or 1 where they are all 0: the limits of the
    test, which no longer measures anything. Raises ValueError for NaN or infinite differences.
    """
    _check_differences(differences)
    n = len(differences)
    interval = mean_interval(differences, level=level)
    spread = _spread(differences)
    half_width = 0.0 if spread == 0 and n >= FEWEST_FOR_INTERVAL else interval.half_width
    p = float(paired_p_values(differences[:, np.newaxis])[0])
    return PairedTest(n, interval.mean, spread, interval.mean - half_width, interval.mean + half_width, p)


def paired_p_values(differences: Values) -> Values:
    """Return the two-sided paired t test's p of each column of `differences` (n, K); NaN where n < 3."""
    n, columns = differences.shape
    if n < FEWEST_FOR_INTERVAL:
        return np.full(columns, np.nan)
    differences = differences / _unit(differences)
    constant = is_constant(differences)
    p = np.where(differences.mean(axis=0) == 0, 1.0, 0.0)
    if not constant.all():
        p[~constant] = stats.ttest_1samp(differences[:, ~constant], 0.0, axis=0).pvalue
    return p


def effect_size(differences: Values, *, level: float = LEVEL) -> EffectSize:
    """Return Hedges' g_z of `differences` (n,), the paired d_z = mean / sd corrected, with its interval.

    g_z = J(n-1) d_z with J(m) = Gamma(m/2) / (sqrt(m/2) Gamma((m-1)/2)), unbiased for the true mean / sd
    (Hedges 1981). The interval is exact for that truth: the noncentralities at which t = sqrt(n) d_z is the
    upper and the lower quantile, over sqrt(n) (Steiger & Fouladi 1997). NaN where n < 3 or without variance.
    """
    _check_differences(differences)
    n = len(differences)
    if n < FEWEST_FOR_INTERVAL or is_constant(differences):
        return EffectSize(float("nan"), float("nan"), float("nan"))
    scaled = differences / _unit(differences)
    standardised = float(scaled.mean() / scaled.std(ddof=1))
    low, high = _noncentrality(abs(standardised) * np.sqrt(n), n - 1, level=level) / np.sqrt(n)
    if standardised < 0:
        low, high = -high, -low
    return EffectSize(_hedges_correction(n - 1) * standardised, float(low), float(high))


def _hedges_correction(degrees: int) -> float:
    log_ratio = special.gammaln(degrees / 2) - special.gammaln((degrees - 1) / 2)
    return float(np.exp(log_ratio) / np.sqrt(degrees / 2))


def _noncentrality(t: float, degrees: int, *, level: float) -> Values:
    """Return the interval (2,) of the noncentrality of an observed t >= 0."""
    tails = np.array([(1 + level) / 2, (1 - level) / 2])
    if t > _LARGE_T:  # scipy's inversion slows down without end; the mean's own error is negligible here
        return np.asarray(t * np.sqrt(special.chdtri(degrees, tails) / degrees))
    return np.asarray(special.nctdtrinc(degrees, tails, t))


def sign_flip(differences: Values) -> SignFlip:
    """Return the two-sided sign-flip test of `differences` (n,): the mean under every assignment of signs.

    Valid where the differences are symmetric about 0, of any shape. Exact up to n = 16; above, over
    65,536 flips drawn with a fixed seed, the observed one counted. p is NaN below n = 6, where even the
    `smallest` attainable, 2^(1-n), is above 0.05. Differences that are 0 have no sign to flip: they raise
    what is attainable further.
    """
    _check_differences(differences)
    n = len(differences)
    smallest = min(1.0, 2.0 ** (1 - n))
    if n < FEWEST_FOR_SIGN_FLIP:
        return SignFlip(float("nan"), smallest)
    differences = differences / _unit(differences)
    signs, exact = _flips(n)
    means = np.zeros(signs.shape[1])
    for sign, difference in zip(signs, differences, strict=True):  # in the order of pairs, as scipy sums them
        means += sign * difference
    means /= n
    observed = differences.mean()
    tolerance = abs(100 * np.finfo(np.float64).eps * observed)  # equal means that were rounded apart
    extreme = min(
        np.count_nonzero(means <= observed + tolerance), np.count_nonzero(means >= observed - tolerance)
    )
    counted = 0 if exact else 1
    return SignFlip(min(1.0, 2 * (extreme + counted) / (signs.shape[1] + counted)), smallest)


@lru_cache(maxsize=8)
def _flips(n: int) -> tuple[npt.NDArray[np.int8], bool]:
    """Return scipy's assignments of signs to n differences, (n, flips), and whether these are all there are.

    They depend on n alone, and drawing them takes far longer than going through them.
    """
    drawn = []

    def note(signs: Values, axis: int) -> Values:
        drawn.append(signs.reshape(-1, n).T.astype(np.int8))
        means: Values = np.mean(signs, axis=axis)
        return means

    stats.permutation_test(
        (np.ones(n),),
        note,
        permutation_type="samples",
        vectorized=True,
        n_resamples=MOST_FLIPS,
        batch=MOST_FLIPS // 16,
        rng=np.random.default_rng(0),
    )
    return np.concatenate(drawn[1:], axis=1), 2**n <= MOST_FLIPS  # the first is what was observed


def inside(differences: Values, *, low: float, high: float, wide: bool = False) -> float:
    """Return the p of a mean of `differences` (n,) outside of (low, high): the larger of two one-sided p.

    Two ends: equivalence (Schuirmann 1987); an infinite one: non-inferiority. Paired t, or the `wide`
    reference. NaN where n < 3. Without variance 0 if the mean is inside, else 1.
    """
    test = paired_test(differences)
    if test.n < FEWEST_FOR_INTERVAL:
        return float("nan")
    if is_constant(differences):
        return 0.0 if low < test.mean < high else 1.0
    degrees = wide_degrees(test.n) if wide else test.n - 1
    return inside_p(test.mean, test.sd / np.sqrt(test.n), degrees, low=low, high=high)


def inside_p(mean: float, error: float, degrees: int, *, low: float, high: float) -> float:
    """Return the larger of the two one-sided p of a `mean` against the ends, by t with so many degrees."""
    return float(stats.t.sf(min(mean - low, high - mean) / error, degrees))


def wide_degrees(n: int) -> int:
    """Return the degrees of freedom of the wide reference for n pairs: 2, below 5 pairs 1.

    Student's t rejects too often where differences are skewed, the more so the smaller alpha. Its statistic
    on the tails of 1 or 2 degrees keeps the level of a family of twelve that shares one lognormal baseline;
    Johnson's (1978) and Hall's (1992) modified t and the bootstrap-t do not
    (tests/analysis/stats/test_simulations.py).
    """
    return 2 if n >= FEWEST_FOR_WIDE else 1


def wide_p(differences: Values) -> float:
    """Return the two-sided p of `differences` (n,) against 0 on the wide reference; NaN where n < 3."""
    test = paired_test(differences)
    if test.n < FEWEST_FOR_INTERVAL or test.sd == 0:
        return test.p
    ratio = abs(test.mean) / test.sd * np.sqrt(test.n)
    return float(2 * stats.t.sf(ratio, wide_degrees(test.n)))


def skew_p(differences: Values) -> float:
    """Return the p of D'Agostino's (1970) test that `differences` (n,) are not skewed; NaN where n < 8."""
    if len(differences) < FEWEST_FOR_SKEW or is_constant(differences):
        return float("nan")
    return float(stats.skewtest(differences / _unit(differences)).pvalue)


def spread_by_grid(differences: Values, grid: float) -> Values:
    """Return `differences` (n,) of values that are multiples of `grid`, with their mean and, added to their
    variance, that of what was rounded to the grid: grid^2 / 12 (Sheppard 1898).

    A share of few answers takes few values, and a handful of runs may all differ by the same one: without
    this the t test would reject whatever alpha is. `grid` 0 returns them as they are.
    """
    n = len(differences)
    if grid == 0 or n < 2:
        return differences
    mean = differences.mean()
    deviations, rounding = differences - mean, grid**2 / 12
    variance = float(deviations @ deviations) / (n - 1)
    if variance > SHEPPARD_LEAST * rounding:
        return np.asarray(mean + deviations * np.sqrt(1 + rounding / variance))
    even = np.linspace(-1.0, 1.0, n)  # all are equal: what was rounded away may lie anywhere
    return np.asarray(mean + even * np.sqrt(rounding * (n - 1) / float(even @ even)))


def is_constant(values: Values) -> npt.NDArray[np.bool_]:
    """Return for each column of `values` (n, ...) whether it has no spread beyond the rounding of a float."""
    scaled = values / _unit(values)
    return np.asarray(np.ptp(scaled, axis=0) <= _ROUNDING * np.abs(scaled).max(axis=0))


def _spread(differences: Values) -> float:
    if len(differences) < 2:
        return float("nan")
    unit = _unit(differences)
    return 0.0 if is_constant(differences) else unit * float((differences / unit).std(ddof=1))


def _check_differences(differences: Values) -> None:
    if differences.ndim != 1 or not np.isfinite(differences).all():
        raise ValueError(f"differences must be finite numbers, one a pair, got {differences}")
