"""How long a study takes to get going, and what its workers hold in memory.

A real study of short cells in a process of its own, watched from outside: its lines, its files, its
processes. Four workers share the base weights; the gaps are those between two cells of one worker.
"""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.machine import RESULTS, describe_machine, publish_result
from sweep.config.yaml_text import format_yaml
from trainables.ledger.schema import CELL_FILE, CELLS_DIRECTORY, RESULT_FILE, ROWS_FILE

WORKERS = 4
WORKER_NAME = "ray::"  # how Ray titles the processes that run tasks and trials
TRIAL_NAME = "ImplicitFunc"  # the actor class of a Tune function trainable
MIB = 2**20


def study_values(storage: Path, *, model: str, seeds: int) -> dict[str, Any]:
    """Return a study whose cells take a few steps each, two a worker with `seeds` = 2 x WORKERS."""
    return {
        "study": "startup",
        "storage": str(storage),
        "model": model,
        "task_a": {"name": "arithmetic", "train": 16, "validation": 4},
        "task_b": {"name": "multihop", "train": 16, "validation": 4},
        "max_length": 128,
        "phase_a": {"epochs": 1, "batch_size": 4},
        "phase_b": {"epochs": 1, "batch_size": 4, "eval_every": 4, "keep_adapters": False},
        "search": {"strategy": ["random"], "mix": [0], "seed": list(range(seeds))},
        "resources": {"cpus": (psutil.cpu_count() or WORKERS) / WORKERS, "max_concurrent": WORKERS},
    }


class Watch:
    """What a running study shows: when each line came, and its workers' memory once all are at work."""

    def __init__(self, process: "subprocess.Popen[str]", storage: Path) -> None:
        self.process, self.storage = process, storage
        self.started = time.time()
        self.lines: list[tuple[float, str]] = []
        self.private: list[int] = []  # bytes of each worker when all have loaded the model
        self.largest = 0  # private bytes of any worker at any time
        self.reader = threading.Thread(target=self._read)

    def follow(self) -> None:
        """Watch the study to its end."""
        self.reader.start()
        while self.process.poll() is None:
            sizes = self._worker_sizes()
            self.largest = max([self.largest, *sizes])
            if not self.private and self._cells_begun() >= WORKERS and len(sizes) >= WORKERS:
                self.private = sizes
            time.sleep(0.2)
        self.reader.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.time() - self.started, line.rstrip()))

    def _cells_begun(self) -> int:
        return len(list((self.storage / CELLS_DIRECTORY).glob(f"*/*{ROWS_FILE}")))

    def _worker_sizes(self) -> list[int]:
        """Return the private bytes of every process that runs a trial."""
        sizes = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                title = " ".join(child.cmdline())
                if title.startswith(WORKER_NAME) and TRIAL_NAME in title:
                    sizes.append(child.memory_full_info().uss)
            except psutil.Error:  # it ended meanwhile
                continue
        return sizes

    def first(self, beginning: str) -> float | None:
        """Return when the first line with this beginning came, in seconds since the start."""
        return next((when for when, line in self.lines if line.startswith(beginning)), None)


def gaps_between_cells(storage: Path, workers: int) -> list[float]:
    """Return, for every cell but each worker's first, the seconds since the latest earlier ending."""
    folders = list((storage / CELLS_DIRECTORY).iterdir())
    begun = sorted(next(folder.glob(f"*{CELL_FILE}")).stat().st_mtime for folder in folders)
    ended = sorted((folder / RESULT_FILE).stat().st_mtime for folder in folders)
    free = ended[: len(begun) - workers]
    return [start - end for start, end in zip(begun[workers:], free, strict=True)]


@click.command()
@click.option(
    "--model", default="smollm2-135m", show_default=True, help="As `model.name` in a configuration."
)
@click.option("--folder", type=click.Path(path_type=Path), default=RESULTS, help="Where the JSON goes.")
def startup(model: str, folder: Path) -> None:
    """From `run` to the first step, from one cell to the next, and the workers' memory."""
    with tempfile.TemporaryDirectory() as temporary:
        storage, config = Path(temporary) / "study", Path(temporary) / "study.yaml"
        config.write_text(format_yaml(study_values(storage, model=model, seeds=2 * WORKERS)))
        command = [sys.executable, "-u", "-m", "sweep", "run", str(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            watch = Watch(process, storage)
            watch.follow()
        if process.returncode != 0:
            raise click.ClickException("the study failed:\n" + "\n".join(line for _, line in watch.lines))
        gaps = gaps_between_cells(storage, WORKERS)
        largest_weights = _weights_size(model)
    record = {
        "machine": describe_machine(),
        "model": model,
        "seconds": {
            "to_the_cluster": watch.first("starting a local cluster"),
            "to_the_first_step": watch.first("Phase A: step 0"),
            "between_two_cells": sorted(gaps),
        },
        "memory_mib": {
            "base_weights": largest_weights / MIB,
            "private_of_each_worker_once_loaded": [size / MIB for size in sorted(watch.private)],
            "private_of_a_worker_at_most": watch.largest / MIB,
        },
    }
    publish_result("startup", record, folder=folder)
    click.echo(format_yaml({name: record[name] for name in ("seconds", "memory_mib")}))


def _weights_size(model: str) -> int:
    from trainables.engine.device import choose_precision, open_device
    from trainables.model.base_weights import read_base_weights
    from trainables.model.sources import resolve_model
    from trainables.settings import ModelSettings

    source = resolve_model(ModelSettings(name=model))
    return read_base_weights(source, precision=choose_precision("auto", open_device(use_gpu=False))).size
