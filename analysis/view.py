"""One axis combination of a study, as every figure sees it, and what its numbers vary over."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis.outcomes import grouped, pair_with_baseline, run_outcomes, selector
from analysis.style import LineStyle, strategy_styles
from analysis.tidy import CELL, SELECTION_DIGEST, STATE, Study
from trainables import columns


class Drawing(NamedTuple):
    """A figure and its caption; where `figure` is None the caption says why there is none."""

    figure: Figure | None
    caption: str


@dataclass(frozen=True)
class View:
    """The planned cells, rows, outcomes and pairs of one axis combination."""

    study: Study
    combination: dict[str, Any]
    cells: pd.DataFrame
    rows: pd.DataFrame
    outcomes: pd.DataFrame
    pairs: pd.DataFrame
    styles: dict[str, LineStyle]

    @property
    def title(self) -> str:
        return ", ".join(f"{name} = {value}" for name, value in self.combination.items())

    @property
    def mixes(self) -> list[float]:
        """The planned mixes above 0, or 0 alone where nothing is replayed."""
        replayed = sorted({float(mix) for mix in self.cells[columns.MIX] if mix > 0})
        return replayed or [0.0]

    @property
    def done(self) -> pd.DataFrame:
        return self.outcomes[self.outcomes[STATE] == columns.DONE]

    @property
    def starts(self) -> pd.DataFrame:
        """The distinct losses before Phase B: as many as there are Phase A adapters."""
        first = self.rows[self.rows[columns.STEP] == 0]
        return first[[columns.TASK_A_LOSS, columns.TASK_B_LOSS]].drop_duplicates()

    def panel(self, frame: pd.DataFrame, *, mix: float) -> pd.DataFrame:
        """Return the rows of `frame` for one mix, and the control's."""
        return frame[(frame[columns.MIX] == mix) | (frame[columns.STRATEGY] == columns.NO_REPLAY)]


def views(study: Study) -> Iterator[View]:
    """Yield a view for each combination of the study's further axes; one where there are none."""
    outcomes = run_outcomes(study)
    pairs = pair_with_baseline(outcomes, axes=study.axes)
    styles = strategy_styles(study.cells[columns.STRATEGY])
    axes = list(study.axes)
    rows_of, outcomes_of, pairs_of = (selector(frame, keys=axes) for frame in (study.rows, outcomes, pairs))
    for combination, cells in grouped(study.cells, keys=axes):
        rows, ended, paired = (part_of(combination) for part_of in (rows_of, outcomes_of, pairs_of))
        yield View(study, combination, cells, rows, ended, paired, styles)


def count_text(counts: Iterable[int], unit: str) -> str:
    """Return '3 seeds', or '2–3 seeds' where the counts differ."""
    present = sorted(set(counts))
    if not present:
        return f"0 {unit}s"
    number = f"{present[0]}" if len(present) == 1 else f"{present[0]}–{present[-1]}"
    return f"{number} {unit}" if number == "1" else f"{number} {unit}s"


def seeds_per_mean(view: View) -> list[int]:
    """Return the number of done seeds behind each mean that is shown."""
    return [len(group) for _, group in view.done.groupby([columns.STRATEGY, columns.MIX])]


def mean_text(view: View, *, counts: list[int], unit: str) -> str:
    """Return what the means are over, and what varied there: 'Mean over 3 seeds (selection, order)'."""
    if max(counts) == 1:
        return f"One {unit} each, so no mean and no interval"
    return f"Mean over {count_text(counts, unit)} ({varied(view)})"


def varied(view: View) -> str:
    """Return what differed between the seeds, read from the ledger: 'selection, order, dropout'."""
    parts = ["order"]
    lora = _nested(view.study.description, "config", "model", "lora")
    if lora.get("dropout") != 0:
        parts.append("dropout")
    if len(view.starts) > 1:
        parts.append("Phase A adapter")
    selection = _selection_part(view)
    whole = selection == "selection"
    return ", ".join(
        [*([selection] if whole else []), *parts, *([selection] if selection and not whole else [])]
    )


def _selection_part(view: View) -> str:
    """Return which strategies drew another selection at another seed; the rest replay one selection."""
    replayed = view.cells[(view.cells[columns.MIX] > 0) & view.cells[SELECTION_DIGEST].notna()]
    if replayed.empty:
        return "selection"
    varying: set[str] = set()
    fixed: set[str] = set()
    for strategy, group in replayed.drop_duplicates(CELL).groupby(columns.STRATEGY):
        per_mix = group.groupby(columns.MIX)[SELECTION_DIGEST]
        differs = bool((per_mix.nunique() > 1).any())
        (varying if differs else fixed).add(str(strategy))
    if not varying:
        return ""
    return f"selection by {' and '.join(sorted(varying))}" if fixed else "selection"


def _nested(record: Any, *names: str) -> dict[str, Any]:
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record if isinstance(record, dict) else {}


def conditions(view: View) -> str:
    """Return what was held fixed: an interval over seeds says nothing about it."""
    adapters = len(view.starts)
    adapter = "one Phase A adapter, " if adapters <= 1 else ""
    return f"conditional on {adapter}data pool and model"


def absent_text(cells: pd.DataFrame) -> str:
    """Return '1 diverged, 2 failed' for the planned `cells` that are not done; empty if all are."""
    states = [state for state in columns.CELL_STATES if state != columns.DONE]
    counts = {state: int((cells[STATE] == state).sum()) for state in states}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def absent_sentence(view: View) -> str:
    """Return the sentence that accounts for the planned cells without an outcome."""
    absent = absent_text(view.cells)
    if not absent:
        return f"All {len(view.cells)} planned cells are done."
    done = len(view.done)
    return f"{done} of {len(view.cells)} planned cells are done; means leave out the others ({absent})."


def mix_sentence(view: View) -> str:
    """Return what the study's mix means."""
    mode = view.combination.get("mix_mode", view.study.description.get("mix_mode"))
    where = {"add": "added to", "substitute": "in place of"}.get(str(mode), "among")
    return f"Mix: replayed {view.study.task_a} examples per {view.study.task_b} example, {where} them."
