"""What stands beside a contrast's verdict: whether it stays for skewed differences, whether task B is learnt
too, and what share it is of what replay recovers. Owns no verdict.
"""

from typing import Any

import numpy as np
import pandas as pd

from analysis.findings.multiplicity import stays
from analysis.findings.rounds import Judgement
from analysis.findings.verdicts import DIFFERENT, second_claim
from analysis.reading.declaration import Inference
from analysis.reading.study import RecordedStudy
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, Values, inside, paired_test, wide_p
from analysis.stats.measures import FINAL_B, MEASURES
from trainables.ledger import schema


def find_shares_of_replay(frame: pd.DataFrame, *, study: RecordedStudy, settings: Inference) -> pd.Series:
    """Return each difference as a share of how much worse it is without replay, at the same mix and axes."""
    worse = 1 if MEASURES[settings.primary].higher_is_worse else -1
    keys = [schema.MIX, *study.axes]
    without = frame[frame[schema.STRATEGY] == schema.NO_REPLAY]
    clear = without[worse * without["low" if worse > 0 else "high"] > 0]
    recovered = frame[keys].merge(clear[[*keys, "difference"]], on=keys, how="left")["difference"]
    shares: pd.Series = frame["difference"] / recovered.set_axis(frame.index)
    return shares.where(frame[schema.STRATEGY] != schema.NO_REPLAY)


def judge_task_b(
    learnt: Values, differences: Values, judgement: Judgement, *, settings: Inference
) -> dict[str, Any]:
    """Return what a contrast says of task B, whose final loss differs by `learnt` (n,): the co-primary.

    One-sided paired t test of the margin, taken only where the primary measure is better, and adjusted by the
    factor by which its own p was: so of what is claimed of task B, too, at most alpha of families err.
    """
    margin = settings.task_b_margin
    if margin is None or settings.primary == FINAL_B or len(learnt) < FEWEST_FOR_INTERVAL:
        return {"task_b_difference": np.nan, "p_task_b": np.nan, "keeps_task_b": None}
    p = inside(learnt, low=-np.inf, high=margin)
    mean = float(differences.mean()) if len(differences) else np.nan
    better = judgement.verdict == DIFFERENT and MEASURES[settings.primary].judgement(mean) == "better"
    plain = paired_test(differences).p
    kept = stays(p, plain=plain, adjusted=judgement.p, alpha=settings.alpha) if better else None
    return {"task_b_difference": float(learnt.mean()), "p_task_b": p, "keeps_task_b": kept}


def stays_if_skewed(differences: Values, judgement: Judgement, *, settings: Inference) -> bool | None:
    """Return whether a verdict stays on the wide reference, adjusted by the factor by which its own p was."""
    second = second_claim(settings)
    if judgement.verdict == DIFFERENT:
        plain, adjusted, wide = paired_test(differences).p, judgement.p, wide_p(differences)
    elif second is not None and judgement.verdict == second.verdict:
        plain, wide = (
            inside(differences, low=second.low, high=second.high, wide=wide) for wide in (False, True)
        )
        adjusted = judgement.p_equivalence
    else:
        return None
    return stays(wide, plain=plain, adjusted=adjusted, alpha=settings.alpha)
