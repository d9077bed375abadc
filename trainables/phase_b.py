"""Phase B: cells from the shared adapter to their last evaluation, one or several in a process.

Yields rows; needs no Ray. Cells that train together share the frozen layers' work and nothing else.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

from trainables.cell import Cell, Shared
from trainables.engine.cell_folder import CellStore, Row
from trainables.engine.evaluation import evaluate
from trainables.engine.interruption import Pulse, StoppedError
from trainables.engine.loop import TrainingGroup, sound
from trainables.engine.session import Trainee, load_trainee
from trainables.ledger import schema
from trainables.model.base_weights import BaseWeights
from trainables.replay.batch_order import CellSpec


def run_cells(
    specs: Sequence[CellSpec],
    *,
    shared: Shared,
    stores: Mapping[str, CellStore],
    weights: BaseWeights | None = None,
    pulse: Pulse = lambda: None,
) -> Iterator[tuple[str, Row]]:
    """Train cells side by side to their ends; yield each one's key and row as a row is recorded.

    `stores` are by key. Each continues from its newest checkpoint. Every evaluation point leaves a
    checkpoint; so does StoppedError out of `pulse`, which ends the run early. A diverged cell is finished.
    Raises ClaimLostError or StorageError; what was checkpointed is there to go on from.
    """
    warn = stores[specs[0].key].warn
    trainee = load_trainee(shared.setup, weights=weights, tuning=shared.artifact.tuning, warn=warn)
    trainee.compute.pulse = pulse
    settled, here = shared.artifact.tuning, trainee.tuning
    trainee.compute.tokens = dict(
        (settled if settled.device == here.device else here).tokens
    )  # none halved yet
    cells = [Cell(spec, shared=shared, store=stores[spec.key], trainee=trainee) for spec in specs]
    for cell in cells:
        if cell.history.rows:  # none where it diverged before its first step
            yield cell.spec.key, cell.history.rows[-1]
    group = TrainingGroup(trainee.model, [cell.lane for cell in cells], compute=trainee.compute)
    try:
        while cells:
            measured = _measure([cell for cell in cells if cell.due], group, trainee)
            for cell, row in measured.items():
                cell.checkpoint()
                yield cell.spec.key, row
            going_on = [cell for cell in cells if not _end(cell)]
            if len(going_on) < len(cells):
                cells = going_on
                group.keep([cell.lane for cell in cells])
            if cells:
                group.step()
    except StoppedError:
        for cell in cells:
            if cell.lane.diverged_at is None:
                cell.checkpoint()
        group.keep([])


def _measure(cells: Sequence[Cell], group: TrainingGroup, trainee: Trainee) -> dict[Cell, Row]:
    """Evaluate both tasks for all of `cells` at once and record their rows; a diverged one marks itself."""
    if not cells:
        return {}
    started = time.perf_counter()
    bank, shared = group.bank_of([cell.lane for cell in cells]), cells[0].shared
    losses_a, losses_b = (
        evaluate(trainee.model, task.validation, bank=bank, compute=trainee.compute)
        for task in (shared.task_a, shared.task_b)
    )
    seconds = (time.perf_counter() - started) / len(cells)
    rows, tokens = {}, [counts.sum() for counts in shared.artifact.validation_tokens]
    for cell, *nll in zip(cells, losses_a, losses_b, strict=True):
        cell.lane.counters.seconds += seconds
        if all(sound(values.sum(), total) for values, total in zip(nll, tokens, strict=True)):
            rows[cell] = cell.add_row((nll[0], nll[1]), cell.lane.counters.take_recent())
        else:
            cell.lane.diverged_at = cell.lane.counters.step
    return rows


def _end(cell: Cell) -> bool:
    """Finish the cell if it is at its end; say whether it was."""
    if cell.lane.diverged_at is not None:
        cell.finish(schema.DIVERGED, step=cell.lane.diverged_at)
    elif cell.lane.finished:
        cell.finish(schema.DONE, step=cell.lane.counters.step)
    else:
        return False
    return True
