"""Where a study stands, read from its storage alone: what `status` and `watch` show, and `status --json`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from analysis.reading.safe_text import visible
from sweep.ledger.lease import AT_WORK, Holder, find_holder
from sweep.ledger.ledger import CellStatus, Entry, Ledger
from sweep.ledger.progress_file import (
    DONE,
    PHASE_A,
    PHASE_B,
    PROGRESS,
    SEARCHING,
    RunProgress,
    read_driver_file,
)
from sweep.lr_search.search import holds_search
from sweep.planning.cells import Label
from trainables.ledger import schema
from trainables.ledger.redaction import redact
from trainables.ledger.sealed_json import DamagedError

FORM = 1  # of `status --json`; raised when a field changes its meaning or goes
BLOCKS = "▁▂▃▄▅▆▇█"
SPARKS = 12  # characters of a line of losses
RUNNING = "running"
ENDED = (*schema.FINAL_STATES, schema.FAILED)
Losses = list[float | None]


@dataclass(frozen=True)
class CellView:
    """A cell as a user looks at it: one run under all its labels; losses are those of its rows so far."""

    cell: str
    labels: list[dict[str, Any]]
    key: str | None
    state: str
    step: int | None
    steps: int | None
    task_a_losses: Losses
    task_b_losses: Losses
    tokens_per_second: float | None
    detail: str


@dataclass(frozen=True)
class StudyView:
    """A study as a user looks at it. `seconds_left` is the driver's own estimate."""

    study: str
    storage: str
    phase: str
    holder: Holder | None
    progress: RunProgress | None
    cells: list[CellView]
    remark: str = ""

    @property
    def at_work(self) -> bool:
        return self.holder is not None and self.holder.state == AT_WORK

    @property
    def ended(self) -> bool:
        """Whether no cell is left to run and no driver is at work that may add some."""
        return not self.at_work and all(cell.state in ENDED for cell in self.cells)

    @property
    def counts(self) -> dict[str, int]:
        states = [cell.state for cell in self.cells]
        return {state: states.count(state) for state in dict.fromkeys(states)}

    @property
    def seconds_left(self) -> float | None:
        return self.progress.seconds_left if self.progress and self.at_work else None

    def headline(self) -> list[str]:
        """Say who is at work, on what, and how long it takes."""
        holder, lines = self.holder, []
        if holder is None:
            lines.append("driver: none has been here")
        else:
            state = holder.state if self.at_work else f"{holder.state}; no driver is at work"
            lines.append(
                f"driver: {holder.owner.describe()}, last heartbeat {holder.age:.0f} s ago ({state})"
            )
        phase = f"phase: {self.phase}"
        if self.progress and self.at_work and self.progress.phase == PHASE_A and self.progress.phase_a[1]:
            phase += f", step {self.progress.phase_a[0]} of {self.progress.phase_a[1]} of Phase A"
        if self.seconds_left is not None:
            phase += f"; about {self.seconds_left / 60:.0f} min left"
        failed = self.counts.get(schema.FAILED, 0)
        lines.append(phase + (f"; {failed} failed" if failed else ""))
        return [visible(line) for line in (*lines, *([self.remark] if self.remark else []))]

    def as_json(self) -> dict[str, Any]:
        """Return what `status --json` prints, as docs/watching.md has it."""
        driver = None
        if self.holder is not None:
            driver = {
                "host": self.holder.owner.host,
                "process": self.holder.owner.pid,
                "fencing_token": self.holder.fencing_token,
                "heartbeat_age_seconds": round(self.holder.age, 1),
                "state": self.holder.state,
            }
        steps = self.progress.phase_a if self.progress and self.at_work else [None, None]
        return {
            "form": FORM,
            "study": self.study,
            "storage": redact(self.storage),
            "phase": self.phase,
            "driver": driver,
            "phase_a": {"step": steps[0], "steps": steps[1]},
            "seconds_left": self.seconds_left,
            "counts": self.counts,
            "cells": [asdict(cell) for cell in self.cells],
            "remark": self.remark or None,
        }


def read_view(ledger: Ledger, *, thorough: bool = False, finished_rows: bool = False) -> StudyView:
    """Look at a study. With `finished_rows` the rows of finished cells are read as well.

    Raises LedgerError and StorageError; what is damaged of the driver's progress is a remark.
    """
    planned, record = ledger.planned_statuses(thorough=thorough), ledger.study_record()
    assert record is not None
    name, search = record["name"], holds_search(ledger)
    return view_of(ledger, planned, study=name, search=search, finished_rows=finished_rows)


