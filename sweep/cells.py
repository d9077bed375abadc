"""From the search space to cells: labels, realised orders, and which labels are one run."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.configuration import Study
from sweep.preparation import PHASE_B_BOOKKEEPING, Prepared
from trainables.columns import MIX, NO_REPLAY, SEED, STRATEGY
from trainables.digests import digest_json
from trainables.replay import TASK_A, CellSpec, Stream, realise, replay_count
from trainables.settings import PhaseBSettings
from trainables.strategies import STRATEGIES, Floats, Pool, check_column


@dataclass(frozen=True)
class Label:
    """One point of the search space; the control without replay has the strategy NO_REPLAY."""

    strategy: str
    mix: float
    seed: int
    axes: tuple[tuple[str, Any], ...] = ()

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


def plan_cells(
    study: Study, prepared: Prepared, *, artifact_key: str, pool_losses: Floats | None
) -> list[PlannedCell]:
    """Return the cells of the study; labels that train on the same stream share one.

    `pool_losses` is None before Phase A. Raises ValueError where a strategy cannot order the pool,
    or the pool holds fewer examples than a mix replays.
    """
    train = prepared.task_a.train
    pool = Pool(len(train), train.difficulty, pool_losses)
    check_selectable(study, pool, task_b_size=len(prepared.task_b.train))
    cells: dict[str | Label, PlannedCell] = {}
    for label in study_labels(study):
        training = study.training_at(dict(label.axes))
        if pool_losses is None and _needs(label.strategy) == "losses":
            cells[label] = _unknown(label, training, pool, prepared)
            continue
        spec, stream = _specify(label, training, pool, prepared, artifact_key)
        merged = cells[spec.key].labels if spec.key in cells else ()
        cells[spec.key] = PlannedCell((*merged, label), spec, stream.steps, _tokens(stream, prepared))
    return list(cells.values())


def check_selectable(study: Study, pool: Pool, *, task_b_size: int) -> None:
    """Raise ValueError if task A's pool cannot serve every strategy and mix of the study."""
    most = max(study.search.mix)
    if replay_count(most, task_b_size) > pool.size:
        raise ValueError(
            f"search.mix: {most:g} of {task_b_size} task B examples are {replay_count(most, task_b_size)}, and task A's "
            f"training pool has {pool.size}: lower the mix or raise task_a.train"
        )
    for strategy in study.search.strategy:
        if _needs(strategy) == "difficulty":
            check_column(strategy, pool, column="difficulty")


def _needs(strategy: str) -> str | None:
    return None if strategy == NO_REPLAY else STRATEGIES[strategy].needs


def _specify(
    label: Label, training: PhaseBSettings, pool: Pool, prepared: Prepared, artifact_key: str
) -> tuple[CellSpec, Stream]:
    strategy = None if label.strategy == NO_REPLAY else label.strategy
    task_b_size = len(prepared.task_b.train)
    realised = realise(
        strategy, mix=label.mix, seed=label.seed, pool=pool, task_b_size=task_b_size, training=training
    )
    order_hash = realised.stream.digest
    meaning = {
        "artifact": artifact_key,
        "task_b": prepared.task_b.digest,
        "seed": label.seed,
        "order": order_hash,
        "training": training.model_dump(mode="json", exclude=PHASE_B_BOOKKEEPING),
    }
    return CellSpec(
        digest_json(meaning), strategy, label.mix, label.seed, training, order_hash
    ), realised.stream


def _unknown(label: Label, training: PhaseBSettings, pool: Pool, prepared: Prepared) -> PlannedCell:
    """Plan a cell whose selection waits for Phase A, with the size of a random one."""
    stream = realise(
        "random",
        mix=label.mix,
        seed=label.seed,
        pool=pool,
        task_b_size=len(prepared.task_b.train),
        training=training,
    ).stream
    return PlannedCell((label,), None, stream.steps, _tokens(stream, prepared))


def _tokens(stream: Stream, prepared: Prepared) -> int:
    replayed = stream.sources == TASK_A
    lengths_a, lengths_b = prepared.task_a.train.lengths, prepared.task_b.train.lengths
    return int(np.sum(lengths_a[stream.indices[replayed]]) + np.sum(lengths_b[stream.indices[~replayed]]))


def plan_record(cells: Iterable[PlannedCell], *, study: Study, axes: Iterable[str]) -> list[dict[str, Any]]:
    """Return the plan as the ledger keeps it: one entry a label, with its cell's key once known.

    Every label names the value of every axis in `axes`, searched now or not.
    """
    names = list(axes)
    entries = []
    for cell in cells:
        for label in cell.labels:
            training = study.training_at(dict(label.axes)).model_dump(mode="json")
            values = label.record() | {name: training[name] for name in names}
            entries.append({"labels": values, "key": cell.spec.key if cell.spec else None})
    return entries
