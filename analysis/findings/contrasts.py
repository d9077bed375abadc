"""Contrasts: strategy - baseline at one mix and axes, paired by seed, with test, intervals and verdict.

Owns who is compared over what and how a family is adjusted; the statistics are analysis.stats.intervals's.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.findings.companions import find_shares_of_replay, judge_task_b, stays_if_skewed
from analysis.findings.design import Look
from analysis.findings.family import ALL_MIXES, Contrast, identical
from analysis.findings.judgement import contrast_of, planned_labels, planned_pairs
from analysis.findings.outcomes import BASELINE_SUFFIX
from analysis.findings.pairs import DIFFERENCE_SUFFIX, PAIRED, STANDING, UNFINISHED, UNMATCHED, grid_of
from analysis.findings.rounds import Judgement, PlannedPairs
from analysis.findings.seeds_needed import seeds_to_add
from analysis.findings.strategies_first import average, averaged
from analysis.findings.verdicts import IDENTICAL, judge, second_claim
from analysis.reading.declaration import Inference
from analysis.reading.study import CELL, RecordedStudy
from analysis.stats.intervals import (
    effect_size,
    inside,
    paired_test,
    sign_flip,
    skew_p,
    spread_by_grid,
)
from analysis.stats.measures import FINAL_B, MEASURES
from trainables.ledger import schema

Values = npt.NDArray[np.float64]
Groups = list[tuple[dict[str, Any], pd.DataFrame]]  # a contrast's label and its planned pairs

CONTRAST_COLUMNS = (
    "measure",
    "in_family",
    "look",  # the seeds of the newest look that was taken; NaN before the first, and outside the family
    "next_look",  # the seeds of the next one; NaN once the contrast is decided
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
    "interval_level",
    "adjusted_level",
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
    "p_skew",  # of no skewness in the differences; NaN below eight pairs
    "stays_if_skewed",  # whether the verdict stays on the wide reference; None where there is none
    "task_b_difference",  # of the final loss; NaN unless a margin is declared
    "p_task_b",  # of task B's loss being the margin or more above the baseline's
    "share_of_replay",  # of what the baseline's replay recovers, where that is clear of 0; else NaN
    "keeps_task_b",  # whether what is better learns task B too; None where nothing is, or no margin declared
    "seeds_to_add_low",  # infinite where more than anyone would run, NaN where unknown
    "seeds_to_add_high",
)

SECONDARY_COLUMNS = tuple(
    name
    for name in CONTRAST_COLUMNS
    if name
    not in ("in_family", "look", "next_look", "verdict", "p_skew", "stays_if_skewed", "adjusted_level")
    and "task_b" not in name
    and name != "share_of_replay"
    and not name.endswith(("_adjusted", "_holm"))
    and not name.startswith(("p_sign_flip", "p_equivalence", "seeds_to_add"))
)


Judgements = Mapping[Contrast, Judgement]


def find_contrasts(
    planned: pd.DataFrame, *, judgements: Judgements, study: RecordedStudy, settings: Inference
) -> pd.DataFrame:
    """Return a row a planned contrast of the primary measure: strategy, mix, *axes, CONTRAST_COLUMNS.

    The family is every strategy but no replay and the A/A control, at every mix and axes: all that was
    declared counts, whether or not it has run, but for labels that are the baseline's own runs (*identical*).
    A contrast is judged at its newest look (`judge_study`): its numbers are those of the look's seeds, and
    before the first they are those so far and nothing is decided. `low` to `high` holds by itself at the
    declared level whenever the study ends, for which it is computed at `interval_level`; the adjusted one
    holds with those of the whole family. Adjusted p values are compared with alpha. Other rows stand alone,
    at the seeds of the family's newest look.
    """
    same = identical(planned_labels(study), baseline=study.baseline)
    newest = _newest(judgements)
    rows = []
    for label, group in _groups(planned, study=study):
        contrast = contrast_of(label, axes=study.axes)
        judgement = judgements.get(contrast)
        chosen = _of_look(group, judgement.look if judgement else newest)
        differences, counts = _differences(chosen, measure=settings.primary, study=study)
        row = {**label, "measure": settings.primary, "in_family": judgement is not None, **counts}
        if judgement is None:
            row |= _alone(differences, settings=settings, same=contrast in same)
        else:
            row |= _judged(differences, judgement, settings=settings, alone=len(judgements) == 1)
            learnt, _ = _differences(chosen, measure=FINAL_B, study=study)
            row |= judge_task_b(learnt, differences, judgement, settings=settings)
        flip = sign_flip(differences)
        rows.append(row | {"p_sign_flip": flip.p, "p_sign_flip_smallest": flip.smallest})
    frame = pd.DataFrame(rows, columns=[*_keys(study), *CONTRAST_COLUMNS]).astype({"in_family": bool})
    return frame.assign(share_of_replay=find_shares_of_replay(frame, study=study, settings=settings))


def find_over_all(
    planned: pd.DataFrame, *, judgements: Judgements, study: RecordedStudy, settings: Inference
) -> pd.DataFrame:
    """Return a row a strategy and axes, of its mean over the mixes, as `find_contrasts` has them of one mix.

    Empty where every contrast of the family is judged together.
    """
    pairs = planned_pairs(planned, study=study, settings=settings)
    pairs_b = planned_pairs(planned, study=study, settings=replace(settings, primary=FINAL_B))
    strategies = [contrast for contrast in judgements if contrast.mix == ALL_MIXES]
    rows = []
    for whole in strategies:
        own, judgement = averaged(judgements, whole), judgements[whole]
        kept = {each: pairs[each] for each in own}, {each: pairs_b[each] for each in own}
        mean, learnt = (average(each, weights=settings.weights) for each in kept)
        differences, standing = mean.values(judgement.look.seeds), _standing(mean, judgement.look)
        label = {schema.STRATEGY: whole.strategy, schema.MIX: whole.mix, **dict(whole.axes)}
        row = {"measure": settings.primary, "in_family": True, **_counts(standing, n=len(differences))}
        row |= _judged(differences, judgement, settings=settings, alone=len(strategies) == 1)
        row |= judge_task_b(learnt.values(judgement.look.seeds), differences, judgement, settings=settings)
        flip = sign_flip(differences)
        rows.append(label | row | {"p_sign_flip": flip.p, "p_sign_flip_smallest": flip.smallest})
    return pd.DataFrame(rows, columns=[*_keys(study), *CONTRAST_COLUMNS]).astype({"in_family": bool})


def _standing(pairs: PlannedPairs, look: Look) -> npt.NDArray[Any]:
    """Return what became of the planned pairs of a look's seeds."""
    return np.array([what for seed, what in pairs.standing.items() if seed in look.seeds], dtype=object)


