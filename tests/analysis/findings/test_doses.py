"""Dose-response: measured points, and a law that is fitted where the points determine one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.findings.doses import PARAMETERS, fit_law, law, law_gradient
from analysis.findings.findings import Findings, find
from analysis.reading.declaration import Inference
from analysis.reading.study import read_study
from analysis.stats.intervals import mean_interval
from trainables.ledger import schema

Builder = Callable[..., Path]
MIXES = np.array([0.0, 0.05, 0.1, 0.2])
TRUTH = np.array([0.02, 0.08, 0.07])


def found(directory: Path) -> Findings:
    return find(read_study(directory))


def test_each_point_is_the_mean_over_done_seeds_with_its_interval(study: Builder) -> None:
    states = {("random", 0.1, 0): schema.DIVERGED, ("random", 0.2, 1): schema.FAILED}
    findings = found(study(seeds=range(4), mixes=(0.1, 0.2), states=states))
    outcomes = findings.outcomes[findings.outcomes["state"] == "done"]
    for dose in findings.doses.to_dict("records"):
        strategy = dose["strategy"] if dose["replayed"] else "none"
        chosen = outcomes[(outcomes["strategy"] == strategy) & (outcomes["mix"] == dose["mix"])]
        interval = mean_interval(chosen["forgetting"].to_numpy(float))
        assert dose["n"] == interval.n == len(chosen)
        assert dose["mean"] == pytest.approx(interval.mean)
        assert dose["high"] - dose["mean"] == pytest.approx(interval.half_width)
    random = findings.doses[findings.doses["strategy"] == "random"]
    assert random["n"].tolist() == [4, 3, 3]


def test_mix_0_is_on_every_curve_and_is_the_run_without_replay(study: Builder) -> None:
    doses = found(study(mixes=(0.1, 0.2), axes={"lr": [2e-5, 7e-5]})).doses
    without = doses[~doses["replayed"]]
    assert len(without) == 3 * 2
    assert (without["mix"] == 0).all()
    assert without.groupby("lr")["mean"].nunique().tolist() == [1, 1]
    assert "none" not in set(doses["strategy"])


def test_a_law_without_noise_is_recovered() -> None:
    fit = fit_law(MIXES, np.tile(law(MIXES, TRUTH), (3, 1)))
    assert fit is not None
    np.testing.assert_allclose(fit.parameters, TRUTH, rtol=1e-4)
    assert fit.residual < 1e-7


def test_the_gradient_is_the_laws_derivative() -> None:
    gradient = law_gradient(MIXES, TRUTH)
    for position in range(3):
        step = np.eye(3)[position] * 1e-7
        slope = (law(MIXES, TRUTH + step) - law(MIXES, TRUTH - step)) / 2e-7
        np.testing.assert_allclose(gradient[:, position], slope, rtol=1e-4, atol=1e-7)


def test_the_laws_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(4)
    hits = np.zeros(3)
    tries = 400
    for _ in range(tries):
        noise = generator.normal(0, 4e-4, (5, 4)) + generator.normal(0, 1e-3, (5, 1))
        fit = fit_law(MIXES, law(MIXES, TRUTH) + noise)
        assert fit is not None
        for position in range(3):
            interval = mean_interval(fit.by_seed[:, position])
            hits[position] += abs(fit.parameters[position] - TRUTH[position]) <= interval.half_width
    assert (hits / tries > 0.92).all()
    assert (hits / tries < 0.98).all()


def test_another_unit_scales_floor_and_start_and_leaves_the_scale() -> None:
    values = law(MIXES, TRUTH) + np.random.default_rng(0).normal(0, 5e-4, (4, 4))
    plain, scaled = fit_law(MIXES, values), fit_law(MIXES, 1000 * values)
    assert plain is not None
    assert scaled is not None
    np.testing.assert_allclose(scaled.parameters, plain.parameters * [1000, 1000, 1], rtol=1e-3)


@pytest.mark.parametrize(
    "means",
    [[0.05, 0.05, 0.05, 0.05], [0.08, 0.06, 0.04, 0.0], [0.05, 0.06, 0.08, 0.14]],
    ids=["flat", "straight", "growing ever faster"],
)
def test_points_that_determine_no_law_get_none(means: list[float]) -> None:
    assert fit_law(MIXES, np.tile(means, (3, 1))) is None


def test_a_law_takes_four_mixes_and_seeds_that_have_them_all(study: Builder) -> None:
    assert found(study(mixes=(0.1, 0.2))).dose_fits.empty
    states = {("random", 0.1, 0): schema.FAILED}
    directory = study(mixes=(0.05, 0.1, 0.2), seeds=range(4), states=states)
    findings = find(
        read_study(directory), settings=Inference(level=0.999)
    )  # its doses are not quite the law's
    by_strategy = findings.dose_parameters.groupby("strategy")["n"].unique()
    assert {name: n.tolist() for name, n in by_strategy.items()} == {
        "random": [3],
        "difficulty_hard": [4],
        "difficulty_easy": [4],
    }
    assert findings.dose_parameters["parameter"].tolist() == list(PARAMETERS) * 3
    grid = findings.dose_fits[findings.dose_fits["strategy"] == "random"]
    assert (grid["mix"].min(), grid["mix"].max()) == (0, 0.2)
    assert ((grid["low"] < grid["mean"]) & (grid["mean"] < grid["high"])).all()


def test_no_law_is_fitted_whose_uncertainty_is_unknown(study: Builder) -> None:
    findings = found(study(mixes=(0.05, 0.1, 0.2), seeds=(0, 1)))
    assert findings.dose_fits.empty
    assert "takes 3 seeds with every mix, there are 2." in findings.notes_on("dose_fits")[0]


def test_no_law_starts_outside_the_mixes(study: Builder) -> None:
    findings = found(study(mixes=(0.05, 0.1, 0.2, 0.4), control=False))
    assert findings.dose_fits.empty
    assert "none without a run at mix 0" in findings.notes_on("dose_fits")[0]


def test_a_strategy_without_a_law_is_named(study: Builder) -> None:
    states = {("difficulty_hard", 0.2, seed): schema.FAILED for seed in range(3)}
    states |= {("difficulty_easy", 0.05, seed): schema.FAILED for seed in (0, 1)}
    states |= {("difficulty_easy", 0.1, 2): schema.FAILED}
    findings = found(study(mixes=(0.05, 0.1, 0.2), states=states))
    assert set(findings.dose_fits["strategy"]) == {"random"}
    note = "Dose-response law of difficulty_easy: its uncertainty takes 3 seeds with every mix, there are 0."
    assert findings.notes_on("dose_fits") == (note,)


def test_where_the_law_holds_its_fit_is_called_bad_as_seldom_as_it_says() -> None:
    generator = np.random.default_rng(5)
    mixes = np.array([0.0, 0.02, 0.05, 0.1, 0.2])
    found = []
    for _ in range(400):
        noise = generator.normal(0, 4e-4, (8, 5)) + generator.normal(0, 1e-3, (8, 1))
        fit = fit_law(mixes, law(mixes, TRUTH) + noise)
        assert fit is not None
        found.append(fit.p_lack_of_fit <= 0.05)
    assert np.mean(found) == pytest.approx(0.05, abs=0.03)


def test_a_hyperbola_is_not_the_law() -> None:
    generator = np.random.default_rng(6)
    mixes = np.array([0.0, 0.01, 0.05, 0.1, 0.4])
    values = 0.02 + 0.06 / (1 + mixes / 0.02) + generator.normal(0, 2e-4, (8, 5))
    fit = fit_law(mixes, values)
    assert fit is not None
    assert fit.p_lack_of_fit < 0.001


def test_with_as_few_seeds_as_directions_nothing_is_said_of_the_fit() -> None:
    mixes = np.array([0.0, 0.01, 0.05, 0.1, 0.2, 0.4])
    noise = np.random.default_rng(0).normal(0, 1e-4, (3, 6))
    fit = fit_law(mixes, law(mixes, TRUTH) + noise)
    assert fit is not None
    assert np.isnan(fit.p_lack_of_fit)
