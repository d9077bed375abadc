"""The order of training: which example is seen at which step, and where replay is slotted in.

The batch order depends on the seed, the number of replayed examples and task B's size alone; a
strategy only decides what fills the replay slots. So strategies are paired, example by example.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from trainables.ledger.digests import digest_arrays
from trainables.replay.pool import Indices
from trainables.replay.random_streams import stream_generator
from trainables.settings import PhaseBSettings, TrainingSettings

TASK_A, TASK_B = 0, 1  # values of Stream.sources


@dataclass(frozen=True)
class Stream:
    """Every example of a run in the order it is trained on.

    `sources`: (n,) TASK_A or TASK_B. `indices`: (n,) position in that task's training pool.
    `offsets`: (steps + 1,) where each optimiser batch begins. `epoch_steps`: steps in one epoch.
    """

    sources: npt.NDArray[np.uint8]
    indices: Indices
    offsets: Indices
    epoch_steps: int

    @property
    def steps(self) -> int:
        return len(self.offsets) - 1

    @property
    def digest(self) -> str:
        return digest_arrays(self.sources, self.indices, self.offsets)

    def batch(self, step: int) -> tuple[npt.NDArray[np.uint8], Indices]:
        """Return the sources and indices of the batch that optimiser step `step` (from 0) trains on."""
        span = slice(self.offsets[step], self.offsets[step + 1])
        return self.sources[span], self.indices[span]


@dataclass(frozen=True)
class Slots:
    """The order that all strategies share at one seed and mix: in `stream`, a replayed example's index is its
    slot's.

    `count`: the slots. `replayed`: (r,) where in the stream they are visited, and `slots`: (r,) which of
    them.
    """

    stream: Stream
    count: int

    @cached_property
    def replayed(self) -> Indices:
        return np.flatnonzero(self.stream.sources == TASK_A)

    @cached_property
    def slots(self) -> Indices:
        return self.stream.indices[self.replayed]

    def fill(self, selection: Indices) -> Stream:
        """Return the stream in which `selection`, (count,) ascending, fills the slots."""
        indices = self.stream.indices.copy()
        indices[self.replayed] = selection[self.slots]
        return replace(self.stream, indices=indices)


@dataclass(frozen=True)
class CellSpec:
    """One Phase B run. `strategy` is None for the control without replay.

    `selection`: (R,) what a strategy replays, ascending, as the driver has chosen it; None where the order
    says it all.
    """

    key: str
    strategy: str | None
    mix: float
    seed: int
    training: PhaseBSettings
    order_hash: str
    selection: Indices | None = field(default=None, compare=False, repr=False)


def replay_count(mix: float, task_b_size: int, *, exchange: float = 1.0) -> int:
    """Return the number of replayed examples: `mix` times task B's training examples, rounded.

    `exchange`: examples of task A that stand for one of task B.
    """
    return round(mix * task_b_size * exchange)


class Supervised(Protocol):
    """A training pool that counts each example's supervised tokens (n,)."""

    def supervised_counts(self, loss_on: Literal["completion", "all"]) -> Indices: ...


def exchange_rate(training: PhaseBSettings, task_a: Supervised, task_b: Supervised) -> float:
    """Return how many of task A's training examples stand for one of task B's in a mix: 1, or as many as have
    its supervised tokens, on average.
    """
    if training.mix_unit == "examples":
        return 1.0
    tokens_a, tokens_b = (pool.supervised_counts(training.loss_on) for pool in (task_a, task_b))
    return float(tokens_b.mean() / tokens_a.mean())


def lay_out_slots(count: int, *, seed: int, task_b_size: int, training: PhaseBSettings) -> Slots:
    """Return the order of task B's examples and of `count` replay slots, which no strategy has a say in."""
    order = stream_generator(seed, "order")
    kept = task_b_size - count if training.mix_mode == "substitute" else task_b_size
    chosen = np.zeros(task_b_size, bool)
    chosen[order.permutation(task_b_size)[:kept]] = True
    primary = np.flatnonzero(chosen)
    placement = order.permutation(count)
    sources = np.repeat(np.array([TASK_A, TASK_B], np.uint8), [count, kept])
    stream = _lay_out(sources, np.concatenate([placement, primary]), order=order, training=training)
    return Slots(stream, count)


def phase_a_stream(task_a_size: int, *, seed: int, training: TrainingSettings) -> Stream:
    """Return the order in which Phase A sees task A's training pool."""
    sources = np.full(task_a_size, TASK_A, np.uint8)
    order = stream_generator(seed, "phase_a")
    return _lay_out(sources, np.arange(task_a_size), order=order, training=training)


def _lay_out(
    sources: npt.NDArray[np.uint8],
    indices: Indices,
    *,
    order: np.random.Generator,
    training: TrainingSettings,
) -> Stream:
    """Shuffle the items anew each epoch and cut them into batches; an epoch's last batch may be short."""
    size, batch = len(sources), training.batch_size
    epoch_steps = -(-size // batch)
    steps = training.steps if training.steps is not None else epoch_steps * (training.epochs or 0)
    visits = np.concatenate(list(_epochs(size, -(-steps // epoch_steps), order)))
    starts = np.arange(-(-steps // epoch_steps))[:, None] * size + np.arange(epoch_steps) * batch
    offsets = np.append(starts.ravel(), len(visits))[: steps + 1].astype(np.int64)
    visits = visits[: offsets[-1]]
    return Stream(sources[visits], indices[visits].astype(np.int64), offsets, epoch_steps)


def _epochs(size: int, count: int, order: np.random.Generator) -> Iterator[Indices]:
    for _ in range(count):
        yield order.permutation(size)
