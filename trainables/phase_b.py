"""Phase B: one cell, from the shared adapter to its last evaluation. Yields rows; needs no Ray."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainables import columns
from trainables.adapters import adapter_weights, set_adapter_weights
from trainables.cell_store import CellStore, Row
from trainables.evaluation import Losses, evaluate
from trainables.losses import example_weighted, token_weighted
from trainables.phase_a import Artifact
from trainables.replay import CellSpec, Realisation, realise
from trainables.strategies import Pool
from trainables.streams import stream_integer
from trainables.tasks.prepare import PreparedTask
from trainables.trainee import Setup, load_trainee
from trainables.training import Diverged, TrainingRun


@dataclass(frozen=True)
class Shared:
    """What all cells of a study share; the driver puts it into the object store once."""

    setup: Setup
    artifact: Artifact
    task_a: PreparedTask
    task_b: PreparedTask

    @property
    def pool(self) -> Pool:
        train = self.task_a.train
        return Pool(len(train), train.difficulty, self.artifact.pool_losses)


@dataclass
class _History:
    """Rows so far, and every example's nll at each of them: one array a point and task."""

    rows: list[Row]
    nll: tuple[list[Losses], list[Losses]]

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "steps": np.array([row[columns.STEP] for row in self.rows], np.int64),
            "task_a_nll": np.stack(self.nll[0]),
            "task_b_nll": np.stack(self.nll[1]),
        }


class _Cell:
    """A cell at work: its training run, its history, and its directory."""

    def __init__(self, spec: CellSpec, *, shared: Shared, store: CellStore) -> None:
        self.spec, self.shared, self.store = spec, shared, store
        self.model, self.compute = load_trainee(shared.setup)
        self.realisation = realise(
            spec.strategy,
            mix=spec.mix,
            seed=spec.seed,
            pool=shared.pool,
            task_b_size=len(shared.task_b.train),
            training=spec.training,
        )
        assert self.realisation.stream.digest == spec.order_hash, (
            "a worker realised another order than the driver"
        )
        set_adapter_weights(self.model, shared.artifact.adapter)
        self.run = TrainingRun(
            self.model,
            stream=self.realisation.stream,
            tasks=(shared.task_a.train, shared.task_b.train),
            settings=spec.training,
            compute=self.compute,
            dropout_seed=stream_integer(spec.seed, "dropout"),
        )
        self.history = _History([], ([], []))

    def begin(self) -> None:
        """Continue from the newest checkpoint, or begin with step 0 as Phase A measured it."""
        saved = self.store.newest_checkpoint()
        if saved is None:
            self.store.describe(
                _description(self.spec, self.realisation), _selection(self.realisation, self.shared)
            )
            self._add_row(
                self.shared.artifact.validation_nll, {"train_loss": None, "tokens_per_second": None}
            )
            return
        tensors, values = saved
        points = tensors.pop("history.task_a_nll").numpy(), tensors.pop("history.task_b_nll").numpy()
        self.history = _History(values.pop("rows"), (list(points[0]), list(points[1])))
        self.run.restore(tensors, values)

    def measure(self) -> Row:
        """Evaluate both tasks and record the row. Raises Diverged where a loss is not finite."""
        started = time.perf_counter()
        tasks = (self.shared.task_a, self.shared.task_b)
        nll = [evaluate(self.model, task.validation, compute=self.compute) for task in tasks]
        self.run.counters.seconds += time.perf_counter() - started
        if not all(math.isfinite(values.sum()) for values in nll):
            raise Diverged(self.run.counters.step)
        return self._add_row((nll[0], nll[1]), self.run.counters.take_recent())

    def _add_row(self, nll: tuple[Losses, Losses], recent: dict[str, Any]) -> Row:
        counters, (tokens_a, tokens_b) = self.run.counters, self.shared.artifact.validation_tokens
        row: Row = {
            columns.STEP: counters.step,
            columns.EPOCH: self.run.epoch,
            columns.TASK_A_LOSS: token_weighted(nll[0], tokens_a),
            columns.TASK_B_LOSS: token_weighted(nll[1], tokens_b),
            columns.TASK_A_LOSS_PER_EXAMPLE: example_weighted(nll[0], tokens_a),
            columns.TASK_B_LOSS_PER_EXAMPLE: example_weighted(nll[1], tokens_b),
            columns.TRAIN_LOSS: recent["train_loss"],
            columns.LEARNING_RATE: self.run.learning_rate,
            columns.TASK_A_EXAMPLES: counters.examples[0],
            columns.TASK_B_EXAMPLES: counters.examples[1],
            columns.TASK_A_TOKENS: counters.supervised[0],
            columns.TASK_B_TOKENS: counters.supervised[1],
            columns.TOKENS_PER_SECOND: recent["tokens_per_second"],
            columns.SECONDS: counters.seconds,
        }
        self.history.rows.append(row)
        for points, values in zip(self.history.nll, nll, strict=True):
            points.append(values)
        tokens = {"task_a_tokens": tokens_a, "task_b_tokens": tokens_b}
        self.store.record(self.history.rows, self.history.arrays() | tokens)
        return row

    def checkpoint(self) -> None:
        tensors, values = self.run.state()
        arrays = self.history.arrays()
        tensors |= {
            f"history.{name}": torch.from_numpy(arrays[name]) for name in ("task_a_nll", "task_b_nll")
        }
        self.store.checkpoint(self.run.counters.step, tensors, values | {"rows": self.history.rows})

    def finish(self, state: str, *, step: int) -> None:
        result = {
            "state": state,
            "step": step,
            "total_steps": self.run.stream.steps,
            "seconds": self.run.counters.seconds,
            "computed_on": self.compute.describe(),
        }
        if state == columns.DONE and self.spec.training.keep_adapters:
            setup = self.shared.setup
            weights = adapter_weights(self.model)
            self.store.keep_adapter(weights, lora=setup.settings.lora, base_model=setup.base_model)
        self.store.finish(result)


