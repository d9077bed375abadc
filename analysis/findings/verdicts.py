"""The verdicts, and the rule from p values to a verdict. Owns no test."""

import math
from typing import NamedTuple

from analysis.reading.declaration import NON_INFERIORITY, Inference
from analysis.stats.measures import MEASURES

DIFFERENT = "different"
EQUIVALENT = "equivalent"
NOT_WORSE = "not worse"
UNRESOLVED = "unresolved"
IDENTICAL = "identical"  # both labels are one run: known from the plan, and no question


class Claim(NamedTuple):
    """What may be claimed beside a difference: that the truth lies in (low, high), `verdict` in a word.

    `yields`: the sign of a difference that is the stronger claim, and the verdict where it is shown; 0: none.
    """

    verdict: str
    low: float
    high: float
    yields: int = 0


def equivalence(margin: float) -> Claim:
    """Return the claim that a difference lies within +-`margin`."""
    return Claim(EQUIVALENT, -margin, margin)


def second_claim(settings: Inference) -> Claim | None:
    """Return what a study may claim beside a difference; None without a smallest effect."""
    margin = settings.smallest_effect
    if margin is None:
        return None
    if settings.question != NON_INFERIORITY:
        return equivalence(margin)
    if MEASURES[settings.primary].higher_is_worse:
        return Claim(NOT_WORSE, -math.inf, margin, yields=-1)
    return Claim(NOT_WORSE, -margin, math.inf, yields=1)


def verdict_text(verdict: str, *, in_family: bool) -> str:
    """Return a verdict as figures and tables say it; that of a contrast outside the family is a control's."""
    return verdict if in_family or verdict == IDENTICAL else f"control: {verdict}"


def judge(p: float, p_second: float, *, alpha: float, second: Claim | None, mean: float) -> str:
    """Return the verdict at `alpha` from the adjusted p of a difference and that of the `second` claim.

    The second claim wins where both hold, for then the difference is real and smaller than what matters,
    unless the difference, estimated by `mean`, is one that it yields to. NaN (no test, no declared smallest
    effect) rejects nothing. Lakens, Scheel & Isager (2018), https://doi.org/10.1177/2515245918770963, fig. 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    different = p <= alpha
    if second is not None and p_second <= alpha and not (different and mean * second.yields > 0):
        return second.verdict
    return DIFFERENT if different else UNRESOLVED
