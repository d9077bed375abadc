"""Components of variance: the mixed model's are those of the analysis of variance, where it knows them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.findings.findings import find
from analysis.findings.variance import component_intervals, fit_components, for_the_task
from analysis.reading.declaration import Inference
from analysis.reading.study import read_study
from analysis.wording.verdicts import verdicts_in_words


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


@pytest.mark.parametrize(("between", "adapters"), [(0.0, 5), (0.3, 5), (3.0, 10)])
def test_intervals_of_components_cover_what_they_are_of(
    generator: np.random.Generator, between: float, adapters: int
) -> None:
    """Never much below 95 %; where there is no variance between adapters, 0 is inside of 97.5 %."""
    studies, arms = 600, 4
    hits = {"Phase A adapter and seed": 0, "strategy by seed": 0}
    for _ in range(studies):
        values = generator.normal(0, np.sqrt(between), (adapters, 1)) + generator.normal(
            0, 1, (adapters, arms)
        )
        found = component_intervals(balanced(values), level=0.95)
        for name, truth in zip(hits, (between, 1.0), strict=True):
            low, high = found[name]
            hits[name] += low <= truth <= high
    shares = {name: count / studies for name, count in hits.items()}
    assert all(0.925 <= share <= 0.99 for share in shares.values()), shares


def test_an_interval_of_a_component_needs_whole_blocks(generator: np.random.Generator) -> None:
    runs = balanced(generator.normal(0, 1, (5, 4)))
    whole = component_intervals(runs, level=0.95)
    assert component_intervals(runs.drop(0), level=0.95) == component_intervals(runs[4:], level=0.95) != whole
    assert component_intervals(runs[8:].drop(8), level=0.95) == {}
    nested = component_intervals(balanced(generator.normal(0, 1, (12, 4)), seeds=3), level=0.95)
    assert set(nested) == {"Phase A adapter", "seed within adapter", "strategy by seed"}
    uneven = balanced(generator.normal(0, 1, (12, 4)), seeds=3).query("seed != 0")
    assert component_intervals(uneven, level=0.95) == {}


ROW = {
    "interval_level": 0.95,
    "p": 0.001,
    "p_holm": 0.002,
    "p_equivalence": 0.001,
    "p_equivalence_holm": 0.002,
}
SETTINGS = Inference(smallest_effect=1.0)


def errors(difference: float, error: float, *, n: int = 6) -> dict[str, float]:
    return {"n": n, "examples": 40, "difference": difference, "se_both": error}


@pytest.mark.parametrize(
    ("verdict", "difference", "error", "holds"),
    [
        ("different", 2.0, 0.1, True),
        ("different", 2.0, 0.9, False),
        ("equivalent", 0.1, 0.1, True),
        ("equivalent", 0.1, 0.9, False),
        ("unresolved", 0.1, 0.1, None),
    ],
)
def test_a_verdict_holds_for_the_task_if_it_outlasts_the_examples(
    verdict: str, difference: float, error: float, holds: bool | None
) -> None:
    found = for_the_task(errors(difference, error), ROW | {"verdict": verdict}, settings=SETTINGS)
    assert found["holds"] is holds
    half = stats.t.ppf(0.975, 5) * error
    assert [found["low_task"], found["high_task"]] == pytest.approx([difference - half, difference + half])


def test_nothing_is_said_of_the_task_where_the_measure_is_not_that_of_the_examples() -> None:
    other = Inference(primary="task_b_gain")
    assert for_the_task(errors(2.0, 0.1), ROW | {"verdict": "different"}, settings=other)["holds"] is None
    few = for_the_task(errors(2.0, 0.1, n=2), ROW | {"verdict": "unresolved"}, settings=SETTINGS)
    assert np.isnan([few["low_task"], few["p_task"]]).all()


def test_the_verdicts_say_for_which_examples_they_hold(study: Callable[..., Path]) -> None:
    directory = study(seeds=range(6), effects={"difficulty_hard": -0.05}, per_example=True)
    findings = find(read_study(directory))
    frame = findings.variance
    assert set(frame.loc[frame["strategy"] == "difficulty_hard", "verdict"]) == {"different"}
    limits = verdicts_in_words(findings).limits
    examples = int(frame["examples"].iloc[0])
    assert limits.startswith(f"Verdicts are for these {examples} validation examples.")
    assert "seed × example" in limits


def test_errors_of_a_contrast_are_over_the_seeds_of_its_look(study: Callable[..., Path]) -> None:
    directory = study(seeds=range(7), per_example=True)
    looks = Inference(looks=(4, 20))
    assert set(find(read_study(directory), settings=looks).variance["n"]) == {4, 7}  # 7: no replay, a control


def test_a_control_is_no_verdict_that_holds_or_does_not(study: Callable[..., Path]) -> None:
    limits = verdicts_in_words(find(read_study(study(seeds=range(6), effects={}, per_example=True)))).limits
    assert "no replay" not in limits
    assert "also hold for" not in limits
