"""Contrasts: strategy - baseline at one mix and axes, paired by seed, with test, intervals and verdict.

Owns who is compared over what and how a family is adjusted; the statistics are analysis.inference's.
"""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.inference import FEWEST_FOR_INTERVAL, effect_size, holm, paired_test, sign_flip, tost
from analysis.measures import MEASURES
from analysis.outcomes import BASELINE
from analysis.pairs import DIFFERENCE_SUFFIX, PAIRED, STANDING, UNFINISHED, UNMATCHED
from analysis.power import seeds_to_resolve
from analysis.sequential import look_level
from analysis.settings import Inference
from analysis.tidy import Study
from analysis.verdicts import in_family, judge
from trainables import columns

Values = npt.NDArray[np.float64]
Groups = list[tuple[dict[str, Any], pd.DataFrame]]  # a contrast's label and its planned pairs

CONTRAST_COLUMNS = (
    "measure",
    "in_family",
    "n_planned",  # = n + n_left_out + n_undefined + n_diverged + n_failed + n_unfinished
    "n",
    "n_left_out",  # pairs of done runs that are not known to have seen the same examples at the same steps
    "n_undefined",  # matched pairs in which the measure has no value
    "n_diverged",  # pairs of which a run diverged
    "n_failed",
    "n_unfinished",
    "difference",
    "sd",
    "low",
    "high",
    "low_adjusted",
    "high_adjusted",
    "p",
    "p_holm",
    "effect_size",
    "effect_low",
    "effect_high",
    "p_sign_flip",
    "p_sign_flip_smallest",
    "p_equivalence",
    "p_equivalence_holm",
    "verdict",
    "seeds_needed",  # infinite where more than anyone would run, NaN where unknown
)


def find_contrasts(planned: pd.DataFrame, *, study: Study, settings: Inference) -> pd.DataFrame:
    """Return a row a planned contrast of the primary measure: strategy, mix, *axes, CONTRAST_COLUMNS.

    The family is every strategy but no replay and the A/A control, at every mix and axes: all that was
    declared counts, whether or not it has run. Its p values are Holm's, its adjusted intervals Bonferroni's
    at level 1 - alpha / m. With looks both are at the level of a look, 1 - alpha / (looks * m), p values
    multiplied by looks * m. Other rows stand alone: their adjusted columns repeat the plain ones.
    """
    groups = _groups(planned, study=study)
    size = sum(in_family(label[columns.STRATEGY]) for label, _ in groups)
    level = adjusted_level(settings, contrasts=size)
    rows = _estimates(groups, settings=settings, measure=settings.primary, family_level=level)
    frame = _judged(pd.DataFrame(rows, columns=[*_keys(study), *CONTRAST_COLUMNS]), settings=settings)
    frame["seeds_needed"] = _seeds_needed(frame, settings=settings)
    return frame


def find_secondary(planned: pd.DataFrame, *, study: Study, settings: Inference) -> pd.DataFrame:
    """Return the same columns for every other measure: exploratory, unadjusted, not in the family.

    The smallest effect is declared in the primary measure's unit, so nothing here is tested for equivalence,
    and no seeds are planned for it: `seeds_needed` is NaN. Nor is the sign-flip test done: its columns are NaN.
    """
    alone = Inference(primary=settings.primary, level=settings.level, power=settings.power)
    groups = _groups(planned, study=study)
    rows = [
        row
        for measure in MEASURES
        if measure != settings.primary
        for row in _estimates(groups, settings=alone, measure=measure, family_level=None)
    ]
    return _judged(pd.DataFrame(rows, columns=[*_keys(study), *CONTRAST_COLUMNS]), settings=alone)


def find_aa(pairs: pd.DataFrame, *, study: Study, settings: Inference) -> pd.DataFrame:
    """Return the differences of the A/A control, what no difference looks like: matched pairs alone.

    Columns: strategy, mix, seed, *axes, difference (of the primary measure).
    """
    chosen = pairs[(pairs[columns.STRATEGY] == columns.AA) & pairs["matched"].astype(bool)]
    kept = chosen[[*columns.LABEL_COLUMNS, *study.axes, settings.primary + DIFFERENCE_SUFFIX]]
    return kept.rename(columns={settings.primary + DIFFERENCE_SUFFIX: "difference"}).reset_index(drop=True)


def contrast_notes(contrasts: pd.DataFrame, *, settings: Inference) -> tuple[str, ...]:
    """Return what a reader of the contrasts must know that no column says."""
    if contrasts.empty:
        return (f"Contrasts: the study plans no strategy to compare with {BASELINE!r} at a mix above 0.",)
    notes = []
    if settings.smallest_effect is None:
        notes.append("No smallest effect of interest is declared, so no contrast can be found equivalent.")
    if settings.looks:
        notes.append(
            f"The study has {len(settings.looks)} looks: adjusted p values are multiplied by looks times contrasts, "
            "and adjusted intervals are at that same level."
        )
    return tuple(notes)


