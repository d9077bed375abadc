"""From the search space to cells: labels, realised orders, and which labels are one run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from sweep.configuration import Study
from sweep.preparation import PHASE_B_BOOKKEEPING, Prepared
from trainables.columns import MIX, NO_REPLAY, SEED, STRATEGY
from trainables.digests import digest_json
from trainables.replay import TASK_A, CellSpec, Realisation, Stream, realise, replay_count
from trainables.settings import PhaseBSettings
from trainables.strategies import STRATEGIES, Floats, Indices, Pool, SelectionError, check_column, order_pool

Axes = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Label:
    """One point of the search space; the control without replay has the strategy NO_REPLAY."""

    strategy: str
    mix: float
    seed: int
    axes: Axes = ()

    def record(self) -> dict[str, Any]:
        return {STRATEGY: self.strategy, MIX: self.mix, SEED: self.seed, **dict(self.axes)}

    def describe(self) -> str:
        control = self.strategy == NO_REPLAY
        parts = ["no replay" if control else f"{self.strategy} {self.mix:.4g}", f"seed {self.seed}"]
        return ", ".join(parts + [f"{name} {value}" for name, value in self.axes])


@dataclass(frozen=True)
class PlannedCell:
    """One run and every label it answers for.

    `spec` is None while its order is unknown: a strategy that needs Phase A's losses, before Phase A.
    `tokens` counts the training tokens, prompt included; an estimate while the order is unknown.
    """

    labels: tuple[Label, ...]
    spec: CellSpec | None
    steps: int
    tokens: int

    @property
    def seed(self) -> int:
        return self.labels[0].seed

    @property
    def name(self) -> str:
        return " = ".join(label.describe() for label in self.labels)


def study_labels(study: Study) -> list[Label]:
    """Return every label of the search space once; mix 0 is one label a seed, whatever the strategy.

    Ordered seed by seed, so that an interrupted study holds whole replicates.
    """
    points = []
    for point in study.search.axis_points():
        training = study.training_at(point).model_dump(mode="json")
        points.append(tuple((name, training[name]) for name in point))
    labels = [
        Label(strategy if mix > 0 else NO_REPLAY, mix, seed, point)
        for seed in study.search.seed
        for point in points
        for mix in study.search.mix
        for strategy in study.search.strategy
    ]
    return list(dict.fromkeys(labels))


@dataclass(frozen=True)
class Origin:
    """What a replicate starts from: its Phase A artifact's key and, once that is there, A's losses (n,)."""

    key: str
    pool_losses: Floats | None


def plan_cells(study: Study, prepared: Prepared, *, origins: Mapping[int, Origin]) -> list[PlannedCell]:
    """Return the cells of the study; labels that train on the same stream share one.

    `origins` are by Phase A seed. Raises ValueError where a strategy cannot order the pool, or the pool
    holds fewer examples than a mix replays.
    """
    train = prepared.task_a.train
    pools = {seed: Pool(len(train), train.difficulty, origin.pool_losses) for seed, origin in origins.items()}
    for pool in pools.values():
        check_selectable(study, pool, task_b_size=len(prepared.task_b.train))
    phase_a_seed = study.phase_a.seed_of
    training_at, order_of = _training_by_axes(study), _orders(lambda seed: pools[phase_a_seed(seed)])
    cells: dict[str | Label, PlannedCell] = {}
    for (seed, axes, mix), labels in groupby(study_labels(study), key=_slots_of):
        training = training_at(axes)
        origin, pool = origins[phase_a_seed(seed)], pools[phase_a_seed(seed)]
        slots = _lay_out(mix, seed=seed, pool=pool, prepared=prepared, training=training)
        meaning = _meaning(seed, training=training, prepared=prepared, artifact_key=origin.key)
        for label in labels:
            if origin.pool_losses is None and _needs(label.strategy) == "losses":
                tokens = _tokens(slots.stream, prepared)  # of a random selection
                cells[label] = PlannedCell((label,), None, slots.stream.steps, tokens)
                continue
            stream = slots.stream if mix == 0 else _fill(slots, order_of(label.strategy, seed))
            spec = _specify(label, stream, training=training, meaning=meaning)
            merged = cells[spec.key].labels if spec.key in cells else ()
            cells[spec.key] = PlannedCell((*merged, label), spec, stream.steps, _tokens(stream, prepared))
    return list(cells.values())


def check_selectable(study: Study, pool: Pool, *, task_b_size: int) -> None:
    """Raise SelectionError if task A's pool cannot serve every strategy and mix of the study."""
    most = max(study.search.mix)
    if replay_count(most, task_b_size) > pool.size:
        raise SelectionError(
            f"search.mix: {most:g} of {task_b_size} task B examples are {replay_count(most, task_b_size)}, and task A's "
            f"training pool has {pool.size}: lower the mix or raise task_a.train"
        )
    for strategy in study.search.strategy:
        if _needs(strategy) == "difficulty":
            check_column(strategy, pool, column="difficulty")