def run_cell(
    spec: CellSpec, *, shared: Shared, store: CellStore, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Row]:
    """Train one cell to its end and yield each evaluation's row as it is recorded.

    Continues from the newest checkpoint. Every evaluation point leaves a checkpoint, and so does
    `should_stop`, which is asked after each step and ends the run early. A diverged cell is finished.
    """
    cell = _Cell(spec, shared=shared, store=store)
    cell.begin()
    yield cell.history.rows[-1]
    try:
        for step in cell.run.steps():
            due = step % spec.training.eval_every == 0 or cell.run.finished
            if due:
                row = cell.measure()
            stopping = should_stop() and not cell.run.finished
            if due or stopping:
                cell.checkpoint()
            if due:
                yield row
            if stopping:
                return
    except Diverged as diverged:
        cell.finish(columns.DIVERGED, step=diverged.step)
        return
    cell.finish(columns.DONE, step=cell.run.counters.step)


def _description(spec: CellSpec, realisation: Realisation) -> dict[str, Any]:
    return {
        "key": spec.key,
        "strategy": spec.strategy or columns.NO_REPLAY,
        "mix": spec.mix,
        "seed": spec.seed,
        "hyperparameters": spec.training.model_dump(mode="json"),
        "order_hash": spec.order_hash,
        "slots_hash": realisation.slots_hash,
    }


def _selection(realisation: Realisation, shared: Shared) -> dict[str, Any]:
    """Return the replayed examples, one list a column."""
    train, chosen = shared.task_a.train, realisation.selection
    return {
        "index": chosen.tolist(),
        "id": [train.ids[i] for i in chosen],
        "level": [train.levels[i] for i in chosen],
        "type": [train.types[i] for i in chosen],
        "tokens": [int(train.lengths[i]) for i in chosen],
        "loss": [float(value) for value in shared.artifact.pool_losses[chosen]],
    }
