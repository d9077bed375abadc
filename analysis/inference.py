"""Intervals: pure functions of arrays, Student's t, replicates along the first axis.

Policy: with two replicates or fewer there is no interval (NaN half-width). At n = 2 the t quantile
is 12.7, and an interval that rests on one difference says more about luck than about the runs.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.95
FEWEST_FOR_INTERVAL = 3

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
    mean = values.mean(axis=0)
    if n < FEWEST_FOR_INTERVAL:
        return Band(mean, np.full(points, np.nan), n)
    quantile = _t_quantile((1 + level) / 2, n - 1)
    half_width = quantile * values.std(axis=0, ddof=1) / np.sqrt(n)
    return Band(mean, np.asarray(half_width, dtype=np.float64), n)


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
