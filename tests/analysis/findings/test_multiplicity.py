"""What a family pays at one look: the closed test over contrasts that may become different or equivalent."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.findings.multiplicity import close, judge_together
from analysis.findings.verdicts import DIFFERENT, EQUIVALENT, NOT_WORSE, UNRESOLVED, Claim, equivalence
from analysis.stats.intervals import inside, paired_test

NOISE = np.array([-1.0, 0.5, 1.0, -0.5, 0.2, -0.2])


def verdicts(differences: dict[object, np.ndarray], **options: Any) -> dict[object, str]:
    return {key: found.verdict for key, found in judge_together(differences, **options).items()}


def test_every_contrast_gets_its_own_verdict() -> None:
    differences = {"far": 50 + NOISE, "near": 0.01 * NOISE, "noisy": NOISE, ("none", 0.1): np.array([])}
    assert verdicts(differences, alpha=0.05, second=equivalence(0.5)) == {
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


@pytest.mark.parametrize(("shift", "steps"), [(0.0, 2), (0.1, 1)])
def test_a_contrast_leaves_the_others_more_only_once_neither_claim_of_it_can_be_wrong(
    shift: float, steps: int
) -> None:
    near, unsure = shift + 0.001 * NOISE, NOISE + 1.0
    beside = judge_together({"near": near, "unsure": unsure}, alpha=0.05, second=equivalence(0.5))
    assert beside["near"].verdict == EQUIVALENT
    assert beside["unsure"].p == pytest.approx(steps * paired_test(unsure).p)


@pytest.mark.parametrize("others", [0, 2])
def test_a_claim_stands_where_every_set_of_hypotheses_that_can_be_true_is_rejected(others: int) -> None:
    for p in np.random.default_rng(0).uniform(size=(200, 3, 2)) ** 4:
        adjusted = close(p, others=others)
        for contrast, claim in product(range(3), range(2)):
            rest = [place for place in range(3) if place != contrast]
            worst = 0.0
            for chosen in product((None, 0, 1), repeat=2):
                sets = [p[place, each] for place, each in zip(rest, chosen, strict=True) if each is not None]
                size = 1 + len(sets) + others
                worst = max(worst, size * min([p[contrast, claim], *sets]))
            assert adjusted[contrast, claim] == pytest.approx(min(1.0, worst))


@pytest.mark.parametrize("margin", [2.5, 3.6, 4.0])
def test_nothing_is_called_different_too_often_where_nearly_all_is_equivalent(margin: float) -> None:
    rng = np.random.default_rng(0)
    studies, contrasts, n = 4000, 12, 20
    drawn = rng.standard_normal((studies, contrasts, n))
    error = drawn.std(axis=2, ddof=1) / np.sqrt(n)
    ratio, limit = np.abs(drawn.mean(axis=2)) / error, margin / np.sqrt(n) / error
    p = np.stack([2 * stats.t.sf(ratio, n - 1), stats.t.sf(limit - ratio, n - 1)], axis=-1)
    different, equivalent = np.moveaxis(close(p) <= 0.05, -1, 0)
    assert (different & ~equivalent).any(axis=1).mean() <= 0.056


def test_equivalent_wins_where_both_hold() -> None:
    values = 0.1 + 0.01 * NOISE
    assert verdicts({"a": values}, alpha=0.05) == {"a": DIFFERENT}
    assert verdicts({"a": values}, alpha=0.05, second=equivalence(0.5)) == {"a": EQUIVALENT}
    assert inside(values, low=-0.5, high=0.5) < 0.05


def test_what_cannot_be_tested_counts_as_a_contrast_and_stays_unknown() -> None:
    values = NOISE + 1.0
    found = judge_together({"a": values, "b": np.array([]), "c": np.array([1.0, 1.1])}, alpha=0.05)
    assert found["a"].p == pytest.approx(3 * paired_test(values).p)
    assert np.isnan([found["b"].p, found["c"].p, found["a"].p_equivalence]).all()
    assert judge_together({}, alpha=0.05) == {}


def test_with_no_alpha_nothing_is_decided() -> None:
    assert verdicts({"a": np.full(5, 2.0)}, alpha=0.0, second=equivalence(5.0)) == {"a": UNRESOLVED}
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\), got 95"):
        judge_together({"a": NOISE}, alpha=95)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(-1.0, DIFFERENT), (0.0, NOT_WORSE), (0.1, NOT_WORSE), (1.0, DIFFERENT)]
)
def test_what_is_better_is_different_and_what_is_a_little_worse_is_not_worse(
    shift: float, verdict: str
) -> None:
    second = Claim(NOT_WORSE, -np.inf, 0.5, yields=-1)
    assert verdicts({"a": shift + 0.01 * NOISE}, alpha=0.05, second=second) == {"a": verdict}


def test_non_inferiority_is_one_sided_and_wrong_no_more_often_than_alpha() -> None:
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(2000):
        drawn = {place: rng.normal(0.5, 1.0, 8) for place in range(3)}
        second = Claim(NOT_WORSE, -np.inf, 0.5, yields=-1)
        wrong += NOT_WORSE in verdicts(drawn, alpha=0.05, second=second).values()
    assert wrong / 2000 <= 0.06
