"""Bands over whole curves: pointwise t, and simultaneous ones that hold at every point at once.

Owns which simultaneous band fits how many replicates; the pointwise one is analysis.stats.intervals's.
"""

from functools import lru_cache

import numpy as np
from scipy import stats

from analysis.stats.intervals import FEWEST_FOR_INTERVAL, LEVEL, Band, Values, is_constant, pointwise_interval

POINTWISE = "pointwise t"
BONFERRONI = "Bonferroni-t simultaneous"
SUP_T = "sup-t simultaneous"
FEWEST_FOR_SUP_T = 10
DRAWS = 5_000
_CHUNK = 500  # draws held in memory at once


def band(values: Values, *, level: float = LEVEL, simultaneous: bool) -> tuple[Band, str]:
    """Return the band of the mean of `values` (n, P) and its kind: POINTWISE, BONFERRONI or SUP_T."""
    if simultaneous:
        return simultaneous_band(values, level=level)
    return pointwise_interval(values, level=level), POINTWISE


def simultaneous_band(values: Values, *, level: float = LEVEL, fixed_start: bool = True) -> tuple[Band, str]:
    """Return a band that holds the whole mean curve of `values` (n, P) at `level`, and its kind.

    mean +- q s / sqrt(n) with one q for all points: below n = 10 the Bonferroni t quantile, which holds
    for any correlation; from there the sup-t quantile (`sup_t_quantile`; Montiel Olea & Plagborg-Moller
    2019, https://doi.org/10.1002/jae.2656). The points that count are those with variance, and with
    `fixed_start` not the first (step 0, where every run starts from the same adapter): half width 0 where
    all replicates are equal, NaN at a fixed start that varies all the same, where the band claims nothing.
    NaN in a column gives NaN for that column, which does not count. No interval at n < 3.
    """
    band = pointwise_interval(values, level=level)
    n, points = values.shape
    kind = SUP_T if n >= FEWEST_FOR_SUP_T else BONFERRONI
    if n < FEWEST_FOR_INTERVAL:
        return band, kind
    constant = is_constant(values)
    counted = ~constant & np.isfinite(band.mean)
    counted[: int(fixed_start)] = False
    half_width = np.where(constant, 0.0, np.full(points, np.nan))
    if counted.any():
        chosen = values[:, counted]
        quantile = (sup_t_quantile if kind == SUP_T else bonferroni_quantile)(chosen, level=level)
        half_width[counted] = quantile * chosen.std(axis=0, ddof=1) / np.sqrt(n)
    return Band(band.mean, half_width, n), kind


def bonferroni_quantile(values: Values, *, level: float) -> float:
    """Return the t quantile that P intervals over `values` (n, P) need to hold together at `level`."""
    n, points = values.shape
    return float(stats.t.ppf(1 - (1 - level) / (2 * points), n - 1))


def sup_t_quantile(values: Values, *, level: float) -> float:
    """Return the `level` quantile of the largest |t| over the points of `values` (n, P), all with variance.

    Simulated with a fixed seed: 5,000 samples of n Gaussian curves that have the estimated correlation,
    each studentised at each point by its own s. The textbook multivariate t lets all points share one s;
    curves do not, and with it the band held the whole curve only 92 % of the time at n = 10.
    """
    n = len(values)
    residuals = values - values.mean(axis=0)
    loadings = residuals / np.linalg.norm(residuals, axis=0)  # loadings.T @ loadings is the correlation
    largest = [_largest_t(normals @ loadings, n=n) for normals in _normals(n)]
    return float(np.quantile(np.concatenate(largest), level))


def _largest_t(curves: Values, *, n: int) -> Values:
    """Return the largest |t| over the points of each sample of n curves, `curves` (samples * n, P)."""
    samples = curves.reshape(-1, n, curves.shape[1])
    mean = samples.mean(axis=1)
    variance = (np.einsum("dnp,dnp->dp", samples, samples) - n * mean**2) / (n - 1)
    return np.asarray(np.abs(mean / np.sqrt(variance / n)).max(axis=1))


@lru_cache(maxsize=1)
def _normals(n: int) -> Values:
    """Return the standard normals (DRAWS / _CHUNK, _CHUNK * n, n) of every band over n replicates."""
    return np.random.default_rng(0).standard_normal((DRAWS // _CHUNK, _CHUNK * n, n))
