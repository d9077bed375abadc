"""What the user sees while a study runs: a live view on a terminal, plain lines elsewhere."""

import statistics
import time
from collections.abc import Callable
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.findings.family import Contrast
from analysis.reading.safe_text import visible
from sweep.design.next_stage import NextStage
from sweep.ledger.progress_file import PHASE_A, PHASE_B, PREPARING, RunProgress
from sweep.planning.inputs import Prepared
from sweep.planning.plan import Plan
from trainables.ledger import schema

PHASE_A_LINES = 10  # plain lines over all of Phase A


class Progress:
    """The progress of one run. On a terminal it redraws; elsewhere it prints a line per event."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._names: dict[str, str] = {}
        self._steps: dict[str, int] = {}
        self._rows: dict[str, dict[str, Any]] = {}  # newest row of each running cell
        self._began: dict[str, float] = {}
        self._durations: list[float] = []
        self._done, self._failed, self._total, self._concurrent = 0, 0, 0, 1
        self._status = ""
        self._phase, self._phase_a = PREPARING, (0, 0)
        self._news: set[str] = set()  # cells of which a row or the end has come since `take_news`
        self.tell: Callable[..., None] = lambda event, message, **facts: None  # of what a user is notified of
        self._phase_a_step = -1
        self._looks: dict[Contrast, int] | None = None  # of which the verdicts were said
        self._gate = ""  # what was last said of it
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, message: str) -> None:
        """Print one line that stays."""
        self.console.print(visible(message), highlight=False, markup=False, soft_wrap=True)

    def describe(self, prepared: Prepared) -> None:
        """Say which model and data were found, and what was left out."""
        for line in prepared.describe():
            self.say(line)

    def phase_a(self, step: int, steps: int) -> None:
        """Show how far Phase A is."""
        self._phase, self._phase_a = PHASE_A, (step, steps)
        self._status = f"Phase A: step {step} of {steps}" if steps else "Phase A: loading the model"
        due = steps and step >= self._phase_a_step + max(1, steps // PHASE_A_LINES)
        if due and not self.console.is_terminal:
            self._phase_a_step = step
            self.say(self._status)

    def phase_a_done(self, seed: int, summary: dict[str, float]) -> None:
        """Say what Phase A changed, for the adapter of one seed."""
        self._status = ""
        self.say(
            f"Phase A, seed {seed}: task A loss {summary['task_a_loss_before']:.4f} -> "
            f"{summary['task_a_loss_after']:.4f}, task B loss {summary['task_b_loss_before']:.4f} -> "
            f"{summary['task_b_loss_after']:.4f}"
        )

    def progression(self, due: NextStage) -> None:
        """Say what each look said, what comes next, and how the gate stands, where there is news."""
        if due.gate is not None and due.gate.reason != self._gate and due.halt is None:
            self._gate = due.gate.reason
            self.say(f"gate: {due.gate.reason}")
        if due.progression is None or due.progression.taken == self._looks:
            return
        self._looks = due.progression.taken
        lines = [*due.progression.describe(), due.progression.following()]
        for line in lines:
            self.say(line)
        if due.progression.taken:
            self.tell("look", "\n".join(lines))

    def start(self, plan: Plan, *, workers: int, together: int) -> None:
        """Begin with the cells of `plan`, on `workers` at a time that train up to `together` cells each."""
        self._phase, self._concurrent = PHASE_B, workers * together
        self._names = {cell.spec.key: cell.name for cell in plan.cells if cell.spec}
        self._steps = {cell.spec.key: cell.steps for cell in plan.cells if cell.spec}
        self._total = len(plan.cells)
        self._done = self._total - len(plan.pending)
        if plan.seconds_a_cell is not None:
            self._durations = [plan.seconds_a_cell]
        fused = f", {together} cells together in each" if together > 1 else ""
        at_work = f"{workers} worker{'s' if workers > 1 else ''}{fused}"
        self.say(f"{len(plan.pending)} cells to run, {self._done} already finished, on {at_work}")

    def cell_row(self, key: str, row: dict[str, Any]) -> None:
        """Take in a running cell's newest row."""
        self._began.setdefault(key, time.monotonic())
        self._rows[key] = row
        self._news.add(key)
        if not self.console.is_terminal:
            self.say(f"  {self._names[key]}: {self._describe_row(key, row)}")

    def cell_ended(self, key: str, state: str) -> None:
        """Take in that a cell left its worker: finished, or checkpointed by a stop."""
        row = self._rows.pop(key, None)
        self._news.add(key)
        if state not in schema.FINAL_STATES:
            return
        self._done += 1
        if key in self._began:
            self._durations.append(time.monotonic() - self._began[key])
        ending = self._describe_row(key, row) if row and state == schema.DONE else state
        self.say(f"[{self._done}/{self._total}] {self._names[key]}: {ending}{self._eta()}")

    def cell_retried(self, key: str) -> None:
        """Take in that a cell failed and will be tried again from its checkpoint."""
        self._rows.pop(key, None)
        self.say(f"  {self._names[key]}: failed, trying again from its last checkpoint")

    def cell_failed(self, key: str) -> None:
        """Take in that a cell ran out of retries."""
        self._rows.pop(key, None)
        self._failed += 1
        self.say(f"  {self._names[key]}: failed for good; the others go on")
        self.tell("failure", f"{self._names[key]}: failed for good; the others go on", cell=key)

    def snapshot(self) -> RunProgress:
        """Return how far the run is, for who looks from elsewhere."""
        running = {key: self._steps[key] for key in list(self._rows)}
        return RunProgress(
            phase=self._phase,
            phase_a=list(self._phase_a),
            running=running,
            seconds_left=self._seconds_left(),
        )

    def take_news(self) -> set[str]:
        """Return the keys of cells that have new rows, or have ended, since the last call."""
        taken, self._news = self._news, set()
        return taken

    def _describe_row(self, key: str, row: dict[str, Any]) -> str:
        losses = f"A {row[schema.TASK_A_LOSS]:.4f}, B {row[schema.TASK_B_LOSS]:.4f}"
        return f"step {row[schema.STEP]}/{self._steps[key]}, {losses}"

    def _seconds_left(self) -> float | None:
        left = self._total - self._done - self._failed
        if not self._durations or not left:
            return None
        return statistics.mean(self._durations) * left / self._concurrent

    def _eta(self) -> str:
        seconds = self._seconds_left()
        return "" if seconds is None else f"; about {seconds / 60:.0f} min left"

    def _render(self) -> RenderableType:
        if not self._names:
            return Text(self._status)
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for key, row in self._rows.items():
            table.add_row(Text(visible(self._names[key])), Text(self._describe_row(key, row)))
        head = f"{self._done} of {self._total} cells done, {len(self._rows)} running, {self._failed} failed"
        return Group(Text(head + self._eta()), table)
