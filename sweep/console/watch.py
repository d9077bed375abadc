"""`watch`: a study's status again and again, from any machine that sees its storage, until it ends."""

import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from analysis.reading.safe_text import visible
from sweep.console.status import RUNNING, CellView, StudyView, read_view, sparkline, table_of
from sweep.console.tables import lay_out
from sweep.ledger.ledger import Ledger
from trainables.ledger import schema
from trainables.ledger.storage.base import StorageError

MOST_CELLS = 30  # that a screen shows


def watch(
    ledger: Ledger, *, every: float, console: Console, wait: Callable[[float], None] = time.sleep
) -> StudyView:
    """Show where the study stands every so many seconds; return how it ended.

    Storage that does not answer is said and asked again.
    """
    seen: dict[str, str] = {}
    with Live(console=console, auto_refresh=False) if console.is_terminal else _Lines() as live:
        while True:
            try:
                view = read_view(ledger)
            except StorageError as error:
                _say(f"{error}; asking again in {every:g} s", console)
            else:
                if isinstance(live, Live):
                    live.update(screen(view, width=console.width), refresh=True)
                else:
                    _print_news(view, seen, console)
                if view.ended:
                    return view
            wait(every)


class _Lines:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def screen(view: StudyView, *, width: int) -> RenderableType:
    """Return what a terminal shows: who is at work, then cells that run or failed, then those to come."""
    order = {RUNNING: 0, schema.FAILED: 1, schema.PARTIAL: 2}
    open_cells = [cell for cell in view.cells if cell.state not in schema.FINAL_STATES]
    shown = sorted(open_cells, key=lambda cell: order.get(cell.state, 3))[:MOST_CELLS]
    lines = [_counts(view), *view.headline()]
    more = [f"... and {len(open_cells) - len(shown)} more"] if len(open_cells) > len(shown) else []
    table = [lay_out(*table_of(shown), width=width)] if shown else []
    return Group(*map(Text, lines), *table, *map(Text, more))


def _counts(view: StudyView) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in view.counts.items())
    return visible(f"study {view.study}: {len(view.cells)} cells: {counts}")


def _print_news(view: StudyView, seen: dict[str, str], console: Console) -> None:
    """Print a line for whatever has changed since the last look."""
    head = [_counts(view), *view.headline()[1:]]
    if seen.get("") != "\n".join(head):
        seen[""] = "\n".join(head)
        for line in (head[0], *view.headline()):
            _say(line, console)
    for cell in view.cells:
        mark = f"{cell.state} {cell.step}"
        if cell.state in (RUNNING, schema.FAILED) and seen.get(cell.cell) != mark:
            seen[cell.cell] = mark
            _say(f"  {_describe(cell)}", console)


def _describe(cell: CellView) -> str:
    of = f"/{cell.steps}" if cell.steps else ""
    parts = [cell.state, *([] if cell.step is None else [f"step {cell.step}{of}"])]
    for task, losses in (("A", cell.task_a_losses), ("B", cell.task_b_losses)):
        parts += [f"{task} {sparkline(losses)}"] if losses else []
    return f"{cell.cell}: {', '.join([*parts, *([cell.detail] if cell.detail else [])])}"


def _say(line: str, console: Console) -> None:
    console.print(visible(line), highlight=False, markup=False, soft_wrap=True)
