"""The declared inference: what study.json says, and what is refused."""

from typing import Any

import pytest

from analysis.reading.declaration import Inference, read_settings
from analysis.reading.errors import AnalysisError


def test_a_study_that_declares_nothing_has_the_defaults() -> None:
    assert read_settings({}) == read_settings({"config": {"search": {}}}) == Inference()
    settings = Inference()
    assert (settings.primary, settings.smallest_effect, settings.looks) == ("forgetting", None, ())
    assert settings.alpha == pytest.approx(0.05)


def test_a_declaration_is_read_from_the_configuration() -> None:
    config = {
        "inference": {
            "primary": "forgetting_area",
            "smallest_effect": 0.002,
            "level": 0.9,
            "power": 0.9,
            "growth": 0.2,
        },
        "search": {"looks": [5, 10]},
        "gate": True,
    }
    found = read_settings({"config": config})
    assert found == Inference("forgetting_area", 0.002, 0.9, 0.9, 0.2, (5, 10), True)


@pytest.mark.parametrize("nothing", [None, [], {}])
def test_absent_parts_may_be_null(nothing: Any) -> None:
    config = {"inference": None, "search": {"looks": None}, "gate": False}
    assert read_settings({"config": config}) == Inference()
    assert read_settings({"config": {"search": {"looks": nothing or None}}}) == Inference()


FAULTS: list[tuple[dict[str, Any], str]] = [
    (
        {"inference": {"primary": "accuracy"}},
        "primary must be a measure, got 'accuracy'; choose one of forgetting",
    ),
    ({"inference": {"primary": ["forgetting"]}}, "primary must be a measure"),
    ({"inference": {"smallest_effect": 0}}, "smallest_effect must be above 0 or left out, got 0"),
    ({"inference": {"smallest_effect": -0.1}}, "smallest_effect must be above 0"),
    ({"inference": {"smallest_effect": float("nan")}}, "smallest_effect must be above 0"),
    ({"inference": {"smallest_effect": True}}, "smallest_effect must be above 0"),
    ({"inference": {"level": 0.5}}, r"level must lie in \(0.5, 1\), got 0.5"),
    ({"inference": {"level": "0.95"}}, "level must lie in"),
    ({"inference": {"power": 1}}, r"power must lie in \(0, 1\), got 1"),
    (
        {"inference": {"alpha": 0.05}},
        "unknown field 'alpha'; choose from baseline, primary, smallest_effect, level, power, growth",
    ),
    ({"inference": {"growth": 1}}, r"growth must lie in \[0, 1\), got 1"),
    ({"inference": [1]}, "inference must be a section"),
    ({"search": {"looks": 5}}, "looks must be a list"),
    ({"search": {"looks": [2, 5]}}, "looks must be rising numbers of seeds from 3 on"),
    ({"search": {"looks": [5, 5]}}, "looks must be rising"),
    ({"search": {"looks": [5.5]}}, "looks must be rising"),
    ({"gate": "yes"}, "gate must be true or false"),
]


@pytest.mark.parametrize(("config", "message"), FAULTS)
def test_impossible_declarations_are_refused_with_the_rule(config: dict[str, Any], message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        read_settings({"config": config})
