"""Contrasts: strategy - baseline at one mix and axes, paired by seed, with test, intervals and verdict.

Owns who is compared over what and how a family is adjusted; the statistics are analysis.stats.intervals's.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.findings.adjustment import adjusted_level, judged, seeds_needed
from analysis.findings.family import Contrast, PlannedLabel, family, identical
from analysis.findings.multiplicity import ended_looks
from analysis.findings.pairs import DIFFERENCE_SUFFIX, PAIRED, STANDING, UNFINISHED, UNMATCHED
from analysis.findings.verdicts import IDENTICAL, UNRESOLVED
from analysis.reading.declaration import Inference
from analysis.reading.study import CELL, RecordedStudy
from analysis.stats.intervals import effect_size, paired_test, sign_flip, tost
from analysis.stats.measures import MEASURES
from trainables.ledger import schema

Values = npt.NDArray[np.float64]
Groups = list[tuple[dict[str, Any], pd.DataFrame]]  # a contrast's label and its planned pairs

CONTRAST_COLUMNS = (
    "measure",
    "in_family",
    # the seeds that the verdict is from in a study with looks; NaN before the first, and without looks
    "look",
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

SECONDARY_COLUMNS = tuple(
    name
    for name in CONTRAST_COLUMNS
    if name not in ("in_family", "look", "verdict", "seeds_needed")
    and not name.endswith(("_adjusted", "_holm"))
    and not name.startswith(("p_sign_flip", "p_equivalence"))
)


def find_contrasts(planned: pd.DataFrame, *, study: RecordedStudy, settings: Inference) -> pd.DataFrame:
    """Return a row a planned contrast of the primary measure: strategy, mix, *axes, CONTRAST_COLUMNS.

    The family is every strategy but no replay and the A/A control, at every mix and axes: all that was
    declared counts, whether or not it has run, but for labels that are the baseline's own runs (*identical*).
    Its p values are Holm's, its adjusted intervals Bonferroni's at level 1 - alpha / m. With looks both are
    at the level of a look, 1 - alpha / (looks * m), p values multiplied by looks * m, and only the seeds of
    the newest look count (`look`): a study is not judged between looks, and before the first nothing is
    decided. Other rows stand alone: their adjusted columns repeat the plain ones.
    """
    groups = _groups(planned, study=study)
    if not settings.looks:
        return _family(groups, study=study, settings=settings)
    frame: pd.DataFrame | None = None
    for count in ended_looks(study.cells, settings.looks):
        frame = _family(groups, study=study, settings=settings, first_seeds=count).assign(look=float(count))
        if not (frame["in_family"] & (frame["verdict"] == UNRESOLVED)).any():
            break
    return _before_looks(groups, study=study, settings=settings) if frame is None else frame


def _family(
    groups: Groups, *, study: RecordedStudy, settings: Inference, first_seeds: float = math.inf
) -> pd.DataFrame:
    """Return the contrasts of `groups` over the first seeds, judged together."""
    labels = planned_labels(study)
    members = family(labels, baseline=study.baseline, first_seeds=first_seeds)
    level = adjusted_level(settings, contrasts=len(members))
    chosen = [(label, group[group[schema.SEED] < first_seeds]) for label, group in groups]
    rows = _estimates(
        chosen, settings=settings, measure=settings.primary, members=members, family_level=level
    )
    same = identical(labels, baseline=study.baseline, first_seeds=first_seeds)
    for row in rows:
        if _contrast(row, axes=study.axes) in same:
            row["verdict"] = IDENTICAL
    frame = judged(pd.DataFrame(rows, columns=[*_keys(study), *CONTRAST_COLUMNS]), settings=settings)
    frame["seeds_needed"] = seeds_needed(frame, settings=settings)
    return frame


def planned_labels(study: RecordedStudy) -> list[PlannedLabel]:
    """Return every label of the study's plan, as the family is made of them."""
    names = [*schema.LABEL_COLUMNS, *study.axes, CELL]
    records = study.cells[names].to_dict("records")
    return [
        PlannedLabel(_contrast(each, axes=study.axes), each[schema.SEED], _key(each[CELL]))
        for each in records
    ]


def _key(value: object) -> str | None:
    return value if isinstance(value, str) else None  # a frame holds NaN for none


def _contrast(label: Mapping[Any, Any], *, axes: Sequence[str]) -> Contrast:
    return Contrast(label[schema.STRATEGY], label[schema.MIX], tuple((name, label[name]) for name in axes))


def _before_looks(groups: Groups, *, study: RecordedStudy, settings: Inference) -> pd.DataFrame:
    """Return the contrasts so far of a study whose first look has not come: none is decided."""
    frame = _family(groups, study=study, settings=settings, first_seeds=settings.looks[0])
    return frame.assign(verdict=frame["verdict"].where(~frame["in_family"], UNRESOLVED))


def find_secondary(planned: pd.DataFrame, *, study: RecordedStudy, settings: Inference) -> pd.DataFrame:
    """Return a row a contrast and every other measure, SECONDARY_COLUMNS: exploratory and unadjusted.

    No verdict rests on them: nothing is adjusted, tested for equivalence (the smallest effect is in the
    primary measure's unit) or planned for.
    """
    alone = Inference(primary=settings.primary, level=settings.level, power=settings.power)
    groups = _groups(planned, study=study)
    rows = [
        row
        for measure in MEASURES
        if measure != settings.primary
        for row in _estimates(groups, settings=alone, measure=measure)
    ]
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
        notes.append("No smallest effect of interest is declared, so no contrast can be found equivalent.")
    if settings.looks:
        notes.append(
            f"The study has {len(settings.looks)} looks: adjusted p values are multiplied by looks times "
            "contrasts, and adjusted intervals are at that same level."
        )
    return tuple(notes)


def _keys(study: RecordedStudy) -> list[str]:
    return [schema.STRATEGY, schema.MIX, *study.axes]


def _groups(planned: pd.DataFrame, *, study: RecordedStudy) -> Groups:
    """Return every contrast's label and planned pairs, in the order of `planned`."""
    keys = _keys(study)
    groups = planned.groupby(keys, sort=False)
    return [(dict(zip(keys, values, strict=True)), group) for values, group in groups]


def _estimates(
    groups: Groups,
    *,
    settings: Inference,
    measure: str,
    members: Collection[Contrast] = (),
    family_level: float | None = None,
) -> list[dict[str, Any]]:
    """Return every contrast's counts and estimates; no p value is adjusted yet.

    `family_level` is that of the intervals of the family's `members`; None where there is no family.
    """
    rows = []
    for label, group in groups:
        axes = [name for name in label if name not in schema.LABEL_COLUMNS]
        member = _contrast(label, axes=axes) in members
        level = family_level if member and family_level is not None else settings.level
        standing = group[STANDING].to_numpy(object)
        paired = group[measure + DIFFERENCE_SUFFIX].to_numpy(np.float64)[standing == PAIRED]
        differences = paired[np.isfinite(paired)]
        counts = _counts(standing, n=len(differences))
        estimate = _estimate(differences, settings=settings, level=level)
        if family_level is not None:  # secondary measures go without: it is most of the work
            flip = sign_flip(differences)
            estimate |= {"p_sign_flip": flip.p, "p_sign_flip_smallest": flip.smallest}
        rows.append({**label, "measure": measure, "in_family": member, "look": np.nan, **counts, **estimate})
    return rows


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
