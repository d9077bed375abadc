"""Whether many workers are kept busy: real studies on 16 logical GPUs, whose cells mostly wait.

A cell's optimiser steps sleep, as a driver waits for a GPU, so that 16 workers need not 16 cores: what is
measured is the way from one cell to the next. Starting Ray, Phase A and loading the model are left out.
"""

import json
import logging
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import click
import ray
from rich.console import Console

from benchmarks.machine import RESULTS, describe_machine, publish_result
from benchmarks.trivial_studies import make_model, short_study
from sweep.cluster import trials
from sweep.cluster.local_ray import local_cluster
from sweep.cluster.ray_cluster import WORKER_ENVIRONMENT
from sweep.config.study import validate_study
from sweep.console.progress import Progress
from sweep.session import run_study
from trainables.engine.loop import TrainingGroup
from trainables.ledger import schema
from trainables.ledger.atomic_write import publish_json
from trainables.worker import train_cells

GPUS = 16
CELLS = 200
SECONDS = (10.0, 3.0, 1.0)
STEPS = 4  # a cell's, evaluated at every second one
POLL_SECONDS = 0.05

Record = dict[str, Any]
Trainable = Callable[..., None]


@dataclass(frozen=True)
class Stint:
    """One cell on a GPU, on this machine's clock: `began`, its steps from `first` to `last`, `ended`."""

    gpu: str
    began: float
    first: float
    last: float
    ended: float


