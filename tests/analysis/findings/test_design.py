"""When contrasts are judged: what was declared, however the study was grown afterwards."""

from itertools import islice
from typing import Any

import pytest

from analysis.findings.design import Batch, Design, read_design
from analysis.findings.family import Contrast
from analysis.reading.declaration import Inference
from analysis.reading.errors import AnalysisError

HARD, EASY = Contrast("hard", 0.1), Contrast("easy", 0.1)


def declared(finished: int = 0, *, looks: Any = (), **search: Any) -> dict[str, Any]:
    whole = {"strategy": ["random", "hard"], "mix": [0, 0.1], "seeds": [0, 1, 2, 3], "axes": {}} | search
    return {"looks": list(looks), "search": whole, "finished_cells": finished}


def design(*declarations: dict[str, Any], seeds: Any = range(4), **settings: Any) -> Design:
    described = {"declarations": list(declarations), "config": {"phase_b": {"lr": 1e-4}}}
    return read_design(described, seeds=list(seeds), settings=Inference(**settings))


def taken(batch: Batch, *, most: int = 6) -> list[tuple[int, float]]:
    return [(look.count, round(look.alpha, 6)) for look in islice(batch.looks(), most)]


def test_a_study_of_fixed_seeds_has_one_planned_look_and_then_those_of_growth() -> None:
    (batch,) = design(declared(), seeds=range(20)).batches
    assert taken(batch) == [
        (4, 0.0405),
        (6, 0.00225),
        (9, 0.001125),
        (14, 0.000563),
        (21, 0.000281),
    ]
    assert not list(batch.looks())[-1].complete, (
        "the look that comes next is known before its seeds are there"
    )


def test_looks_spend_little_at_first() -> None:
    seeds = list(range(20))
    (batch,) = design(declared(looks=[5, 10, 20], seeds=seeds), seeds=seeds, growth=0.0).batches
    assert taken(batch) == [(5, 0.002), (10, 0.008), (20, 0.04)]


@pytest.mark.parametrize("growth", [0.0, 0.1, 0.5])
def test_all_that_is_ever_spent_adds_up_to_alpha_at_most(growth: float) -> None:
    stages = [declared(), *(declared(9, strategy=["random", f"more {place}"]) for place in range(8))]
    found = design(*stages, growth=growth, level=0.95)
    spent = [batch.alpha * share for batch in found.batches for _, share in islice(batch.shares(), 40)]
    assert sum(spent) <= 0.05 + 1e-12


def test_growth_after_outcomes_moves_no_look_and_reorders_no_seed() -> None:
    before = design(declared(seeds=[5, 6, 7, 8]), seeds=range(20)).batches[0]
    grown = design(
        declared(seeds=[5, 6, 7, 8]),
        declared(8, seeds=[5, 6, 7, 8, 9, 10]),
        declared(12, seeds=[0, 5, 6, 7, 8, 9, 10], looks=[3, 7, 11]),
        seeds=range(20),
    ).batches
    assert [batch.planned for batch in grown] == [before.planned]
    assert [look.seeds for look in islice(grown[0].looks(), 2)] == [(5, 6, 7, 8), (5, 6, 7, 8, 9, 10)]
    assert grown[0].seeds[6:8] == (0, 1)


def test_what_is_declared_last_before_any_outcome_counts() -> None:
    (batch,) = design(declared(seeds=list(range(9))), declared(looks=[3, 6], seeds=list(range(6)))).batches
    assert batch.planned == (3, 6)


def test_contrasts_that_are_added_later_have_alpha_of_their_own() -> None:
    found = design(
        declared(), declared(8, strategy=["random", "hard", "easy"]), declared(20, mix=[0, 0.1, 0.2])
    )
    batches = [found.batch(each) for each in (HARD, EASY, Contrast("hard", 0.2))]
    assert [batch.alpha for batch in batches] == pytest.approx([0.045, 0.0025, 0.00125])
    assert found.batch(Contrast("never declared", 0.1)) is batches[-1]


def test_an_axis_that_is_searched_later_leaves_its_first_value_in_the_first_batch() -> None:
    found = design(declared(), declared(8, axes={"lr": [1e-4, 2e-4]}))
    first, later = (found.batch(Contrast("hard", 0.1, (("lr", lr),))) for lr in (1e-4, 2e-4))
    assert first is found.batches[0]
    assert later is found.batches[1]


def test_a_pilot_of_two_seeds_is_not_judged() -> None:
    (batch,) = design(declared(seeds=[0, 1]), declared(6, seeds=list(range(8))), seeds=range(8)).batches
    assert batch.planned == (6,)
    assert batch.seeds == (2, 3, 4, 5, 6, 7)
    assert batch.alpha == pytest.approx(0.045)


def test_early_declarations_tell_how_many_seeds_there_were() -> None:
    (batch,) = design(declared(seeds=3), seeds=[4, 5, 6, 7]).batches
    assert batch.planned == (3,)
    assert batch.seeds == (4, 5, 6, 7)


@pytest.mark.parametrize("nothing", [None, [], "damaged", [{"finished_cells": 0}]])
def test_where_nothing_was_declared_the_study_is_as_it_is_planned(nothing: Any) -> None:
    found = read_design({"declarations": nothing}, seeds=range(5), settings=Inference())
    assert [batch.planned for batch in found.batches] == [(5,)]
    looks = read_design({"declarations": None}, seeds=range(6), settings=Inference(looks=(3, 6)))
    assert looks.batches[0].planned == (3, 6)


@pytest.mark.parametrize(
    "entry",
    [
        declared(looks=[6, 3]),
        declared(seeds=["a"]),
        declared(seeds=None),
        declared(strategy="random"),
        declared(axes=[1]),
        {"looks": 3, "search": None},
    ],
)
def test_a_declaration_that_cannot_be_read_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(AnalysisError, match=r"study\.json"):
        design(entry)


def test_the_share_that_is_kept_is_what_was_declared_before_outcomes() -> None:
    first, later = declared() | {"inference": {"growth": 0.2}}, declared(9) | {"inference": {"growth": 0.0}}
    (batch,) = design(first, later, growth=0.0).batches
    assert (batch.growth, batch.alpha) == pytest.approx((0.2, 0.04))
    with pytest.raises(AnalysisError, match=r"study\.json"):
        design(declared() | {"inference": {"growth": 2}})
