"""What a family pays for being many, at one look: adjusted p values, and who is decided.

Owns the closed test over contrasts that may become different or equivalent; when a look is, and with how
much of alpha, is analysis.findings.design's.
"""

from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from analysis.findings.verdicts import UNRESOLVED, Claim, judge
from analysis.stats.intervals import Values, inside, paired_test

Key = TypeVar("Key", bound=Hashable)


class Judged(NamedTuple):
    """A contrast's verdict at a look, and the adjusted p of a difference and of equivalence (NaN: none)."""

    verdict: str
    p: float
    p_equivalence: float


def judge_together(
    differences: Mapping[Key, Values],
    *,
    alpha: float,
    second: Claim | None = None,
    share_equivalent: float = 1.0,
    others: int = 0,
) -> dict[Key, Judged]:
    """Return what a look says of the contrasts that are still open, from their paired differences (n,).

    A contrast is *different* if its paired t test rejects, and what the `second` claim says (equivalent, not
    worse) if the one-sided tests of its ends do, both adjusted by `close`. An empty array, or one of fewer
    than three pairs, has p = 1 and counts all the same; so do the `others`, which share `alpha` and are not
    open. The second claim has `share_equivalent` of alpha. At most `alpha` of families make a wrong claim of
    either kind, whatever the correlations.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must be in [0, 1), got {alpha}")
    keys = list(differences)
    raw = np.array([_p_values(differences[key], second) for key in keys])
    adjusted = close(raw.reshape(-1, 2) / [1.0, share_equivalent], others=others)
    means = [float(differences[key].mean()) if len(differences[key]) else np.nan for key in keys]
    verdicts = [
        judge(p, p_second, alpha=alpha, second=second, mean=mean) if alpha else UNRESOLVED
        for (p, p_second), mean in zip(adjusted, means, strict=True)
    ]
    return {
        key: Judged(verdict, float(p), float(equivalence))
        for key, verdict, (p, equivalence) in zip(keys, verdicts, adjusted, strict=True)
    }


def close(p: Values, *, others: int = 0) -> Values:
    """Return the p values of m contrasts (..., m, 2), difference and equivalence, adjusted for all claims.

    The closed test (Marcus, Peritz & Gabriel 1976) with Bonferroni's at each intersection: a claim stands
    where every set of hypotheses that may be true together with the one that it denies is rejected. Of a
    contrast one can be true, "no difference" or "the smallest effect and more", so a set has one of each at
    most, and counts as 1/size of alpha. A contrast leaves the others more only where both of its hypotheses
    are rejected: what is *equivalent* may have no difference at all, of which a claim would still be wrong.
    (Holm's steps over claims, which give away its share all the same, made wrong ones in up to 18 % of
    families.) Where nothing can be equivalent (NaN) these are Holm's steps.

    `others`: further contrasts, of which a hypothesis may be true. NaN stays and counts as 1.
    """
    if not p.shape[-2]:
        return p
    likelier = np.fmax(p[..., 0], p[..., 1])  # of a contrast's hypotheses, the one that is harder to reject
    likelier = np.where(np.isnan(likelier), 1.0, likelier)
    order = np.argsort(-likelier, axis=-1, kind="stable")
    ranked = np.take_along_axis(likelier, order, axis=-1)
    place = np.argsort(order, axis=-1, kind="stable")[..., None]
    rest = np.arange(p.shape[-2] - 1)
    without_own = np.take_along_axis(ranked[..., None, :], rest + (rest >= place), axis=-1)
    beside = np.concatenate([np.ones_like(place, dtype=float), without_own], axis=-1)  # the first: nothing
    sizes = others + 1 + np.arange(p.shape[-2])
    known = np.where(np.isnan(p), 1.0, p)
    smallest = np.minimum(known[..., None], beside[..., None, :])
    adjusted = np.minimum(1.0, (sizes * smallest).max(axis=-1))
    return np.where(np.isnan(p), np.nan, adjusted)


def stays(p: float, *, plain: float, adjusted: float, alpha: float) -> bool:
    """Return whether a claim stays at `alpha` with another p, adjusted by the factor by which its own was."""
    return bool(p * (adjusted / plain if plain > 0 else 1.0) <= alpha)


def _p_values(differences: Values, second: Claim | None) -> tuple[float, float]:
    p = float("nan") if second is None else inside(differences, low=second.low, high=second.high)
    return paired_test(differences).p, p
