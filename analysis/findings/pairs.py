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
    measured,
    read_curves,
    strategy_rank,
)
from analysis.reading.study import CELL, SLOTS_HASH, STATE, RecordedStudy, answered_items
from analysis.stats.measures import MATCHED_FORGETTING, MEASURES
from trainables.ledger import schema

PAIRED_BY = "paired_by"
ROUNDING = 64 * float(np.finfo(np.float64).eps)  # of a loss: sums and differences of a few
SLOTS, BY_SEED = "slots", "seed"
STANDING = "standing"
DIFFERENCE_SUFFIX = "_difference"
SECOND = "_second"  # of the baseline's two draws

PAIRED = "paired"
UNMATCHED = "unmatched"  # both done, but not known to have seen the same task B examples at the same steps
UNFINISHED = "unfinished"  # a run of the two is not done yet, or not planned
STANDINGS = (PAIRED, UNMATCHED, schema.DIVERGED, schema.FAILED, UNFINISHED)  # from good to bad


def plan_pairs(
    study: RecordedStudy,
    outcomes: pd.DataFrame,
    *,
    measures: Collection[str] = tuple(MEASURES),
    draws: int = 1,
) -> pd.DataFrame:
    """Return every planned pair, ordered by axes, mix, strategy and seed, with its `standing`.

    With two `draws` the baseline is the mean of its run and the A/A control's, which draws its replay anew: a
    pair has both, and is only as good as the worse of them. The control itself is compared with the baseline.

    Columns: strategy, mix, seed, *axes; cell, state, slots_hash and each measure, alone for the run, with
    `_baseline` for its partner; each measure's `_difference`, NaN where `outcomes` were not asked for all
    `measures`; matched, paired_by, standing.
    """
    pairs = _with(study.baseline, study, outcomes, measures=measures)
    if draws > 1:
        pairs = _averaged(pairs, _with(schema.AA, study, outcomes, measures=measures), axes=study.axes)
    return _ordered(pairs, keys=[schema.MIX, schema.SEED, *study.axes])


def _with(
    partner: str, study: RecordedStudy, outcomes: pd.DataFrame, *, measures: Collection[str]
) -> pd.DataFrame:
    """Return the planned pairs of every other strategy's runs with those of `partner`."""
    axes = list(study.axes)
    names = measured(study)
    details = [CELL, STATE, SLOTS_HASH, *names]
    strategy, mix = outcomes[schema.STRATEGY], outcomes[schema.MIX]
    keys = [schema.MIX, schema.SEED, *axes]
    baseline = outcomes.loc[(strategy == partner) & (mix > 0), [*keys, *details]]
    replayed = outcomes[(mix > 0) & ~strategy.isin([partner, schema.NO_REPLAY])]
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
    for name in names:
        pairs[name + DIFFERENCE_SUFFIX] = _difference(pairs[name], pairs[name + BASELINE_SUFFIX], scale=scale)
    return pairs


def baseline_cells(pairs: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the cells of each pair's baseline: one, or those of both its draws."""
    names = [name for name in (CELL + BASELINE_SUFFIX, CELL + BASELINE_SUFFIX + SECOND) if name in pairs]
    rows = pairs[names].itertuples(index=False)
    return [tuple(key for key in row if isinstance(key, str)) for row in rows]


def grid_of(measure: str, *, study: RecordedStudy) -> float:
    """Return the step between the values that a measure can take: one answer of those that a share is over; 0
    where it can take any.
    """
    needs = MEASURES[measure].needs
    if needs is None:
        return 0.0
    counts = answered_items(study.description)
    return next((1 / count for task, count in counts.items() if needs.startswith(task)), 0.0)


def _averaged(first: pd.DataFrame, second: pd.DataFrame, *, axes: tuple[str, ...]) -> pd.DataFrame:
    """Return the pairs with the baseline's mean over two draws, `first` and `second`; the control's stay.

    `cell_baseline_second` names the second draw's run.
    """
    keys = [schema.STRATEGY, schema.MIX, schema.SEED, *axes]
    names = [name for name in MEASURES if name in first]
    means = [name + suffix for name in names for suffix in (BASELINE_SUFFIX, DIFFERENCE_SUFFIX)]
    shared = [MATCHED, STANDING, CELL + BASELINE_SUFFIX, *means]
    both = first.merge(second[[*keys, *shared]], on=keys, how="left", suffixes=("", SECOND))
    other = both[schema.STRATEGY] != schema.AA
    for name in means:
        both[name] = both[name].where(~other, (both[name] + both[name + SECOND]) / 2)
    both[MATCHED] &= both[MATCHED + SECOND].eq(True) | ~other
    standings = both[[STANDING, STANDING + SECOND]].fillna(UNFINISHED)
    worst = standings.map(STANDINGS.index).max(axis=1).map(STANDINGS.__getitem__)
    both[STANDING] = both[STANDING].where(~other, worst)
    return both.drop(columns=[name + SECOND for name in (MATCHED, STANDING, *means)])


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