def _needs(strategy: str) -> str | None:
    return None if strategy == NO_REPLAY else STRATEGIES[strategy].needs


def _slots_of(label: Label) -> tuple[int, Axes, float]:
    """Return what decides where replay is slotted in: labels that share it come together."""
    return label.seed, label.axes, label.mix


def _training_by_axes(study: Study) -> Callable[[Axes], PhaseBSettings]:
    return cache(lambda axes: study.training_at(dict(axes)))


def _orders(pool_of: Callable[[int], Pool]) -> Callable[[str, int], Indices]:
    """Return the function that orders a replicate's pool, by strategy and seed; mixes differ in where they cut it."""

    @lru_cache(maxsize=len(STRATEGIES))
    def order(strategy: str, seed: int) -> Indices:
        return order_pool(strategy, pool_of(seed), seed=seed)

    return order


def _lay_out(
    mix: float, *, seed: int, pool: Pool, prepared: Prepared, training: PhaseBSettings
) -> Realisation:
    """Return the slots that every strategy fills, filled by the random one, which costs least."""
    size = len(prepared.task_b.train)
    return realise("random", mix=mix, seed=seed, pool=pool, task_b_size=size, training=training)


def _fill(slots: Realisation, order: Indices) -> Stream:
    """Return the stream of a strategy's first examples in the slots of another realisation.

    A selection is ascending, so an example's rank in it is the number of its slot.
    """
    selection = np.sort(order[: len(slots.selection)])
    indices = slots.stream.indices.copy()
    replayed = slots.stream.sources == TASK_A
    indices[replayed] = selection[np.searchsorted(slots.selection, indices[replayed])]
    return replace(slots.stream, indices=indices)


def _meaning(seed: int, *, training: PhaseBSettings, prepared: Prepared, artifact_key: str) -> dict[str, Any]:
    """Return all that gives a cell its meaning but the order of its examples."""
    return {
        "artifact": artifact_key,
        "task_b": prepared.task_b.digest,
        "seed": seed,
        "training": training.model_dump(mode="json", exclude=PHASE_B_BOOKKEEPING),
    }


def _specify(label: Label, stream: Stream, *, training: PhaseBSettings, meaning: dict[str, Any]) -> CellSpec:
    strategy = None if label.strategy == NO_REPLAY else label.strategy
    order_hash = stream.digest
    key = digest_json(meaning | {"order": order_hash})
    return CellSpec(key, strategy, label.mix, label.seed, training, order_hash)


def _tokens(stream: Stream, prepared: Prepared) -> int:
    replayed = stream.sources == TASK_A
    lengths_a, lengths_b = prepared.task_a.train.lengths, prepared.task_b.train.lengths
    return int(np.sum(lengths_a[stream.indices[replayed]]) + np.sum(lengths_b[stream.indices[~replayed]]))


def plan_record(cells: Iterable[PlannedCell], *, study: Study, axes: Iterable[str]) -> list[dict[str, Any]]:
    """Return the plan as the ledger keeps it: one entry a label, with its cell's key once known.

    Every label names the value of every axis in `axes`, searched now or not.
    """
    names, training_at = list(axes), _training_by_axes(study)

    @cache
    def values_at(point: Axes) -> dict[str, Any]:
        training = training_at(point).model_dump(mode="json")
        return {name: training[name] for name in names}

    return [
        {"labels": label.record() | values_at(label.axes), "key": cell.spec.key if cell.spec else None}
        for cell in cells
        for label in cell.labels
    ]
