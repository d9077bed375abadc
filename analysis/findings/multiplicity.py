"""What a family pays for being many, at one look: adjusted p values, and who is decided.

Owns the step-down over contrasts that may become different or equivalent; when a look is, and with how much
of alpha, is analysis.findings.design's.
"""

from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from analysis.findings.verdicts import UNRESOLVED, judge
from analysis.stats.intervals import Values, paired_test, tost

Key = TypeVar("Key", bound=Hashable)


class Judged(NamedTuple):
    """A contrast's verdict at a look, and the adjusted p of a difference and of equivalence (NaN: none)."""

    verdict: str
    p: float
    p_equivalence: float


def judge_together(
    differences: Mapping[Key, Values], *, alpha: float, smallest_effect: float | None = None
) -> dict[Key, Judged]:
    """Return what a look says of the contrasts that are still open, from their paired differences (n,).

    A contrast is *different* if its paired t test rejects, *equivalent* if its TOST against
    +-`smallest_effect` does. Holm's step-down, with one step a contrast, by the smaller of its two p values;
    an empty array, or one of fewer than three pairs, has p = 1 and counts all the same.

    At most one claim of a contrast can be wrong: *different* where the truth is 0, *equivalent* where it is
    `smallest_effect` or more. At the first wrong claim every contrast of which a claim would be wrong is
    still undecided, so its p is at most alpha over their number: by the union bound at most `alpha` of
    families make a wrong claim of either kind, whatever the correlations (Holm 1979; Shaffer 1986 for the
    count).
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must be in [0, 1), got {alpha}")
    keys = list(differences)
    raw = np.array([_p_values(differences[key], smallest_effect=smallest_effect) for key in keys])
    adjusted = step_down(raw.reshape(-1, 2))
    verdicts = [judge(p, equivalence, alpha=alpha) if alpha else UNRESOLVED for p, equivalence in adjusted]
    return {
        key: Judged(verdict, float(p), float(equivalence))
        for key, verdict, (p, equivalence) in zip(keys, verdicts, adjusted, strict=True)
    }


def step_down(p: Values) -> Values:
    """Return the p values of m contrasts (..., m, 2), difference and equivalence, adjusted by Holm's steps.

    One step a contrast, in the order of the smaller of its two, which is multiplied by the number of
    contrasts that are left; the larger is too, and no adjusted value is below those of earlier steps. NaN
    stays and counts as 1.
    """
    known = np.where(np.isnan(p), 1.0, p)
    smaller = known.min(axis=-1)
    order = np.argsort(smaller, axis=-1, kind="stable")
    left = p.shape[-2] - np.argsort(order, axis=-1, kind="stable")  # contrasts, at the step of each
    sorted_steps = np.take_along_axis(smaller * left, order, axis=-1)
    reached = np.empty_like(sorted_steps)
    np.put_along_axis(reached, order, np.maximum.accumulate(sorted_steps, axis=-1), axis=-1)
    adjusted = np.minimum(1.0, np.maximum(known * left[..., None], reached[..., None]))
    return np.where(np.isnan(p), np.nan, adjusted)


def stays(p: float, *, plain: float, adjusted: float, alpha: float) -> bool:
    """Return whether a claim stays at `alpha` with another p, adjusted by the factor by which its own was."""
    return bool(p * (adjusted / plain if plain > 0 else 1.0) <= alpha)


def _p_values(differences: Values, *, smallest_effect: float | None) -> tuple[float, float]:
    equivalence = float("nan") if smallest_effect is None else tost(differences, smallest_effect)
    return paired_test(differences).p, equivalence
