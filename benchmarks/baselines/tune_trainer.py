"""Baseline (b), what one would pick today: a Ray Tune `Tuner` whose trials run HF `Trainer`.

    python -m benchmarks.baselines.tune_trainer CONFIG --folder DIR

The driver tokenises once and trains Phase A on all cores, or on the GPU; tasks and losses reach the
trials through Ray's object store. Trials hold the study's own resources, pad to the longest of a
batch, group like lengths (`train_sampling_strategy="group_by_length"`), and do not evaluate step 0
again, which Phase A has measured. `--cells N` is raised to a multiple of the trials that run at once,
so that what is measured is as crowded as the whole study. `cells_seconds` runs from the first trial's
first line to the last one's end: Ray's and the first workers' start are not in it, and so are never
scaled up.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.baselines.records import (
    POOL_FILE,
    RECORD_FILE,
    baseline_options,
    start_of_cells,
    whole_record,
)
from benchmarks.machine import publish_result
from sweep.config.study import StudyConfig, load_study
from sweep.planning.cells import Label, study_labels

if TYPE_CHECKING:
    from benchmarks.baselines.trainer import Row, Workplace


@click.command()
@baseline_options
def tune_trainer(
    config: Path, overrides: tuple[str, ...], folder: Path, artifact: Path | None, cells: int | None
) -> None:
    """Run CONFIG with HF Trainer under Ray Tune, padded to the longest of a batch."""
    started = time.perf_counter()
    record = run_tuner(
        load_study(config, overrides), folder.absolute(), artifact=artifact, cells=cells, started=started
    )
    publish_result(RECORD_FILE.removesuffix(".json"), record, folder=folder)


def run_tuner(
    study: StudyConfig, folder: Path, *, artifact: Path | None, cells: int | None, started: float
) -> dict[str, Any]:
    """Train Phase A here, then every cell (or the first ones) as a trial; return the record."""
    from benchmarks.baselines.phases import train_phase_a

    place = open_workplace(study, folder)
    opened = time.perf_counter() - started
    phase_a = train_phase_a(place)
    phase_a.record["seconds"]["start_up"] += opened
    if phase_a.pool_losses is not None:
        import numpy as np

        np.save(folder / POOL_FILE, phase_a.pool_losses)
    trials, at_once = _run_trials(place, artifact=artifact, cells=cells)
    spans = [trial.pop("span") for trial in trials]
    return whole_record(
        study,
        phase_a=phase_a.record,
        cells=trials,
        started=started,
        cells_seconds=max(end for _, end in spans) - min(begin for begin, _ in spans),
        cells_start_up_seconds=sum(trial["seconds"]["start_up"] for trial in trials) / at_once,
        artifact=artifact,
    )


def open_workplace(study: StudyConfig, folder: Path) -> "Workplace":
    """Read and tokenise both tasks: once for the whole study."""
    from benchmarks.baselines.trainer import Manner, Workplace
    from sweep.planning.inputs import prepare

    manner = Manner(padding="longest", grouped=True, measures_start=False)
    return Workplace(study, prepare(study), manner, folder)


def _run_trials(
    place: "Workplace", *, artifact: Path | None, cells: int | None
) -> tuple[list[dict[str, Any]], int]:
    """Return the trials' records and how many trials run at once."""
    import ray
    from ray import tune

    from sweep.cluster.local_ray import local_cluster

    study, resources = place.study, place.study.resources
    adapter, pool_losses = start_of_cells(place.folder, artifact=artifact)
    with local_cluster(say=click.echo) as settings:
        ray.init(**settings, log_to_driver=False)
        try:
            at_once = _trials_at_once(study, ray.cluster_resources())  # type: ignore[no-untyped-call]
            labels = study_labels(study)
            if cells is not None:
                labels = labels[: -(-cells // at_once) * at_once]
            trainable = tune.with_parameters(
                run_trial, place=place, labels=labels, adapter=adapter, pool_losses=pool_losses
            )
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
                param_space={"place": tune.grid_search(list(range(len(labels))))},
                tune_config=tune.TuneConfig(max_concurrent_trials=resources.max_concurrent),
                run_config=tune.RunConfig(name="trials", storage_path=str(place.folder / "ray"), verbose=0),
            )
            grid = tuner.fit()
        finally:
            ray.shutdown()
    if grid.errors:
        raise RuntimeError(f"a trial of the baseline failed: {grid.errors[0]}")
    return [json.loads((grid[trial].metrics or {})["record"]) for trial in range(len(grid))], at_once


def _trials_at_once(study: StudyConfig, held: dict[str, float]) -> int:
    resources = study.resources
    fitting = [held["CPU"] / resources.cpus]
    if resources.gpus:
        fitting.append(held.get("GPU", 0) / resources.gpus)
    if resources.max_concurrent is not None:
        fitting.append(resources.max_concurrent)
    return max(1, int(min(fitting)))


def run_trial(
    config: dict[str, Any], *, place: "Workplace", labels: list[Label], adapter: Path, pool_losses: Any
) -> None:
    """Train the cell `config["place"]`, reporting every evaluation; the last report is its record."""
    from dataclasses import replace

    from ray import tune

    from benchmarks.baselines.phases import train_cell

    begun = time.time()

    def report(row: "Row") -> None:
        tune.report(dict(row))

    label = labels[config["place"]]
    record = train_cell(replace(place, on_row=report), label, adapter=adapter, pool_losses=pool_losses)
    tune.report({"record": json.dumps(record | {"span": (begun, time.time())})})


if __name__ == "__main__":
    tune_trainer()
