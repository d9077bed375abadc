"""Block-sequential studies: when a look is taken, what ends the study, and what runs next."""

from itertools import islice
from typing import Any

import numpy as np
import pytest

from analysis.findings.design import Batch
from analysis.findings.family import ALL_MIXES, Contrast
from analysis.findings.findings import find
from analysis.findings.rounds import Judgement
from analysis.reading.study import read_study
from sweep.design.interim import look_at
from sweep.design.looks import Progression
from sweep.planning.cells import Label
from tests.sweep.fake_study import FakeStudy
from trainables.ledger import schema

HARD, EASY = Contrast("difficulty_hard", 0.5), Contrast("difficulty_easy", 0.2)
BASELINE, NONE = Contrast("random", 0.5), Contrast(schema.NO_REPLAY, 0.0)
BATCH = Batch(None, (3, 6), tuple(range(6)), frozenset(range(6)), 0.045, 0.1)
FIRST, SECOND, BEYOND = islice(BATCH.looks(), 3)


def judged(verdict: str, *, at: int) -> Judgement:
    """Return a contrast that took so many looks, and has that verdict."""
    looks = [FIRST, SECOND, BEYOND]
    upcoming = looks[at] if verdict == "unresolved" else None
    return Judgement(verdict, looks[max(0, at - 1)], at > 0, upcoming, BATCH, 3, 2, 1.0, np.nan)


def progression(hard: Judgement, easy: Judgement) -> Progression:
    return Progression({HARD: hard, EASY: easy})


def test_a_contrast_that_is_decided_needs_no_further_run_and_its_baseline_only_where_another_does() -> None:
    found = progression(judged("different", at=1), judged("unresolved", at=1))
    assert [found.needs(HARD, seed) for seed in (2, 3)] == [True, False]
    assert [found.needs(EASY, seed) for seed in (2, 5)] == [True, True]
    assert not found.needs(BASELINE, 3), "no contrast at its mix is open"
    assert found.needs(BASELINE._replace(mix=0.2), 3)
    assert found.needs(NONE, 3)
    assert (found.seeds, found.over) == (6, False)


@pytest.mark.parametrize(
    ("hard", "easy", "said"),
    [
        (("unresolved", 0), ("unresolved", 0), "next: a look once 3 seeds"),
        (("different", 1), ("unresolved", 1), "next: a look once 6 seeds"),
        (
            ("different", 1),
            ("equivalent", 1),
            "every contrast is decided: the study is complete with 3 seeds",
        ),
        (("unresolved", 2), ("different", 1), "that was the last look: the study ends with 6 seeds"),
    ],
)
def test_it_says_what_comes_next(hard: tuple[str, int], easy: tuple[str, int], said: str) -> None:
    found = progression(*(judged(verdict, at=at) for verdict, at in (hard, easy)))
    assert found.following().startswith(said)


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


def verdicts(fake: FakeStudy) -> dict[Contrast, tuple[str, int, int]]:
    """Return each contrast's verdict, the seeds of its newest look, and the pairs that counted."""
    judgements = look_at(fake.study, fake.whole(), fake.ledger).judgements
    return {contrast: (each.verdict, each.look.count, each.n) for contrast, each in judgements.items()}


def seeds_of(fake: FakeStudy) -> set[int]:
    return {cell.labels[0].seed for cell in fake.due().plan.cells}


def test_only_the_seeds_up_to_the_next_look_are_planned(fake: FakeStudy) -> None:
    assert seeds_of(fake) == {0, 1, 2}
    assert fake.due().progression.following().startswith("next: a look once 3 seeds")  # type: ignore[union-attr]


def test_a_clear_difference_ends_the_study_at_its_first_look(fake: FakeStudy) -> None:
    fake.end(forgets(0.1), which=lambda label: label.seed < 3)
    due = fake.due()
    assert due.progression is not None
    assert not due.progression.open
    assert verdicts(fake) == {HARD: ("different", 3, 3)}
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
    assert verdicts(fake) == {HARD: ("unresolved", 9, 9)}
    assert not due.stage.pending


def test_without_a_difference_a_declared_smallest_effect_makes_it_equivalent(fake: FakeStudy) -> None:
    fake.end(forgets(0.0), which=lambda label: label.seed < 3)
    assert seeds_of(fake) == set(range(6))
    fake.declare(inference={"smallest_effect": 0.05})
    assert verdicts(fake) == {HARD: ("equivalent", 3, 3)}


