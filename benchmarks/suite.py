"""The measurements made of one model: real lengths one cell at a time, then cells side by side."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.lengths import Lengths, make_up
from benchmarks.measured_step import Ceiling, Measurement, Stopwatch, Workload
from benchmarks.shapes import open_model
from trainables.tasks.tokenised import TokenisedExamples

REPLAY = 0.1
FUSED_EXAMPLE = (256, 192)  # tokens of each, and of its prompt

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much is measured; `batch_size`, `paragraphs` and `validation` are near the shipped configurations'.

    `seconds` of each measurement; `peak_seconds` of each GEMM peak, which is measured again after
    `peak_age`; `cells` that train together, each with a `fused_batch` that leaves room for more.
    """

    batch_size: int
    paragraphs: str
    validation: int
    seconds: float
    peak_seconds: float
    peak_age: float = 2.0
    cells: tuple[int, ...] = (1, 2, 4, 8)
    fused_batch: int = 8


PLANS = {
    "cpu": Plan(batch_size=8, paragraphs="supporting", validation=40, seconds=10.0, peak_seconds=2.0),
    "cuda": Plan(batch_size=64, paragraphs="all", validation=320, seconds=4.0, peak_seconds=1.0),
}
QUICK: dict[str, Any] = {
    "seconds": 1.0,
    "peak_seconds": 0.3,
    "peak_age": 10.0,
    "batch_size": 2,
    "validation": 4,
    "cells": (1, 2),
    "fused_batch": 2,
}


def measure_model(
    name: str, *, device: torch.device, lengths: Lengths, plan: Plan, tell: Tell, compiled: bool = False
) -> dict[str, Any]:
    """Return a model's part of a result; a line is told for each measurement."""
    model, compute, compute_plan = open_model(name, device, compiled=compiled)
    ceiling = Ceiling(device, model.dtype, seconds=plan.peak_seconds, age=plan.peak_age)
    stopwatch = Stopwatch(model, compute, seconds=plan.seconds, ceiling=ceiling)
    tell(f"{name}: {stopwatch.size.parameters / 1e6:,.0f} million parameters; {compute_plan.describe()}")
    vocabulary = model.base.config.vocab_size
    alone = _tell_each(measure_alone(stopwatch, lengths, plan=plan, vocabulary=vocabulary), tell)
    together = _tell_each(measure_together(stopwatch, lengths, plan=plan, vocabulary=vocabulary), tell)
    return {
        "model": name,
        "size": asdict(stopwatch.size),
        "tuning": compute_plan.record(),
        "tokens_used": dict(compute.tokens),
        "threads": torch.get_num_threads(),
        "plan": asdict(plan),
        "peak": "FLOP/s, the larger GEMM rate of just before and just after each measurement",
        "alone": [record(one) for one in alone],
        "together": [record(one) | {"ratio": ratio_to_one_cell(one, together)} for one in together],
    }


def measure_alone(
    stopwatch: Stopwatch, lengths: Lengths, *, plan: Plan, vocabulary: int
) -> Iterator[Measurement]:
    """Measure training and evaluation of one cell, on each task and on task B with replay."""
    mix = mixed_lengths(lengths, plan=plan, vocabulary=vocabulary)
    task_a, task_b = mix.task_a, mix.task_b
    held_a, held_b = _tasks(lengths, plan=plan, vocabulary=vocabulary, examples=plan.validation)
    for workload, held in (
        (Workload("math", task_a, task_b, None), [held_a]),
        (Workload("hotpotqa", task_a, task_b, 0.0), [held_b]),
        (mix, [held_a, held_b]),
    ):
        yield stopwatch.training(workload, cells=1, batch_size=plan.batch_size)
        yield stopwatch.evaluation(workload.name, held)


def measure_together(
    stopwatch: Stopwatch, lengths: Lengths, *, plan: Plan, vocabulary: int
) -> Iterator[Measurement]:
    """Measure the training of several cells in one process, on equal lengths and on the mix."""
    mix = mixed_lengths(lengths, plan=plan, vocabulary=vocabulary)
    for workload in (equal_lengths(vocabulary), mix):
        for cells in plan.cells:
            yield stopwatch.training(workload, cells=cells, batch_size=plan.fused_batch)


def equal_lengths(vocabulary: int) -> Workload:
    """Return examples of 256 tokens each."""
    task = make_up([FUSED_EXAMPLE] * 32, vocabulary=vocabulary)
    return Workload(f"{FUSED_EXAMPLE[0]} tokens", task, task, None)


def mixed_lengths(lengths: Lengths, *, plan: Plan, vocabulary: int) -> Workload:
    """Return task B with a tenth as much of task A replayed."""
    task_a, task_b = _tasks(lengths, plan=plan, vocabulary=vocabulary)
    return Workload("mix", task_a, task_b, REPLAY)


def ratio_to_one_cell(measurement: Measurement, among: list[Measurement]) -> float | None:
    """Return how much faster the cells together are than one, in tokens a second; None if one was not
    measured.
    """
    for one in among:
        if (one.workload, one.cells) == (measurement.workload, 1):
            return measurement.tokens_per_second / one.tokens_per_second
    return None


def record(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement as JSON."""
    shares = {name: getattr(measurement, name) for name in ("share_of_peak", "share_of_peak_needed")}
    return asdict(measurement) | shares


def describe(measurement: Measurement) -> str:
    """Return a line for who waits."""
    cells = "" if measurement.cells == 1 else f", {measurement.cells} cells together"
    return (
        f"  {measurement.work} on {measurement.workload}{cells}: {measurement.tokens_per_second:,.0f} "
        "tokens/s, "
        f"{measurement.flops / 1e12:.3g} TFLOP/s, {measurement.share_of_peak:.1%} of the peak "
        f"({measurement.share_of_peak_needed:.1%} needed)"
    )


def _tell_each(measurements: Iterator[Measurement], tell: Tell) -> list[Measurement]:
    told = []
    for measurement in measurements:
        tell(describe(measurement))
        told.append(measurement)
    return told


def _tasks(
    lengths: Lengths, *, plan: Plan, vocabulary: int, examples: int | None = None
) -> tuple[TokenisedExamples, TokenisedExamples]:
    """Return task A and task B, the first `examples` of each."""
    names = "math", f"hotpotqa_{plan.paragraphs}"
    task_a, task_b = (make_up(lengths.sets[name][:examples], vocabulary=vocabulary) for name in names)
    return task_a, task_b
