"""What a family of contrasts pays for being many: adjusted levels, p values and verdicts, and seeds to
resolve.

Owns which adjustment a study's declaration takes; the tests are analysis.stats.intervals's.
"""

import numpy as np
import pandas as pd

from analysis.findings.multiplicity import look_level
from analysis.findings.verdicts import IDENTICAL, UNRESOLVED, judge
from analysis.reading.declaration import Inference
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, Values, holm
from analysis.stats.power import seeds_to_resolve


def adjusted_level(settings: Inference, *, contrasts: int) -> float:
    """Return the level of each interval of a family so that all hold together, at every look."""
    return look_level(settings.level, looks=max(1, len(settings.looks)), contrasts=max(1, contrasts))


def judged(rows: pd.DataFrame, *, settings: Inference) -> pd.DataFrame:
    """Return the rows with adjusted p values and verdicts: the family's together, any other alone."""
    frame = rows.astype({"in_family": bool})
    family = frame["in_family"].to_numpy(bool)
    for plain, adjusted in (("p", "p_holm"), ("p_equivalence", "p_equivalence_holm")):
        values = frame[plain].to_numpy(np.float64).copy()
        values[family] = adjust(values[family], settings=settings)
        frame[adjusted] = values
    judged_rows = zip(frame["verdict"], frame["p_holm"], frame["p_equivalence_holm"], strict=True)
    frame["verdict"] = [
        IDENTICAL if verdict == IDENTICAL else judge(p, equivalence, alpha=settings.alpha)
        for verdict, p, equivalence in judged_rows
    ]
    return frame


def adjust(p: Values, *, settings: Inference) -> Values:
    """Return a family's p values (m,) adjusted for m declared tests: Holm, or Bonferroni over looks and
    tests.

    A test without a p value (NaN) stays so, and counts as p = 1: the adjustment is that of all declared.
    """
    known = np.isfinite(p)
    if settings.looks:
        adjusted = np.minimum(1.0, np.where(known, p, 1.0) * len(settings.looks) * len(p))
    else:
        adjusted = holm(np.where(known, p, 1.0))
    return np.where(known, adjusted, np.nan)


def seeds_needed(frame: pd.DataFrame, *, settings: Inference) -> list[float]:
    """Return the pairs in all that would decide each unresolved contrast of the family, more than it has.

    Infinite where no one would run as many, NaN where unknown and where nothing is to be resolved.
    """
    size = int(frame["in_family"].sum()) * max(1, len(settings.looks))
    needed = []
    names = ["n", "sd", "difference", "in_family", "verdict"]
    for n, sd, difference, member, verdict in frame[names].itertuples(index=False):
        if n < FEWEST_FOR_INTERVAL or not member or verdict != UNRESOLVED:
            needed.append(float("nan"))
            continue
        seeds = seeds_to_resolve(
            sd,
            smallest_effect=settings.smallest_effect,
            difference=difference,
            alpha=settings.alpha,
            power=settings.power,
            comparisons=size,
        )
        needed.append(float("inf") if seeds is None else float(max(seeds, n + 1)))
    return needed
