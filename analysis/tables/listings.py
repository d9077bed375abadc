"""The tables of a study: which columns each has, what its entries say, and its caption. Writes no files."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.findings.findings import Findings
from analysis.findings.outcomes import MATCHED
from analysis.findings.pairs import DIFFERENCE_SUFFIX, PAIRED_BY
from analysis.reading.study import CELL, ERROR, LOG, SELECTION_DIGEST, SLOTS_HASH, STATE
from analysis.stats.measures import MEASURES
from analysis.tables.answers import answers_table
from analysis.tables.between import between_table
from analysis.tables.contrasts import contrasts_table, secondary_table, strategies_table
from analysis.tables.costs import costs_table
from analysis.tables.labels import label_columns, label_entries
from analysis.tables.summary import summary_table
from analysis.tables.table import (
    ABSENT,
    MOST_PRINTED_ROWS,
    Column,
    Entry,
    Table,
    count,
    interval,
    number,
    probability,
)
from analysis.tables.watched import watched_table
from analysis.wording.conditioning import count_text, given
from analysis.wording.terms import holds_text
from trainables.ledger import schema


def pairs_table(findings: Findings) -> Table:
    """Return every pair of finished runs: the primary measure of both and their difference."""
    frame, name = findings.pairs, findings.settings.primary
    heads = [
        *label_columns(findings),
        Column(MEASURES[name].label, numeric=True),
        Column(f"{findings.study.baseline}'s", numeric=True),
        Column("difference", numeric=True),
        Column("paired by"),
    ]
    rows = [
        [
            *label_entries(findings, row),
            number(row[name], sign=True),
            number(row[f"{name}_baseline"], sign=True),
            number(row[name + DIFFERENCE_SUFFIX], sign=True),
            Entry(str(row[PAIRED_BY]) if row[MATCHED] else "left out: other order"),
        ]
        for row in _printed(frame)
    ]
    caption = (
        f"Each finished run beside the {findings.study.baseline} run of its seed and mix: "
        f"{MEASURES[name].label} ({MEASURES[name].unit}); n = {count_text([len(frame)], 'pair')}, no "
        f"interval. Paired by slots: both saw the same {findings.study.task_b} examples at the same steps, "
        "by the recorded hashes; no replay has another order by design and is paired by seed. A pair whose "
        "hashes differ is in no contrast. The files hold every measure."
    )
    return Table("pairs", "Pairs", heads, rows, caption, frame)


def levels_table(findings: Findings) -> Table | None:
    """Return the forgetting of each level and type of task A, averaged over seeds; None where unknown."""
    frame = findings.levels
    if frame.empty:
        return None
    keys = ["group", "value", schema.STRATEGY, schema.MIX, *findings.study.axes]
    heads = [
        Column("group"),
        Column("value"),
        *label_columns(findings, seed=False),
        *(Column(name, numeric=True) for name in ("examples", "n", "forgetting", "smallest", "largest")),
    ]
    rows = []
    for values, part in frame.groupby(keys, sort=False):
        label = dict(zip(keys, values, strict=True))
        found = part["forgetting"].to_numpy(float)
        rows.append(
            [
                Entry(str(label["group"])),
                Entry(str(label["value"])),
                *label_entries(findings, label, seed=False),
                count(part["examples"].iloc[0]),
                count(len(found)),
                *(number(value, sign=True) for value in (found.mean(), found.min(), found.max())),
            ]
        )
    caption = (
        f"Forgetting of {findings.study.task_a} by level and type of its validation examples, "
        "token-weighted, nats/token: mean, smallest and largest over n seeds; exploratory, no interval. "
        f"{given(findings)}"
    )
    return Table("levels", "Forgetting by level and type", heads, rows, caption, frame)


def evaluations_table(findings: Findings) -> Table:
    """Return every evaluation point of every cell."""
    frame = findings.study.rows
    measured = {
        schema.STEP: "step",
        schema.TASK_A_LOSS: f"{findings.study.task_a} loss",
        schema.TASK_B_LOSS: f"{findings.study.task_b} loss",
    }
    heads = [*label_columns(findings), *(Column(title, numeric=True) for title in measured.values())]
    rows = [
        [
            *label_entries(findings, row),
            count(row[schema.STEP]),
            *(number(row[name]) for name in (schema.TASK_A_LOSS, schema.TASK_B_LOSS)),
        ]
        for row in _printed(frame)
    ]
    caption = (
        "Every evaluation of every cell; losses in nats per supervised token, one run each: no interval."
    )
    return Table("evaluations", "Evaluations", heads, rows, caption, frame)


def cells_table(findings: Findings) -> Table:
    """Return every planned label, its state, and why it is not done."""
    frame = findings.study.cells.drop(columns=[SLOTS_HASH, SELECTION_DIGEST])
    heads = [*label_columns(findings), *map(Column, ("state", "cell", "error", "log"))]
    rows = [
        [
            *label_entries(findings, row),
            *(
                Entry(row[name] if isinstance(row[name], str) else ABSENT)
                for name in (STATE, CELL, ERROR, LOG)
            ),
        ]
        for row in _printed(frame)
    ]
    caption = (
        f"{count_text([len(frame)], 'planned label')}; labels with one cell share a run. Nothing is imputed."
    )
    return Table("cells", "Cells", heads, rows, caption, frame)


def variance_table(findings: Findings) -> Table | None:
    """Return where each contrast's uncertainty is from, and which verdicts hold for the task; None where that
    is unknown.
    """
    frame = findings.variance
    if frame.empty:
        return None
    parts = {
        "se, seeds": "se_seeds",
        "se, examples": "se_examples",
        "se, seed × example": "se_interaction",
        "se, both": "se_both",
    }
    heads = [
        *label_columns(findings, seed=False),
        *(
            Column(title, numeric=True)
            for title in ("difference", "interval for the task", *parts, "n", "examples")
        ),
        Column("verdict"),
        Column("holds for the task"),
    ]
    rows = [
        [
            *label_entries(findings, row, seed=False),
            number(row["difference"], sign=True),
            interval(row["low_task"], row["high_task"]),
            *(number(row[column]) for column in parts.values()),
            count(row["n"]),
            count(row["examples"]),
            Entry(str(row["verdict"])),
            Entry(holds_text(row["holds"]) or ABSENT),
        ]
        for row in frame.to_dict("records")
    ]
    caption = (
        f"Forgetting against {findings.study.baseline} with seeds and validation examples of "
        f"{findings.study.task_a} crossed and random: standard errors over either, over both, and of what "
        "they have in common. Verdicts are over seeds, for these examples. A verdict holds for the task "
        f"where it stays with the error over both, t with n − 1 degrees, adjusted alike: as if the examples "
        "were drawn anew, too."
    )
    return Table("variance", "Seeds and examples", heads, rows, caption, frame)


def components_table(findings: Findings) -> Table | None:
    """Return how much of a run's outcome varies with its Phase A adapter; None where there are too few."""
    frame = findings.components
    if frame.empty:
        return None
    measure, level = MEASURES[findings.settings.primary], 100 * findings.settings.level
    heads = [
        Column("component"),
        *(Column(title, numeric=True) for title in ("sd", f"{level:g} % interval", "share of variance", "n")),
    ]
    rows = [
        [
            Entry(row["component"]),
            number(row["sd"]),
            interval(row["sd_low"], row["sd_high"], sign=False),
            Entry(f"{100 * row['share']:.0f} %", row["share"]),
            count(row["n"]),
        ]
        for row in frame.to_dict("records")
    ]
    caption = (
        f"Of {measure.label} ({measure.unit}): a mixed model with a mean for each strategy and mix; n units "
        "behind each component. Intervals are from mean squares of the blocks that are whole (modified "
        "large-sample)."
    )
    return Table("components", "Adapters and seeds", heads, rows, caption, frame)


