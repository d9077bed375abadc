"""The plan and the status of a study as tables on the terminal."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from analysis.reading.safe_text import visible
from sweep.config.study import StudyConfig
from sweep.console.status import table_of, view_of
from sweep.design.next_stage import NextStage
from sweep.ledger.ledger import Ledger, count_runs
from sweep.ledger.mixed_code import mixed_code
from sweep.lr_search.outcomes import at_edge, best_rate, rate_outcomes
from sweep.lr_search.search import steps_of_search
from sweep.planning.disk import disk_need
from sweep.planning.inputs import Prepared
from sweep.planning.plan import Plan
from trainables.ledger import schema
from trainables.ledger.forms import read_checked
from trainables.ledger.sealed_json import DamagedError


def print_plan(plan: Plan, *, study: StudyConfig, prepared: Prepared, console: Console) -> None:
    """Print every cell with its state and size, then the totals."""
    for line in prepared.describe():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for seed, artifact in plan.artifacts.items():
        most = "" if study.phase_a.until is None else "at most "
        phase_a = "done" if artifact else f"{most}{plan.phase_a_steps} steps"
        key = prepared.artifacts[seed].prefix.rpartition("/")[2]
        console.print(f"Phase A, seed {seed}: {phase_a} (artifact {key})", highlight=False)
    computed = plan.compute_plan.describe() if plan.compute_plan else "settled when Phase A starts"
    console.print(f"computing: {computed}", highlight=False, soft_wrap=True)
    minutes = "" if plan.seconds_a_cell is None else f"{plan.seconds_a_cell / 60:.1f}"
    rows = []
    for cell, status in plan.planned:
        tokens = f"{cell.tokens:,}" if cell.spec else f"about {cell.tokens:,}"
        rows.append((cell.name, status.state, str(cell.steps), tokens, minutes))
    console.print(
        lay_out(("cell", "state", "steps", "tokens", "minutes"), rows, width=console.width), crop=False
    )
    labels = sum(len(cell.labels) for cell in plan.cells)
    counted = Counter(status.state for _, status in plan.planned)
    states = ", ".join(f"{count} {state}" for state, count in counted.items())
    console.print(f"{labels} labels, {len(plan.cells)} cells: {states}", highlight=False)
    pending = plan.pending
    console.print(
        f"to run: {len(pending)} cells, {sum(cell.steps for cell in pending):,} steps, "
        f"{sum(cell.tokens for cell in pending):,} training tokens",
        highlight=False,
    )
    if any(cell.spec is None for cell in plan.cells):
        columns = dict.fromkeys(name for cell in plan.cells for name in cell.lacks)
        console.print(
            f"computed before their cells: {', '.join(columns)}; cells may merge further then",
            highlight=False,
            soft_wrap=True,
        )
    for message in plan.damaged.values():
        console.print(f"{message}: the cell would run again", highlight=False, markup=False, soft_wrap=True)
    need = disk_need(plan.cells, study=study, prepared=prepared)
    console.print(f"disk: {need.describe()}", highlight=False, soft_wrap=True)
    if study.resources.on_gpu:
        asked = study.resources.cells_per_worker
        for line in prepared.footprint.on_cards(
            prepared.longest, gpus=study.resources.gpus, cells=1 if asked == "auto" else asked
        ):
            console.print(f"memory of a trial: {line}", highlight=False, soft_wrap=True)
    hours = plan.hours_left(study.resources.max_concurrent or 1)
    if hours is None:
        console.print("time: unknown until a cell has finished")
    else:
        console.print(
            f"time: about {hours:.1f} h with {study.resources.max_concurrent or 1} at a time", highlight=False
        )


def print_progression(due: NextStage, whole: Plan, *, console: Console) -> None:
    """Print what each look of a study has said, at which it is of its `whole` plan, and how its gate
    stands.
    """
    progression = due.progression
    if progression is not None:
        if len(due.plan.cells) < len(whole.cells):
            console.print(
                f"these are the cells up to {progression.seeds} seeds of each open contrast; with every look "
                f"there may be {len(whole.cells)}",
                highlight=False,
            )
        for line in (*progression.describe(), progression.following()):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if due.gate is not None:
        console.print(
            f"gate {due.gate.state}: {due.gate.reason}", highlight=False, markup=False, soft_wrap=True
        )


def print_status(ledger: Ledger, *, thorough: bool, console: Console, search: bool = False) -> None:
    """Print the counts by state, then every cell that is not done, with its error if it has one.

    `search`: it is a learning-rate search. `thorough` reads files that would be trusted unread, and tells of
    cells that other code computed.
    """
    record = ledger.study_record()
    assert record is not None
    planned = ledger.planned_statuses(thorough=thorough)
    counts = count_runs(planned)
    total = sum(counts.values())
    console.print(
        f"study {visible(record['name'])}: {counts[schema.DONE]} of {total} cells done",
        highlight=False,
        markup=False,
    )
    if thorough:
        try:
            read_checked(ledger.storage, schema.VALIDATION_FILE)
        except DamagedError as error:
            console.print(
                visible(f"{error}; `run` writes it anew"), highlight=False, markup=False, soft_wrap=True
            )
        _print_mixed_code(mixed_code(ledger, planned), console=console)
    view = view_of(ledger, planned, study=record["name"], search=search)
    for line in view.headline():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    left = [cell for cell in view.cells if cell.state != schema.DONE]
    if left:
        console.print(lay_out(*table_of(left), width=console.width), crop=False)


def _print_mixed_code(lines: Sequence[str], *, console: Console) -> None:
    if lines:
        console.print("finished cells were computed with different code or versions:", highlight=False)
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def print_rates(ledger: Ledger, *, console: Console) -> None:
    """Print what became of every rate of a learning-rate search, and which to take."""
    outcomes, steps = rate_outcomes(ledger), steps_of_search(ledger)
    rows = [
        (
            f"{each.lr:g}",
            each.state,
            f"{each.step}/{steps}",
            _loss(each.task_a_loss),
            _loss(each.task_b_loss),
        )
        for each in outcomes
    ]
    console.print(lay_out(("lr", "state", "step", "task A", "task B"), rows, width=console.width), crop=False)
    best = best_rate(outcomes)
    if best is None:
        console.print("no rate has reached its last step on every seed", highlight=False)
        return
    console.print(
        f"best: lr {best.lr:g}, by task B's validation loss; to use it: --set phase_b.lr={best.lr}",
        highlight=False,
    )
    if at_edge(best, outcomes):
        console.print("it is at the edge of the rates tried: a better one may lie beyond", highlight=False)


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4f}"


def lay_out(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> RenderableType:
    """Return a table of rows, control characters spelled out.

    Where all fit as they are it is laid out without rich, which takes seconds to place 10,000.
    """
    rows = [[visible(text) for text in row] for row in rows]
    columns_of_text = [[*column] for column in zip(header, *rows, strict=True)]
    widths = [max(map(_length, {*column})) for column in columns_of_text]
    fits = sum(widths) + 2 * len(widths) <= width
    if fits and all(text.isprintable() for row in rows for text in row):
        return _Lines(header, rows, widths)
    table = Table(*header, box=None)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


@dataclass(frozen=True)
class _Lines:
    """A table of which every row is one line, as rich would lay it out."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    widths: Sequence[int]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(self._line(self.header), console.get_style("table.header"))
        yield Segment("\n" + "".join(f"{self._line(row)}\n" for row in self.rows))

    def _line(self, row: Sequence[str]) -> str:
        cells = zip(row, self.widths, strict=True)
        return "".join(f" {text}{' ' * (width - _length(text))} " for text, width in cells)


def _length(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return len(text) if text.isascii() else cell_len(text)
