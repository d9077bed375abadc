"""What else was lost: how the loss of each watched corpus rose in Phase B, and with the baseline."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.findings.outcomes import MATCHED, grouped
from analysis.findings.pairs import baseline_cells
from analysis.reading.study import CELL, STATE, RecordedStudy, watched_corpora
from analysis.stats.intervals import mean_interval
from trainables.ledger import schema

RUN_COLUMNS = ("base", "start", "end", "rise")
COLUMNS = (
    "base",
    "start",
    "n",
    "end",
    "rise",
    "rise_low",
    "rise_high",
    "n_pairs",
    "difference",
    "low",
    "high",
)


def watched_runs(study: RecordedStudy) -> pd.DataFrame:
    """Return a row a corpus and done planned label: corpus, strategy, mix, seed, *axes, cell, RUN_COLUMNS.

    Losses in nats a supervised token: the base model's, before Phase B, at the end, and their rise.
    """
    keys = [*schema.LABEL_COLUMNS, *study.axes, CELL]
    done = study.rows[study.rows[STATE] == schema.DONE].sort_values(schema.STEP, kind="stable")
    ends = done.groupby(keys, sort=False)
    parts = []
    for name in watched_corpora(study.description):
        losses = ends[schema.WATCHED_LOSS.format(name=name)].agg(["first", "last"]).reset_index()
        base = ends[schema.WATCHED_BASE_LOSS.format(name=name)].first().to_numpy()
        runs = losses.rename(columns={"first": "start", "last": "end"})
        parts.append(runs.assign(corpus=name, base=base, rise=runs["end"] - runs["start"]))
    columns = ["corpus", *keys, *RUN_COLUMNS]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def find_watched(
    runs: pd.DataFrame, pairs: pd.DataFrame, *, study: RecordedStudy, level: float
) -> pd.DataFrame:
    """Return a row a corpus, strategy, mix and axes: corpus, strategy, mix, *axes, COLUMNS; exploratory.

    Means over the n done seeds with t intervals; `difference`: of the rise from the baseline's at the same
    seed and mix, over the matched pairs.
    """
    keys = ["corpus", schema.STRATEGY, schema.MIX, *study.axes]
    by_cell = {(row["corpus"], row[CELL]): row["rise"] for row in runs.to_dict("records")}
    rows = []
    for label, group in grouped(runs, keys=keys):
        rise = mean_interval(group["rise"].to_numpy(float), level=level)
        chosen = pairs[pairs[MATCHED].astype(bool)]
        for name in keys[1:]:
            chosen = chosen[chosen[name] == label[name]]
        corpus = label["corpus"]
        found = [
            by_cell.get((corpus, own), np.nan)
            - float(np.mean([by_cell.get((corpus, partner), np.nan) for partner in draws]))
            for own, draws in zip(chosen[CELL], baseline_cells(chosen), strict=True)
        ]
        apart = mean_interval(np.array([each for each in found if np.isfinite(each)], float), level=level)
        rows.append(
            {
                **label,
                **{name: float(group[name].mean()) for name in ("base", "start", "end")},
                "n": len(group),
                **_named(("rise", "rise_low", "rise_high"), rise.mean, rise.half_width),
                "n_pairs": apart.n,
                **_named(("difference", "low", "high"), apart.mean, apart.half_width),
            }
        )
    return pd.DataFrame(rows, columns=[*keys, *COLUMNS])


def _named(names: tuple[str, str, str], mean: float, half_width: float) -> dict[str, Any]:
    return dict(zip(names, (mean, mean - half_width, mean + half_width), strict=True))
