"""What it cost to choose: the seconds that each strategy's columns took, in runs of Phase B."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.reading.study import CELL, STATE, RecordedStudy, section
from trainables.ledger import schema
from trainables.ledger.forms import read_checked
from trainables.ledger.sealed_json import DamagedError, Record

COLUMNS = ("columns", "adapters", "seconds", "device", "runs")
CONTRAST_COLUMNS = ("difference", "low", "high", "verdict")


class Costs(NamedTuple):
    """The frame of `find_costs`, and what was wrong with the file it is from."""

    frame: pd.DataFrame
    problems: tuple[str, ...]


def find_costs(study: RecordedStudy, contrasts: pd.DataFrame) -> Costs:
    """Return a row a strategy that chooses by computed columns, mix and axes: the contrast's labels, COLUMNS,
    CONTRAST_COLUMNS.

    `seconds`: of a GPU where columns were computed on one, of a CPU elsewhere (`device`), over all Phase A
    `adapters`; a column that several strategies take counts for each. `runs`: the same in runs of Phase B, by
    what a finished one of this study took on average; NaN where none is finished.
    """
    labels = [schema.STRATEGY, schema.MIX, *study.axes]
    columns = [*labels, *COLUMNS, *CONTRAST_COLUMNS]
    try:
        record = None if study.storage is None else read_checked(study.storage, schema.COSTS_FILE)
    except DamagedError as error:
        return Costs(pd.DataFrame(columns=columns), (str(error),))
    if record is None:
        return Costs(pd.DataFrame(columns=columns), ())
    run = _seconds_of_a_run(study)
    rows = [
        {**{name: row[name] for name in (*labels, *CONTRAST_COLUMNS)}, **cost}
        for row in contrasts.to_dict("records")
        if (cost := _cost(record, str(row[schema.STRATEGY]), run)) is not None
    ]
    return Costs(pd.DataFrame(rows, columns=columns), ())


def _cost(record: Record, strategy: str, run: float) -> dict[str, Any] | None:
    names = record["strategies"].get(strategy)
    found = [each for each in record["columns"] if names and each["column"] in names]
    if not found:
        return None
    on_gpu = any(each["gpus"] > 0 for each in found)
    seconds = float(sum(each["seconds"] * (each["gpus"] if on_gpu else each["cpus"]) for each in found))
    return {
        "columns": ", ".join(names),
        "adapters": len({each["phase_a_seed"] for each in found}),
        "seconds": seconds,
        "device": "GPU" if on_gpu else "CPU",
        "runs": seconds / run if run > 0 else float("nan"),
    }


def _seconds_of_a_run(study: RecordedStudy) -> float:
    """Return the mean seconds of a finished run, times what a trial holds; NaN where there is none."""
    done = study.rows[study.rows[STATE] == schema.DONE]
    if done.empty:
        return float("nan")
    held = _held(section(section(study.description, "config"), "resources"))
    return float(done.groupby(CELL)[schema.SECONDS].max().mean()) * held


def _held(resources: Mapping[str, Any]) -> float:
    """Return the GPUs that a trial holds, or the CPUs where it computes on none."""
    gpus, cpus = resources.get("gpus", 0), resources.get("cpus", 1)
    on_gpu = isinstance(gpus, (int, float)) and gpus > 0 and resources.get("device") != "cpu"
    held = gpus if on_gpu else cpus
    return float(held) if isinstance(held, (int, float)) and np.isfinite(held) else float("nan")