def _judged(differences: Values, judgement: Judgement, *, settings: Inference, alone: bool) -> dict[str, Any]:
    """Return the columns of a contrast of the family; `alone` in it, it needs no second interval."""
    level = judgement.level(settings.alpha)
    level_adjusted = level if alone else judgement.level_adjusted
    together = paired_test(differences, level=level_adjusted)
    low, high = seeds_to_add(differences, judgement, settings=settings)
    return {
        **_estimate(differences, settings=settings, level=level),
        "look": float(judgement.look.count) if judgement.taken else np.nan,
        "next_look": float(judgement.upcoming.count) if judgement.upcoming else np.nan,
        "interval_level": level,
        "adjusted_level": level_adjusted,
        "low_adjusted": together.low,
        "high_adjusted": together.high,
        "p_holm": judgement.p,
        "p_equivalence_holm": judgement.p_equivalence,
        "verdict": judgement.verdict,
        "p_skew": skew_p(differences),
        "stays_if_skewed": stays_if_skewed(differences, judgement, settings=settings),
        "seeds_to_add_low": low,
        "seeds_to_add_high": high,
    }


def _alone(differences: Values, *, settings: Inference, same: bool) -> dict[str, Any]:
    """Return the columns of a contrast outside the family: nothing is adjusted."""
    estimate = _estimate(differences, settings=settings, level=settings.level)
    second = second_claim(settings)
    p, p_second, mean = (estimate[name] for name in ("p", "p_equivalence", "difference"))
    verdict = judge(p, p_second, alpha=settings.alpha, second=second, mean=mean)
    return {
        **estimate,
        **dict.fromkeys(("look", "next_look", "seeds_to_add_low", "seeds_to_add_high"), np.nan),
        "interval_level": settings.level,
        "adjusted_level": settings.level,
        "low_adjusted": estimate["low"],
        "high_adjusted": estimate["high"],
        "p_holm": estimate["p"],
        "p_equivalence_holm": estimate["p_equivalence"],
        "verdict": IDENTICAL if same else verdict,
        "p_skew": np.nan,
        "stays_if_skewed": None,
        "task_b_difference": np.nan,
        "p_task_b": np.nan,
        "keeps_task_b": None,
    }


