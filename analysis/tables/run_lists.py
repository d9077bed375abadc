"""A study and its runs in words: what it is, what is not done and why, which pairs were left out."""

from typing import Any

import pandas as pd

from analysis.findings.outcomes import BASELINE_SUFFIX, MATCHED, count_states, distinct_runs
from analysis.reading.study import ERROR, LOG, SLOTS_HASH, STATE, RecordedStudy
from analysis.wording.terms import mix_text, strategy_text
from trainables.ledger import schema

LONGEST_ERROR = 200


def facts_text(study: RecordedStudy) -> str:
    """Return what the study is: its tasks, its model and precision."""
    named = [("model", "model"), ("dtype", "dtype")]
    facts = [
        f"Phase A: {study.task_a}",
        f"Phase B: {study.task_b}, replaying {study.task_a}",
        *(f"{name}: {study.description[key]}" for key, name in named if key in study.description),
    ]
    return "; ".join(facts) + "."


def damage_text(study: RecordedStudy) -> str:
    """Return what damage means for the numbers, where there is any."""
    count = len(study.problems)
    if not count:
        return ""
    files = "1 file is damaged or unusable" if count == 1 else f"{count} files are damaged or unusable"
    return (
        f"{files} and listed below: no number rests on them, and their cells stay in every count. "
        "`run --check` with the study's configuration runs damaged cells again."
    )


def state_counts(study: RecordedStudy) -> str:
    """Return '15 planned: 12 done, 1 diverged, 1 failed, 1 unfinished'; labels of one run count once."""
    runs = distinct_runs(study.cells)
    planned, *states = count_states(runs).items()
    counts = ", ".join(f"{count} {state}" for state, count in states if count)
    merged = len(study.cells) - len(runs)
    shared = f" ({merged} more labels share a run)" if merged else ""
    return f"{planned[1]} planned{shared}: {counts}"


def absent_cells(study: RecordedStudy) -> list[str]:
    """Return a line for each cell that ended otherwise than done or has an error, and a count of the open
    ones.
    """
    open_ones = study.cells[STATE].isin([schema.MISSING, schema.PARTIAL]) & study.cells[ERROR].isna()
    named = study.cells[(study.cells[STATE] != schema.DONE) & ~open_ones].to_dict("records")
    lines = [f"{cell[STATE]}: {label_text(cell, axes=study.axes)}{_error_text(cell)}" for cell in named]
    counts = study.cells.loc[open_ones, STATE].value_counts()
    return [*lines, *(f"{count} {state}: see the matrix" for state, count in counts.items())]


def unpaired_runs(study: RecordedStudy, pairs: pd.DataFrame) -> list[str]:
    """Return a line for each pair of finished runs that did not see the same examples at the same steps."""
    unpaired = pairs[~pairs[MATCHED].astype(bool)].to_dict("records")
    return [
        f"{label_text(pair, axes=study.axes)}: not known to have seen the same {study.task_b} examples at "
        f"the same steps as {study.baseline} (slots hash {_hash_text(pair[SLOTS_HASH])}, {study.baseline} "
        f"has {_hash_text(pair[SLOTS_HASH + BASELINE_SUFFIX])})"
        for pair in unpaired
    ]


def label_text(record: dict[Any, Any], *, axes: tuple[str, ...]) -> str:
    """Return a label in words: 'difficulty_hard, mix 10 %, seed 2, lr = 7e-05'."""
    parts = [strategy_text(record[schema.STRATEGY])]
    if record[schema.STRATEGY] != schema.NO_REPLAY:
        parts.append(f"mix {mix_text(record[schema.MIX])}")
    return ", ".join([*parts, f"seed {record[schema.SEED]}", *(f"{axis} = {record[axis]}" for axis in axes)])


def _hash_text(value: Any) -> str:
    return value if isinstance(value, str) else "unknown"


def _error_text(cell: dict[Any, Any]) -> str:
    if not isinstance(cell[ERROR], str):
        return ""
    lines = str(cell[ERROR]).strip().splitlines() or ["no message"]
    shown = lines[-1 if lines[0].startswith("Traceback") else 0].strip()[:LONGEST_ERROR]
    log = f" (log: {cell[LOG]})" if isinstance(cell[LOG], str) else ""
    return f": {shown}{log}"
