"""Block-sequential studies: when a look is taken, what ends the study, and what runs next."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from analysis.findings.family import Contrast
from sweep.design.interim import count_sharing, judge_contrasts
from sweep.design.looks import Look, Verdict, follow_looks
from sweep.planning.cells import Label
from tests.sweep.fake_study import FakeStudy
from trainables.ledger import schema

HARD, EASY = Contrast("difficulty_hard", 0.5), Contrast("difficulty_easy", 0.5)


def verdicts(hard: str, easy: str) -> dict[Contrast, Verdict]:
    return {HARD: Verdict(hard, 5), EASY: Verdict(easy, 5)}


UNDECIDED = verdicts("different", "unresolved")
DECIDED = verdicts("different", "equivalent")


def progression(ended: int, said: Mapping[int, Mapping[Contrast, Verdict]]) -> tuple[list[int], int, bool]:
    """Return the looks taken, the seeds due and whether it is over, with the first `ended` seeds ended."""
    found = follow_looks([5, 10, 20], ended=lambda count: count <= ended, judge=lambda count: said[count])
    return [look.seeds for look in found.taken], found.seeds, found.over


@pytest.mark.parametrize(
    ("ended", "said", "expected"),
    [
        (0, {}, ([], 5, False)),
        (4, {}, ([], 5, False)),
        (5, {5: UNDECIDED}, ([5], 10, False)),
        (9, {5: UNDECIDED}, ([5], 10, False)),
        (5, {5: DECIDED}, ([5], 5, True)),
        (20, {5: DECIDED}, ([5], 5, True)),  # seeds of a fixed study that are there do not matter
        (12, {5: UNDECIDED, 10: DECIDED}, ([5, 10], 10, True)),
        (10, {5: UNDECIDED, 10: UNDECIDED}, ([5, 10], 20, False)),
        (20, {5: UNDECIDED, 10: UNDECIDED, 20: UNDECIDED}, ([5, 10, 20], 20, True)),
    ],
)
def test_a_study_goes_from_look_to_look_until_every_contrast_is_decided(
    ended: int, said: dict[int, dict[Contrast, Verdict]], expected: tuple[list[int], int, bool]
) -> None:
    assert progression(ended, said) == expected


def test_a_contrast_that_was_decided_is_judged_again_with_the_others() -> None:
    """No verdict is carried over: the last look's are those at the intervals that are reported."""
    said = {5: UNDECIDED, 10: verdicts("unresolved", "equivalent"), 20: DECIDED}
    assert progression(20, said) == ([5, 10, 20], 20, True)


def test_a_look_says_how_many_pairs_each_verdict_is_from() -> None:
    lines = Look(5, {HARD: Verdict("different", 5), EASY: Verdict("unresolved", 3)}).describe()
    assert "1 of 2 contrasts" in lines[0]
    assert lines[1:] == [
        "  difficulty_hard 0.5: different (n = 5)",
        "  difficulty_easy 0.5: unresolved (n = 3 of 5)",
    ]


