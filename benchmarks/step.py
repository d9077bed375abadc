"""The command that times training and evaluation of the engine at real examples' lengths."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.lengths import FILE, measure_lengths, read_lengths, write_lengths
from benchmarks.machine import RESULTS, describe_machine, publish_result


def parse_cells(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Read "1,2,4"."""
    if value is None:
        return None
    parts = value.split(",")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"must be numbers from 1 with commas between, got {value!r}")
    return tuple(int(part) for part in parts)


@click.command()
@click.option(
    "--model",
    default="smollm2-135m",
    show_default=True,
    metavar="NAME",
    help="As model.name in a configuration, or random weights: tinyllama-shape, smollm2-shape, tiny-shape.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="BENCHMARK_DATA",
    help=f"Take lengths from the data there, not from {FILE.name}. Or $BENCHMARK_DATA.",
)
@click.option("--write-lengths", is_flag=True, help=f"Make {FILE.name} from --data, and no more.")
@click.option("--cells", callback=parse_cells, metavar="N,N", help="Cells that train together.  [1,2,4,8]")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Of each measurement.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the layers first, half a minute or more.")
@click.option("--quick", is_flag=True, help="A second each, small batches, fewer cells.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def step(model: str, data: Path | None, folder: Path, **choices: Any) -> None:
    """Time training and evaluation: tokens a second, and the share of the machine's GEMM peak.

    \b
    python -m benchmarks step --model smollm2-135m --data ../shared/data
    python -m benchmarks step --write-lengths --data ../shared/data
    """
    if choices["write_lengths"]:
        if data is None:
            raise click.UsageError("--write-lengths needs --data, the folder to take them from")
        write_lengths(measure_lengths(data))
        click.echo(f"written to {FILE}")
        return
    allocate_like_a_worker()
    import torch

    from benchmarks.suite import PLANS, QUICK, measure_model
    from trainables.engine.device import open_device

    device = open_device(use_gpu=torch.cuda.is_available())
    lengths = read_lengths() if data is None else measure_lengths(data)
    plan = replace(PLANS[device.type], **(QUICK if choices["quick"] else {}))
    chosen = {name: choices[name] for name in ("cells", "seconds") if choices[name] is not None}
    plan = replace(plan, **chosen)
    measured = measure_model(
        model, device=device, lengths=lengths, plan=plan, tell=click.echo, compiled=choices["compiled"]
    )
    Console().print(*tables(measured), sep="\n")
    record = {
        "machine": describe_machine(),
        "environment": allocator(),
        "lengths": lengths.record(),
        **measured,
    }
    click.echo(f"written to {publish_result('step', record, folder=folder)}")


def allocate_like_a_worker() -> None:
    """Start this process anew with the allocator that the sweep gives its workers; glibc reads it at the
    start.
    """
    wanted = allocator()
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, sys.orig_argv, os.environ | wanted)


def allocator() -> dict[str, str]:
    """Return the workers' allocator settings."""
    from sweep.cluster.ray_cluster import ALLOCATOR

    return ALLOCATOR


def tables(measured: dict[str, Any]) -> tuple[Table, Table]:
    """Lay out a model's measurements: one cell, and cells together."""
    alone = Table(title=f"{measured['model']}, one cell, batch size {measured['plan']['batch_size']}")
    together = Table(
        title=f"{measured['model']}, training of cells together",
        caption="share: of the GEMM peak beside it (TFLOP/s), at 4 N a token in training and 2 N in "
        "evaluation; needed: with the output layer for supervised tokens alone; useful: tokens that are not "
        "padding; "
        "ratio: to one cell's tokens/s",
    )
    for table, first in ((alone, "what"), (together, "cells, on")):
        table.add_column(first)
        for name in ("tokens/s", "TFLOP/s", "share", "needed", "peak", "GiB"):
            table.add_column(name, justify="right")
    for name in ("useful", "ratio"):
        together.add_column(name, justify="right")
    for one in measured["alone"]:
        alone.add_row(f"{one['work']}, {one['workload']}", *_columns(one))
    for one in measured["together"]:
        ratio = "" if one["ratio"] is None else f"{one['ratio']:.2f}"
        together.add_row(f"{one['cells']}, {one['workload']}", *_columns(one), f"{one['useful']:.0%}", ratio)
    return alone, together


def _columns(one: dict[str, Any]) -> list[str]:
    return [
        f"{one['tokens_per_second']:,.0f}",
        f"{one['flops'] / 1e12:.3g}",
        f"{one['share_of_peak']:.1%}",
        f"{one['share_of_peak_needed']:.1%}",
        f"{one['peak'] / 1e12:.3g}",
        f"{one['peak_memory_gib']:.1f}",
    ]
