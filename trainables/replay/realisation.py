"""What one cell really trains on: its order, with the slots filled by a strategy or a control."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainables.replay.batch_order import Slots, Stream, lay_out_slots, replay_count
from trainables.replay.controls import CONTROLS
from trainables.replay.pool import Indices, Pool
from trainables.replay.selection import select
from trainables.settings import PhaseBSettings


@dataclass(frozen=True)
class Realisation:
    """What one cell really trains on.

    `selection`: (R,) replayed examples, ascending. `slots`: the order with the replay slots left unfilled, of
    which `slots_hash` is the digest: it is equal for all strategies at one seed and mix.
    """

    selection: Indices
    stream: Stream
    slots: Slots

    @cached_property
    def slots_hash(self) -> str:
        return self.slots.stream.digest


def realise(
    strategy: str | None,
    *,
    mix: float,
    seed: int,
    pool: Pool,
    task_b_size: int,
    training: PhaseBSettings,
    exchange: float = 1.0,
    selection: Indices | None = None,
) -> Realisation:
    """Return the selection and order of one cell; `strategy` is of STRATEGIES or CONTROLS, None for the run
    without replay. `exchange`: examples of task A that stand for one of task B (`exchange_rate`).
    `selection`: what the strategy replays, where that is known already.
    """
    count = 0 if strategy is None else replay_count(mix, task_b_size, exchange=exchange)
    slots = lay_out_slots(count, seed=seed, task_b_size=task_b_size, training=training)
    if strategy in CONTROLS:
        filled = CONTROLS[strategy].fill(slots, pool, task_b_size, seed)
        return Realisation(filled.selection, filled.stream, slots)
    if count == 0 or strategy is None:
        return Realisation(np.empty(0, np.int64), slots.stream, slots)
    if selection is None:
        selection = select(strategy, pool, count=count, seed=seed)
    return Realisation(selection, slots.fill(selection), slots)
