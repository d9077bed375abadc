"""Whether a verdict hangs on the test, on one seed, or on how examples are weighted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.findings.family import Contrast
from analysis.findings.judgement import contrast_of
from analysis.findings.multiplicity import stays
from analysis.findings.outcomes import BASELINE_SUFFIX
from analysis.findings.pairs import DIFFERENCE_SUFFIX, PAIRED, SECOND, STANDING, grid_of
from analysis.findings.rounds import Judgement
from analysis.findings.verdicts import second_claim
from analysis.reading.declaration import Inference
from analysis.reading.study import CELL, STATE, RecordedStudy
from analysis.stats.intervals import (
    FEWEST_FOR_INTERVAL,
    Values,
    inside,
    paired_test,
    sign_flip,
    spread_by_grid,
    wide_p,
)
from analysis.stats.measures import FORGETTING
from trainables.ledger import schema

COLUMNS = (
    "verdict",
    "n",
    "difference",
    "p",  # of the claim that the verdict makes, of a difference where it makes none; all are unadjusted
    "p_sign_flip",  # of a difference
    "p_wide",
    "p_without_a_seed",  # the largest when each seed is left out in turn
    "seed_that_matters",  # the one that is left out there
    "stays_without_a_seed",  # whether the verdict stays whichever seed is left out; None where there is none
    "difference_by_example",  # of the mean over examples, each counted once, not by its tokens
)


def find_sensitivity(
    planned: pd.DataFrame,
    judgements: Mapping[Contrast, Judgement],
    *,
    study: RecordedStudy,
    settings: Inference,
) -> pd.DataFrame:
    """Return a row a contrast of the family with three pairs or more: strategy, mix, *axes, COLUMNS."""
    keys = [schema.STRATEGY, schema.MIX, *study.axes]
    by_example = _forgetting_by_example(study) if settings.primary == FORGETTING else {}
    rows = []
    for values, group in planned.groupby(keys, sort=False):
        label = dict(zip(keys, values, strict=True))
        judgement = judgements.get(contrast_of(label, axes=study.axes))
        if judgement is None:
            continue
        pairs = group[group[schema.SEED].isin(judgement.look.seeds) & (group[STANDING] == PAIRED)]
        pairs = pairs[np.isfinite(pairs[settings.primary + DIFFERENCE_SUFFIX].astype(float))]
        if len(pairs) < FEWEST_FOR_INTERVAL:
            continue
        plain = pairs[settings.primary + DIFFERENCE_SUFFIX].to_numpy(np.float64)
        differences = spread_by_grid(plain, grid_of(settings.primary, study=study))
        found = _tests(differences, pairs[schema.SEED].tolist(), judgement, settings=settings)
        weighted = _mean_by_example(pairs, by_example)
        rows.append({**label, **found, "difference_by_example": weighted})
    return pd.DataFrame(rows, columns=[*keys, *COLUMNS])


def _tests(
    differences: Values, seeds: list[int], judgement: Judgement, *, settings: Inference
) -> dict[str, Any]:
    second = second_claim(settings)
    claimed = second if second is not None and judgement.verdict == second.verdict else None

    def p_of(values: Values, *, wide: bool = False) -> float:
        if claimed is not None:
            return inside(values, low=claimed.low, high=claimed.high, wide=wide)
        return wide_p(values) if wide else paired_test(values).p

    plain = p_of(differences)
    without = [p_of(np.delete(differences, place)) for place in range(len(differences))]
    worst = int(np.nanargmax(without)) if np.isfinite(without).any() else None
    adjusted = judgement.p if claimed is None else judgement.p_equivalence
    kept: bool | None = None
    if judgement.decided and worst is not None:
        kept = stays(without[worst], plain=plain, adjusted=adjusted, alpha=settings.alpha)
    return {
        "verdict": judgement.verdict,
        "n": len(differences),
        "difference": float(differences.mean()),
        "p": plain,
        "p_sign_flip": sign_flip(differences).p,
        "p_wide": p_of(differences, wide=True),
        "p_without_a_seed": np.nan if worst is None else without[worst],
        "seed_that_matters": np.nan if worst is None else seeds[worst],
        "stays_without_a_seed": kept,
    }


def _forgetting_by_example(study: RecordedStudy) -> dict[str, float]:
    """Return each done cell's rise of the loss that counts every example of task A once."""
    done = study.rows[study.rows[STATE] == schema.DONE].drop_duplicates([CELL, schema.STEP])
    ordered = done.sort_values(schema.STEP, kind="stable").groupby(CELL)[schema.TASK_A_LOSS_PER_EXAMPLE]
    rise: pd.Series = ordered.last() - ordered.first()
    return {str(key): float(value) for key, value in rise.items()}


def _mean_by_example(pairs: pd.DataFrame, rises: Mapping[str, float]) -> float:
    """Return the mean difference of pairs in those rises, the baseline's the mean over its draws."""
    partners = [name for name in (CELL + BASELINE_SUFFIX, CELL + BASELINE_SUFFIX + SECOND) if name in pairs]
    own = pairs[CELL].map(rises)
    baseline = pd.concat([pairs[name].map(rises) for name in partners], axis=1).mean(axis=1)
    return float((own - baseline).mean())
