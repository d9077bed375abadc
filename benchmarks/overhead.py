"""What the sweep costs beside training: seconds and memory a cell, and the time of its commands.

Real runs of trivial cells give the cost of driving and scheduling; made-up ledgers of finished cells
give the cost of `plan`, `status` and a `run` with nothing left to do, each in a fresh process.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import REPOSITORY, RESULTS, describe_machine, publish_result
from benchmarks.trivial_studies import (
    CELLS_A_SEED,
    full_size_study,
    make_model,
    make_up_ledger,
    one_step_study,
    unsynced,
)
from sweep.config.study import validate_study
from sweep.config.yaml_text import format_yaml
from trainables.ledger import schema

RUN_CELLS = (16, 100)
LEDGER_CELLS = (100, 1000, 10_000, 50_000)
QUICK_RUN_CELLS, QUICK_LEDGER_CELLS = (), (100, 1000)
CONCURRENT = min(2, os.cpu_count() or 1)
SYNCED_CELLS = 100  # ledgers up to this size are published as a run does, waiting for the disk

Record = dict[str, Any]


@click.command()
@click.option("--run-cells", type=int, multiple=True, help=f"Really run this many cells [{RUN_CELLS}].")
@click.option(
    "--ledger-cells", type=int, multiple=True, help=f"Make up a ledger of this size [{LEDGER_CELLS}]."
)
@click.option("--quick", is_flag=True, help="No real run; whole commands on 100 and 1,000 cells.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def overhead(run_cells: tuple[int, ...], ledger_cells: tuple[int, ...], quick: bool, output: Path) -> None:
    """Measure what the sweep costs beside training.

    \b
    python -m benchmarks overhead
    python -m benchmarks overhead --quick
    """
    run_cells = run_cells or (QUICK_RUN_CELLS if quick else RUN_CELLS)
    ledger_cells = ledger_cells or (QUICK_LEDGER_CELLS if quick else LEDGER_CELLS)
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        folder = Path(name)
        model = make_model(folder / "model")
        runs = [measure_run(cells, model=model, folder=folder) for cells in sorted(run_cells)]
        ledgers = measure_ledgers(sorted(ledger_cells), model=model, folder=folder, inside=not quick)
    record = {
        "machine": describe_machine(),
        "concurrent": CONCURRENT,
        "runs": runs,
        "driver_bytes_a_further_cell": [_driver_bytes_a_cell(*pair) for pair in pairwise(runs)],
        "ledgers": ledgers,
    }
    click.echo(f"written to {publish_result('overhead', record, folder=output)}")


def measure_run(cells: int, *, model: Path, folder: Path) -> Record:
    """Run a study of one-step cells on a local Ray; its overhead is all time that no cell was training.

    So it holds the start of Ray and of the workers, loading the model, Phase A (one step), scheduling
    and publishing. `steady_seconds_a_cell` leaves the start out: it is the time from the first result
    to the last, by cell after the first. `driver_bytes` is the peak of the driver process alone.
    """
    values = one_step_study(cells, model=model, folder=folder, concurrent=CONCURRENT)
    measured = _measure_inside("run", str(write_configuration(values, folder)))
    results = [path / schema.RESULT_FILE for path in _cell_folders(Path(values["storage"]))]
    assert len(results) == cells
    busy = sum(json.loads(path.read_text())["seconds"] for path in results) / CONCURRENT
    finished = sorted(path.stat().st_mtime for path in results)
    record = {
        "cells": cells,
        "seconds": measured["seconds"],
        "busy_seconds": busy,
        "overhead_seconds_a_cell": (measured["seconds"] - busy) / cells,
        "steady_seconds_a_cell": (finished[-1] - finished[0]) / max(1, cells - 1),
        "driver_bytes": measured["peak"],
        "driver_bytes_before": measured["peak_before"],
    }
    click.echo(
        f"run of {cells} cells: {measured['seconds']:.1f} s, of which {busy:.1f} s busy; overhead "
        f"{record['overhead_seconds_a_cell']:.3f} s a cell; once started "
        f"{record['steady_seconds_a_cell']:.3f} s "
        f"a cell in all; driver {_mib(measured['peak'])}"
    )
    return record


def _cell_folders(storage: Path) -> list[Path]:
    return list((storage / schema.CELLS_DIRECTORY).iterdir())


def _driver_bytes_a_cell(smaller: Record, larger: Record) -> float:
    """Return the driver's memory for each cell beyond the smaller study's."""
    grown: int = larger["driver_bytes"] - smaller["driver_bytes"]
    further: int = larger["cells"] - smaller["cells"]
    return grown / further


def measure_ledgers(sizes: Sequence[int], *, model: Path, folder: Path, inside: bool = True) -> list[Record]:
    """Make up a ledger of each size and time every command on it."""
    small = full_size_study(CELLS_A_SEED, model=model, folder=folder)
    warm_up, _ = _make_up(small, folder=folder, synced=False)
    records = []
    for cells in sizes:
        values = full_size_study(cells, model=model, folder=folder)
        synced = cells <= SYNCED_CELLS
        config, seconds = _make_up(values, folder=folder, synced=synced)
        record: Record = {"cells": cells, "publishing_seconds_a_cell": seconds / cells, "synced": synced}
        click.echo(f"ledger of {cells} cells made up, {seconds / cells * 1000:.1f} ms a cell, {synced=}")
        places = {
            "plan": (config, warm_up),
            "status": (values["storage"], small["storage"]),
            "run": (config, warm_up),
        }
        for command, (place, warm) in places.items():
            record[command] = measure_command(command, str(place), warm_up=str(warm) if inside else None)
        records.append(record)
    return records


def _make_up(values: Record, *, folder: Path, synced: bool) -> tuple[Path, float]:
    """Write a ledger; return its configuration's path and the seconds that its cells took."""
    with nullcontext() if synced else unsynced():
        seconds = make_up_ledger(validate_study(values, origin="overhead"))
    return write_configuration(values, folder), seconds


