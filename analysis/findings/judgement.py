"""The judgement of a study: every contrast of the family at its newest look, as far as its seeds have ended.

The one procedure: the sweep asks it what runs next, and the report what was found.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.findings.design import Batch, Look, read_design
from analysis.findings.family import Contrast, PlannedLabel, family
from analysis.findings.multiplicity import Judged, judge_together
from analysis.findings.pairs import DIFFERENCE_SUFFIX, PAIRED, STANDING, UNFINISHED
from analysis.findings.verdicts import UNRESOLVED
from analysis.reading.declaration import Inference
from analysis.reading.study import CELL, RecordedStudy
from analysis.stats.intervals import Values
from trainables.ledger import schema


@dataclass(frozen=True)
class Judgement:
    """What is known of one contrast of the family.

    `look`: the newest that was `taken`, or the first, which is still to come; `upcoming`: the next one, None
    once the contrast is decided. `n` pairs count there; `sharing` contrasts share the alpha of its `batch`.
    `p` and `p_equivalence` are adjusted for the family and for all looks, to be compared with the study's
    alpha; NaN before the first look.
    """

    verdict: str
    look: Look
    taken: bool
    upcoming: Look | None
    batch: Batch
    n: int
    sharing: int
    p: float
    p_equivalence: float

    @property
    def decided(self) -> bool:
        return self.verdict != UNRESOLVED

    @property
    def level_adjusted(self) -> float:
        """The level of an interval that holds with those of the whole family, whenever the study ends."""
        return 1 - self.look.alpha / self.sharing

    def level(self, alpha: float) -> float:
        """Return the level of an interval that holds by itself, at 1 - alpha, whenever the study ends."""
        return 1 - alpha * self.look.share


@dataclass(frozen=True)
class PlannedPairs:
    """A contrast's planned pairs by seed: what became of each, and the primary measure's difference."""

    standing: Mapping[int, str]
    differences: Mapping[int, float]

    def ended(self, seeds: Collection[int]) -> bool:
        """Whether both runs of every seed have ended, by whatever way."""
        return all(self.standing.get(seed, UNFINISHED) != UNFINISHED for seed in seeds)

    def values(self, seeds: Collection[int]) -> Values:
        """Return the differences of those seeds that make a pair in which the measure has a value, (n,)."""
        found = [self.differences[seed] for seed in seeds if self.standing.get(seed) == PAIRED]
        known = np.array(found, dtype=np.float64)
        return known[np.isfinite(known)]


def judge_study(
    planned: pd.DataFrame, *, study: RecordedStudy, settings: Inference
) -> dict[Contrast, Judgement]:
    """Return the judgement of every contrast of the family; `planned` are the pairs of `plan_pairs`.

    A contrast is judged at a look once both runs of each of its seeds have ended; a verdict stands from then
    on, and the others share what the decided ones leave (`close`). See `read_design` for what this
    holds against.
    """
    labels = planned_labels(study)
    seeds = sorted({label.seed for label in labels})
    design = read_design(study.description, seeds=seeds, settings=settings)
    pairs = _planned_pairs(planned, study=study, settings=settings)
    members = family(labels, baseline=study.baseline)
    found: dict[Contrast, Judgement] = {}
    for batch in design.batches:
        own = [contrast for contrast in members if design.batch(contrast) is batch]
        if own:
            found |= _judge_batch(batch, {each: pairs[each] for each in own}, settings=settings)
    return {contrast: found[contrast] for contrast in members}


def planned_labels(study: RecordedStudy) -> list[PlannedLabel]:
    """Return every label of the study's plan, as the family is made of them."""
    names = [*schema.LABEL_COLUMNS, *study.axes, CELL]
    records = study.cells[names].to_dict("records")
    return [
        PlannedLabel(contrast_of(each, axes=study.axes), each[schema.SEED], _key(each[CELL]))
        for each in records
    ]


def _key(value: object) -> str | None:
    return value if isinstance(value, str) else None  # a frame holds NaN for none


def contrast_of(label: Mapping[Any, Any], *, axes: Sequence[str]) -> Contrast:
    """Return the contrast that a label belongs to."""
    return Contrast(label[schema.STRATEGY], label[schema.MIX], tuple((name, label[name]) for name in axes))


def _planned_pairs(
    planned: pd.DataFrame, *, study: RecordedStudy, settings: Inference
) -> dict[Contrast, PlannedPairs]:
    difference = settings.primary + DIFFERENCE_SUFFIX
    keys = [schema.STRATEGY, schema.MIX, *study.axes]
    found = {}
    for values, group in planned.groupby(keys, sort=False):
        label = dict(zip(keys, values, strict=True))
        seeds = group[schema.SEED].tolist()
        found[contrast_of(label, axes=study.axes)] = PlannedPairs(
            dict(zip(seeds, group[STANDING], strict=True)),
            dict(zip(seeds, group[difference].astype(float), strict=True)),
        )
    return found


def _judge_batch(
    batch: Batch, pairs: Mapping[Contrast, PlannedPairs], *, settings: Inference
) -> dict[Contrast, Judgement]:
    """Take one look after the other at the contrasts of a batch, as long as one of them is open and ready."""
    looks = list(batch.looks())
    found = {
        contrast: Judgement(
            UNRESOLVED,
            looks[0],
            False,
            looks[0],
            batch,
            len(own.values(looks[0].seeds)),
            len(pairs),
            np.nan,
            np.nan,
        )
        for contrast, own in pairs.items()
    }
    for look, upcoming in zip(looks, [*looks[1:], None], strict=True):
        still = [contrast for contrast in pairs if not found[contrast].decided]
        ready = [each for each in still if look.complete and pairs[each].ended(look.seeds)]
        if not ready:
            break
        others = _still_counting(found, settings=settings)
        none = np.array([], dtype=np.float64)
        differences = {each: pairs[each].values(look.seeds) if each in ready else none for each in still}
        judged = judge_together(
            differences, alpha=look.alpha, smallest_effect=settings.smallest_effect, others=others
        )
        for contrast in ready:
            before = replace(found[contrast], look=look, n=len(differences[contrast]), taken=True)
            found[contrast] = _taken(judged[contrast], before, upcoming=upcoming, alpha=settings.alpha)
    return found


def _still_counting(found: Mapping[Contrast, Judgement], *, settings: Inference) -> int:
    """Return how many decided contrasts share alpha still: those of which another claim would be possible."""
    if settings.smallest_effect is None:
        return 0
    largest = [np.fmax(each.p, each.p_equivalence) for each in found.values() if each.decided]
    return sum(bool(p > settings.alpha) for p in largest)


def _taken(judged: Judged, before: Judgement, *, upcoming: Look | None, alpha: float) -> Judgement:
    """Return a contrast's judgement once a look was taken, its p values on the scale of the study's alpha."""
    scale = alpha / before.look.alpha if before.look.alpha else np.inf
    p, equivalence = (
        float(np.fmin(min(1.0, new * scale) if np.isfinite(new) else np.nan, old))
        for new, old in ((judged.p, before.p), (judged.p_equivalence, before.p_equivalence))
    )
    return replace(
        before,
        verdict=judged.verdict,
        upcoming=upcoming if judged.verdict == UNRESOLVED else None,
        p=p,
        p_equivalence=equivalence,
    )
