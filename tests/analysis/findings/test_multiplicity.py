"""The rule of a study with looks: its level, its verdicts, when it stops."""

import numpy as np
import pytest

from analysis.findings.multiplicity import decide, look_level
from analysis.findings.verdicts import DIFFERENT, EQUIVALENT, UNRESOLVED
from analysis.stats.intervals import paired_test, tost

NOISE = np.array([-1.0, 0.5, 1.0, -0.5, 0.2, -0.2])


def test_the_level_of_a_look_splits_alpha_over_looks_and_contrasts() -> None:
    assert look_level(0.95, looks=3, contrasts=4) == pytest.approx(1 - 0.05 / 12)
    assert look_level(0.95, looks=1, contrasts=1) == pytest.approx(0.95)


def test_every_contrast_gets_its_own_verdict() -> None:
    differences = {"far": 50 + NOISE, "near": 0.01 * NOISE, "noisy": NOISE, ("none", 0.1): np.array([])}
    assert decide(differences, looks=(6, 12), smallest_effect=0.5) == {
        "far": DIFFERENT,
        "near": EQUIVALENT,
        "noisy": UNRESOLVED,
        ("none", 0.1): UNRESOLVED,
    }


def test_a_contrast_is_different_exactly_where_its_reported_interval_excludes_zero() -> None:
    rng = np.random.default_rng(3)
    verdicts = set()
    for _ in range(200):
        values = rng.normal(2.0, 1, 6)
        level = look_level(0.95, looks=3, contrasts=2)
        interval = paired_test(values, level=level)
        verdict = decide({"a": values, "b": NOISE}, looks=(6, 12, 20))["a"]
        assert (verdict == DIFFERENT) == (interval.low > 0 or interval.high < 0)
        verdicts.add(verdict)
    assert verdicts == {DIFFERENT, UNRESOLVED}


def test_more_looks_or_more_contrasts_ask_for_more() -> None:
    values = NOISE + 0.9
    assert paired_test(values).p < 0.05
    assert decide({"a": values}, looks=(6,))["a"] == DIFFERENT
    assert decide({"a": values}, looks=(6, 8, 10, 12, 14))["a"] == UNRESOLVED
    assert decide(dict.fromkeys("abcde", values), looks=(6,))["a"] == UNRESOLVED


def test_equivalence_is_asked_for_at_the_level_of_the_look() -> None:
    margin = 0.8
    assert 0.05 / 4 < tost(NOISE, margin) < 0.05
    assert decide({"a": NOISE}, looks=(6,), smallest_effect=margin)["a"] == EQUIVALENT
    assert decide({"a": NOISE}, looks=(6, 8, 10, 12), smallest_effect=margin)["a"] == UNRESOLVED


def test_without_a_smallest_effect_nothing_is_equivalent() -> None:
    assert decide({"a": 1e-9 * NOISE}, looks=(6,))["a"] == UNRESOLVED


def test_a_study_without_looks_or_contrasts_is_refused() -> None:
    with pytest.raises(ValueError, match="looks and contrasts must be 1 or more, got 2 and 0"):
        decide({}, looks=(5, 10))
    with pytest.raises(ValueError, match="looks and contrasts must be 1 or more, got 0 and 1"):
        decide({"a": NOISE}, looks=())
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 95"):
        look_level(95, looks=1, contrasts=1)
