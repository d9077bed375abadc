"""Timing the engine's training and evaluation: useful tokens, and FLOP/s against the machine's own ceiling.

What is timed is what a cell runs: runs in a TrainingGroup, with dropout, batch assembly and AdamW.
"""

import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from benchmarks.flops import Load, ModelSize, load_of, model_flops, needed_flops
from benchmarks.machine import gemm_peak
from trainables.engine.device import Compute
from trainables.engine.evaluation import evaluate
from trainables.engine.loop import AdapterRun, TrainingGroup
from trainables.model.lora import LoraModel
from trainables.model.packing import pack
from trainables.replay.batch_order import Stream, phase_a_stream
from trainables.replay.pool import Pool
from trainables.replay.realisation import realise
from trainables.settings import PhaseBSettings
from trainables.tasks.tokenised import TokenisedExamples

STEPS = 4096  # of a stream; more than any measurement takes
PACKED_STEPS = 8  # that the share of padding is taken from
WARM_UP_STEPS = {"cpu": 1, "cuda": 2}

Work = Literal["training", "evaluation"]


@dataclass(frozen=True)
class Workload:
    """Examples to train on: task A alone, or task B with `mix` of task A replayed."""

    name: str
    task_a: TokenisedExamples
    task_b: TokenisedExamples
    mix: float | None = None

    def stream(self, *, seed: int, training: PhaseBSettings) -> Stream:
        """Return the order that a cell of this seed sees."""
        if self.mix is None:
            return phase_a_stream(len(self.task_a), seed=seed, training=training)
        pool = Pool(len(self.task_a), self.task_a.difficulty)
        return realise(
            "random" if self.mix else None,
            mix=self.mix,
            seed=seed,
            pool=pool,
            task_b_size=len(self.task_b),
            training=training,
        ).stream


@dataclass(frozen=True)
class Measurement:
    """One timing. `steps` are optimiser steps of each cell, or whole evaluations of `batch_size` examples.

    `flops` and `flops_needed` are a second's, by `model_flops` and `needed_flops`; `peak` is the larger
    of the GEMM rates just before and just after, in the same unit. `peak_memory_gib` is the GPU's, or
    on a CPU the process's since its start. `useful` is the share of computed tokens that are not padding.
    """

    work: Work
    workload: str
    cells: int
    batch_size: int
    steps: int
    seconds: float
    tokens_per_second: float
    flops: float
    flops_needed: float
    peak: float
    peak_memory_gib: float
    useful: float

    @property
    def share_of_peak(self) -> float:
        return self.flops / self.peak

    @property
    def share_of_peak_needed(self) -> float:
        return self.flops_needed / self.peak


class Ceiling:
    """The machine's GEMM peak, measured for `seconds` again when it is older than `age` seconds.

    On a shared machine other work comes and goes, so a peak counts near its own time alone.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, seconds: float, age: float) -> None:
        self.device, self.dtype, self.seconds, self.age = device, dtype, seconds, age
        self._rate, self._measured_at = 0.0, float("-inf")

    def now(self) -> float:
        """Return the peak in FLOP/s."""
        if time.perf_counter() - self._measured_at > self.age:
            self._rate = gemm_peak(self.device, self.dtype, self.seconds)
            self._measured_at = time.perf_counter()
        return self._rate


class Stopwatch:
    """Times a model's work for at least `seconds` a measurement, between two looks at the ceiling."""

    def __init__(self, model: LoraModel, compute: Compute, *, seconds: float, ceiling: Ceiling) -> None:
        self.model, self.compute, self.seconds, self.ceiling = model, compute, seconds, ceiling
        self.size = ModelSize.of(model.base)

    def training(self, workload: Workload, *, cells: int, batch_size: int) -> Measurement:
        """Measure `cells` that train together, each with a batch of its own."""
        group = start_group(self.model, workload, cells=cells, batch_size=batch_size, compute=self.compute)
        for _ in range(WARM_UP_STEPS[self.compute.device.type]):
            group.step()
        first = group.runs[0].counters.step
        measured = self._measure("training", workload.name, group.step, cells=cells, batch_size=batch_size)
        steps = range(first, first + measured.steps)
        load = Load()
        for run in group.runs:
            load += load_of(example for step in steps for example in run.batch(step).examples)
        useful = useful_share(group.runs, steps[:PACKED_STEPS], budget=self.compute.tokens["training"])
        group.keep([])
        return measured.of(load, size=self.size, useful=useful)

    def evaluation(self, name: str, tasks: Sequence[TokenisedExamples]) -> Measurement:
        """Measure one adapter on every example of `tasks`, one task after another as a cell does."""
        stack = self.model.new_stack(1)

        def measure_all() -> None:
            for task in tasks:
                evaluate(self.model, task, stack=stack, compute=self.compute)

        measure_all()
        examples = [(task, index) for task in tasks for index in range(len(task))]
        measured = self._measure("evaluation", name, measure_all, cells=1, batch_size=len(examples))
        return measured.of(load_of(examples), size=self.size, times=measured.steps)

    def _measure(
        self, work: Work, workload: str, run: Callable[[], None], *, cells: int, batch_size: int
    ) -> "_Timed":
        before = self.ceiling.now()
        steps, seconds, memory = self._time(run)
        peak = max(before, self.ceiling.now())
        return _Timed(work, workload, cells, batch_size, steps, seconds, peak, memory)

    def _time(self, run: Callable[[], None]) -> tuple[int, float, float]:
        """Return how often `run` ran, the seconds it took in all, and the peak memory in GiB."""
        device, runs = self.compute.device, 0
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        started = time.perf_counter()
        while runs == 0 or time.perf_counter() - started < self.seconds:
            run()
            runs += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return runs, time.perf_counter() - started, _peak_memory(device)


@dataclass(frozen=True)
class _Timed:
    """A timing whose work has not been counted yet."""

    work: Work
    workload: str
    cells: int
    batch_size: int
    steps: int
    seconds: float
    peak: float
    peak_memory_gib: float

    def of(self, load: Load, *, size: ModelSize, times: int = 1, useful: float = 1.0) -> Measurement:
        """Return the rates of having done `load` `times` times."""
        training, each = self.work == "training", times / self.seconds
        return Measurement(
            **vars(self),
            tokens_per_second=load.tokens * each,
            flops=model_flops(size, load, training=training) * each,
            flops_needed=needed_flops(size, load, training=training) * each,
            useful=useful,
        )


def start_group(
    model: LoraModel, workload: Workload, *, cells: int, batch_size: int, compute: Compute
) -> TrainingGroup:
    """Return `cells` new runs side by side; their seeds, and so their orders and masks, differ."""
    training = PhaseBSettings(steps=STEPS, batch_size=batch_size)
    runs = [
        AdapterRun(
            model.fresh_weights(seed=seed),
            stream=workload.stream(seed=seed, training=training),
            tasks=(workload.task_a, workload.task_b),
            settings=training,
            dropout=model.dropout_stream(seed),
        )
        for seed in range(cells)
    ]
    return TrainingGroup(model, runs, compute=compute)


def useful_share(runs: Sequence[AdapterRun], steps: Iterable[int], *, budget: int) -> float:
    """Return the examples' tokens over all that the microbatches hold: runs are padded to equal width."""
    useful = computed = 0
    for step in steps:
        batches = [replace(run.batch(step), dropout=None) for run in runs]
        useful += sum(load_of(batch.examples).tokens for batch in batches)
        computed += sum(batch.tokens.numel() for batch in pack(batches, token_budget=budget))
    return useful / computed


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
