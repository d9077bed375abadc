"""Running one whole command in a fresh process: its wall time, and the memory of all its processes."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

SAMPLE_SECONDS = 1.0
LINES_OF_A_FAILURE = 30


@dataclass(frozen=True)
class Measured:
    """Wall seconds and the largest memory at a sample: shared pages once, over the process and all below
    it.
    """

    seconds: float
    peak_memory_gib: float


def run_command(command: Sequence[str], *, log: Path) -> Measured:
    """Run `command` to its end with its output in `log`. Raises ClickException with the log's end."""
    peak = 0
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while True:
            try:
                process.wait(timeout=SAMPLE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, _memory_below(process.pid))
        seconds = time.perf_counter() - started
    if process.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-LINES_OF_A_FAILURE:])
        raise click.ClickException(f"{' '.join(command)} ended with {process.returncode}:\n{end}")
    return Measured(seconds, peak / 2**30)


def _memory_below(pid: int) -> int:
    """Return the memory of a process and its descendants in bytes; those that are ending count nothing."""
    total = 0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += getattr(memory, "pss", memory.uss)
    return total
