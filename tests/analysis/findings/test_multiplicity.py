"""What a family pays at one look: Holm's steps over contrasts that may become different or equivalent."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from analysis.findings.multiplicity import judge_together
from analysis.findings.verdicts import DIFFERENT, EQUIVALENT, UNRESOLVED
from analysis.stats.intervals import paired_test, tost

NOISE = np.array([-1.0, 0.5, 1.0, -0.5, 0.2, -0.2])


def verdicts(differences: dict[object, np.ndarray], **options: float) -> dict[object, str]:
    return {key: found.verdict for key, found in judge_together(differences, **options).items()}  # type: ignore[arg-type]


def test_every_contrast_gets_its_own_verdict() -> None:
    differences = {"far": 50 + NOISE, "near": 0.01 * NOISE, "noisy": NOISE, ("none", 0.1): np.array([])}
    assert verdicts(differences, alpha=0.05, smallest_effect=0.5) == {
        "far": DIFFERENT,
        "near": EQUIVALENT,
        "noisy": UNRESOLVED,
        ("none", 0.1): UNRESOLVED,
    }


def test_without_a_smallest_effect_the_steps_are_holms() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = {place: rng.normal(0.8, 1, 6) for place in range(5)}
        found = judge_together(drawn, alpha=0.05)
        p = [paired_test(values).p for values in drawn.values()]
        np.testing.assert_allclose([each.p for each in found.values()], multipletests(p, method="holm")[1])


def test_a_contrast_that_is_equivalent_takes_one_step_and_leaves_the_others_more() -> None:
    near, unsure = 0.001 * NOISE, NOISE + 1.0
    p = paired_test(unsure).p
    alone = judge_together({"near": near, "unsure": unsure}, alpha=0.05)
    beside = judge_together({"near": near, "unsure": unsure}, alpha=0.05, smallest_effect=0.5)
    assert alone["unsure"].p == pytest.approx(2 * p)
    assert beside["near"].verdict == EQUIVALENT
    assert beside["unsure"].p == pytest.approx(p)


def test_equivalent_wins_where_both_hold() -> None:
    values = 0.1 + 0.01 * NOISE
    assert verdicts({"a": values}, alpha=0.05) == {"a": DIFFERENT}
    assert verdicts({"a": values}, alpha=0.05, smallest_effect=0.5) == {"a": EQUIVALENT}
    assert tost(values, 0.5) < 0.05


def test_what_cannot_be_tested_counts_as_a_contrast_and_stays_unknown() -> None:
    values = NOISE + 1.0
    found = judge_together({"a": values, "b": np.array([]), "c": np.array([1.0, 1.1])}, alpha=0.05)
    assert found["a"].p == pytest.approx(3 * paired_test(values).p)
    assert np.isnan([found["b"].p, found["c"].p, found["a"].p_equivalence]).all()
    assert judge_together({}, alpha=0.05) == {}


def test_with_no_alpha_nothing_is_decided() -> None:
    assert verdicts({"a": np.full(5, 2.0)}, alpha=0.0, smallest_effect=5.0) == {"a": UNRESOLVED}
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\), got 95"):
        judge_together({"a": NOISE}, alpha=95)
