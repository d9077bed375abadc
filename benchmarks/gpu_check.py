"""The command that says on a bare machine with one NVIDIA GPU whether the GPU path is right, and how fast.

It needs no network and no checkout's installation: run it from the repository root. Beside Python 3.11
or later these must be importable, with what they themselves require:
torch >= 2.11 (CUDA), transformers >= 5.17, accelerate, numpy, safetensors, tokenizers, huggingface-hub,
pydantic (with pydantic-core, annotated-types, typing-inspection), psutil, pyyaml, click, rich.
Never imported by this project's code on this path: ray, peft, datasets, pandas, pyarrow, xxhash, sweep.
"""

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import suite
from benchmarks.findings import Check, Finding, Scene, scene_on
from benchmarks.layer_checks import check_attention, check_lean_layers, check_lora
from benchmarks.lengths import read_lengths
from benchmarks.machine import RESULTS, describe_machine, publish_result
from benchmarks.model_checks import (
    check_attention_in_the_model,
    check_checkpointing,
    check_chunks,
    check_compiled,
    check_copies,
    check_repeats,
)
from benchmarks.run_checks import check_fused, check_memory
from benchmarks.stand_ins import as_on_a_gpu
from benchmarks.suite import Plan, measure_model
from benchmarks.trace import trace_model
from benchmarks.worker_check import check_worker
from trainables.engine.device import DeviceError, open_device

CHECKS: dict[str, Check] = {
    "worker": check_worker,
    "attention": check_attention,
    "lean-layers": check_lean_layers,
    "lora": check_lora,
    "model": check_attention_in_the_model,
    "chunks": check_chunks,
    "checkpointing": check_checkpointing,
    "repeats": check_repeats,
    "fused": check_fused,
}
CUDA_CHECKS: dict[str, Check] = {
    "worker": check_worker,
    "copies": check_copies,
    "memory": check_memory,
    "compiled": check_compiled,
}
TIMINGS: dict[str, Callable[..., Any]] = {
    "step": measure_model,
    "trace": trace_model,
    "compiled-step": partial(measure_model, compiled=True),
}
ON_REQUEST = {"compiled-step"}  # minutes of compiling more
SHAPES = {"cuda": ("tinyllama-shape", "smollm2-shape"), "cpu": ("tiny-shape",)}
PLANS: dict[str, Plan] = {
    "cuda": replace(suite.PLANS["cuda"], validation=160, seconds=3.0, peak_seconds=0.6),
    "cpu": replace(
        suite.PLANS["cpu"],
        batch_size=2,
        fused_batch=2,
        validation=2,
        seconds=0.05,
        peak_seconds=0.01,
        peak_age=1e9,
        cells=(1, 2),
    ),
}
# What a kernel or an interface of another release raises. The machine is lent for minutes: one check
# that cannot run must not cost the others.
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@click.command()
@click.option(
    "--device",
    type=click.Choice(["cuda", "cpu"]),
    default="cuda",
    help="cpu is a dry run with stand-ins for FlashAttention's kernels.",
)
@click.option(
    "--only", type=click.Choice([*CHECKS, *CUDA_CHECKS, *TIMINGS]), multiple=True, help="May be repeated."
)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
@click.pass_context
def gpu_check(context: click.Context, device: str, only: tuple[str, ...], folder: Path) -> None:
    """Check every GPU path against plain fp32, then time two model shapes and trace a few steps.

    \b
    python -m benchmarks gpu-check
    python -m benchmarks gpu-check --only attention --only compiled-step
    python -m benchmarks gpu-check --device cpu --folder /tmp/dry_run
    """
    try:
        place = open_device(use_gpu=device == "cuda")  # with a worker's arithmetic, for every check
    except DeviceError as error:
        raise click.ClickException(f"{error}; --device cpu is a dry run without one") from error
    if device == "cpu":
        torch.set_num_threads(1)  # the dry run's shapes are too small for more
        context.with_resource(as_on_a_gpu())
    record: dict[str, Any] = {"device": device, "machine": describe_machine()}
    findings: list[Finding] = []
    for finding in run_checks(scene_on(place), only=only):
        click.echo(finding.describe())
        findings.append(finding)
    for name in [name for name in TIMINGS if name in only or not (only or name in ON_REQUEST)]:
        for shape in SHAPES[device]:
            publish(record, findings, folder=folder)
            try:
                record.setdefault(name, []).append(time_shape(name, shape, device=place))
            except FAILURES as error:
                findings.append(_failure(f"{name} of {shape}", error))
                click.echo(findings[-1].describe())
    click.echo(f"written to {publish(record, findings, folder=folder)}")
    failed = [finding.name for finding in findings if not finding.ok]
    click.echo(
        "\n".join([f"{len(findings) - len(failed)} of {len(findings)} ok", *(f"FAILED {f}" for f in failed)])
    )
    context.exit(1 if failed else 0)


def time_shape(name: str, shape: str, *, device: torch.device) -> Any:
    """Time a model shape in one of the TIMINGS; return its part of the result."""
    return TIMINGS[name](
        shape, device=device, lengths=read_lengths(), plan=PLANS[device.type], tell=click.echo
    )


def run_checks(scene: Scene, *, only: Sequence[str]) -> Iterator[Finding]:
    """Run the checks that the scene's device can, or those in `only`; one that cannot run has failed."""
    checks = CHECKS | (CUDA_CHECKS if scene.device.type == "cuda" else {})
    for name, check in checks.items():
        if only and name not in only:
            continue
        try:
            yield from check(scene)
        except FAILURES as error:
            yield _failure(name, error)


def publish(record: dict[str, Any], findings: Sequence[Finding], *, folder: Path) -> Path:
    """Write what there is so far: the machine may go before the end."""
    whole = record | {"findings": [finding.record() for finding in findings]}
    return publish_result("gpu_check", whole, folder=folder)


def _failure(name: str, error: BaseException) -> Finding:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return Finding(name, math.inf, 0.0, f"{type(error).__name__} at {place}: {error}")