@pytest.mark.parametrize("state", [schema.DIVERGED, schema.FAILED])
def test_cells_that_failed_or_diverged_stop_no_look_and_are_counted_out(fake: FakeStudy, state: str) -> None:
    def lost(label: Label) -> bool:
        return (label.strategy, label.seed) == ("difficulty_hard", 0)

    fake.end(forgets(0.1), which=lambda label: label.seed < 3 and not lost(label))
    assert seeds_of(fake) == {0, 1, 2}
    fake.end(forgets(0.1), which=lost, state=state)
    due = fake.due()
    assert verdicts(fake) == {HARD: ("unresolved", 3, 2)}
    assert seeds_of(fake) == set(range(6))
    again = [cell for cell in due.stage.pending if cell.labels[0].seed < 3]
    assert [cell.name for cell in again] == (
        [] if state == schema.DIVERGED else ["difficulty_hard 0.5, seed 0"]
    )
    keys = frozenset(cell.spec.key for cell in again if cell.spec)
    assert not keys & fake.due(attempted=keys).stage.pending_keys


def test_looks_are_judged_by_their_own_seeds_whatever_was_run_beyond(fake: FakeStudy) -> None:
    clear = forgets(0.1)
    fake.end(lambda label: clear(label) if label.seed < 3 else 0.3)
    assert verdicts(fake) == {HARD: ("different", 3, 3)}


def test_the_sweep_and_the_report_find_the_same(fake: FakeStudy) -> None:
    search = {"strategy": ["random", "difficulty_hard", "difficulty_easy"], "mix": [0, 0.25, 0.5]}
    fake.declare(search=search | {"seeds": {"looks": [3, 6, 9]}})
    fake.end(forgets(0.1), which=lambda label: label.seed < 6)
    sweeps = look_at(fake.study, fake.whole(), fake.ledger).judgements
    assert {each.verdict for each in sweeps.values()} == {"different", "unresolved"}
    reports = find(read_study(fake.study.storage)).judgements
    assert list(sweeps) == list(reports)
    for contrast, judgement in sweeps.items():
        other = reports[contrast]
        assert (other.verdict, other.look.count, other.p) == (
            judgement.verdict,
            judgement.look.count,
            judgement.p,
        )


def test_only_what_open_contrasts_need_runs_after_a_look(fake: FakeStudy) -> None:
    search = {"strategy": ["random", "difficulty_hard", "difficulty_easy"], "mix": [0, 0.25, 0.5]}
    fake.declare(search=search | {"seeds": {"looks": [3, 6]}})
    drawn = forgets(0.1)
    fake.end(lambda label: drawn(label) if label.mix == 0.5 else 0.3, which=lambda label: label.seed < 3)
    found = verdicts(fake)
    assert found[HARD][0] == "different"
    later = {label for cell in fake.due().stage.pending for label in cell.labels}
    assert not [label for label in later if (label.strategy, label.mix) == ("difficulty_hard", 0.5)]
    assert {(label.strategy, label.mix) for label in later} >= {("random", 0.5), ("difficulty_hard", 0.25)}


def test_changed_looks_are_declared_with_the_cells_that_were_done(fake: FakeStudy) -> None:
    fake.end(forgets(0.0), which=lambda label: label.seed < 3)
    search = {"strategy": ["random", "difficulty_hard"], "mix": [0, 0.5], "seeds": {"looks": [3, 12]}}
    fake.declare(search=search)
    fake.open()
    record = fake.ledger.study_record()
    assert record is not None
    told = [(each["looks"], each["finished_cells"]) for each in record["declarations"]]
    assert told == [([3, 6, 9], 0), ([3, 12], 9)]


def test_looks_that_are_changed_after_one_was_taken_stay_as_they_were_declared(fake: FakeStudy) -> None:
    fake.end(forgets(0.0), which=lambda label: label.seed < 3)
    fake.declare(
        search={"strategy": ["random", "difficulty_hard"], "mix": [0, 0.5], "seeds": {"looks": [4, 12]}}
    )
    fake.end(forgets(0.0), which=lambda label: label.seed < 4)
    assert verdicts(fake) == {HARD: ("unresolved", 3, 3)}, "not at 4, which was chosen after 3"
    fake.end(forgets(0.0))
    assert verdicts(fake) == {HARD: ("unresolved", 9, 9)}


