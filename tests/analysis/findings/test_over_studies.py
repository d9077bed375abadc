"""The mean over studies: its interval covers the mean of the population that they are from."""

import numpy as np
import pytest

from analysis.findings.over_studies import combine


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_the_interval_over_studies_covers_the_mean_of_all_such_studies(count: int, tau: float) -> None:
    rng, hits, n = np.random.default_rng(0), 0, 6
    for _ in range(600):
        pairs = rng.normal(rng.normal(0, tau, (count, 1)), rng.uniform(0.5, 1.5, (count, 1)), (count, n))
        found = combine(pairs.mean(axis=1), pairs.var(axis=1, ddof=1) / n, level=0.95)
        hits += found["low"] <= 0 <= found["high"]
        assert 0 <= found["i2"] <= 1
    assert hits / 600 >= 0.93


def test_studies_that_agree_have_no_variance_between_them_and_one_is_no_mean() -> None:
    found = combine([1.0, 1.01, 0.99], np.full(3, 1.0), level=0.95)
    assert (found["tau"], found["i2"]) == (0, 0)
    apart = combine([0.0, 10.0, 20.0], np.full(3, 1.0), level=0.95)
    assert apart["tau"] == pytest.approx(np.sqrt(99), rel=1e-3)
    assert apart["p_homogeneity"] < 1e-6
    with pytest.raises(ValueError, match="two or more, got 1"):
        combine([1.0], np.ones(1), level=0.95)
