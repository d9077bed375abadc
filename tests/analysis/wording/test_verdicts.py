"""The verdicts in plain words: they follow the table of contrasts, and hide nothing that weakens them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.findings.findings import Findings, find
from analysis.reading.declaration import Inference, declaration_text
from analysis.reading.study import read_study
from analysis.wording.verdicts import verdicts_in_words
from trainables.ledger import schema

Builder = Callable[..., Path]
EFFECTS = {"difficulty_hard": 0.02}


@pytest.fixture
def findings(study: Builder) -> Callable[..., Findings]:
    """Return a builder of findings from `write_study`'s options, and the settings of the inference."""

    def build(*, settings: Inference | None = None, **options: Any) -> Findings:
        defaults: dict[str, Any] = {"seeds": range(6), "effects": EFFECTS}
        return find(read_study(study(**{**defaults, **options})), settings=settings)

    return build


def test_each_verdict_is_told_with_its_direction_and_size(findings: Callable[..., Findings]) -> None:
    found = findings(settings=Inference(smallest_effect=0.005))
    words = verdicts_in_words(found)
    assert "1 different from random, 1 equivalent to it, 0 unresolved" in words.opening
    different, equivalent = words.lines
    row = found.contrasts.set_index("strategy").loc["difficulty_hard"]
    assert different.startswith("difficulty_hard at mix 10 %: forgetting is higher than with random (worse)")
    assert f"{row['difference']:.2g} nats/token" in different
    assert equivalent == "Equivalent to random within ± 0.005 nats/token: difficulty_easy at mix 10 %."


def test_the_words_turn_with_the_sign_and_with_what_the_measure_means(
    findings: Callable[..., Findings],
) -> None:
    better = verdicts_in_words(findings(effects={"difficulty_hard": -0.02})).lines[0]
    assert "forgetting is lower than with random (better)" in better
    retained = findings(settings=Inference(primary="retention"), effects=EFFECTS)
    assert "retention is lower than with random (worse)" in verdicts_in_words(retained).lines[0]


def test_without_a_smallest_effect_nothing_is_equivalent_and_the_words_say_why(
    findings: Callable[..., Findings],
) -> None:
    words = verdicts_in_words(findings())
    assert "0 equivalent" in words.opening
    assert "No smallest effect of interest is declared" in words.limits
    assert words.lines[-1].startswith("Unresolved, which is not the same as no effect: difficulty_easy")


def test_mixes_of_one_strategy_are_told_together(findings: Callable[..., Findings]) -> None:
    lines = verdicts_in_words(findings(mixes=(0.05, 0.1, 0.2))).lines
    assert lines[0].startswith("difficulty_hard at mix 5 %, 10 % and 20 %: ")


@pytest.mark.parametrize(
    ("seeds", "told"), [(2, "2 not judged yet"), (5, "smallest p it can have there is 0.0625")]
)
def test_what_few_seeds_cannot_say_is_said(findings: Callable[..., Findings], seeds: int, told: str) -> None:
    words = verdicts_in_words(findings(seeds=range(seeds)))
    assert told in words.opening + words.limits
    assert "not significant" not in words.opening + words.limits


def test_lost_runs_and_pairs_are_counted(findings: Callable[..., Findings]) -> None:
    states = {("difficulty_hard", 0.1, 0): schema.DIVERGED, ("random", 0.1, 1): schema.FAILED}
    words = verdicts_in_words(findings(states=states, slots={("difficulty_easy", 0.1, 2): "other"}))
    assert "1 diverged and 1 failed of 24 planned runs: nothing is imputed" in words.limits
    assert "1 pair was left out" in words.limits


def test_the_control_is_told_apart_from_the_family(findings: Callable[..., Findings]) -> None:
    words = verdicts_in_words(findings(strategies=("random", schema.AA, "difficulty_hard")))
    assert "1 contrast was declared" in words.opening
    assert "A/A check" in words.limits
    assert not any(schema.AA in line for line in words.lines)


def test_a_study_of_random_alone_has_no_verdict(findings: Callable[..., Findings]) -> None:
    words = verdicts_in_words(findings(strategies=("random",)))
    assert "no contrast and no verdict" in words.opening
    assert words.lines == []


def _searched(*, cells: int = 0, **changed: Any) -> dict[str, Any]:
    search = {"strategy": ["random"], "mix": [0.1], "seeds": 3, "axes": {}}
    return {"looks": [], "search": search | changed, "finished_cells": cells}


SEARCHED = _searched()


@pytest.mark.parametrize(
    ("declarations", "text"),
    [
        (None, "does not say when"),
        ([], "does not say when"),
        ("damaged", "does not say when"),
        ([{"finished_cells": 0}], "declared before any outcome"),
        ([{"looks": []}, {"looks": [3], "finished_cells": 12}], "were changed when 12 cells were finished"),
        ([SEARCHED, SEARCHED | {"finished_cells": 3}], "before any outcome."),
        (
            [SEARCHED, _searched(seeds=9, cells=1)],
            "from 3 to 9 when 1 cell was finished: judged at the looks",
        ),
        ([SEARCHED, _searched(mix=[0.1, 0.2], cells=4)], "mixes or axes were changed when 4 cells"),
        ([{"finished_cells": 0}, _searched(seeds=9, cells=1)], "before any outcome."),
        ([{"finished_cells": 7}], "were first declared when 7 cells were finished"),
        (
            [{}, {"inference": {"baseline": "difficulty_hard"}, "finished_cells": 5}],
            "Measure, baseline, smallest effect or looks were changed when 5 cells",
        ),
        ([{}, {"inference": {"baseline": "random"}, "finished_cells": 5}], "before any outcome."),
    ],
)
def test_when_things_were_declared_is_read_from_the_ledger(declarations: Any, text: str) -> None:
    assert text in declaration_text({"declarations": declarations})


def test_more_than_ten_thousand_seeds_is_said_so(findings: Callable[..., Findings]) -> None:
    found = findings()
    many = float("inf")
    contrasts = found.contrasts.assign(verdict="unresolved", seeds_to_add_low=many, seeds_to_add_high=many)
    found.__dict__["contrasts"] = contrasts
    assert "No number of seeds up to 10,000" in verdicts_in_words(found).lines[0]


def test_a_study_without_the_baseline_says_that_nothing_can_be_compared(
    findings: Callable[..., Findings],
) -> None:
    assert verdicts_in_words(findings(strategies=("difficulty_hard",))).opening.startswith(
        "random was not planned"
    )


def test_a_verdict_on_survivors_names_what_was_lost(findings: Callable[..., Findings]) -> None:
    states = {("difficulty_hard", 0.1, seed): schema.DIVERGED for seed in range(4)}
    lines = verdicts_in_words(findings(seeds=range(8), states=states)).lines
    assert any(
        line.startswith("difficulty_hard at mix 10 %: 4 of 8 pairs lost a run (4 diverged") for line in lines
    )


def test_a_control_that_differs_raises_an_alarm(findings: Callable[..., Findings]) -> None:
    strategies = ("random", schema.AA, "difficulty_hard")
    calm = findings(strategies=strategies, seeds=range(6), effects={schema.AA: 0.0, "difficulty_hard": 0.02})
    loud = findings(strategies=strategies, seeds=range(6), effects={schema.AA: 0.02, "difficulty_hard": 0.02})
    assert not any("A/A" in line for line in verdicts_in_words(calm).lines)
    assert any(
        line.startswith("The A/A control differs from random, by 0.0")
        for line in verdicts_in_words(loud).lines
    )
