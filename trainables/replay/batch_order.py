"""The order of training: which example is seen at which step, and where replay is slotted in.

The batch order depends on the seed, the number of replayed examples and task B's size alone; a
strategy only decides what fills the replay slots. So strategies are paired, example by example.
"""

from collections.abc import Callable, Iterator, Mapping
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

    def fill(self, selection: Indices, *, later: Mapping[int, Indices] | None = None) -> Stream:
        """Return the stream in which `selection`, (count,) ascending, fills the slots; from step s (from 0)
        on `later[s]` does.
        """
        indices = self.stream.indices.copy()
        indices[self.replayed] = selection[self.slots]
        for step, chosen in sorted((later or {}).items()):
            following = self.replayed >= self.stream.offsets[step]
            indices[self.replayed[following]] = chosen[self.slots[following]]
        return replace(self.stream, indices=indices)


@dataclass(frozen=True)
class CellSpec:
    """One Phase B run. `strategy` is None for the control without replay.

    `selection`: (R,) what a strategy replays, ascending, as the driver has chosen it; None where the order
    says it all. `reselects`: whether its strategy chooses again while it trains.
    """

    key: str
    strategy: str | None
    mix: float
    seed: int
    training: PhaseBSettings
    order_hash: str
    selection: Indices | None = field(default=None, compare=False, repr=False)
    reselects: bool = False


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
    if training.replay_schedule != "uniform":
        replays = SCHEDULES[training.replay_schedule]
        stream = _move_replay(stream, replays(stream, stream_generator(seed, "schedule")))
    return Slots(stream, count)


Places = npt.NDArray[np.bool_]


def _early(stream: Stream, generator: np.random.Generator) -> Places:
    """In the first half of the training, at random there; as far beyond it as they need."""
    places = np.zeros(len(stream.sources), bool)
    visits = int((stream.sources == TASK_A).sum())
    window = max(len(places) // 2, visits)
    places[generator.permutation(window)[:visits]] = True
    return places


def _late(stream: Stream, generator: np.random.Generator) -> Places:
    """In the last half of the training, at random there."""
    return _early(stream, generator)[::-1]


def _blocked(stream: Stream, generator: np.random.Generator) -> Places:
    """In whole batches of replay alone, evenly spaced; the last of them may be part replay."""
    places = np.zeros(len(stream.sources), bool)
    visits, sizes = int((stream.sources == TASK_A).sum()), np.diff(stream.offsets)
    if visits == 0:
        return places
    blocks = int(np.ceil(visits / sizes.max()))
    while True:
        chosen = np.unique(((np.arange(blocks) + 0.5) * stream.steps / blocks).astype(np.int64))
        room = np.concatenate([np.arange(stream.offsets[i], stream.offsets[i + 1]) for i in chosen])
        if len(room) >= visits:
            places[room[:visits]] = True
            return places
        blocks += 1  # a short batch is among them


# When replay comes, beside its uniform places: which visits are replay. What is visited, and in which order
# task B is, stays as it is.
SCHEDULES: dict[str, Callable[[Stream, np.random.Generator], Places]] = {
    "early": _early,
    "late": _late,
    "blocked": _blocked,
}


def _move_replay(stream: Stream, places: Places) -> Stream:
    """Return the stream whose visits of task A are at `places`, each task's in the order they had."""
    sources, indices = np.full_like(stream.sources, TASK_B), np.empty_like(stream.indices)
    sources[places] = TASK_A
    for task in (TASK_A, TASK_B):
        indices[sources == task] = stream.indices[stream.sources == task]
    return replace(stream, sources=sources, indices=indices)


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
