"""The report's first sentences: the largest finding, whether replay worked, what it cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.findings.findings import Findings, find
from analysis.reading.declaration import Inference
from analysis.reading.study import read_study
from analysis.wording.headline import headline
from trainables.ledger import schema


@pytest.fixture
def findings(study: Callable[..., Path]) -> Callable[..., Findings]:
    def build(*, settings: Inference | None = None, **options: Any) -> Findings:
        return find(read_study(study(**{"seeds": range(6), **options})), settings=settings)

    return build


@pytest.mark.parametrize(("effect", "word"), [(0.02, "worse"), (-0.02, "better")])
def test_the_largest_difference_is_named_with_its_direction_and_interval(
    findings: Callable[..., Findings], effect: float, word: str
) -> None:
    found = findings(effects={"difficulty_hard": effect, "difficulty_easy": effect / 4}, noise=0.1)
    said = headline(found)
    assert said.startswith(f"difficulty_hard at mix 10 % is {word} than random")
    row = found.contrasts.set_index(schema.STRATEGY).loc["difficulty_hard"]
    ends = sorted([abs(row["low"]), abs(row["high"])])
    assert f"{ends[0]:.2g} to {ends[1]:.2g}" in said
    assert "on these validation examples" in said


def test_a_verdict_that_holds_for_the_task_is_said_to(findings: Callable[..., Findings]) -> None:
    found = findings(effects={"difficulty_hard": 0.5}, per_example=True)
    holds = found.variance.set_index(schema.STRATEGY)["holds"]["difficulty_hard"]
    assert ("for math as such" in headline(found)) == (holds is True)


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"effects": {}, "settings": Inference(smallest_effect=0.5)}, "Nothing was found to differ"),
        (
            {"effects": {}, "noise": 5.0},
            "Nothing is decided: the 2 contrasts with random are unresolved",
        ),
        (
            {"seeds": range(2)},
            "Nothing is decided: the 2 contrasts with random are not judged yet",
        ),
    ],
)
def test_where_nothing_differs_it_says_how_much_is_open(
    findings: Callable[..., Findings], options: dict[str, Any], start: str
) -> None:
    assert headline(findings(**options)).startswith(start)


def test_replay_worked_where_runs_without_it_forgot_more(findings: Callable[..., Findings]) -> None:
    assert "Replay worked: without it forgetting is higher by" in headline(findings())
    other = headline(findings(settings=Inference(primary="retention")))
    assert "Replay worked: without it retention is lower by" in other
    assert "replay" not in headline(findings(control=False)).lower()


def test_a_study_without_a_contrast_has_no_headline(findings: Callable[..., Findings]) -> None:
    assert headline(findings(strategies=("random",))) == ""