def find_secondary(
    planned: pd.DataFrame, *, judgements: Judgements, study: RecordedStudy, settings: Inference
) -> pd.DataFrame:
    """Return a row a contrast and every other measure, SECONDARY_COLUMNS: exploratory and unadjusted.

    Over the seeds from which the contrast's verdict is.

    No verdict rests on them: nothing is adjusted, tested for equivalence (the smallest effect is in the
    primary measure's unit) or planned for.
    """
    alone, newest = replace(settings, smallest_effect=None), _newest(judgements)
    groups = _groups(planned, study=study)
    rows = []
    for measure in MEASURES:
        if measure == settings.primary or measure not in planned:
            continue
        for label, group in groups:
            judgement = judgements.get(contrast_of(label, axes=study.axes))
            chosen = _of_look(group, judgement.look if judgement else newest)
            differences, counts = _differences(chosen, measure=measure, study=study)
            level = judgement.level(settings.alpha) if judgement else settings.level
            estimate = _estimate(differences, settings=alone, level=level)
            rows.append({**label, "measure": measure, **counts, **estimate, "interval_level": level})
    return pd.DataFrame(rows, columns=[*_keys(study), *SECONDARY_COLUMNS])


def find_aa(pairs: pd.DataFrame, *, study: RecordedStudy, settings: Inference) -> pd.DataFrame:
    """Return the differences of the A/A control, what no difference looks like: matched pairs alone.

    Columns: strategy, mix, seed, *axes, difference (of the primary measure).
    """
    chosen = pairs[(pairs[schema.STRATEGY] == schema.AA) & pairs["matched"].astype(bool)]
    kept = chosen[[*schema.LABEL_COLUMNS, *study.axes, settings.primary + DIFFERENCE_SUFFIX]]
    return kept.rename(columns={settings.primary + DIFFERENCE_SUFFIX: "difference"}).reset_index(drop=True)


def contrast_notes(contrasts: pd.DataFrame, *, study: RecordedStudy, settings: Inference) -> tuple[str, ...]:
    """Return what a reader of the contrasts must know that no column says."""
    if contrasts.empty:
        return (
            f"Contrasts: the study plans no strategy to compare with {study.baseline!r} at a mix above 0.",
        )
    notes = []
    if settings.smallest_effect is None:
        notes.append("No smallest effect of interest is declared, so no contrast can be called equivalent.")
    return tuple(notes)


def _keys(study: RecordedStudy) -> list[str]:
    return [schema.STRATEGY, schema.MIX, *study.axes]


def _groups(planned: pd.DataFrame, *, study: RecordedStudy) -> Groups:
    """Return every contrast's label and planned pairs, in the order of `planned`."""
    keys = _keys(study)
    groups = planned.groupby(keys, sort=False)
    return [(dict(zip(keys, values, strict=True)), group) for values, group in groups]


def _newest(judgements: Judgements) -> Look | None:
    return max((each.look for each in judgements.values()), key=lambda look: look.count, default=None)


def _of_look(planned: pd.DataFrame, look: Look | None) -> pd.DataFrame:
    """Return a contrast's planned pairs of the seeds of a look, or all where the study takes none."""
    return planned if look is None else planned[planned[schema.SEED].isin(look.seeds)]


def _differences(
    planned: pd.DataFrame, *, measure: str, study: RecordedStudy
) -> tuple[Values, dict[str, int]]:
    """Return a contrast's differences (n,) in a measure, and what became of its planned pairs."""
    standing = planned[STANDING].to_numpy(object)
    paired = planned[measure + DIFFERENCE_SUFFIX].to_numpy(np.float64)[standing == PAIRED]
    own, partner = planned[CELL], planned[CELL + BASELINE_SUFFIX]
    same = bool((own == partner).all())  # a run differs from itself by nothing
    grid = 0.0 if same else grid_of(measure, study=study)
    differences = spread_by_grid(paired[np.isfinite(paired)], grid)
    return differences, _counts(standing, n=len(differences))


def _counts(standing: npt.NDArray[Any], *, n: int) -> dict[str, int]:
    """Return how many planned pairs there are, and what became of each."""
    count = Counter(standing.tolist())
    return {
        "n_planned": len(standing),
        "n": n,
        "n_left_out": count[UNMATCHED],
        "n_undefined": count[PAIRED] - n,
        "n_diverged": count[schema.DIVERGED],
        "n_failed": count[schema.FAILED],
        "n_unfinished": count[UNFINISHED],
    }


def _estimate(differences: Values, *, settings: Inference, level: float) -> dict[str, float]:
    """Return the estimates over one contrast's differences (n,); NaN where n carries none."""
    test = paired_test(differences, level=level)
    size = effect_size(differences, level=level)
    second = second_claim(settings)
    return {
        "difference": test.mean,
        "sd": test.sd,
        "low": test.low,
        "high": test.high,
        "p": test.p,
        "effect_size": size.value,
        "effect_low": size.low,
        "effect_high": size.high,
        "p_equivalence": np.nan if second is None else inside(differences, low=second.low, high=second.high),
    }
