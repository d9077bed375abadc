"""Components of variance: the mixed model's are those of the analysis of variance, where it knows them."""

import numpy as np
import pandas as pd
import pytest

from analysis.findings.variance import fit_components


def balanced(values: np.ndarray, *, seeds: int = 1) -> pd.DataFrame:
    """Return runs from values (blocks, arms), `seeds` blocks an adapter."""
    blocks, arms = values.shape
    block = np.repeat(np.arange(blocks), arms)
    return pd.DataFrame(
        {
            "value": values.ravel(),
            "arm": np.tile(np.arange(arms), blocks),
            "adapter": block // seeds,
            "seed": block,
        }
    )


@pytest.mark.parametrize("between", [0.0, 0.01, 1.0])
@pytest.mark.parametrize(("adapters", "arms"), [(3, 5), (6, 9)])
def test_components_are_those_of_a_balanced_design_also_at_zero(
    generator: np.random.Generator, between: float, adapters: int, arms: int
) -> None:
    """REML of a balanced design is the ANOVA estimate, and 0 where that is below (Searle et al. 1992, ch.
    4).
    """
    for _ in range(5):
        shift = generator.normal(0, np.sqrt(between), (adapters, 1))
        values = shift + generator.normal(0, 1, (adapters, arms)) + np.arange(arms)
        rest = values - values.mean(axis=0)
        means = rest.mean(axis=1)
        within = ((rest - means[:, None]) ** 2).sum() / ((adapters - 1) * (arms - 1))
        wanted = means.var(ddof=1) - within / arms
        if wanted < 0:
            wanted, within = 0.0, (rest**2).sum() / ((adapters - 1) * arms)
        found = fit_components(balanced(1e-3 * values))
        assert found is not None
        variances = [1e6 * variance for variance, _ in found.values()]
        np.testing.assert_allclose(variances, [wanted, within], atol=1e-5)


def test_seeds_within_adapters_are_a_component_of_their_own(generator: np.random.Generator) -> None:
    adapters, seeds, arms = 5, 4, 6
    values = (
        generator.normal(0, 1, (adapters, 1, 1))
        + generator.normal(0, 1, (adapters, seeds, 1))
        + generator.normal(0, 1, (adapters, seeds, arms))
    )
    rest = values - values.mean(axis=(0, 1))
    by_seed = rest.mean(axis=2)
    by_adapter = by_seed.mean(axis=1)
    mean_squares = (
        seeds * arms * by_adapter.var(ddof=1),
        arms * ((by_seed - by_adapter[:, None]) ** 2).sum() / (adapters * (seeds - 1)),
        ((rest - by_seed[:, :, None]) ** 2).sum() / ((adapters * seeds - 1) * (arms - 1)),
    )
    wanted = [
        (mean_squares[0] - mean_squares[1]) / (seeds * arms),
        (mean_squares[1] - mean_squares[2]) / arms,
        mean_squares[2],
    ]
    assert min(wanted) > 0  # else this is not what REML gives
    found = fit_components(balanced(values.reshape(-1, arms), seeds=seeds))
    assert found is not None
    assert [units for _, units in found.values()] == [adapters, adapters * seeds, adapters * seeds * arms]
    np.testing.assert_allclose([variance for variance, _ in found.values()], wanted, rtol=1e-4)