@click.command()
@click.option("--seconds", type=float, multiple=True, help=f"How long a cell's steps take [{SECONDS}].")
@click.option("--cells", type=click.IntRange(1), default=CELLS, show_default=True)
@click.option("--gpus", type=click.IntRange(1), default=GPUS, show_default=True, help="Logical ones.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def busy(seconds: tuple[float, ...], cells: int, gpus: int, output: Path) -> None:
    """Measure the share of time that 16 workers spend on cells of 10, 3 and 1 seconds.

    \b
    python -m benchmarks busy
    python -m benchmarks busy --seconds 1 --cells 64 --gpus 4
    """
    if cells <= gpus:
        raise click.UsageError(f"--cells must be more than --gpus, got {cells} and {gpus}")
    with tempfile.TemporaryDirectory(prefix="busy-") as name:
        folder = Path(name)
        model = make_model(folder / "model")
        with started_cluster(gpus):
            runs = [
                measure(cells, seconds=each, gpus=gpus, model=model, folder=folder)
                for each in seconds or SECONDS
            ]
    record = {"machine": describe_machine(), "cells": cells, "gpus": gpus, "steps": STEPS, "runs": runs}
    click.echo(f"written to {publish_result('busy', record, folder=output)}")


@contextmanager
def started_cluster(gpus: int) -> Iterator[None]:
    """Start a local Ray with that many logical GPUs and as many CPUs; a study run in the block uses it."""
    with local_cluster(say=click.echo) as settings:
        ray.init(
            **settings,
            num_cpus=gpus,
            num_gpus=gpus,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": WORKER_ENVIRONMENT | {"OMP_NUM_THREADS": "1"}},
        )
        try:
            yield
        finally:
            ray.shutdown()


def measure(cells: int, *, seconds: float, gpus: int, model: Path, folder: Path) -> Record:
    """Run a study of cells whose steps sleep for `seconds` in all; return how busy its workers were."""
    name = f"busy-{seconds:g}"
    values = short_study(
        cells,
        name=name,
        steps=STEPS,
        model=model,
        folder=folder,
        resources={"cpus": 1, "gpus": 1, "device": "cpu"},
    )
    stints_folder = folder / f"{name}-stints"
    stints_folder.mkdir()
    waiting = waiting_cells(gpus, seconds=seconds, folder=stints_folder)
    started = time.perf_counter()
    with mock.patch.object(trials, "train_cells", waiting):
        outcome = run_study(
            validate_study(values, origin=name), address=None, progress=Progress(Console(quiet=True))
        )
    assert outcome.states == {schema.DONE: cells}, outcome
    stints = [Stint(**json.loads(path.read_text())) for path in stints_folder.glob("stint-*.json")]
    record = {"seconds_a_cell": seconds, "wall_seconds": time.perf_counter() - started, **summarise(stints)}
    click.echo(
        f"cells of {seconds:g} s: workers busy {record['busy_share']:.1%} of the time, in steps "
        f"{record['stepping_share']:.1%}; between two cells {record['between_two_cells']['median']:.3f} s, "
        f"before the first step {record['before_the_first_step']['median']:.3f} s, after the last "
        f"{record['after_the_last_step']['median']:.3f} s"
    )
    return record


def waiting_cells(workers: int, *, seconds: float, folder: Path) -> Trainable:
    """Return `train_cells`, but each step also sleeps, and each cell leaves its `Stint` in `folder`.

    A worker's first cell waits until `workers` of them have come, so that none runs out of cells while
    others still load their libraries. Workers get the function by value: the product knows nothing of it.
    """

    def train_waiting_cells(config: dict[str, Any], **given: Any) -> None:
        wait_for_all(folder, workers=workers)
        moments = [time.time()]
        take_step = TrainingGroup.step

        def step(group: TrainingGroup) -> None:
            moments.append(time.time())
            time.sleep(seconds / STEPS)
            take_step(group)
            moments.append(time.time())

        with mock.patch.object(TrainingGroup, "step", step):
            train_cells(config, **given)
        began, first, last = moments[0], moments[1], moments[-1]
        (gpu,) = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        stint = {"gpu": gpu, "began": began, "first": first, "last": last, "ended": time.time()}
        publish_json(folder / f"stint-{uuid.uuid4().hex}.json", stint)

    return train_waiting_cells


def wait_for_all(folder: Path, *, workers: int) -> None:
    """Return once that many processes have called this."""
    (folder / f"worker-{os.getpid()}").touch()
    while len(list(folder.glob("worker-*"))) < workers:
        time.sleep(POLL_SECONDS)


def summarise(stints: Sequence[Stint]) -> Record:
    """Return the share of time that workers were busy, once started.

    The time counted is from when the last GPU was given its first cell to when the last cell was begun:
    from there on the queue is empty, and GPUs are idle because nothing is left. A GPU is busy from the
    beginning of its cell to the end (`busy_share`): claim, checks, steps, evaluations, files, reports.
    `stepping_share` counts only the time from the first step to the end of the last, with the evaluations
    between them; all else is lost to a GPU.
    """
    by_gpu: dict[str, list[Stint]] = {}
    for stint in sorted(stints, key=lambda stint: stint.began):
        by_gpu.setdefault(stint.gpu, []).append(stint)
    opened = max(own[0].began for own in by_gpu.values())
    emptied = max(stint.began for stint in stints)
    whole = len(by_gpu) * (emptied - opened)
    assert whole, "no GPU had a second cell"

    def share(spans: list[tuple[float, float]]) -> float:
        return sum(max(0.0, min(end, emptied) - max(start, opened)) for start, end in spans) / whole

    gaps = [later.began - earlier.ended for own in by_gpu.values() for earlier, later in pairwise(own)]
    return {
        "gpus_used": len(by_gpu),
        "counted_seconds": emptied - opened,
        "busy_share": share([(stint.began, stint.ended) for stint in stints]),
        "stepping_share": share([(stint.first, stint.last) for stint in stints]),
        "between_two_cells": _spread(gaps),
        "before_the_first_step": _spread([stint.first - stint.began for stint in stints]),
        "after_the_last_step": _spread([stint.ended - stint.last for stint in stints]),
        "from_first_to_last_step": _spread([stint.last - stint.first for stint in stints]),
    }


def _spread(seconds: list[float]) -> Record:
    return {"median": statistics.median(seconds), "most": max(seconds)}
