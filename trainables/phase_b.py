"""Phase B: a cell from the shared adapter to its last evaluation, alone or beside others in one process.

Yields rows; needs no Ray. Cells that train together share the frozen layers' work and nothing else.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

from trainables.cell import Cell, Shared
from trainables.engine.answers import Answers, answer_tasks, asked_tasks
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
    checkpoint; so does StoppedError out of `heartbeat`, which ends the run early. A diverged cell is
    finished. Raises ClaimLostError or StorageError; what was checkpointed is there to go on from.
    """
    warn = stores[specs[0].key].warn
    settled = shared.artifact.compute_plan
    session = load_session(shared.setup, weights=weights, compute_plan=settled, warn=warn)
    session = session.for_work(heartbeat, settled=settled)
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
            _choose_again([cell for cell in cells if cell.chooses_again], group, session)
            if cells:
                group.step()
    except StoppedError:
        for cell in cells:
            if cell.run.diverged_at is None:
                cell.checkpoint()
        group.keep([])


def _measure(cells: Sequence[Cell], group: TrainingGroup, session: ModelSession) -> dict[Cell, Row]:
    """Evaluate everything for all of `cells` at once and record their rows; a diverged one marks itself."""
    if not cells:
        return {}
    started = time.perf_counter()
    stack, shared = group.stack_of([cell.run for cell in cells]), cells[0].shared
    losses = {
        name: evaluate(session.model, examples, stack=stack, compute=session.compute)
        for name, examples in shared.validation_sets.items()
    }
    answers = _answer(cells, group, session)
    seconds = (time.perf_counter() - started) / len(cells)
    rows, tokens = {}, {name: counts.sum() for name, counts in shared.supervised.items()}
    for position, cell in enumerate(cells):
        nll = {name: of_cells[position] for name, of_cells in losses.items()}
        cell.run.counters.seconds += seconds
        if all(sound(values.sum(), tokens[name]) for name, values in nll.items()):
            recent = cell.run.counters.take_recent()
            rows[cell] = cell.add_row(nll, recent, answers=answers.get(cell, {}))
        else:
            cell.run.diverged_at = cell.run.counters.step
    return rows


def _choose_again(cells: Sequence[Cell], group: TrainingGroup, session: ModelSession) -> None:
    """Measure the pool's losses for all of `cells` at once, and let their strategies choose by them."""
    if not cells:
        return
    started = time.perf_counter()
    stack, pool = group.stack_of([cell.run for cell in cells]), cells[0].shared.task_a.train
    losses = evaluate(session.model, pool, stack=stack, compute=session.compute)
    for cell, nll in zip(cells, losses, strict=True):
        cell.choose_again(nll)
        cell.run.counters.seconds += (time.perf_counter() - started) / len(cells)
    group.forget_ahead()


def _answer(cells: Sequence[Cell], group: TrainingGroup, session: ModelSession) -> dict[Cell, Answers]:
    """Return what those of `cells` generate for which answers are due here."""
    shared = cells[0].shared
    settings = shared.evaluation.generate
    if settings is None:
        return {}
    due = [cell for cell in cells if settings.due(cell.run.counters.step, last=cell.run.finished)]
    if not due:
        return {}
    asked = asked_tasks(settings, {"task_a": shared.task_a, "task_b": shared.task_b}, shared.own_scores)
    stack = group.stack_of([cell.run for cell in due])
    return dict(zip(due, answer_tasks(session, asked, settings=settings, stack=stack), strict=True))


def _end(cell: Cell) -> bool:
    """Finish the cell if it is at its end; say whether it was."""
    if cell.run.diverged_at is not None:
        cell.finish(schema.DIVERGED, step=cell.run.diverged_at)
    elif cell.run.finished:
        cell.finish(schema.DONE, step=cell.run.counters.step)
    else:
        return False
    return True