def sensitivity_table(findings: Findings) -> Table | None:
    """Return whether each verdict hangs on the test, a seed or the examples' weights; None without a
    contrast.
    """
    frame = findings.sensitivity
    if frame.empty:
        return None
    numbers = ("difference", "by example", "n", "p", "sign-flip p", "wide p", "p without a seed", "that seed")
    heads = [
        *label_columns(findings, seed=False),
        Column("verdict"),
        *(Column(title, numeric=True) for title in numbers),
        Column("stays without any seed"),
    ]
    rows = [
        [
            *label_entries(findings, row, seed=False),
            Entry(str(row["verdict"])),
            number(row["difference"], sign=True),
            number(row["difference_by_example"], sign=True),
            count(row["n"]),
            *(probability(row[name]) for name in ("p", "p_sign_flip", "p_wide", "p_without_a_seed")),
            count(row["seed_that_matters"]),
            Entry(holds_text(row["stays_without_a_seed"]) or ABSENT),
        ]
        for row in frame.to_dict("records")
    ]
    caption = (
        f"Each contrast with {findings.study.baseline} once more. p: of what the verdict claims, of a "
        "difference where it claims nothing, by the paired t test or two one-sided tests; sign-flip p: of a "
        "difference, by the signs alone; wide p: the same statistic on the tails of 1 or 2 degrees of "
        "freedom, for skewed differences; p without a seed: the largest when each seed is left out in turn, "
        "and which. All unadjusted. By example: the difference in the mean over examples, each counted once, "
        "not by its tokens."
    )
    return Table("sensitivity", "Sensitivity", heads, rows, caption, frame)


def _printed(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return the rows that are shown; none where there are more than anyone reads."""
    return frame.to_dict("records") if len(frame) <= MOST_PRINTED_ROWS else []


TABLES: dict[str, Callable[[Findings], Table | None]] = {
    "strategies": strategies_table,
    "contrasts": contrasts_table,
    "summary": summary_table,
    "secondary": secondary_table,
    "answers": answers_table,
    "watched": watched_table,
    "costs": costs_table,
    "between": between_table,
    "variance": variance_table,
    "components": components_table,
    "sensitivity": sensitivity_table,
    "levels": levels_table,
    "pairs": pairs_table,
    "cells": cells_table,
    "evaluations": evaluations_table,
}
