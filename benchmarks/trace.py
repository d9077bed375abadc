"""How busy a GPU is while cells train: the share of wall time in which at least one kernel runs."""

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.lengths import Lengths
from benchmarks.measured_step import Workload, start_group
from benchmarks.shapes import open_model
from benchmarks.suite import Plan, Tell, equal_lengths, mixed_lengths

WARM_UP_STEPS = 2
STEPS = 4
KERNELS_SHOWN = 12
NAME_LENGTH = 100  # of a kernel; templates make them longer than anyone reads

Event = dict[str, Any]


def trace_model(
    name: str, *, device: torch.device, lengths: Lengths, plan: Plan, tell: Tell
) -> list[dict[str, Any]]:
    """Trace a few steps of one cell on the mix, and of one and four cells at a small batch."""
    model, compute, _ = open_model(name, device)
    vocabulary = model.base.config.vocab_size
    mix, equal = mixed_lengths(lengths, plan=plan, vocabulary=vocabulary), equal_lengths(vocabulary)
    cases: Sequence[tuple[Workload, int, int]] = (
        (mix, 1, plan.batch_size),
        (equal, 1, plan.fused_batch),
        (equal, 4, plan.fused_batch),
    )
    traced = []
    for workload, cells, batch_size in cases:
        group = start_group(model, workload, cells=cells, batch_size=batch_size, compute=compute)
        for _ in range(WARM_UP_STEPS):
            group.step()
        events, seconds = record_events(group.step, device)
        group.keep([])
        found: dict[str, Any] = {"model": name, "workload": workload.name}
        found |= {"cells": cells, "batch_size": batch_size} | summarise(events, seconds=seconds)
        tell(
            f"  {name}, {workload.name}, {cells} cells of {batch_size}: GPU busy {found['busy']:.1%} of "
            f"{seconds:.2f} s, {found['kernels'] // STEPS:,} kernels a step, {found['mean_kernel_us']:.1f} "
            "us each"
        )
        traced.append(found)
    return traced


def record_events(step: Callable[[], None], device: torch.device) -> tuple[list[Event], float]:
    """Return the trace events of STEPS steps and the wall seconds they took; the profiler slows them a
    little.
    """
    on_gpu = device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
            started = time.perf_counter()
            for _ in range(STEPS):
                step()
            if on_gpu:
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - started
        profiler.export_chrome_trace(str(path))
        return json.loads(path.read_text())["traceEvents"], seconds


def summarise(events: Iterable[Event], *, seconds: float) -> dict[str, Any]:
    """Return how long kernels, and copies, ran within `seconds`; kernels that overlap count once."""
    events = list(events)
    kernels = [event for event in events if event.get("cat") == "kernel"]
    copies = [event for event in events if event.get("cat") in ("gpu_memcpy", "gpu_memset")]
    by_name: dict[str, float] = {}
    for kernel in kernels:
        name = kernel["name"][:NAME_LENGTH]
        by_name[name] = by_name.get(name, 0.0) + kernel["dur"]
    longest = sorted(by_name.items(), key=lambda item: -item[1])[:KERNELS_SHOWN]
    total = sum(by_name.values())
    return {
        "seconds": seconds,
        "steps": STEPS,
        "busy": covered(kernels) / 1e6 / seconds,
        "copying": covered(copies) / 1e6 / seconds,
        "kernels": len(kernels),
        "mean_kernel_us": total / max(1, len(kernels)),
        "longest_kernels": [{"name": name, "share_of_kernel_time": time / total} for name, time in longest],
    }


def covered(events: Iterable[Event]) -> float:
    """Return the length of the union of the events' intervals, in their unit."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted((event["ts"], event["ts"] + event["dur"]) for event in events):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
