"""Baseline (a), the original's way: one fresh process after another, everything padded to max_length.

    python -m benchmarks.baselines.padded_trainer CONFIG --folder DIR    the whole study
    ... --phase-a, ... --cell "random 0.1, seed 0"                       one of its processes

Each process reads the data, tokenises, loads the base model and attaches the adapter; `Trainer`
trains in bf16 on all cores, or on the GPU, and evaluates both validation sets every eval_every steps
and at step 0. Batches come in our order, so losses can be compared closely; padded to one length,
order cannot change the time. The batch is cut by gradient accumulation into the microbatches that are
fastest on the device (`TOKENS_AT_ONCE`).
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.baselines.records import (
    POOL_FILE,
    RECORD_FILE,
    baseline_options,
    find_label,
    start_of_cells,
    whole_record,
)
from benchmarks.machine import publish_result, read_result
from sweep.config.study import StudyConfig, load_study
from sweep.planning.cells import study_labels

PHASE_A_FOLDER = "phase_a"


@click.command()
@baseline_options
@click.option("--phase-a", "phase_a_alone", is_flag=True, help="Run Phase A alone, in this process.")
@click.option("--cell", help='Run one cell alone, in this process. Example: --cell "random 0.1, seed 0"')
def padded_trainer(
    config: Path,
    overrides: tuple[str, ...],
    folder: Path,
    artifact: Path | None,
    cells: int | None,
    phase_a_alone: bool,
    cell: str | None,
) -> None:
    """Run CONFIG with HF Trainer, padded to max_length, one process a cell."""
    started = time.perf_counter()
    study = load_study(config, overrides)
    if phase_a_alone:
        _run_phase_a(study, folder, started=started)
    elif cell is not None:
        _run_cell(study, folder, cell, artifact=artifact, started=started)
    else:
        arguments = [str(config), *(word for each in overrides for word in ("--set", each))]
        record = run_processes(study, folder, arguments=arguments, artifact=artifact, cells=cells)
        publish_result(RECORD_FILE.removesuffix(".json"), record, folder=folder)


def run_processes(
    study: StudyConfig, folder: Path, *, arguments: list[str], artifact: Path | None, cells: int | None
) -> dict[str, Any]:
    """Run Phase A and every cell, each in a process of its own, as a shell script would."""
    started = time.perf_counter()
    phase_a = _process([*arguments, "--phase-a"], folder=folder / PHASE_A_FOLDER)
    cells_started = time.perf_counter()
    given = [] if artifact is None else ["--artifact", str(artifact)]
    records = []
    for place, label in enumerate(study_labels(study)[:cells]):
        click.echo(f"{label.describe()}: starting")
        named = [*arguments, *given, "--cell", label.describe()]
        records.append(_process(named, folder=folder / f"cell_{place}"))
    cells_seconds = time.perf_counter() - cells_started
    return whole_record(
        study,
        phase_a=phase_a,
        cells=records,
        started=started,
        cells_seconds=cells_seconds,
        cells_start_up_seconds=sum(_start_up(each) for each in records),
        artifact=artifact,
    )


def _process(arguments: list[str], *, folder: Path) -> dict[str, Any]:
    """Run one fresh process to its end; return its record, its wall time with it."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.baselines.padded_trainer", *arguments]
    subprocess.run([*command, "--folder", str(folder)], check=True)
    wall = time.perf_counter() - started
    return read_result(folder / RECORD_FILE) | {"process_seconds": wall}


def _start_up(record: dict[str, Any]) -> float:
    """Return what a process took beside training and evaluating."""
    seconds = record["seconds"]
    return float(record["process_seconds"] - seconds["training"] - seconds["evaluation"])


def _run_phase_a(study: StudyConfig, folder: Path, *, started: float) -> None:
    from benchmarks.baselines.phases import train_phase_a

    place = _open(study, folder)
    opened = time.perf_counter() - started
    phase_a = train_phase_a(place)
    if phase_a.pool_losses is not None:
        np.save(folder / POOL_FILE, phase_a.pool_losses)
    _publish(phase_a.record, folder, opened=opened)


def _run_cell(study: StudyConfig, folder: Path, cell: str, *, artifact: Path | None, started: float) -> None:
    from benchmarks.baselines.phases import train_cell

    label = find_label(cell, study=study)
    adapter, pool_losses = start_of_cells(folder.parent / PHASE_A_FOLDER, artifact=artifact)
    place = _open(study, folder)
    opened = time.perf_counter() - started
    record = train_cell(place, label, adapter=adapter, pool_losses=pool_losses)
    _publish(record, folder, opened=opened)


def _open(study: StudyConfig, folder: Path) -> Any:
    """Read and tokenise the tasks anew, as every process of this baseline must."""
    from benchmarks.baselines.trainer import Manner, Workplace
    from sweep.planning.inputs import prepare

    manner = Manner(padding="max_length", grouped=False, measures_start=True)
    return Workplace(study, prepare(study), manner, folder)


def _publish(record: dict[str, Any], folder: Path, *, opened: float) -> None:
    """Write a process's record; imports, reading and tokenising count as starting up."""
    record["seconds"]["start_up"] += opened
    publish_result(RECORD_FILE.removesuffix(".json"), record, folder=folder)


if __name__ == "__main__":
    padded_trainer()
