"""The judgement of a study: every contrast of the family at its newest look, as far as its seeds have ended.

Owns which contrasts are judged together. The one procedure: the sweep asks it what runs next, and the report
what was found.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.findings.design import read_design
from analysis.findings.family import ALL_MIXES, Contrast, PlannedLabel, family
from analysis.findings.pairs import DIFFERENCE_SUFFIX, STANDING, grid_of
from analysis.findings.rounds import Judgement, PlannedPairs, take_looks
from analysis.findings.strategies_first import judge_strategies
from analysis.reading.declaration import TOGETHER, Inference
from analysis.reading.study import CELL, RecordedStudy
from trainables.ledger import schema


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
    pairs = planned_pairs(planned, study=study, settings=settings)
    members = family(labels, baseline=study.baseline)
    found: dict[Contrast, Judgement] = {}
    for batch in design.batches:
        own = [contrast for contrast in members if design.batch(contrast) is batch]
        if own:
            added = any(each._replace(mix=ALL_MIXES) in found for each in own)
            judge = take_looks if settings.order == TOGETHER or added else judge_strategies
            found |= judge(batch, {each: pairs[each] for each in own}, settings=settings)
    return {each: found[each] for each in sorted(found, key=lambda each: each.mix != ALL_MIXES)}


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


def planned_pairs(
    planned: pd.DataFrame, *, study: RecordedStudy, settings: Inference
) -> dict[Contrast, PlannedPairs]:
    """Return the planned pairs of every contrast, in the order of `planned`."""
    difference, grid = settings.primary + DIFFERENCE_SUFFIX, grid_of(settings.primary, study=study)
    keys = [schema.STRATEGY, schema.MIX, *study.axes]
    found = {}
    for values, group in planned.groupby(keys, sort=False):
        label = dict(zip(keys, values, strict=True))
        seeds = group[schema.SEED].tolist()
        found[contrast_of(label, axes=study.axes)] = PlannedPairs(
            dict(zip(seeds, group[STANDING], strict=True)),
            dict(zip(seeds, group[difference].astype(float), strict=True)),
            grid,
        )
    return found
