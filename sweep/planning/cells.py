"""From the search space to cells: labels, realised orders, and which labels are one run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from sweep.config.study import StudyConfig
from sweep.planning.inputs import PHASE_B_BOOKKEEPING, Prepared, without_later
from trainables.ledger.digests import digest_json
from trainables.ledger.schema import LABEL_COLUMNS, MIX, NO_REPLAY, SEED, STRATEGY
from trainables.replay.batch_order import TASK_B, CellSpec, Stream, lay_out_slots, replay_count
from trainables.replay.controls import CONTROLS
from trainables.replay.pool import COLUMNS, Array, Floats, Indices, Pool, SelectionError, open_pool
from trainables.replay.selection import check_column, find_strategy, order_pool, reselects
from trainables.replay.strategies import STRATEGIES
from trainables.settings import PhaseBSettings

Axes = tuple[tuple[str, Any], ...]
RESELECTION = "reselection"  # in the meaning of a cell that chooses again
IN_THE_ORDER = {"replay_schedule", "reselect_every"}  # settings that only what is replayed depends on


@dataclass(frozen=True)
class Label:
    """One point of the search space; the control without replay has the strategy NO_REPLAY."""

    strategy: str
    mix: float
    seed: int
    axes: Axes = ()

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Label":
        """Return the label that `record` wrote."""
        axes = tuple((name, value) for name, value in record.items() if name not in LABEL_COLUMNS)
        return cls(record[STRATEGY], record[MIX], record[SEED], axes)

    def record(self) -> dict[str, Any]:
        return {STRATEGY: self.strategy, MIX: self.mix, SEED: self.seed, **dict(self.axes)}

    def describe(self) -> str:
        control = self.strategy == NO_REPLAY
        parts = ["no replay" if control else f"{self.strategy} {self.mix:.4g}", f"seed {self.seed}"]
        return ", ".join(parts + [f"{name} {value}" for name, value in self.axes])


@dataclass(frozen=True)
class PlannedCell:
    """One run and every label it answers for.

    `spec` is None while its order is unknown, for the pool's columns that its strategy `lacks`.
    `tokens` counts the training tokens, prompt included; an estimate while the order is unknown.
    """

    labels: tuple[Label, ...]
    spec: CellSpec | None
    steps: int
    tokens: int
    lacks: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        return self.labels[0].seed

    @property
    def name(self) -> str:
        return " = ".join(label.describe() for label in self.labels)


def study_labels(study: StudyConfig) -> list[Label]:
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
    """What a replicate starts from: its Phase A artifact's key and, once that is there, A's losses (n,) and
    the columns of the pool that are computed; `costs` says how.
    """

    key: str
    pool_losses: Floats | None
    computed: Mapping[str, Array] = field(default_factory=dict)
    costs: tuple[dict[str, Any], ...] = ()


def plan_cells(study: StudyConfig, prepared: Prepared, *, origins: Mapping[int, Origin]) -> list[PlannedCell]:
    """Return the cells of the study; labels that train on the same stream share one.

    `origins` are by Phase A seed. Raises ValueError where a strategy cannot order the pool, or the pool
    holds fewer examples than a mix replays.
    """
    train = prepared.task_a.train
    pools = {
        seed: open_pool(train, losses=origin.pool_losses, computed=origin.computed)
        for seed, origin in origins.items()
    }
    for pool in pools.values():
        check_selectable(study, pool, prepared=prepared)
    phase_a_seed = study.phase_a.seed_of
    training_at, order_of = _training_by_axes(study), _orders(lambda seed: pools[phase_a_seed(seed)])
    meaning_of = cache(lambda axes: _meaning(training_at(axes), prepared=prepared))
    cells: dict[str | Label, PlannedCell] = {}
    for (seed, axes, mix), labels in groupby(study_labels(study), key=_slots_of):
        training, origin = training_at(axes), origins[phase_a_seed(seed)]
        shared = _Shared(mix, seed=seed, prepared=prepared, training=training)
        meaning = meaning_of(axes) | {"artifact": origin.key, "seed": seed}
        whole_pool = shared.slots.count == len(train)  # which every strategy replays alike
        for label in labels:
            control = CONTROLS.get(label.strategy)
            if control is not None:
                stream = control.fill(
                    shared.slots, pools[phase_a_seed(seed)], shared.task_b_size, seed
                ).stream
                own = {"fresh": shared.fresh_digest} if control.fresh and shared.slots.count else {}
                spec = _specify(label, stream, training=training, meaning=meaning | own)
                _add(cells, label, spec, steps=shared.steps, tokens=shared.tokens_of(stream))
                continue
            strategy = "random" if whole_pool else label.strategy
            lacks = () if mix == 0 else _lacking(strategy, pools[phase_a_seed(seed)])
            if lacks:
                estimate = shared.tokens(shared.selection(order_of("random", seed)))
                cells[label] = PlannedCell((label,), None, shared.steps, estimate, lacks)
                continue
            selection = shared.selection(None if mix == 0 else order_of(strategy, seed))
            own = _reselection(strategy, training) if shared.slots.count else {}
            spec = _specify(
                label,
                shared.slots.fill(selection),
                training=training,
                meaning=meaning | own,
                selection=selection,
            )
            _add(cells, label, spec, steps=shared.steps, tokens=shared.tokens(selection))
    return list(cells.values())


def _add(
    cells: dict[str | Label, PlannedCell], label: Label, spec: CellSpec, *, steps: int, tokens: int
) -> None:
    """Put a run into `cells`, or its label to that of an equal one."""
    merged = cells[spec.key].labels if spec.key in cells else ()
    cells[spec.key] = PlannedCell((*merged, label), spec, steps, tokens)


def check_selectable(study: StudyConfig, pool: Pool, *, prepared: Prepared) -> None:
    """Raise SelectionError if task A's pool cannot serve every strategy and mix of the study, or a mix that
    replaces task B's examples leaves none.
    """
    most, size = max(study.search.mix), len(prepared.task_b.train)
    for training in map(study.training_at, study.search.axis_points()):
        count = replay_count(most, size, exchange=prepared.exchange(training))
        unit = "" if training.mix_unit == "examples" else ", by supervised tokens,"
        if count > pool.size:
            raise SelectionError(
                f"search.mix: {most:g} of {size} task B examples{unit} are {count}, and task A's training "
                f"pool has {pool.size}: lower the mix or raise task_a.train"
            )
        if training.mix_mode == "substitute" and count >= size:
            raise SelectionError(
                f"search.mix: {most:g}{unit} replaces {count} of {size} task B examples, and leaves none: "
                "lower the mix, or use mix_mode add"
            )
    for strategy in study.search.strategy:
        for column in () if strategy in CONTROLS else find_strategy(strategy).columns:
            if COLUMNS[column].origin == "data":
                check_column(strategy, pool, column=column)


def _lacking(strategy: str, pool: Pool) -> tuple[str, ...]:
    """Return the columns that a strategy takes and the pool has not yet."""
    return tuple(name for name in find_strategy(strategy).columns if name not in pool.present)


def _slots_of(label: Label) -> tuple[int, Axes, float]:
    """Return what decides where replay is slotted in: labels that share it come together."""
    return label.seed, label.axes, label.mix


def _training_by_axes(study: StudyConfig) -> Callable[[Axes], PhaseBSettings]:
    return cache(lambda axes: study.training_at(dict(axes)))


def _orders(pool_of: Callable[[int], Pool]) -> Callable[[str, int], Indices]:
    """Return the function that orders a replicate's pool, by strategy and seed; mixes differ in where they
    cut it.
    """

    @lru_cache(maxsize=2 * len(STRATEGIES))  # with their length-matched controls
    def order(strategy: str, seed: int) -> Indices:
        return order_pool(strategy, pool_of(seed), seed=seed)

    return order


class _Shared:
    """What the cells of one seed, mix and axes share: all but the examples that fill the slots."""

    def __init__(self, mix: float, *, seed: int, prepared: Prepared, training: PhaseBSettings) -> None:
        self.task_b_size = size = len(prepared.task_b.train)
        self._prepared = prepared
        count = replay_count(mix, size, exchange=prepared.exchange(training))
        self.slots = lay_out_slots(count, seed=seed, task_b_size=size, training=training)
        self.steps = self.slots.stream.steps
        stream = self.slots.stream
        self._lengths_a = prepared.task_a.train.lengths
        self._visits = np.bincount(self.slots.slots, minlength=self.slots.count)
        self._tokens_b = int(prepared.task_b.train.lengths[stream.indices[stream.sources == TASK_B]].sum())

    @property
    def fresh_digest(self) -> str:
        """What pins the further examples of task B that fill the slots."""
        fresh = self._prepared.task_b.fresh
        assert fresh is not None, "a control with fresh examples has some prepared"
        return fresh.first(self.slots.count).digest

    def tokens_of(self, stream: Stream) -> int:
        """Return how many tokens a run trains on in this order."""
        of_task_b = stream.sources == TASK_B
        task_b = self._prepared.task_b.all_training.lengths[stream.indices[of_task_b]]
        return int(task_b.sum() + self._lengths_a[stream.indices[~of_task_b]].sum())

    def selection(self, order: Indices | None) -> Indices:
        """Return what an order of the pool replays here, ascending; None replays nothing."""
        return np.empty(0, np.int64) if order is None else np.sort(order[: self.slots.count])

    def tokens(self, selection: Indices) -> int:
        """Return how many tokens a run trains on whose slots `selection` fills."""
        return self._tokens_b + int(self._visits @ self._lengths_a[selection])


def _meaning(training: PhaseBSettings, *, prepared: Prepared) -> dict[str, Any]:
    """Return what gives cells their meaning beside their artifact, seed and order, in which a schedule of
    replay shows.
    """
    settings = training.model_dump(mode="json", exclude=PHASE_B_BOOKKEEPING | IN_THE_ORDER)
    return {"task_b": prepared.task_b.digest, "training": without_later(settings)}


def _reselection(strategy: str, training: PhaseBSettings) -> dict[str, Any]:
    """Return what more gives a cell its meaning whose strategy chooses again while it trains."""
    if training.reselect_every is None or not reselects(strategy):
        return {}
    return {RESELECTION: {"every": training.reselect_every, "strategy": find_strategy(strategy).digest}}


def _specify(
    label: Label,
    stream: Stream,
    *,
    training: PhaseBSettings,
    meaning: dict[str, Any],
    selection: Indices | None = None,
) -> CellSpec:
    strategy = None if label.strategy == NO_REPLAY else label.strategy
    order_hash = stream.digest
    key = digest_json(meaning | {"order": order_hash})
    chosen = selection if label.strategy != NO_REPLAY else None
    again = RESELECTION in meaning
    return CellSpec(key, strategy, label.mix, label.seed, training, order_hash, chosen, again)


def plan_record(
    cells: Iterable[PlannedCell], *, study: StudyConfig, axes: Iterable[str]
) -> list[dict[str, Any]]:
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
