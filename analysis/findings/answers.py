"""Accuracy item by item: each strategy's right answers beside the baseline's, over seeds and examples."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.findings.outcomes import MATCHED, grouped
from analysis.findings.pairs import baseline_cells
from analysis.reading.answers import AnsweredItems, Right
from analysis.reading.study import CELL, RecordedStudy
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from trainables.ledger import schema

COLUMNS = (
    "n",
    "items",
    "accuracy",
    "accuracy_baseline",
    "difference",
    "low",
    "high",
    "lost",
    "gained",
    "p_mcnemar",
)


class Comparison(NamedTuple):
    """A mean difference in accuracy with its interval over seeds and items; NaN where there is none."""

    difference: float
    low: float
    high: float


def compare(differences: npt.NDArray[np.float64], *, level: float) -> Comparison:
    """Return the mean of `differences`, (seeds, items) in {-1, 0, 1}, and its interval over both.

    Errors are robust to clustering by seed and by item at once (Cameron, Gelbach & Miller 2011), t with the
    smaller number of clusters less 1; the larger of both one-way errors where the two-way one is smaller
    than either, as it is by chance. None with fewer than three seeds or items, nor where all differences are
    the same: nothing tells how they vary.
    """
    from statsmodels.regression.linear_model import OLS

    seeds, items = differences.shape
    mean = float(differences.mean())
    if min(seeds, items) < FEWEST_FOR_INTERVAL or not np.ptp(differences):
        return Comparison(mean, float("nan"), float("nan"))
    by_seed, by_item = (each.ravel() for each in np.indices(differences.shape))
    flat = differences.ravel()
    model = OLS(flat, np.ones(len(flat)))

    def error(groups: npt.NDArray[np.int64]) -> float:
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
        variance = float(fit.cov_params()[0, 0])
        return variance**0.5 if variance > 0 else 0.0

    from scipy.stats import t

    largest = max(error(np.column_stack([by_seed, by_item])), error(by_seed), error(by_item))
    half = float(t.ppf((1 + level) / 2, min(seeds, items) - 1)) * largest
    return Comparison(mean, mean - half, mean + half)


def find_answers(
    pairs: pd.DataFrame, *, study: RecordedStudy, answered: AnsweredItems, level: float
) -> pd.DataFrame:
    """Return a row a task, strategy, mix and axes: task, strategy, mix, *axes, COLUMNS.

    Over the matched pairs whose answers are to the same items. `lost`: pairs of answers of which the
    baseline's alone is right, `gained` the strategy's alone; `p_mcnemar` is exact and takes every pair of
    answers for independent, which answers to one prompt, or of one run, are not.
    """
    keys = [schema.STRATEGY, schema.MIX, *study.axes]
    rows = [
        {"task": task, **label, **found}
        for task, right in answered.right.items()
        for label, group in grouped(pairs[pairs[MATCHED].astype(bool)], keys=keys)
        for found in _rows(group, right, level=level)
    ]
    return pd.DataFrame(rows, columns=["task", *keys, *COLUMNS])


def _rows(group: pd.DataFrame, right: dict[str, Right], *, level: float) -> Iterator[dict[str, Any]]:
    """Yield the row of one contrast, none where no pair has answers."""
    both = [
        (right[own], np.mean([right[partner] for partner in draws], axis=0))
        for own, draws in zip(group[CELL], baseline_cells(group), strict=True)
        if draws and all(key in right and right[key].shape == right[draws[0]].shape for key in (own, *draws))
    ]
    if not both or len({len(each) for pair in both for each in pair}) > 1:
        return
    own, partner = (np.stack(each) for each in zip(*both, strict=True))
    found = compare(own - partner, level=level)
    lost, gained = int(((own == 0) & (partner == 1)).sum()), int(((own == 1) & (partner == 0)).sum())
    yield {
        "n": len(own),
        "items": own.shape[1],
        "accuracy": float(own.mean()),
        "accuracy_baseline": float(partner.mean()),
        **found._asdict(),
        "lost": lost,
        "gained": gained,
        "p_mcnemar": _mcnemar(lost, gained),
    }


def _mcnemar(lost: int, gained: int) -> float:
    """Return the exact two-sided p of McNemar 1947: that either side of a pair is as often right alone."""
    from statsmodels.stats.contingency_tables import mcnemar

    return float(mcnemar([[0, lost], [gained, 0]], exact=True).pvalue)