@pytest.fixture
def fake(study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeStudy:
    search = {"strategy": ["random", "difficulty_hard"], "mix": [0, 0.5], "seeds": {"looks": [3, 6, 9]}}
    made = FakeStudy({**study_values, "search": search}, monkeypatch)
    made.phase_a()
    return made


def forgets(effect: float, *, noise: float = 0.001) -> Any:
    """Return how much a label forgets: the hard examples `effect` more than random ones, with noise by
    seed.
    """
    drawn = noise * np.random.default_rng(1).standard_normal(20)

    def forgotten(label: Label) -> float:
        return 0.3 if label.strategy != "difficulty_hard" else 0.3 + effect + drawn[label.seed]

    return forgotten


def seeds_of(fake: FakeStudy) -> set[int]:
    return {cell.labels[0].seed for cell in fake.due().plan.cells}


def test_only_the_seeds_up_to_the_next_look_are_planned(fake: FakeStudy) -> None:
    assert seeds_of(fake) == {0, 1, 2}
    assert fake.due().progression.describe() == "next: a look once 3 seeds have ended"  # type: ignore[union-attr]


def test_a_clear_difference_ends_the_study_at_its_first_look(fake: FakeStudy) -> None:
    fake.end(forgets(0.1), which=lambda label: label.seed < 3)
    due = fake.due()
    assert due.progression is not None
    assert due.progression.decided
    assert due.progression.taken[-1].verdicts == {Contrast("difficulty_hard", 0.5): Verdict("different", 3)}
    assert not due.stage.pending


def test_an_unclear_one_goes_on_to_the_next_look_and_ends_at_the_last(fake: FakeStudy) -> None:
    for seeds, following in ((3, 6), (6, 9)):
        fake.end(forgets(0.0), which=lambda label, seeds=seeds: label.seed < seeds)
        assert seeds_of(fake) == set(range(following))
        assert {cell.labels[0].seed for cell in fake.due().stage.pending} == set(range(seeds, following))
    fake.end(forgets(0.0))
    due = fake.due()
    assert due.progression is not None
    assert due.progression.over
    assert not due.progression.decided
    assert not due.stage.pending
    assert len(due.progression.taken) == 3


def test_without_a_difference_a_declared_smallest_effect_makes_it_equivalent(fake: FakeStudy) -> None:
    fake.end(forgets(0.0), which=lambda label: label.seed < 3)
    assert seeds_of(fake) == set(range(6))
    fake.declare(inference={"smallest_effect": 0.05})
    due = fake.due()
    assert due.progression is not None
    assert [each.verdict for each in due.progression.taken[0].verdicts.values()] == ["equivalent"]


@pytest.mark.parametrize("state", [schema.DIVERGED, schema.FAILED])
def test_cells_that_failed_or_diverged_stop_no_look_and_are_counted_out(fake: FakeStudy, state: str) -> None:
    def lost(label: Label) -> bool:
        return (label.strategy, label.seed) == ("difficulty_hard", 0)

    fake.end(forgets(0.1), which=lambda label: label.seed < 3 and not lost(label))
    assert seeds_of(fake) == {0, 1, 2}
    fake.end(forgets(0.1), which=lost, state=state)
    due = fake.due()
    assert due.progression is not None
    assert list(due.progression.taken[0].verdicts.values()) == [Verdict("unresolved", 2)]
    assert seeds_of(fake) == set(range(6))
    again = [cell for cell in due.stage.pending if cell.labels[0].seed < 3]
    assert [cell.name for cell in again] == (
        [] if state == schema.DIVERGED else ["difficulty_hard 0.5, seed 0"]
    )
    keys = frozenset(cell.spec.key for cell in again if cell.spec)
    assert not keys & fake.due(attempted=keys).stage.pending_keys


def test_looks_are_judged_by_their_own_seeds_whatever_was_run_beyond(fake: FakeStudy) -> None:
    fake.end(forgets(0.0))
    alone = fake.due().progression
    assert alone is not None
    assert [look.seeds for look in alone.taken] == [3, 6, 9]
    assert [each.n for look in alone.taken for each in look.verdicts.values()] == [3, 6, 9]


def test_changed_looks_are_declared_with_the_cells_that_were_done(fake: FakeStudy) -> None:
    fake.end(forgets(0.0), which=lambda label: label.seed < 3)
    search = {"strategy": ["random", "difficulty_hard"], "mix": [0, 0.5], "seeds": {"looks": [3, 12]}}
    fake.declare(search=search)
    fake.open()
    record = fake.ledger.study_record()
    assert record is not None
    told = [(each["looks"], each["finished_cells"]) for each in record["declarations"]]
    assert told == [([3, 6, 9], 0), ([3, 12], 9)]


def test_a_strategy_dropped_after_a_look_goes_on_sharing_alpha(fake: FakeStudy) -> None:
    search = {"mix": [0, 0.5], "seeds": {"looks": [3, 6, 9]}}
    fake.declare(search=search | {"strategy": ["random", "difficulty_hard", "difficulty_easy"]})
    fake.end(forgets(0.0), which=lambda label: label.seed < 3)
    fake.open()
    fake.declare(search=search | {"strategy": ["random", "difficulty_hard"]})
    study, plan = fake.study, fake.due().plan
    assert count_sharing(study, plan.cells, fake.ledger) == 2
    assert set(judge_contrasts(study, plan.cells, fake.ledger)) == {Contrast("difficulty_hard", 0.5)}


def test_what_was_searched_is_declared_with_the_rest(fake: FakeStudy) -> None:
    fake.open()
    record = fake.ledger.study_record()
    assert record is not None
    asked = {"strategy": ["difficulty_hard", "random"], "mix": [0.0, 0.5], "seeds": 9, "axes": {}}
    assert [each["search"] for each in record["declarations"]] == [asked]
