"""What a strategy replays at a replicate's seed: strategies by name, applied to a pool."""

from functools import partial

import numpy as np

from trainables.ledger.errors import FAULTS_OF_A_CALL
from trainables.replay.pool import COLUMNS, Indices, Pool, SelectionError
from trainables.replay.random_streams import stream_generator
from trainables.replay.strategies import STRATEGIES, Strategy, order_by_length_of

LENGTH_MATCHED = "length_matched_"  # before a strategy's name: the control that replays examples as long


def find_strategy(name: str) -> Strategy:
    """Return a strategy by its name; `length_matched_` before one is its control.

    Raises ValueError for an unknown name.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    strategy = STRATEGIES.get(name.removeprefix(LENGTH_MATCHED)) if name.startswith(LENGTH_MATCHED) else None
    if strategy is None or not strategy.columns:  # random ones are matched already
        raise ValueError(f"unknown strategy {name!r}: choose one of {', '.join(STRATEGIES)}")
    return Strategy(
        partial(order_by_length_of, matched=strategy),
        needs=tuple(dict.fromkeys([*strategy.columns, "lengths"])),
        source=strategy.source,
        of=strategy,
    )


def reselects(strategy: str) -> bool:
    """Say whether a strategy goes by losses and nothing else of Phase A, so that it can choose again as they
    change.
    """
    return (
        any(COLUMNS[name].origin == "artifact" for name in find_strategy(strategy).columns)
        and not find_strategy(strategy).computed
    )


def select(strategy: str, pool: Pool, *, count: int, seed: int) -> Indices:
    """Return the `count` examples that `strategy` replays at a replicate's seed, in ascending order of index.

    Raises ValueError for an unknown strategy, a column the pool lacks, or a pool that is too small.
    """
    find_strategy(strategy)
    if count > pool.size:
        raise ValueError(f"{count} replayed examples are asked for; task A's training pool has {pool.size}")
    return np.sort(order_pool(strategy, pool, seed=seed)[:count]).astype(np.int64)


def order_pool(strategy: str, pool: Pool, *, seed: int) -> Indices:
    """Return the whole pool in the order that a known `strategy` replays it. Raises SelectionError."""
    rule = find_strategy(strategy)
    for column in rule.columns:
        check_column(strategy, pool, column=column)
    generator = stream_generator(seed, rule.stream)
    try:
        order = rule.order(pool, generator)
    except FAULTS_OF_A_CALL as error:
        raise SelectionError(
            f"strategy {strategy!r} cannot order task A's pool, which gives it "
            f"{', '.join(rule.columns) or 'no column'} (its `needs`): {type(error).__name__}: {error}"
        ) from error
    if not _is_permutation(order, pool.size):
        raise SelectionError(
            f"strategy {strategy!r} must return each of the pool's {pool.size} positions once, as whole "
            f"numbers; got {order!r:.100}"
        )
    return order


def _is_permutation(order: object, size: int) -> bool:
    """Say whether an array holds each of 0 .. size - 1 once."""
    if not isinstance(order, np.ndarray) or order.shape != (size,) or order.dtype.kind not in "iu":
        return False
    inside = bool(((order >= 0) & (order < size)).all())
    return inside and bool((np.bincount(order.astype(np.int64), minlength=size) == 1).all())


def check_column(strategy: str, pool: Pool, *, column: str) -> None:
    """Raise SelectionError if the pool has no value of `column` that `strategy` could order by."""
    if column not in pool.present:
        choices = ", ".join(pool.present) or "no such column"
        raise SelectionError(
            f"strategy {strategy!r} orders by {column!r}, which task A's training pool lacks; it has: "
            f"{choices}"
        )