def view_of(
    ledger: Ledger,
    planned: Sequence[tuple[Entry, CellStatus]],
    *,
    study: str,
    search: bool,
    finished_rows: bool = False,
) -> StudyView:
    """Look at what is called `study`, a learning-rate `search` or none, of which the planned labels and their
    statuses are known.
    """
    holder, remark, progress = find_holder(ledger.storage), "", None
    try:
        progress = read_driver_file(ledger.storage, PROGRESS, holder.fencing_token) if holder else None
    except DamagedError as error:
        remark = f"{error}: shown without what it tells of running cells"
    running = progress.running if progress and holder and holder.state == AT_WORK else {}
    cells = [
        _cell(ledger, entries, status, running=running, read=finished_rows)
        for entries, status in merged(planned)
    ]
    phase = _phase(cells, progress if running or (holder and holder.state == AT_WORK) else None)
    if phase != DONE and search:
        phase = SEARCHING
    return StudyView(study, ledger.storage.describe(), phase, holder, progress, cells, remark)


def merged(planned: Sequence[tuple[Entry, CellStatus]]) -> list[tuple[list[Entry], CellStatus]]:
    """Return each cell once, with all the entries of its labels."""
    cells: dict[Any, tuple[list[Entry], CellStatus]] = {}
    for position, (entry, status) in enumerate(planned):
        cells.setdefault(entry["key"] or position, ([], status))[0].append(entry)
    return list(cells.values())


def name_of(entries: Sequence[Entry]) -> str:
    """Return what `plan` calls the cell with these labels."""
    return " = ".join(Label.of(entry["labels"]).describe() for entry in entries)


def _phase(cells: Sequence[CellView], progress: RunProgress | None) -> str:
    if cells and all(cell.state in ENDED for cell in cells) and progress is None:
        return DONE
    if progress is not None:
        return progress.phase
    return PHASE_B if any(cell.state != schema.MISSING for cell in cells) else PHASE_A


def _cell(
    ledger: Ledger, entries: list[Entry], status: CellStatus, *, running: dict[str, int], read: bool
) -> CellView:
    key: str | None = entries[0]["key"]
    at_work = key in running and status.state in (schema.PARTIAL, schema.MISSING)
    rows, detail, last = [], "", None
    wanted = status.state not in (schema.MISSING, *(() if read else schema.FINISHED))
    if key is None:
        detail = "waits for Phase A"
    elif wanted and not status.damage:
        try:
            rows = ledger.rows(key, status=status)
            last = rows[-1][schema.STEP] if rows else None
            detail = _failure(ledger, key) if status.state == schema.FAILED else ""
        except DamagedError as error:
            detail = str(error)
    elif status.damage:
        detail = f"{status.damage}; runs again"
    return CellView(
        name_of(entries),
        [entry["labels"] for entry in entries],
        key,
        RUNNING if at_work else status.state,
        last,
        running.get(key) if key else None,
        [row[schema.TASK_A_LOSS] for row in rows],
        [row[schema.TASK_B_LOSS] for row in rows],
        rows[-1][schema.TOKENS_PER_SECOND] if rows else None,
        detail,
    )


def _failure(ledger: Ledger, key: str) -> str:
    failure = ledger.failure(key)
    tries = f"{failure['attempts']} attempt{'' if failure['attempts'] == 1 else 's'}"
    return f"{failure['error']} (after {tries}; log: {ledger.storage.describe(failure['log'])})"


def sparkline(losses: Losses) -> str:
    """Return losses as one character each, the newest last, and the newest as a number."""
    known = [loss for loss in losses if loss is not None]
    if not known:
        return ""
    shown = known[-SPARKS:]
    low, high = min(shown), max(shown)
    top = len(BLOCKS) - 1
    marks = [BLOCKS[round((loss - low) / (high - low) * top) if high > low else 0] for loss in shown]
    return f"{''.join(marks)} {known[-1]:.4f}"


HEADER = ("cell", "state", "step", "task A", "task B", "tokens/s", "detail")


def table_of(cells: Sequence[CellView]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table of cells, without columns that are empty throughout."""
    rows = [
        [
            cell.cell,
            cell.state,
            _steps(cell),
            sparkline(cell.task_a_losses),
            sparkline(cell.task_b_losses),
            "" if cell.tokens_per_second is None else f"{cell.tokens_per_second:,.0f}",
            cell.detail,
        ]
        for cell in cells
    ]
    filled = [place for place in range(len(HEADER)) if place < 2 or any(row[place] for row in rows)]
    return [HEADER[place] for place in filled], [[row[place] for place in filled] for row in rows]


def _steps(cell: CellView) -> str:
    of = f"/{cell.steps}" if cell.steps else ""
    return "" if cell.step is None else f"{cell.step}{of}"
