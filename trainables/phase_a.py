"""Phase A: training (or taking over) the adapter that every Phase B run starts from.

The artifact is a directory named by its content key: adapter, losses, and a manifest written last.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file

from trainables.adapters import load_adapter, save_adapter
from trainables.artifact import LOSSES_FILE, MANIFEST_FILE, Losses, artifact_content, artifact_exists
from trainables.base_weights import BaseWeights
from trainables.checkpoints import load_newest_checkpoint, save_checkpoint
from trainables.columns import ADAPTER_DIRECTORY
from trainables.compilation import compile_layers, worth_compiling
from trainables.digests import digest_files
from trainables.evaluation import MEASURED, evaluate
from trainables.lora import AdapterBank
from trainables.measuring import FUSED, choose_cells
from trainables.publish import publish_directory
from trainables.replay import phase_a_stream
from trainables.settings import PhaseASettings
from trainables.streams import stream_integer
from trainables.tasks.prepare import PreparedTask
from trainables.trainee import Setup, Trainee, load_trainee
from trainables.training import Diverged, Lane, TrainingGroup
from trainables.tuning import Tuning

PARTIAL_SUFFIX = ".partial"


@dataclass(frozen=True)
class PhaseAJob:
    """All that Phase A's result depends on, and where to put it (`folder`, named by the key).

    `batch_size` is Phase B's and `tokens` those that a worker trains on in it: what is settled for
    Phase B depends on them.
    """

    setup: Setup
    settings: PhaseASettings
    task_a: PreparedTask
    task_b: PreparedTask
    batch_size: int
    tokens: float
    folder: Path


def make_artifact(
    job: PhaseAJob,
    *,
    weights: BaseWeights | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, int], None] = lambda step, steps: None,
) -> bool:
    """Train or take over the adapter and publish the artifact; continue where an earlier try stopped.

    `report` is told the step reached and their number. Returns False if `should_stop` ended it early.
    """
    if artifact_exists(job.folder):
        return True
    trainee = load_trainee(job.setup, weights=weights)
    partial = job.folder.with_name(job.folder.name + PARTIAL_SUFFIX)
    if job.settings.adapter is not None:
        base = _validate(job, trainee, trainee.model.new_bank(1))
        bank = trainee.model.new_bank(1)
        bank.weights[0] = trainee.model.import_weights(load_adapter(job.settings.adapter))
    else:
        finished = _train(job, trainee, partial=partial, should_stop=should_stop, report=report)
        if finished is None:
            return False
        bank, base = finished
    tuning = _settle(job, trainee)
    _publish(job, trainee, bank=bank, base=base, tuning=tuning)
    shutil.rmtree(partial, ignore_errors=True)
    return True


def _train(
    job: PhaseAJob,
    trainee: Trainee,
    *,
    partial: Path,
    should_stop: Callable[[], bool],
    report: Callable[[int, int], None],
) -> tuple[AdapterBank, tuple[Losses, Losses]] | None:
    """Return the trained adapter and the base model's validation losses; None if stopped before the end."""
    seed, model = stream_integer(job.settings.seed, "phase_a"), trainee.model
    lane = Lane(
        model.fresh_weights(seed=seed),
        stream=phase_a_stream(len(job.task_a.train), seed=job.settings.seed, training=job.settings),
        tasks=(job.task_a.train, job.task_b.train),
        settings=job.settings,
        dropout=model.dropout_stream(seed),
    )
    saved = load_newest_checkpoint(partial)
    if saved is None:
        base = _validate(job, trainee, model.new_bank(1))
    else:
        tensors, values = saved
        base = tensors.pop("base.task_a").numpy(), tensors.pop("base.task_b").numpy()
        lane.restore(tensors, values)
    group = TrainingGroup(model, [lane], compute=trainee.compute)
    report(lane.counters.step, lane.stream.steps)
    while not lane.finished:
        group.step()
        step = lane.counters.step
        if lane.diverged_at is not None:
            raise Diverged(lane.diverged_at)
        report(step, lane.stream.steps)
        stopping = should_stop()
        if stopping or lane.finished or step % job.settings.checkpoint_every == 0:
            tensors, values = lane.state()
            tensors |= {
                f"base.{name}": torch.from_numpy(nll)
                for name, nll in zip(("task_a", "task_b"), base, strict=True)
            }
            save_checkpoint(partial, step=step, tensors=tensors, values=values)
        if stopping and not lane.finished:
            return None
    return group.bank, base


def _validate(job: PhaseAJob, trainee: Trainee, bank: AdapterBank) -> tuple[Losses, Losses]:
    task_a, task_b = (
        evaluate(trainee.model, task.validation, bank=bank, compute=trainee.compute)[0]
        for task in (job.task_a, job.task_b)
    )
    return task_a, task_b


def _publish(
    job: PhaseAJob, trainee: Trainee, *, bank: AdapterBank, base: tuple[Losses, Losses], tuning: Tuning
) -> None:
    (pool,) = evaluate(trainee.model, job.task_a.train, bank=bank, compute=trainee.compute)
    after = _validate(job, trainee, bank)
    arrays: dict[str, npt.NDArray[Any]] = {
        "pool_nll": pool,
        "pool_tokens": job.task_a.train.supervised_counts(MEASURED).astype(np.int64),
    }
    for position, (name, task) in enumerate((("task_a", job.task_a), ("task_b", job.task_b))):
        arrays[f"{name}_nll"] = after[position]
        arrays[f"{name}_base_nll"] = base[position]
        arrays[f"{name}_tokens"] = task.validation.supervised_counts(MEASURED).astype(np.int64)
    trainee.check_weights()
    with publish_directory(job.folder) as folder:
        adapter = folder / ADAPTER_DIRECTORY
        adapter.mkdir()
        weights = trainee.model.export_weights(bank.weights[0])
        save_adapter(weights, adapter, lora=job.setup.settings.lora, base_model=job.setup.base_model)
        save_file(arrays, folder / LOSSES_FILE)
        manifest = {
            "key": job.folder.name,
            "content": digest_files(artifact_content(folder)),
            "computed_on": trainee.compute.describe(),
            "tuning": tuning.record(),
        }
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n")


def _settle(job: PhaseAJob, trainee: Trainee) -> Tuning:
    """Return how Phase B is computed, and compute so from here on: step 0 is measured as later points are."""
    asked, model, compute = job.setup.settings.compile, trainee.model, trainee.compute
    if asked == "on":
        compile_layers(model.base)
    compiled = asked == "on" or (
        asked == "auto" and worth_compiling(model, compute=compute, tokens=job.tokens)
    )
    lengths = job.task_b.train.lengths
    batches = [
        np.roll(lengths, shift * job.batch_size)[: job.batch_size].tolist() for shift in range(max(FUSED))
    ]
    cells = choose_cells(model, compute=compute, batches=batches)
    return replace(trainee.tuning, tokens=dict(compute.tokens), compiled=compiled, cells=cells)
