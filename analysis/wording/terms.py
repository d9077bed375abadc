"""How a strategy, a mix and a number are written, the same in every figure, table and sentence."""

import math
from collections.abc import Sequence

from trainables.ledger import schema


def strategy_text(strategy: str) -> str:
    """Return a strategy as figures and tables call it."""
    return "no replay" if strategy == schema.NO_REPLAY else strategy


def mix_text(mix: float) -> str:
    """Return a mix in percent, or in words that it is the mean over all of them."""
    return "all mixes" if math.isinf(mix) else f"{100 * mix:g} %"


def at_mixes(mixes: Sequence[float]) -> str:
    """Return 'at mix 5 % and 10 %', or 'over all mixes'."""
    texts = [mix_text(mix) for mix in mixes]
    if texts == [mix_text(math.inf)]:
        return f"over {texts[0]}"
    return f"at mix {' and '.join(filter(None, [', '.join(texts[:-1]), texts[-1]]))}"


def signed_text(value: float, *, digits: int) -> str:
    """Return `value` with its sign, a real minus among them; zero has none."""
    text = f"{value:+.{digits}f}".replace("-", "\u2212")
    return text if float(f"{value:.{digits}f}") else text[1:]


def probability_text(value: float) -> str:
    """Return a p-value as '0.012', or '< 0.001'."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def seeds_to_add_text(low: float, high: float) -> str:
    """Return a range of seeds to add as '4–13' or '4–many'; empty where it is unknown."""
    if math.isnan(low) or math.isnan(high):
        return ""
    ends = ["many" if math.isinf(each) else f"{each:.0f}" for each in (low, high)]
    return ends[0] if ends[0] == ends[1] else "–".join(ends)


def holds_text(holds: object) -> str:
    """Return whether a verdict holds for the task as well; empty where nothing can be said."""
    return {True: "yes", False: "no"}.get(holds, "") if isinstance(holds, bool) else ""
