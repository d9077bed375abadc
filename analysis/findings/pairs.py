"""Pairs of runs: every planned run beside the baseline's run of its seed, and what became of the two.

A replayed run is paired with the baseline of its own mix, by seed and by recorded slots. The run without
replay has another order by design: it is paired with the baseline of every mix, by seed alone.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from analysis.findings.outcomes import (
    BASELINE_SUFFIX,
    MATCHED,
    matched_forgetting,
    read_curves,
    strategy_rank,
)
from analysis.reading.study import CELL, SLOTS_HASH, STATE, RecordedStudy
from analysis.stats.measures import MATCHED_FORGETTING, MEASURES
from trainables.ledger import schema

PAIRED_BY = "paired_by"
ROUNDING = 64 * float(np.finfo(np.float64).eps)  # of a loss: sums and differences of a few
SLOTS, BY_SEED = "slots", "seed"
STANDING = "standing"
DIFFERENCE_SUFFIX = "_difference"

PAIRED = "paired"
UNMATCHED = "unmatched"  # both done, but not known to have seen the same task B examples at the same steps
UNFINISHED = "unfinished"  # a run of the two is not done yet, or not planned
STANDINGS = (PAIRED, UNMATCHED, schema.DIVERGED, schema.FAILED, UNFINISHED)


def plan_pairs(
    study: RecordedStudy, outcomes: pd.DataFrame, *, measures: Collection[str] = tuple(MEASURES)
) -> pd.DataFrame:
    """Return every planned pair, ordered by axes, mix, strategy and seed, with its `standing`.

    Columns: strategy, mix, seed, *axes; cell, state, slots_hash and each measure, alone for the run, with
    `_baseline` for its partner; each measure's `_difference`, NaN where `outcomes` were not asked for all
    `measures`; matched, paired_by, standing.
    """
    axes = list(study.axes)
    details = [CELL, STATE, SLOTS_HASH, *MEASURES]
    strategy, mix = outcomes[schema.STRATEGY], outcomes[schema.MIX]
    keys = [schema.MIX, schema.SEED, *axes]
    baseline = outcomes.loc[(strategy == study.baseline) & (mix > 0), [*keys, *details]]
    replayed = outcomes[(mix > 0) & ~strategy.isin([study.baseline, schema.NO_REPLAY])]
    control = _without_replay(outcomes[strategy == schema.NO_REPLAY], baseline=baseline, axes=axes)
    parts = [replayed.assign(**{PAIRED_BY: SLOTS}), control.assign(**{PAIRED_BY: BY_SEED})]
    own = pd.concat([part[[schema.STRATEGY, *keys, *details, PAIRED_BY]] for part in parts])
    pairs = own.merge(baseline, on=keys, how="left", suffixes=("", BASELINE_SUFFIX))
    pairs[MATCHED] = (pairs[PAIRED_BY] == BY_SEED) | (
        pairs[SLOTS_HASH] == pairs[SLOTS_HASH + BASELINE_SUFFIX]
    )
    pairs[STANDING] = _standing(pairs)
    if MATCHED_FORGETTING in measures:
        _match_task_b(pairs, study=study)
    scale = _largest_losses(pairs, study=study)
    for name in MEASURES:
        pairs[name + DIFFERENCE_SUFFIX] = _difference(pairs[name], pairs[name + BASELINE_SUFFIX], scale=scale)
    return _ordered(pairs, keys=keys)


def _largest_losses(pairs: pd.DataFrame, *, study: RecordedStudy) -> pd.Series:
    """Return the largest finite loss that either run of each pair had, of both tasks."""
    losses = study.rows[[schema.TASK_A_LOSS, schema.TASK_B_LOSS]].abs()
    by_cell = losses.where(np.isfinite(losses)).max(axis=1).groupby(study.rows[CELL]).max()
    own, partner = (pairs[name].map(by_cell).fillna(0.0) for name in (CELL, CELL + BASELINE_SUFFIX))
    largest: pd.Series = own.where(own >= partner, partner)
    return largest


def _difference(own: pd.Series, partner: pd.Series, *, scale: pd.Series) -> pd.Series:
    """Return own - partner, 0 where that is no more than the losses behind both are rounded by."""
    difference = own - partner
    rounded = ROUNDING * np.maximum(np.maximum(own.abs(), partner.abs()), scale)
    return difference.mask(difference.abs() <= rounded, 0.0)


def _without_replay(control: pd.DataFrame, *, baseline: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Return the runs without replay once for each mix of the baseline that was planned at their axes."""
    mixes = baseline[[schema.MIX, *axes]].drop_duplicates()
    alone = control.drop(columns=schema.MIX)
    return alone.merge(mixes, on=axes) if axes else alone.merge(mixes, how="cross")


def _standing(pairs: pd.DataFrame) -> np.ndarray:
    """Return what became of each pair: the first of diverged, failed and unfinished that is true of either
    run.
    """
    own, partner = pairs[STATE], pairs[STATE + BASELINE_SUFFIX]
    diverged = (own == schema.DIVERGED) | (partner == schema.DIVERGED)
    failed = (own == schema.FAILED) | (partner == schema.FAILED)
    open_ = (own != schema.DONE) | (partner != schema.DONE)
    return np.select(
        [diverged, failed, open_, pairs[MATCHED]],
        [schema.DIVERGED, schema.FAILED, UNFINISHED, PAIRED],
        UNMATCHED,
    )


def _match_task_b(pairs: pd.DataFrame, *, study: RecordedStudy) -> None:
    """Fill in the measure of a pair, forgetting at the task B loss that both runs reached."""
    curves = read_curves(study)
    cells = zip(pairs[CELL], pairs[CELL + BASELINE_SUFFIX], strict=True)
    with np.errstate(over="ignore", invalid="ignore"):
        values = [matched_forgetting(curves, own, partner) for own, partner in cells]
    both = np.array(values, dtype=float).reshape(-1, 2)
    pairs[MATCHED_FORGETTING], pairs[MATCHED_FORGETTING + BASELINE_SUFFIX] = both[:, 0], both[:, 1]


def _ordered(pairs: pd.DataFrame, *, keys: list[str]) -> pd.DataFrame:
    mix, seed, *axes = keys
    rank = pairs[schema.STRATEGY].map(strategy_rank)
    order = pairs.assign(_rank=rank).sort_values([*axes, mix, "_rank", seed], kind="stable").index
    return pairs.loc[order].reset_index(drop=True)


def done_pairs(planned: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of `plan_pairs` whose two runs are done; those not `matched` are in no contrast."""
    done = planned[planned[STANDING].isin([PAIRED, UNMATCHED])]
    return done.drop(columns=[STANDING, STATE, STATE + BASELINE_SUFFIX]).reset_index(drop=True)
