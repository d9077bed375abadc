"""Phase A and one cell, as both baselines run them: from prepared tasks to rows, losses and seconds."""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed

from benchmarks.baselines.examples import sorted_set
from benchmarks.baselines.trainer import StudyTrainer, Workplace, make_trainer, open_model
from sweep.planning.cells import Label
from trainables.ledger.schema import NO_REPLAY
from trainables.replay.batch_order import phase_a_stream
from trainables.replay.pool import Floats, Pool
from trainables.replay.realisation import realise


@dataclass(frozen=True)
class PhaseA:
    """Phase A by a baseline: where its adapter is, the pool's losses if a strategy needs them, a record."""

    adapter: Path
    pool_losses: Floats | None
    record: dict[str, Any]


def train_phase_a(place: Workplace) -> PhaseA:
    """Train task A's adapter (or take over the study's own) and measure what a study needs of it."""
    started = time.perf_counter()
    study, task_a = place.study, place.prepared.task_a
    set_seed(study.phase_a.seed)
    model = open_model(place, adapter=study.phase_a.adapter)
    stream = phase_a_stream(len(task_a.train), seed=study.phase_a.seed, training=study.phase_a)
    trainer = make_trainer(place, model, stream=stream, settings=study.phase_a, seed=study.phase_a.seed)
    ready = time.perf_counter()
    trainer.evaluate()
    if study.phase_a.adapter is None:
        trainer.train()
    trainer.evaluate()
    pool_losses = _pool_losses(trainer, place) if place.wants_pool_losses else None
    adapter = place.folder / "adapter"
    model.save_pretrained(str(adapter))
    record = _record(trainer, started=started, ready=ready) | {"steps": trainer.state.global_step}
    return PhaseA(adapter, pool_losses, record)


def train_cell(
    place: Workplace, label: Label, *, adapter: Path, pool_losses: Floats | None
) -> dict[str, Any]:
    """Train one cell from `adapter` and return its record: label, rows, seconds of each phase, memory."""
    started = time.perf_counter()
    settings = place.study.training_at(dict(label.axes))
    train = place.prepared.task_a.train
    realisation = realise(
        None if label.strategy == NO_REPLAY else label.strategy,
        mix=label.mix,
        seed=label.seed,
        pool=Pool(len(train), train.difficulty, pool_losses),
        task_b_size=len(place.prepared.task_b.train),
        training=settings,
        exchange=place.prepared.exchange(settings),
    )
    model = open_model(place, adapter=adapter)
    trainer = make_trainer(
        place,
        model,
        stream=realisation.stream,
        settings=settings,
        seed=label.seed,
        eval_every=settings.eval_every,
    )
    ready = time.perf_counter()
    trainer.train()
    assert trainer.state.global_step == realisation.stream.steps, "Trainer took another number of steps"
    if settings.keep_adapters:
        trainer.save_model(str(place.folder / label.describe().replace(" ", "_") / "adapter"))
    steps = {"label": label.record(), "cell": label.describe(), "steps": trainer.state.global_step}
    return steps | _record(trainer, started=started, ready=ready)


def _pool_losses(trainer: StudyTrainer, place: Workplace) -> Floats:
    pool = place.prepared.task_a.train
    examples, places = sorted_set(pool)
    nll = np.empty(len(pool), np.float64)
    nll[places] = trainer.predict(examples, metric_key_prefix="pool").predictions
    return np.asarray(nll / pool.supervised_counts("completion"), np.float64)


def _record(trainer: StudyTrainer, *, started: float, ready: float) -> dict[str, Any]:
    now = time.perf_counter()
    seconds = {
        "start_up": ready - started,
        "training": now - ready - trainer.evaluation_seconds,
        "evaluation": trainer.evaluation_seconds,
    }
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "rows": trainer.rows,
        "train_losses": logged,
        "seconds": seconds,
        "peak_rss_gib": peak_rss_gib(),
    }


def peak_rss_gib() -> float:
    """Return the largest resident memory this process has had, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