def measure_command(command: str, place: str, *, warm_up: str | None) -> Record:
    """Time a whole command in a fresh process; with `warm_up`, also the part of it that is not imports.

    That part is measured in another process, which has run the command on the study `warm_up` before.
    """
    record = _measure_whole(command, place)
    click.echo(f"  {command}: {record['seconds']:.1f} s ({record['cpu_seconds']:.1f} s of CPU)")
    if warm_up is not None:
        inside = _measure_inside("--warm-up", warm_up, command, place)
        record |= {
            "seconds_without_imports": inside["seconds"],
            "cpu_seconds_without_imports": inside["cpu_seconds"],
            "peak_bytes": inside["peak"],
            "growth_bytes": inside["peak"] - inside["peak_before"],
            "loaded": inside["loaded"],
        }
        click.echo(
            f"    without imports {inside['seconds']:.2f} s ({inside['cpu_seconds']:.2f} s of CPU); "
            f"{_mib(inside['peak'])}, of which {_mib(record['growth_bytes'])} for the cells"
        )
    return record


def _measure_whole(command: str, place: str) -> Record:
    """Return the wall and CPU seconds of `python -m sweep COMMAND PLACE`."""
    started, cpu_before = time.perf_counter(), _cpu_seconds_of_children()
    line = [sys.executable, "-m", "sweep", command, place]
    subprocess.run(line, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": _cpu_seconds_of_children() - cpu_before,
    }


def _cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _measure_inside(*arguments: str) -> Record:
    line = [sys.executable, "-m", "benchmarks.timed_command", *arguments]
    done = subprocess.run(line, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    record: Record = json.loads(done.stdout.splitlines()[-1])
    return record


def write_configuration(values: Record, folder: Path) -> Path:
    path = folder / f"{values['study']}.yaml"
    path.write_text(format_yaml(values))
    return path


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
