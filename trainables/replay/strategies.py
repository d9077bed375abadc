"""Selection strategies: rules that order task A's training pool for replay.

A strategy sees the training pool only. The first R of its order are replayed, so a larger mix
replays a superset of a smaller one. A new strategy is one function and one line of STRATEGIES.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trainables.cache.code_identity import digest_function
from trainables.ledger.digests import digest_json
from trainables.ledger.errors import UserError
from trainables.ledger.schema import AA
from trainables.replay.random_streams import stream_generator

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class SelectionError(UserError):
    """A strategy or mix that task A's pool cannot serve."""


@dataclass(frozen=True)
class Pool:
    """Task A's training pool as a strategy sees it; NaN marks an example without a value.

    `difficulty`: (n,) larger is harder. `losses`: (n,) nats a supervised token after Phase A, or
    None where Phase A has not run yet.
    """

    size: int
    difficulty: Floats
    losses: Floats | None = None

    @cached_property
    def ranks(self) -> dict[str, Indices]:
        """Return the dense ranks of each column there is, ascending and descending, NaN last in both."""
        present = {"difficulty": self.difficulty, "losses": self.losses}
        return {
            f"{name} {direction}": _dense_ranks(values if direction == "ascending" else -values)
            for name, values in present.items()
            if values is not None
            for direction in ("ascending", "descending")
        }


@dataclass(frozen=True)
class Strategy:
    """How to order a pool, which of its columns that takes, and the random stream it draws from."""

    order: Callable[[Pool, np.random.Generator], Indices]
    needs: str | None = None
    stream: str = "selection"

    @property
    def digest(self) -> str:
        """What the strategy is known by: its function's own source, and what that is given."""
        return digest_json({"order": digest_function(self.order), "needs": self.needs, "stream": self.stream})


def order_randomly(pool: Pool, generator: np.random.Generator) -> Indices:
    """A uniformly random order."""
    return generator.permutation(pool.size)


def order_by_difficulty_descending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Hardest first."""
    return _order_by(pool.ranks["difficulty descending"], generator)


def order_by_difficulty_ascending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Easiest first."""
    return _order_by(pool.ranks["difficulty ascending"], generator)


def order_by_loss_descending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Worst learnt in Phase A first."""
    return _order_by(pool.ranks["losses descending"], generator)


def order_by_loss_ascending(pool: Pool, generator: np.random.Generator) -> Indices:
    """Best learnt in Phase A first."""
    return _order_by(pool.ranks["losses ascending"], generator)


STRATEGIES: dict[str, Strategy] = {
    "random": Strategy(order_randomly),
    "difficulty_hard": Strategy(order_by_difficulty_descending, needs="difficulty"),
    "difficulty_easy": Strategy(order_by_difficulty_ascending, needs="difficulty"),
    "loss_descending": Strategy(order_by_loss_descending, needs="losses"),
    "loss_ascending": Strategy(order_by_loss_ascending, needs="losses"),
    AA: Strategy(order_randomly, stream="selection_aa"),
}


def select(strategy: str, pool: Pool, *, count: int, seed: int) -> Indices:
    """Return the `count` examples that `strategy` replays at a replicate's seed, in ascending order of index.

    Raises ValueError for an unknown strategy, a column the pool lacks, or a pool that is too small.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}: choose one of {', '.join(STRATEGIES)}")
    if count > pool.size:
        raise ValueError(f"{count} replayed examples are asked for; task A's training pool has {pool.size}")
    return np.sort(order_pool(strategy, pool, seed=seed)[:count]).astype(np.int64)


def order_pool(strategy: str, pool: Pool, *, seed: int) -> Indices:
    """Return the whole pool in the order that a known `strategy` replays it. Raises SelectionError."""
    rule = STRATEGIES[strategy]
    if rule.needs is not None:
        check_column(strategy, pool, column=rule.needs)
    return rule.order(pool, stream_generator(seed, rule.stream))


def check_column(strategy: str, pool: Pool, *, column: str) -> None:
    """Raise SelectionError if the pool has no value of `column` that `strategy` could order by."""
    present = {
        name: values is not None and not bool(np.isnan(values).all())
        for name, values in {"difficulty": pool.difficulty, "losses": pool.losses}.items()
    }
    if not present[column]:
        choices = [name for name, there in present.items() if there]
        raise SelectionError(
            f"strategy {strategy!r} orders by {column!r}, which task A's training pool lacks; "
            f"it has: {', '.join(choices) or 'no such column'}"
        )


def _dense_ranks(values: Floats) -> Indices:
    """Return (n,) the place of each value among the distinct ones, NaN last; a few bits sort fast."""
    distinct, ranks = np.unique(values, return_inverse=True)
    return ranks.astype(np.min_scalar_type(len(distinct)))


def _order_by(ranks: Indices, generator: np.random.Generator) -> Indices:
    """Return the ascending order of `ranks`, ties broken at random: as `np.lexsort` with a permutation as the
    tie-break.
    """
    tie_break = generator.permutation(len(ranks))
    shuffled = np.empty_like(tie_break)
    shuffled[tie_break] = np.arange(len(ranks))
    return shuffled[np.argsort(ranks[shuffled], kind="stable")]
