"""What the plan says of the differences that a study's seeds detect, and where the spread is from."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from analysis.findings.family import in_family
from analysis.findings.outcomes import measured, run_outcomes
from analysis.findings.pairs import DIFFERENCE_SUFFIX, done_pairs, plan_pairs
from analysis.reading.study import read_study
from sweep.cli import cli
from sweep.config.errors import ConfigurationError
from sweep.design.interim import contrast_differences, finished_pairs, look_at, study_now
from sweep.design.power_plan import Spread, describe_resolution, find_spreads
from tests.sweep.fake_study import FakeStudy

SEARCH = {"strategy": ["random", "difficulty_hard", "difficulty_easy", "random_aa"], "mix": [0, 0.5]}
DRAWN = 0.01 * np.random.default_rng(3).standard_normal((4, 10))


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


def spreads(fake: FakeStudy, **options: Any) -> list[Spread]:
    return find_spreads(fake.study, study_now(fake.study, fake.whole(), fake.ledger), **options)


def described(fake: FakeStudy, found: list[Spread], **changes: Any) -> list[str]:
    fake.declare(**changes)
    return describe_resolution(fake.study, found, look_at(fake.study, fake.whole(), fake.ledger).judgements)


def given(deviation: float = 0.01) -> list[Spread]:
    return [Spread(None, deviation, math.inf, "as given")]


def test_before_two_seeds_are_done_the_spread_is_unknown(fake: FakeStudy) -> None:
    assert spreads(fake) == []
    end(fake, 1)
    assert spreads(fake) == []
    assert described(fake, [])[0].startswith("detectable difference: unknown: no pilot")


def test_a_studys_own_pairs_are_its_pilot_and_the_control_is_none(fake: FakeStudy) -> None:
    end(fake, 3)
    found = contrast_differences(study_now(fake.study, fake.whole(), fake.ledger), measure="forgetting")
    hard, easy = (DRAWN[len(name) % 4, :3] - DRAWN[0, :3] for name in ("difficulty_hard", "difficulty_easy"))
    assert found.keys() == {("difficulty_hard", 0.5), ("difficulty_easy", 0.5)}
    np.testing.assert_allclose(found["difficulty_hard", 0.5], hard, atol=1e-12)
    (spread,) = spreads(fake)
    assert spread.deviation == pytest.approx(np.sqrt((hard.var(ddof=1) + easy.var(ddof=1)) / 2))
    assert (spread.mix, spread.freedom) == (0.5, 4)
    assert "2 contrasts of this study, n = 3 seeds each, 4 degrees of freedom" in spread.source
    (other,) = spreads(fake, pilot=fake.study.storage)
    assert other.deviation == pytest.approx(spread.deviation)
    assert "of the pilot tiny" in other.source


def test_every_mix_has_the_spread_of_its_own_pairs(fake: FakeStudy) -> None:
    fake.declare(
        search={"strategy": ["random", "difficulty_hard"], "mix": [0, 0.25, 0.5], "seed": list(range(5))}
    )
    fake.end(lambda label: 0.1 + label.mix * DRAWN[int(label.strategy == "difficulty_hard"), label.seed])
    small, large = spreads(fake)
    assert (small.mix, large.mix) == (0.25, 0.5)
    assert large.deviation == pytest.approx(2 * small.deviation)


def test_seeds_are_counted_with_the_upper_limit_of_the_spread() -> None:
    """That limit lies above the truth in 80 of 100 pilots, of any size."""
    rng = np.random.default_rng(0)
    for freedom in (2, 10):
        drawn = np.sqrt(rng.chisquare(freedom, 4000) / freedom)
        above = np.mean([Spread(0.1, deviation, freedom, "").upper >= 1 for deviation in drawn])
        assert above == pytest.approx(0.8, abs=0.02)
    assert given()[0].upper == 0.01


def test_more_validation_examples_leave_the_seeds_share_of_the_variance() -> None:
    spread = Spread(0.1, 1.0, math.inf, "", interaction=0.75, examples=40)
    assert spread.with_examples(40) == pytest.approx(1.0)
    assert spread.with_examples(400) ** 2 == pytest.approx(0.25 + 0.075)


def test_the_plan_tells_the_seeds_that_more_validation_examples_save(fake: FakeStudy) -> None:
    spread = Spread(0.5, 0.01, 20, "a pilot", interaction=0.75, examples=40)
    (line,) = [
        each
        for each in described(fake, [spread], inference={"smallest_effect": 0.01})
        if "seed x example" in each
    ]
    assert "75% of that variance" in line
    seeds = [int(part.split(": ")[1].split()[0]) for part in line.split("task_a.validation: ")[1].split("; ")]
    assert seeds == sorted(seeds, reverse=True)
    assert seeds[-1] < seeds[0] / 2


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spread_that_is_none_is_refused(fake: FakeStudy, deviation: float) -> None:
    with pytest.raises(ConfigurationError, match="--paired-sd must be a finite number above 0"):
        spreads(fake, given=deviation)


SPENT = 0.05 * 0.9 * 0.9  # alpha of all declared contrasts at their planned look


def test_the_detectable_difference_is_that_of_the_first_step_of_holm(fake: FakeStudy) -> None:
    """R: power.t.test(n = 5, sd = 0.01, sig.level = 0.0405 / 2, power = 0.8, type = "paired")."""
    from statsmodels.stats.power import TTestPower

    expected = 0.01 * TTestPower().solve_power(nobs=5, alpha=SPENT / 2, power=0.8)
    first, second, last = described(fake, given())
    assert "at 80% power and alpha 0.0405, shared by 2 contrasts (the first step)" in first
    assert f"5 seeds detect differences of {expected:.3g} and more" in second
    assert "none declared" in last


def test_with_looks_seeds_are_counted_at_the_last_one(fake: FakeStudy) -> None:
    first, *_, last = described(fake, given(), search=SEARCH | {"seeds": {"looks": [3, 5]}})
    shares = SPENT * (1 - (3 / 5) ** np.log2(5))
    assert f"alpha {shares:.3g} at the look of 5 seeds, shared by 2 contrasts" in first
    assert "looks end only what is different" in last


def test_the_seeds_for_the_smallest_effect_are_enough_and_no_more(fake: FakeStudy) -> None:
    from statsmodels.stats.power import TTestPower

    line = described(fake, given(), inference={"smallest_effect": 0.01})[-1]
    seeds = int(line.split(": ")[1].split()[0])
    reached = [TTestPower().power(1.0, nobs, SPENT / 2) for nobs in (seeds - 1, seeds)]
    assert reached[0] < 0.8 <= reached[1]


def test_a_study_without_a_contrast_detects_nothing(fake: FakeStudy) -> None:
    assert "none" in described(fake, given(), search={"strategy": ["random"]})[0]


def plan(values: dict[str, Any], tmp_path: Path, *options: str) -> Result:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return CliRunner().invoke(cli, ["plan", str(path), *options])


def test_the_plan_tells_of_looks_gate_and_resolution(study_values: dict[str, Any], tmp_path: Path) -> None:
    values = study_values | {"search": SEARCH | {"seeds": {"looks": [3, 5]}}, "gate": True}
    shown = plan(values, tmp_path, "--paired-sd", "0.01")
    assert shown.exit_code == 0, shown.output
    assert "next: a look once 3 seeds of the contrasts that are open have ended" in shown.output
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
        spreads(fake, pilot=fake.study.storage)


def test_pairs_asked_for_one_measure_are_those_of_all(fake: FakeStudy) -> None:
    end(fake, 3)
    study = read_study(fake.study.storage)
    whole = done_pairs(plan_pairs(study, run_outcomes(study)))
    for measure in measured(study):
        found = finished_pairs(study, measure=measure)
        expected = whole.loc[found.index, measure + DIFFERENCE_SUFFIX]
        pd.testing.assert_series_equal(found["difference"], expected, check_names=False)
        usable = whole[whole["matched"] & whole[measure + DIFFERENCE_SUFFIX].notna()]
        assert len(found) == sum(in_family(name, baseline="random") for name in usable["strategy"])


@pytest.mark.parametrize("order", ["strategies_first", "strategies_only"])
def test_seeds_are_counted_for_strategies_means_where_these_are_judged(fake: FakeStudy, order: str) -> None:
    search = SEARCH | {"mix": [0, 0.25, 0.5], "seed": list(range(5))}
    fake.declare(inference={"order": order, "smallest_effect": 0.01}, search=search)
    end(fake, 4)
    found = {spread.mix: spread for spread in spreads(fake)}
    assert set(found) == {0.25, 0.5, math.inf}
    assert found[math.inf].deviation <= max(found[mix].deviation for mix in (0.25, 0.5))
    lines = described(fake, list(found.values()))
    told = [line.strip().partition(":")[0] for line in lines]
    assert "means over all mixes" in told
    assert ("mix 25 %" in told) == (order == "strategies_first")
    assert any(line.startswith("weights of most precision") and "{0.25: " in line for line in lines)
