"""The tables of training histories: where each file began and ended, and every point of it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.histories.read import LOSS_SUFFIX, History
from analysis.tables.table import ABSENT, Column, Entry, Table, count, number
from analysis.wording.terms import strategy_text

Groups = Mapping[str, list[History]]
Row = Mapping[Any, Any]


class Part(NamedTuple):
    """A column of the table, by the name it has in the frame, and what it says of a row."""

    name: str
    column: Column
    entry: Callable[[Any], Entry]


def task_text(metric: str) -> str:
    """Return the task that a metric is of."""
    return metric.removesuffix(LOSS_SUFFIX).replace("_", " ")


def ends_table(groups: Groups) -> Table:
    """Return a row a run and metric: first and last loss, their difference, and the largest rise."""
    frame = pd.DataFrame(
        [record for text, runs in groups.items() for run in runs for record in _ends(text, run)]
    )
    frame["mix"] = pd.to_numeric(frame["mix"], errors="coerce")
    parts = [part for part in PARTS if part.name not in OPTIONAL or _is_known(frame[part.name])]
    rows = [[part.entry(row[part.name]) for part in parts] for row in frame.to_dict("records")]
    caption = (
        "Losses as the files state them, in nats/token by the script that wrote them; one run a row (n = 1), "
        "so no interval. Change: last loss minus first; largest rise: the highest loss minus the first."
    )
    return Table("histories", "First and last losses", [part.column for part in parts], rows, caption, frame)


def _ends(text: str, run: History) -> list[dict[str, Any]]:
    """Return a record for each metric of a run that has a value."""
    known = {metric: run.losses[metric].dropna() for metric in run.losses}
    return [
        {
            "history": text,
            "file": run.path.name,
            "selection": strategy_text(str(run.details.get("selection_method", ABSENT))),
            "mix": run.details.get("mix_percentage", np.nan),
            "task": task_text(str(metric)),
            "evaluations": len(series),
            "last_step": series.index[-1],
            "first": series.iloc[0],
            "last": series.iloc[-1],
            "change": series.iloc[-1] - series.iloc[0],
            "largest_rise": series.max() - series.iloc[0],
        }
        for metric, series in known.items()
        if len(series)
    ]


def _is_known(values: pd.Series) -> bool:
    return bool((values.notna() & (values != ABSENT)).any())


def _text(value: Any) -> Entry:
    return Entry(str(value))


def _signed(value: Any) -> Entry:
    return number(value, sign=True)


OPTIONAL = ("selection", "mix")  # not every script records them
PARTS = (
    Part("history", Column("history"), _text),
    Part("file", Column("file"), _text),
    Part("task", Column("task"), _text),
    Part("first", Column("first loss", numeric=True), number),
    Part("last", Column("last loss", numeric=True), number),
    Part("change", Column("change", numeric=True), _signed),
    Part("largest_rise", Column("largest rise", numeric=True, detail=True), _signed),
    Part("evaluations", Column("evaluations", numeric=True, detail=True), count),
    Part("last_step", Column("last step", numeric=True, detail=True), count),
    Part("selection", Column("selection", detail=True), _text),
    Part("mix", Column("mix, %", numeric=True, detail=True), lambda value: number(value, digits=1)),
)


def points_table(groups: Groups) -> Table:
    """Return every point of every history, tidy: history, file, task, step, loss."""
    parts = [
        run.losses.reset_index()
        .melt(id_vars="step", var_name="task", value_name="loss")
        .assign(history=text, file=run.path.name)
        for text, runs in groups.items()
        for run in runs
    ]
    frame = pd.concat(parts, ignore_index=True)[["history", "file", "task", "step", "loss"]]
    frame["task"] = [task_text(metric) for metric in frame["task"]]
    heads = [
        *map(Column, ("history", "file", "task")),
        Column("step", numeric=True),
        Column("loss", numeric=True),
    ]
    rows = [
        [*(Entry(row[name]) for name in ("history", "file", "task")), count(row["step"]), number(row["loss"])]
        for row in frame.to_dict("records")
    ]
    caption = "Losses in nats/token, as the files state them."
    return Table("evaluations", "Every evaluation", heads, rows, caption, frame)
