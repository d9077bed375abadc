"""The plan and the status of a study as tables on the terminal."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from sweep.configuration import Study
from sweep.ledger import Ledger
from sweep.planning import Plan
from sweep.preparation import Prepared
from trainables import columns


def print_plan(plan: Plan, *, study: Study, prepared: Prepared, console: Console) -> None:
    """Print every cell with its state and size, then the totals."""
    console.print(f"model: {prepared.source.describe()}", highlight=False, soft_wrap=True)
    phase_a = "done" if plan.phase_a_done else f"{plan.phase_a_steps} steps"
    console.print(f"Phase A: {phase_a} (artifact {prepared.artifact.name})", highlight=False)
    table = Table("cell", "state", "steps", "tokens", "minutes", box=None)
    minutes = "" if plan.seconds_a_cell is None else f"{plan.seconds_a_cell / 60:.1f}"
    for cell, state in zip(plan.cells, plan.states, strict=True):
        tokens = f"{cell.tokens:,}" if cell.spec else f"about {cell.tokens:,}"
        table.add_row(cell.name, state, str(cell.steps), tokens, minutes)
    console.print(table)
    labels = sum(len(cell.labels) for cell in plan.cells)
    states = ", ".join(f"{count} {state}" for state, count in Counter(plan.states).items())
    console.print(f"{labels} labels, {len(plan.cells)} cells: {states}", highlight=False)
    pending = plan.pending
    console.print(
        f"to run: {len(pending)} cells, {sum(cell.steps for cell in pending):,} steps, "
        f"{sum(cell.tokens for cell in pending):,} training tokens",
        highlight=False,
    )
    if any(cell.spec is None for cell in plan.cells):
        console.print("loss_* strategies select by Phase A's losses: their cells may merge further after it")
    hours = plan.hours_left(study.resources.max_concurrent or 1)
    if hours is None:
        console.print("time: unknown until a cell has finished")
    else:
        console.print(
            f"time: about {hours:.1f} h with {study.resources.max_concurrent or 1} at a time", highlight=False
        )


def print_status(ledger: Ledger, *, console: Console) -> None:
    """Print the counts by state, then every cell that is not done, with its error if it has one."""
    record = ledger.study_record()
    assert record is not None
    counts = ledger.counts()
    total = sum(counts.values())
    console.print(f"study {record['name']}: {counts[columns.DONE]} of {total} cells done", highlight=False)
    table = Table("cell", "state", "detail", box=None)
    for entry in ledger.plan():
        state = ledger.state(entry["key"])
        if state == columns.DONE:
            continue
        label = ", ".join(f"{name} {value}" for name, value in entry["labels"].items())
        table.add_row(label, state, _detail(ledger, entry["key"], state))
    if table.row_count:
        console.print(table)


def _detail(ledger: Ledger, key: str | None, state: str) -> str:
    if key is None:
        return "waits for Phase A"
    if state == columns.FAILED:
        failure = ledger.failure(key)
        return (
            f"{failure['error']} (after {failure['attempts']} attempts; log: {ledger.root / failure['log']})"
        )
    rows = ledger.rows(key)
    return f"at step {rows[-1][columns.STEP]}" if rows else ""
