"""What the plan says of the differences that a study's seeds detect, and where the spread is from."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from analysis.findings.family import Contrast, in_family
from analysis.findings.outcomes import run_outcomes
from analysis.findings.pairs import DIFFERENCE_SUFFIX, done_pairs, plan_pairs
from analysis.reading.study import read_study
from analysis.stats.measures import MEASURES
from sweep.cli import cli
from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig, validate_study
from sweep.design.interim import finished_pairs, paired_differences, pooled_deviation
from sweep.design.power_plan import Spread, describe_resolution, find_spread
from tests.sweep.fake_study import FakeStudy

SEARCH = {"strategy": ["random", "difficulty_hard", "difficulty_easy", "random_aa"], "mix": [0, 0.5]}
DRAWN = 0.01 * np.random.default_rng(3).standard_normal((4, 10))


def study_with(values: dict[str, Any], *, seeds: Any = None, **changes: Any) -> StudyConfig:
    search = SEARCH | ({"seeds": {"looks": seeds}} if seeds else {"seed": list(range(5))})
    return validate_study({**values, "search": search, **changes}, origin="test")


@pytest.fixture
def fake(study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeStudy:
    made = FakeStudy({**study_values, "search": SEARCH | {"seed": list(range(5))}}, monkeypatch)
    made.phase_a()
    return made


def end(fake: FakeStudy, seeds: int) -> None:
    strategies = {"random": 0, "none": 0}
    fake.end(
        lambda label: DRAWN[strategies.get(label.strategy, len(label.strategy) % 4), label.seed],
        which=lambda label: label.seed < seeds,
    )


def test_the_spread_is_pooled_within_contrasts() -> None:
    apart = {"a": np.array([1.0, 3.0]), "b": np.array([11.0, 13.0, 12.0]), "c": np.array([5.0])}
    deviation, freedom = pooled_deviation(apart)
    assert freedom == 3
    assert deviation == pytest.approx(np.sqrt((2 + 2) / 3))


def test_no_pairs_are_no_spread() -> None:
    assert np.isnan(pooled_deviation({"a": np.array([1.0])})[0])


def test_before_two_seeds_are_done_the_spread_is_unknown(fake: FakeStudy) -> None:
    assert find_spread(fake.study, fake.whole(), fake.ledger) is None
    end(fake, 1)
    spread = find_spread(fake.study, fake.whole(), fake.ledger)
    assert spread is None
    assert describe_resolution(fake.study, spread, contrasts=2)[0].startswith(
        "detectable difference: unknown: no pilot"
    )


def test_a_studys_own_pairs_are_its_pilot_and_the_control_is_none(fake: FakeStudy) -> None:
    end(fake, 3)
    found = paired_differences(fake.study, fake.whole().cells, fake.ledger)
    hard, easy = (DRAWN[len(name) % 4, :3] - DRAWN[0, :3] for name in ("difficulty_hard", "difficulty_easy"))
    assert found.keys() == {Contrast("difficulty_hard", 0.5), Contrast("difficulty_easy", 0.5)}
    np.testing.assert_allclose(found[Contrast("difficulty_hard", 0.5)], hard, atol=1e-12)
    spread = find_spread(fake.study, fake.whole(), fake.ledger)
    assert spread is not None
    assert spread.deviation == pytest.approx(np.sqrt((hard.var(ddof=1) + easy.var(ddof=1)) / 2))
    assert "2 contrasts of this study, n = 3 seeds each, 4 degrees of freedom" in spread.source
    other = find_spread(fake.study, fake.whole(), fake.ledger, pilot=fake.study.storage)
    assert other is not None
    assert other.deviation == pytest.approx(spread.deviation)
    assert "of the pilot tiny" in other.source


@pytest.mark.parametrize("given", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spread_that_is_none_is_refused(fake: FakeStudy, given: float) -> None:
    with pytest.raises(ConfigurationError, match="--paired-sd must be a finite number above 0"):
        find_spread(fake.study, fake.whole(), fake.ledger, given=given)


def test_the_detectable_difference_is_that_of_the_first_step_of_holm(study_values: dict[str, Any]) -> None:
    """R: power.t.test(n = 5, sd = 0.01, sig.level = 0.05 / 2, power = 0.8, type = "paired")."""
    from statsmodels.stats.power import TTestPower

    expected = 0.01 * TTestPower().solve_power(nobs=5, alpha=0.025, power=0.8)
    lines = describe_resolution(study_with(study_values), Spread(0.01, "as given"), contrasts=2)
    assert f"5 seeds detect differences of {expected:.3g} and more, at 80% power" in lines[1]
    assert "0.05 / 2 contrasts (Holm's first step)" in lines[1]
    assert "none declared" in lines[2]


def test_looks_divide_alpha_further(study_values: dict[str, Any]) -> None:
    (_, line, last) = describe_resolution(
        study_with(study_values, seeds=[3, 5]), Spread(0.01, "as given"), contrasts=2
    )
    assert "alpha 0.05 / (2 looks x 2 contrasts)" in line
    assert "a look stops only where all are different" in last


def test_the_seeds_for_the_smallest_effect_are_enough_and_no_more(study_values: dict[str, Any]) -> None:
    from statsmodels.stats.power import TTestPower

    study = study_with(study_values, inference={"smallest_effect": 0.01})
    line = describe_resolution(study, Spread(0.01, "as given"), contrasts=2)[-1]
    seeds = int(line.split(": ")[1].split()[0])
    reached = [TTestPower().power(1.0, nobs, 0.025) for nobs in (seeds - 1, seeds)]
    assert reached[0] < 0.8 <= reached[1]


def test_a_study_without_a_contrast_detects_nothing(study_values: dict[str, Any]) -> None:
    study = validate_study({**study_values, "search": {"strategy": ["random"]}}, origin="test")
    assert not study.search.compares("random")
    assert "none" in describe_resolution(study, Spread(0.01, "as given"), contrasts=0)[0]


def plan(values: dict[str, Any], tmp_path: Path, *options: str) -> Result:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return CliRunner().invoke(cli, ["plan", str(path), *options])


def test_the_plan_tells_of_looks_gate_and_resolution(study_values: dict[str, Any], tmp_path: Path) -> None:
    values = study_values | {"search": SEARCH | {"seeds": {"looks": [3, 5]}}, "gate": True}
    shown = plan(values, tmp_path, "--paired-sd", "0.01")
    assert shown.exit_code == 0, shown.output
    assert "looks [3, 5]: next: a look once 3 seeds have ended" in shown.output
    assert "gate waits: Phase A comes first" in shown.output
    assert "5 seeds detect differences of" in shown.output
    assert "random 0.5, seed 2" in shown.output
    assert "random 0.5, seed 3" not in shown.output


def test_a_plan_takes_its_spread_from_one_place(study_values: dict[str, Any], tmp_path: Path) -> None:
    ended = plan(study_values, tmp_path, "--paired-sd", "0.01", "--pilot", str(tmp_path))
    assert ended.exit_code == 2
    assert "give at most one of --pilot and --paired-sd" in ended.output


def test_a_pilot_without_two_pairs_is_refused_with_what_it_has(fake: FakeStudy) -> None:
    end(fake, 1)
    with pytest.raises(ConfigurationError, match="two finished pairs or more that differ; .* has 1 at most"):
        find_spread(fake.study, fake.whole(), fake.ledger, pilot=fake.study.storage)


def test_pairs_asked_for_one_measure_are_those_of_all(fake: FakeStudy) -> None:
    end(fake, 3)
    study = read_study(fake.study.storage)
    whole = done_pairs(plan_pairs(study, run_outcomes(study)))
    for measure in MEASURES:
        found = finished_pairs(study, measure=measure)
        expected = whole.loc[found.index, measure + DIFFERENCE_SUFFIX]
        pd.testing.assert_series_equal(found["difference"], expected, check_names=False)
        usable = whole[whole["matched"] & whole[measure + DIFFERENCE_SUFFIX].notna()]
        assert len(found) == sum(in_family(name, baseline="random") for name in usable["strategy"])
