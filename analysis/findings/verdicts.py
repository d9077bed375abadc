"""The verdicts, and the rule from p values to a verdict. Owns no test."""

DIFFERENT = "different"
EQUIVALENT = "equivalent"
UNRESOLVED = "unresolved"
IDENTICAL = "identical"  # both labels are one run: known from the plan, and no question


def verdict_text(verdict: str, *, in_family: bool) -> str:
    """Return a verdict as figures and tables say it; that of a contrast outside the family is a control's."""
    return verdict if in_family or verdict == IDENTICAL else f"control: {verdict}"


def judge(p_adjusted: float, p_equivalence_adjusted: float, *, alpha: float) -> str:
    """Return the verdict at `alpha` from the adjusted p of a difference and that of equivalence.

    Equivalent wins where both hold: the difference is real, and smaller than the smallest effect of
    interest. NaN (no test, no declared smallest effect) rejects nothing. Lakens, Scheel & Isager (2018),
    https://doi.org/10.1177/2515245918770963, figure 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    if p_equivalence_adjusted <= alpha:
        return EQUIVALENT
    return DIFFERENT if p_adjusted <= alpha else UNRESOLVED
