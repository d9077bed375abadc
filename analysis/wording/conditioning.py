"""The conditioning sentence: what an interval is over, and what it is conditional on, read from the ledger.

What it says is what differed in a part of a study: all of it, or one point of its further axes.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import pandas as pd

from analysis.findings.findings import Findings
from analysis.reading.study import CELL, SELECTION_DIGEST, SLOTS_HASH, START_LOSSES, RecordedStudy
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from trainables.ledger import schema
from trainables.ledger.sealed_json import Record


class StudyPart(Protocol):
    """A study, or a facet of one: the planned cells and the evaluation points of the same labels.

    `whole` is the study, `free_axes` those of its axes that vary in this part.
    """

    @property
    def cells(self) -> pd.DataFrame: ...

    @property
    def rows(self) -> pd.DataFrame: ...

    @property
    def whole(self) -> RecordedStudy: ...

    @property
    def free_axes(self) -> tuple[str, ...]: ...


def conditioning(part: StudyPart, *, n: int | Iterable[int]) -> str:
    """Return the sentence that stands under every figure and table.

    `n` is the number of seeds of an interval, or of each. 'Intervals are over 5 seeds (selection, order,
    dropout); conditional on one Phase A adapter, the validation examples, data pool and model.'
    """
    counts = sorted({n} if isinstance(n, int) else set(n)) or [0]
    over = f"{count_text(counts, 'seed')} ({varied(part)})"
    if counts[-1] == 0:
        return f"No seed is finished yet; results will be {conditions(part)}."
    if counts[-1] == 1:
        return f"One seed, so no interval; {conditions(part)}."
    if counts[-1] < FEWEST_FOR_INTERVAL:
        return f"No interval: {over} are too few; {conditions(part)}."
    few = f", none where n < {FEWEST_FOR_INTERVAL}" if counts[0] < FEWEST_FOR_INTERVAL else ""
    return f"Intervals are over {over}{few}; {conditions(part)}."


def count_text(counts: Iterable[int], unit: str) -> str:
    """Return '3 seeds', or '2–3 seeds' where the counts differ."""
    present = sorted(set(counts))
    if not present:
        return f"0 {unit}s"
    number = f"{present[0]}" if len(present) == 1 else f"{present[0]}–{present[-1]}"
    return f"{number} {unit}" if number == "1" else f"{number} {unit}s"


def varied(part: StudyPart) -> str:
    """Return what differed between the seeds, read from the ledger: 'selection, order, dropout'."""
    parts = ["order"] if _order_varied(part.cells) else []
    lora = _nested(part.whole.description, "config", "model", "lora")
    if lora.get("dropout") != 0:
        parts.append("dropout")
    if adapters(part) > 1:
        parts.append("Phase A adapter")
    selection = _selection_part(part)
    whole = selection == "selection"
    named = [*([selection] if whole else []), *parts, *([selection] if selection and not whole else [])]
    return ", ".join(named) or "nothing but the seed's number"


def conditions(part: StudyPart) -> str:
    """Return what was held fixed, which an interval over seeds says nothing about."""
    count = adapters(part)
    adapter = "one Phase A adapter, " if count <= 1 else ""
    each = f", at each {' and '.join(part.free_axes)}" if part.free_axes else ""
    blocks = "" if count <= 1 else f", over {count} Phase A adapters{_design(part, count=count)}"
    return f"conditional on {adapter}the validation examples, data pool and model{blocks}{each}"


def starts(part: StudyPart) -> pd.DataFrame:
    """Return the distinct losses before Phase B: as many as there are Phase A adapters."""
    first = part.rows[part.rows[schema.STEP] == 0]
    return first[START_LOSSES].drop_duplicates()


def adapters(part: StudyPart) -> int:
    """Return how many Phase A adapters the evaluated runs began from."""
    return len(starts(part))


def _design(part: StudyPart, *, count: int) -> str:
    """Return whether every seed has an adapter of its own, a block design."""
    first = part.rows[part.rows[schema.STEP] == 0]
    a_seed = first[[schema.SEED, *START_LOSSES]].drop_duplicates()
    own = len(a_seed) == count == first[schema.SEED].nunique()
    return " (one a seed: a block design)" if own else ""


def _order_varied(cells: pd.DataFrame) -> bool:
    """Return whether runs of one strategy and mix had another order at another seed; unknown counts as
    yes.
    """
    known = cells[cells[SLOTS_HASH].notna()].drop_duplicates(CELL)
    if known[schema.SEED].nunique() < 2:
        return True
    return known[SLOTS_HASH].nunique() > known.groupby(schema.MIX).ngroups


def _selection_part(part: StudyPart) -> str:
    """Return which strategies drew another selection at another seed; the rest replay one selection."""
    replayed = part.cells[(part.cells[schema.MIX] > 0) & part.cells[SELECTION_DIGEST].notna()]
    if replayed.empty:
        return "selection"
    varying: set[str] = set()
    fixed: set[str] = set()
    for strategy, group in replayed.drop_duplicates(CELL).groupby(schema.STRATEGY):
        per_mix = group.groupby(schema.MIX)[SELECTION_DIGEST]
        differs = bool((per_mix.nunique() > 1).any())
        (varying if differs else fixed).add(str(strategy))
    if not varying:
        return ""
    return f"selection by {' and '.join(sorted(varying))}" if fixed else "selection"


def _nested(record: Any, *names: str) -> Record:
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record if isinstance(record, dict) else {}


def given(findings: Findings) -> str:
    """Return the conditioning sentence of a study's contrasts."""
    counts = findings.contrasts["n"].tolist()
    return conditioning(findings.study, n=[int(n) for n in counts] or 0)
