"""Controls: runs of the same steps and slots as replay, in which something else stands in for it.

They tell replay from more training. A new control is one function and one line of CONTROLS.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from trainables.cache.code_identity import digest_function
from trainables.ledger.schema import A_ONLY
from trainables.replay.batch_order import TASK_A, TASK_B, Slots, Stream
from trainables.replay.pool import Indices, Pool
from trainables.replay.random_streams import stream_generator
from trainables.replay.selection import select


@dataclass(frozen=True)
class Filled:
    """What a control trains on: the stream, and which of task A's examples fill the replay slots, (R,).

    An index of TASK_B from `task_b_size` on is one of task B's further examples.
    """

    stream: Stream
    selection: Indices


Fill = Callable[[Slots, Pool, int, int], Filled]


@dataclass(frozen=True)
class Control:
    """How the slots are filled: `fill(slots, pool, task_b_size, seed)`. `fresh`: whether with further
    examples of task B, one a slot.
    """

    fill: Fill
    fresh: bool = False

    @property
    def digest(self) -> str:
        """What the control is known by: its function's own source."""
        return digest_function(self.fill)


def fill_with_task_b(slots: Slots, pool: Pool, task_b_size: int, seed: int) -> Filled:
    """One more example of task B, unseen so far, in place of each replayed one."""
    sources, indices = slots.stream.sources.copy(), slots.stream.indices.copy()
    sources[slots.replayed] = TASK_B
    indices[slots.replayed] = task_b_size + slots.slots
    return Filled(replace(slots.stream, sources=sources, indices=indices), np.empty(0, np.int64))


def fill_with_task_a(slots: Slots, pool: Pool, task_b_size: int, seed: int) -> Filled:
    """Task A alone, for as many steps: what `random` replays in its slots, and in place of task B's examples
    further ones of task A, the whole pool as often as it takes.
    """
    selection = select("random", pool, count=slots.count, seed=seed)
    stream = slots.fill(selection)
    generator = stream_generator(seed, "task_a_only")
    order = np.concatenate([generator.permutation(pool.size) for _ in range(-(-task_b_size // pool.size))])
    indices = stream.indices.copy()
    of_task_b = stream.sources == TASK_B
    indices[of_task_b] = order[stream.indices[of_task_b]]
    return Filled(replace(stream, sources=np.full_like(stream.sources, TASK_A), indices=indices), selection)


CONTROLS: dict[str, Control] = {
    "fresh_b": Control(fill_with_task_b, fresh=True),
    A_ONLY: Control(fill_with_task_a),
}
