"""How many seeds an unresolved contrast still takes: from the declared smallest effect, never the estimate.

The estimate is what left the contrast unresolved; seeds that would make it significant chase its error.
"""

import numpy as np
from scipy import stats

from analysis.findings.rounds import Judgement
from analysis.reading.declaration import NON_INFERIORITY, Inference
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, Values, is_constant
from analysis.stats.power import MOST_SEEDS, seeds_to_decide

SD_LEVEL = 0.8  # of the interval of the SD that the range of seeds is from


def seeds_to_add(differences: Values, judgement: Judgement, *, settings: Inference) -> tuple[float, float]:
    """Return the fewest and the most seeds to add to the study so that a look resolves the contrast.

    At the declared power a difference of the smallest effect is then found, and none is shown to be smaller.
    The range is that of the SD's 80 % interval, sqrt((n - 1) s^2 / chi^2). Counted up to a look, for nothing
    is judged between looks. Infinite beyond 10,000; NaN for a contrast that is not open, or without a
    smallest effect, three pairs or a spread.
    """
    n, effect = len(differences), settings.smallest_effect
    if not judgement.open or effect is None or n < FEWEST_FOR_INTERVAL or is_constant(differences):
        return np.nan, np.nan
    tails = (1 + SD_LEVEL) / 2, (1 - SD_LEVEL) / 2
    deviations = differences.std(ddof=1) * np.sqrt((n - 1) / stats.chi2.ppf(tails, n - 1))
    low, high = (_to_add(float(sd), effect, judgement, settings=settings) for sd in deviations)
    return low, high


def _to_add(sd: float, effect: float, judgement: Judgement, *, settings: Inference) -> float:
    batch = judgement.batch
    for count, share in batch.shares():
        if judgement.taken and count <= judgement.look.count:
            continue
        if count > MOST_SEEDS:
            return np.inf
        needed = seeds_to_decide(
            sd,
            effect,
            alpha=batch.alpha * share,
            power=settings.power,
            comparisons=judgement.sharing,
            share_equivalent=judgement.share_equivalent,
            one_sided=settings.question == NON_INFERIORITY,
        )
        if needed is not None and needed <= count:
            return float(max(0, count - len(batch.present.intersection(batch.seeds))))
    return np.inf
