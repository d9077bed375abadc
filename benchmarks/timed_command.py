"""One `sweep` command in a process of its own: its seconds without the imports, and its memory, as JSON.

python -m benchmarks.timed_command [--warm-up STUDY] COMMAND ARGUMENT...
"""

import io
import json
import re
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import click

from sweep.cli import cli


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--warm-up", help="First run the same command on this small study, which imports what it needs."
)
@click.argument("arguments", nargs=-1, required=True)
def timed_command(warm_up: str | None, arguments: tuple[str, ...]) -> None:
    """Run `sweep ARGUMENTS` in this process and print what it took."""
    if warm_up is not None:
        _run((arguments[0], warm_up))
    before, started, started_cpu = _peak_bytes(), time.perf_counter(), time.process_time()
    _run(arguments)
    taken, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    loaded = [name for name in ("torch", "transformers", "peft", "ray") if name in sys.modules]
    seconds = {"seconds": taken, "cpu_seconds": cpu}
    memory = {"peak_before": before, "peak": _peak_bytes()}
    click.echo(json.dumps(seconds | memory | {"loaded": loaded}))


def _run(arguments: tuple[str, ...]) -> None:
    with redirect_stdout(io.StringIO()):
        cli.main(args=list(arguments), prog_name="python -m sweep", standalone_mode=False)


def _peak_bytes() -> int:
    """Read the peak of this program from Linux; getrusage's also counts the program that started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "memory is measured on Linux only"
    return int(found[1]) * 1024


if __name__ == "__main__":
    timed_command()
