"""Confidence intervals of variance components, from the mean squares of a balanced design."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.stats.intervals import LEVEL


class MeanSquare(NamedTuple):
    """A mean square and its degrees of freedom; (degrees x value) / expectation is chi-squared."""

    value: float
    degrees: int


def variance_interval(square: MeanSquare, *, level: float = LEVEL) -> tuple[float, float]:
    """Return the exact interval of the variance that a mean square estimates."""
    total, tail = square.degrees * square.value, (1 - level) / 2
    return total / float(stats.chi2.isf(tail, square.degrees)), total / float(
        stats.chi2.ppf(tail, square.degrees)
    )


def component_interval(
    upper: MeanSquare, lower: MeanSquare, *, units: int, level: float = LEVEL
) -> tuple[float, float]:
    """Return the interval of (E upper - E lower) / units: a component of variance, at least 0.

    The modified large-sample interval of a difference of mean squares (Graybill & Wang 1980 as extended by
    Ting et al. 1990; Burdick & Graybill 1992, ch. 3), which is exact where either expectation vanishes.
    """
    (s1, n1), (s2, n2) = upper, lower
    tail = (1 - level) / 2
    g1, g2 = (1 - n / stats.chi2.isf(tail, n) for n in (n1, n2))
    h1, h2 = (n / stats.chi2.ppf(tail, n) - 1 for n in (n1, n2))
    above, below = stats.f.isf(tail, n1, n2), stats.f.ppf(tail, n1, n2)
    g12 = ((above - 1) ** 2 - g1**2 * above**2 - h2**2) / above
    h12 = ((1 - below) ** 2 - h1**2 * below**2 - g2**2) / below
    down = np.sqrt(max(0.0, g1**2 * s1**2 + h2**2 * s2**2 + g12 * s1 * s2))
    up = np.sqrt(max(0.0, h1**2 * s1**2 + g2**2 * s2**2 + h12 * s1 * s2))
    return max(0.0, float(s1 - s2 - down) / units), max(0.0, float(s1 - s2 + up) / units)