def test_a_strategy_dropped_after_a_look_goes_on_sharing_alpha(fake: FakeStudy) -> None:
    search = {"mix": [0, 0.5], "seeds": {"looks": [3, 6, 9]}}
    fake.declare(search=search | {"strategy": ["random", "difficulty_hard", "difficulty_easy"]})
    fake.end(forgets(0.0), which=lambda label: label.seed < 3)
    fake.declare(search=search | {"strategy": ["random", "difficulty_hard"]})
    judgements = look_at(fake.study, fake.whole(), fake.ledger).judgements
    assert set(judgements) == {HARD, Contrast("difficulty_easy", 0.5)}
    assert {each.sharing for each in judgements.values()} == {2}
    later = {label.strategy for cell in fake.due().stage.pending for label in cell.labels}
    assert later == {"random", "difficulty_hard", schema.NO_REPLAY}


def test_what_was_searched_is_declared_with_the_rest(fake: FakeStudy) -> None:
    fake.open()
    record = fake.ledger.study_record()
    assert record is not None
    asked = {
        "strategy": ["difficulty_hard", "random"],
        "mix": [0.0, 0.5],
        "seeds": list(range(9)),
        "axes": {},
    }
    assert [each["search"] for each in record["declarations"]] == [asked]


def test_seeds_that_replace_those_whose_outcomes_were_seen_are_no_new_study(fake: FakeStudy) -> None:
    search = {"strategy": ["random", "difficulty_hard"], "mix": [0, 0.5]}
    fake.declare(search=search | {"seed": [0, 1, 2]})
    fake.open()
    fake.end(forgets(0.0))
    fake.declare(search=search | {"seed": [10, 11, 12]})
    fake.open()
    record = fake.ledger.study_record()
    assert record is not None
    assert [each["finished_cells"] for each in record["declarations"]] == [0, 9]
    fake.end(forgets(0.1))
    assert verdicts(fake)[HARD][1] == 5, (
        "the kept seeds and two of the new ones: a look that alpha was kept for"
    )


@pytest.fixture
def strategies_first(study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeStudy:
    search = {"strategy": ["random", "difficulty_hard"], "mix": [0, 0.25, 0.5], "seeds": {"looks": [3, 6, 9]}}
    asked = {"order": "strategies_first", "smallest_effect": 0.05}
    made = FakeStudy({**study_values, "search": search, "inference": asked}, monkeypatch)
    made.phase_a()
    return made


@pytest.mark.parametrize(("effect", "noise"), [(0.0, 0.001), (0.0, 0.2)])
def test_a_strategys_mixes_run_as_long_as_its_mean_is_open(
    strategies_first: FakeStudy, effect: float, noise: float
) -> None:
    strategies_first.end(forgets(effect, noise=noise), which=lambda label: label.seed < 3)
    found = verdicts(strategies_first)
    whole = Contrast("difficulty_hard", ALL_MIXES)
    decided = noise < 0.01
    assert found[whole][:2] == ("equivalent" if decided else "unresolved", 3)
    assert {found[whole._replace(mix=mix)][:2] for mix in (0.25, 0.5)} == {("unresolved", 3)}
    assert seeds_of(strategies_first) == set(range(3 if decided else 6))
    assert bool(strategies_first.due().stage.pending) != decided


def test_a_different_strategys_mixes_go_on_until_they_are_decided(strategies_first: FakeStudy) -> None:
    drawn = np.random.default_rng(0).standard_normal(9)

    def forgotten(label: Label) -> float:
        if label.strategy != "difficulty_hard":
            return 0.3
        return 0.3 + (0.5 + 0.001 * drawn[label.seed] if label.mix == 0.5 else 0.05 * drawn[label.seed])

    strategies_first.end(forgotten, which=lambda label: label.seed < 3)
    found = verdicts(strategies_first)
    at = {mix: found[Contrast("difficulty_hard", mix)][0] for mix in (ALL_MIXES, 0.25, 0.5)}
    assert at == {ALL_MIXES: "different", 0.25: "unresolved", 0.5: "different"}
    pending = strategies_first.due().stage.pending
    assert {label.mix for cell in pending for label in cell.labels} == {0.0, 0.25}
    assert {label.seed for cell in pending for label in cell.labels} == {3, 4, 5}
