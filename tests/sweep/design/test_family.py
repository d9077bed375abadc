"""The family is counted alike by the plan, by a look and by the report, with labels merged and strategies
dropped.
"""

import math
from typing import Any

import pytest

from analysis.findings.family import Contrast, PlannedLabel, family, identical
from analysis.findings.findings import find
from analysis.reading.study import read_study
from sweep.design.interim import look_at
from sweep.design.power_plan import Spread, describe_resolution
from tests.sweep.fake_study import FakeStudy

WITH_WHOLE_POOL = {
    "mix": [0, 0.5, 1.0],
    "seeds": {"looks": [3, 6]},
}  # at mix 1.0 all 12 examples are replayed


def label(strategy: str, cell: str | None, *, seed: int = 0, mix: float = 0.5) -> PlannedLabel:
    return PlannedLabel(Contrast(strategy, mix), seed, cell)


def test_a_contrast_is_identical_only_where_every_seeds_run_is_known_to_be_the_baselines_own() -> None:
    same = [label("random", "a"), label("hard", "a"), label("random", "b", seed=1)]
    assert identical([*same, label("hard", "b", seed=1)], baseline="random") == {Contrast("hard", 0.5)}
    for other in ("c", None):
        assert identical([*same, label("hard", other, seed=1)], baseline="random") == set()
        assert identical([*same, label("hard", other, seed=1)], baseline="random", first_seeds=1) == {
            Contrast("hard", 0.5)
        }
    assert identical([label("random", None), label("hard", None)], baseline="random") == set()


def test_controls_are_no_part_of_the_family_and_what_never_ran_is() -> None:
    labels = [label(name, None) for name in ("random", "random_aa", "none", "hard")]
    assert family(labels, baseline="random") == [Contrast("hard", 0.5)]


@pytest.fixture
def fake(study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeStudy:
    strategies = ["random", "difficulty_hard", "loss_descending"]
    return FakeStudy({**study_values, "search": WITH_WHOLE_POOL | {"strategy": strategies}}, monkeypatch)


def counts(fake: FakeStudy) -> list[int]:
    """Return the size of the family by the plan's words, by the sweep's look, and in the report."""
    judgements = look_at(fake.study, fake.whole(), fake.ledger).judgements
    spread = Spread(None, 0.01, math.inf, "as given")
    (line,) = [each for each in describe_resolution(fake.study, [spread], judgements) if "alpha" in each]
    by_plan = int(line.split("shared by ")[1].split()[0])
    (by_look,) = {each.sharing for each in judgements.values()}
    report = find(read_study(fake.study.storage)).contrasts
    return [by_plan, by_look, int(report["in_family"].sum())]


def test_before_phase_a_labels_that_all_replay_the_whole_pool_are_known_to_be_one(fake: FakeStudy) -> None:
    judgements = look_at(fake.study, fake.whole(), fake.ledger).judgements
    assert list(judgements) == [Contrast("difficulty_hard", 0.5), Contrast("loss_descending", 0.5)]


def test_a_strategy_that_never_ran_shares_nothing_once_it_is_dropped(fake: FakeStudy) -> None:
    fake.phase_a()
    ran = ("none", "random", "difficulty_hard")
    fake.end(lambda label: 0.1, which=lambda label: label.seed < 3 and label.strategy in ran)
    fake.declare(search=WITH_WHOLE_POOL | {"strategy": ["random", "difficulty_hard"]})
    (planned,) = {each.sharing for each in look_at(fake.study, fake.whole(), fake.ledger).judgements.values()}
    assert planned == 1, "as `plan` counts, which publishes nothing"
    fake.open()
    assert counts(fake) == [1, 1, 1]


def test_plan_looks_and_report_divide_alpha_by_the_same_number(fake: FakeStudy) -> None:
    fake.phase_a()
    fake.end(lambda label: 0.1 * (label.strategy == "difficulty_hard"), which=lambda label: label.seed < 3)
    assert counts(fake) == [2, 2, 2]
    fake.declare(search=WITH_WHOLE_POOL | {"strategy": ["random", "loss_descending"]})
    fake.open()
    assert counts(fake) == [2, 2, 2], "a strategy that was dropped goes on sharing alpha"
