"""Phase B: cells from the shared adapter to their last evaluation, one or several in a process.

Yields rows; needs no Ray. Cells that train together share the frozen layers' work and nothing else.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

from trainables.cell import Cell, Shared
from trainables.engine.cell_folder import CellStore, Row
from trainables.engine.evaluation import evaluate
from trainables.engine.interruption import Heartbeat, StoppedError
from trainables.engine.loop import TrainingGroup, sound
from trainables.engine.session import ModelSession, load_session
from trainables.ledger import schema
from trainables.model.base_weights import BaseWeights
from trainables.replay.batch_order import CellSpec


def run_cells(
    specs: Sequence[CellSpec],
    *,
    shared: Shared,
    stores: Mapping[str, CellStore],
    weights: BaseWeights | None = None,
    heartbeat: Heartbeat = lambda: None,
) -> Iterator[tuple[str, Row]]:
    """Train cells side by side to their ends; yield each one's key and row as a row is recorded.

    `stores` are by key. Each continues from its newest checkpoint. Every evaluation point leaves a
    checkpoint; so does StoppedError out of `heartbeat`, which ends the run early. A diverged cell is finished.
    Raises ClaimLostError or StorageError; what was checkpointed is there to go on from.
    """
    warn = stores[specs[0].key].warn
    session = load_session(
        shared.setup, weights=weights, compute_plan=shared.artifact.compute_plan, warn=warn
    )
    session.compute.heartbeat = heartbeat
    settled, here = shared.artifact.compute_plan, session.compute_plan
    session.compute.tokens = dict(
        (settled if settled.device == here.device else here).tokens
    )  # none halved yet
    cells = [Cell(spec, shared=shared, store=stores[spec.key], session=session) for spec in specs]
    for cell in cells:
        if cell.history.rows:  # none where it diverged before its first step
            yield cell.spec.key, cell.history.rows[-1]
    group = TrainingGroup(session.model, [cell.run for cell in cells], compute=session.compute)
    try:
        while cells:
            measured = _measure([cell for cell in cells if cell.due], group, session)
            for cell, row in measured.items():
                cell.checkpoint()
                yield cell.spec.key, row
            going_on = [cell for cell in cells if not _end(cell)]
            if len(going_on) < len(cells):
                cells = going_on
                group.keep([cell.run for cell in cells])
            if cells:
                group.step()
    except StoppedError:
        for cell in cells:
            if cell.run.diverged_at is None:
                cell.checkpoint()
        group.keep([])


def _measure(cells: Sequence[Cell], group: TrainingGroup, session: ModelSession) -> dict[Cell, Row]:
    """Evaluate both tasks for all of `cells` at once and record their rows; a diverged one marks itself."""
    if not cells:
        return {}
    started = time.perf_counter()
    stack, shared = group.stack_of([cell.run for cell in cells]), cells[0].shared
    losses_a, losses_b = (
        evaluate(session.model, task.validation, stack=stack, compute=session.compute)
        for task in (shared.task_a, shared.task_b)
    )
    seconds = (time.perf_counter() - started) / len(cells)
    rows, tokens = {}, [counts.sum() for counts in shared.artifact.validation_tokens]
    for cell, *nll in zip(cells, losses_a, losses_b, strict=True):
        cell.run.counters.seconds += seconds
        if all(sound(values.sum(), total) for values, total in zip(nll, tokens, strict=True)):
            rows[cell] = cell.add_row((nll[0], nll[1]), cell.run.counters.take_recent())
        else:
            cell.run.diverged_at = cell.run.counters.step
    return rows


def _end(cell: Cell) -> bool:
    """Finish the cell if it is at its end; say whether it was."""
    if cell.run.diverged_at is not None:
        cell.finish(schema.DIVERGED, step=cell.run.diverged_at)
    elif cell.run.finished:
        cell.finish(schema.DONE, step=cell.run.counters.step)
    else:
        return False
    return True