def adjusted_level(settings: Inference, *, contrasts: int) -> float:
    """Return the level of each interval of a family so that all hold together, at every look."""
    return look_level(settings.level, looks=max(1, len(settings.looks)), contrasts=max(1, contrasts))


def _keys(study: Study) -> list[str]:
    return [columns.STRATEGY, columns.MIX, *study.axes]


def _groups(planned: pd.DataFrame, *, study: Study) -> Groups:
    """Return every contrast's label and planned pairs, in the order of `planned`."""
    keys = _keys(study)
    groups = planned.groupby(keys, sort=False)
    return [(dict(zip(keys, values, strict=True)), group) for values, group in groups]


def _estimates(
    groups: Groups, *, settings: Inference, measure: str, family_level: float | None
) -> list[dict[str, Any]]:
    """Return every contrast's counts and estimates; no p value is adjusted yet.

    `family_level` is that of the family's intervals; None where there is no family.
    """
    rows = []
    for label, group in groups:
        member = family_level is not None and in_family(label[columns.STRATEGY])
        level = family_level if member and family_level is not None else settings.level
        standing = group[STANDING].to_numpy(object)
        paired = group[measure + DIFFERENCE_SUFFIX].to_numpy(np.float64)[standing == PAIRED]
        differences = paired[np.isfinite(paired)]
        counts = _counts(standing, n=len(differences))
        estimate = _estimate(differences, settings=settings, level=level)
        if family_level is not None:  # secondary measures go without: it is most of the work
            flip = sign_flip(differences)
            estimate |= {"p_sign_flip": flip.p, "p_sign_flip_smallest": flip.smallest}
        rows.append({**label, "measure": measure, "in_family": member, **counts, **estimate})
    return rows


def _counts(standing: npt.NDArray[Any], *, n: int) -> dict[str, int]:
    """Return how many planned pairs there are, and what became of each."""
    count = Counter(standing.tolist())
    return {
        "n_planned": len(standing),
        "n": n,
        "n_left_out": count[UNMATCHED],
        "n_undefined": count[PAIRED] - n,
        "n_diverged": count[columns.DIVERGED],
        "n_failed": count[columns.FAILED],
        "n_unfinished": count[UNFINISHED],
    }


def _estimate(differences: Values, *, settings: Inference, level: float) -> dict[str, float]:
    """Return the estimates over one contrast's differences (n,); NaN where n carries none."""
    plain = paired_test(differences, level=settings.level)
    adjusted = plain if level == settings.level else paired_test(differences, level=level)
    size = effect_size(differences, level=settings.level)
    margin = settings.smallest_effect
    return {
        "difference": plain.mean,
        "sd": plain.sd,
        "low": plain.low,
        "high": plain.high,
        "low_adjusted": adjusted.low,
        "high_adjusted": adjusted.high,
        "p": plain.p,
        "effect_size": size.value,
        "effect_low": size.low,
        "effect_high": size.high,
        "p_sign_flip": np.nan,
        "p_sign_flip_smallest": np.nan,
        "p_equivalence": np.nan if margin is None else tost(differences, margin),
    }


def _judged(rows: pd.DataFrame, *, settings: Inference) -> pd.DataFrame:
    """Return the rows with adjusted p values and verdicts: the family's together, any other alone."""
    frame = rows.astype({"in_family": bool})
    family = frame["in_family"].to_numpy(bool)
    for plain, adjusted in (("p", "p_holm"), ("p_equivalence", "p_equivalence_holm")):
        values = frame[plain].to_numpy(np.float64).copy()
        values[family] = adjust(values[family], settings=settings)
        frame[adjusted] = values
    pairs = zip(frame["p_holm"], frame["p_equivalence_holm"], strict=True)
    frame["verdict"] = [judge(p, equivalence, alpha=settings.alpha) for p, equivalence in pairs]
    return frame


def adjust(p: Values, *, settings: Inference) -> Values:
    """Return a family's p values (m,) adjusted for m declared tests: Holm, or Bonferroni over looks and tests.

    A test without a p value (NaN) stays so, and counts as p = 1: the adjustment is that of all declared.
    """
    known = np.isfinite(p)
    if settings.looks:
        adjusted = np.minimum(1.0, np.where(known, p, 1.0) * len(settings.looks) * len(p))
    else:
        adjusted = holm(np.where(known, p, 1.0))
    return np.where(known, adjusted, np.nan)


def _seeds_needed(frame: pd.DataFrame, *, settings: Inference) -> list[float]:
    """Return the pairs in all that would decide each contrast; infinite where no one would run as many."""
    size = int(frame["in_family"].sum()) * max(1, len(settings.looks))
    needed = []
    for n, sd, difference, member in frame[["n", "sd", "difference", "in_family"]].itertuples(index=False):
        if n < FEWEST_FOR_INTERVAL:
            needed.append(float("nan"))
            continue
        seeds = seeds_to_resolve(
            sd,
            smallest_effect=settings.smallest_effect,
            difference=difference,
            alpha=settings.alpha,
            power=settings.power,
            comparisons=size if member else 1,
        )
        needed.append(float("inf") if seeds is None else float(seeds))
    return needed
