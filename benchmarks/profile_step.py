"""Where the time of a training step goes: the operations that take longest, beside the step's own time."""

import time
from pathlib import Path
from typing import Any

import click
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import RESULTS, describe_machine, gemm_peak, publish_result
from trainables.engine.autotune import probe_batch
from trainables.engine.session import load_session
from trainables.engine.setup import Setup
from trainables.model.lora import LoraModel, accumulate_gradients
from trainables.model.loss import supervised_nll
from trainables.model.sources import resolve_model
from trainables.settings import ModelSettings

LENGTHS = (250, 260, 270, 244)  # one microbatch of MATH-like examples, half of each supervised
WARM_UP = 3
LISTED = 30


@click.command("profile")
@click.option(
    "--model", default="smollm2-135m", show_default=True, help="As `model.name` in a configuration."
)
@click.option("--folder", type=click.Path(path_type=Path), default=RESULTS, help="Where the JSON goes.")
def profile_step(model: str, folder: Path) -> None:
    """List the operations of a forward and backward pass by the time they take themselves."""
    settings = ModelSettings(name=model)
    setup = Setup(resolve_model(settings), settings, gpus=float(torch.cuda.is_available()), cpus=1)
    session = load_session(setup)
    operations, seconds = _profile(session.model)
    record = {
        "machine": describe_machine(),
        "model": model,
        "tuning": session.compute_plan.record(),
        "lengths": LENGTHS,
        "seconds_of_a_pass": seconds,
        "gemm_peak": gemm_peak(session.model.device, session.model.dtype),
        "operations": operations,
    }
    publish_result("profile", record, folder=folder)
    for one in operations:
        click.echo(f"{one['milliseconds']:9.1f} ms {one['calls']:6d} x {one['operation']} {one['shapes']}")
    click.echo(f"{seconds * 1e3:9.1f} ms a pass without the profiler")


def _profile(model: LoraModel) -> tuple[list[dict[str, Any]], float]:
    """Return the slowest operations of one pass, and the seconds of a pass that is not profiled."""
    model.install(model.new_stack(1))
    batch = probe_batch(LENGTHS, runs=1).to(model.device)

    def work() -> None:
        accumulate_gradients(supervised_nll(model, batch).sum())

    times = []
    for _ in range(WARM_UP):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        work()
    found = sorted(profiled.key_averages(group_by_input_shape=True), key=lambda one: -one.self_cpu_time_total)
    operations = [
        {
            "operation": one.key,
            "shapes": str([shape for shape in one.input_shapes if shape]),
            "calls": one.count,
            "milliseconds": one.self_cpu_time_total / 1e3,
        }
        for one in found[:LISTED]
    ]
    return operations, min(times)
