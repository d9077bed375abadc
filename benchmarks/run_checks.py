"""Checks of whole small runs: cells side by side, alone and by the plain loop; and a real lack of memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import get_scheduler

from benchmarks.findings import Finding, Scene, normwise
from benchmarks.lengths import make_up
from benchmarks.model_checks import LORA, PAIRS, adapters, all_of, trainable
from benchmarks.plain import PlainModel, plain_base
from trainables.engine.device import Compute
from trainables.engine.evaluation import evaluate
from trainables.engine.loop import AdapterRun, TrainingGroup
from trainables.ledger.loss_means import token_weighted
from trainables.model.lora import LoraModel
from trainables.replay.batch_order import phase_a_stream
from trainables.settings import PhaseASettings
from trainables.tasks.tokenised import TokenisedExamples

RUN = PhaseASettings(steps=8, batch_size=6, lr=2e-3, warmup_steps=2, weight_decay=0.01, gradient_clipping=0.1)
NATS = 1e-4  # a token
CELLS = 4
BUDGET = 600  # tokens
MEMORY_CAP = 3 * 2**28  # bytes beyond what is in use; a step that is not cut needs several times as much
HUGE_BUDGET = 2**16


def check_fused(scene: Scene) -> Iterator[Finding]:
    """Four cells side by side, each alone, and the plain loop: every step's loss and the last evaluation."""
    model = trainable(scene, "fp32")
    task = make_up(PAIRS * 3, vocabulary=scene.sizes["vocab_size"], seed=5)
    together, evaluated = run([run_of(model, task, seed) for seed in range(CELLS)], model, task)
    for seed in range(CELLS):
        alone, alone_evaluated = run([run_of(model, task, seed)], model, task)
        steps = np.abs(together[:, seed] - alone[:, 0]).max()
        yield Finding(f"cell {seed} of {CELLS} fused and alone, nats at a step", float(steps), NATS)
        last = abs(evaluated[seed] - alone_evaluated[0])
        yield Finding(f"cell {seed} of {CELLS} fused and alone, nats in evaluation", last, NATS)
    plain, plain_evaluated = plain_run(scene, model, run_of(model, task, 0), task)
    yield Finding(
        "a run and the plain loop, nats at a step", float(np.abs(together[:, 0] - plain).max()), NATS
    )
    yield Finding("a run and the plain loop, nats in evaluation", abs(evaluated[0] - plain_evaluated), NATS)


def check_memory(scene: Scene) -> Iterator[Finding]:
    """A real lack of GPU memory halves the microbatch, and the step is as if there had been enough."""
    model = trainable(scene, "fp32")
    task = make_up([(400, 100)] * 48, vocabulary=scene.sizes["vocab_size"], seed=6)
    training = RUN.model_copy(update={"batch_size": len(task)})
    enough, short = (run_of(model, task, 0, training=training) for _ in range(2))
    expected, _ = run([enough], model, task, budget=2048, steps=1)
    compute_short = Compute(scene.device, "fp32", {"training": HUGE_BUDGET, "evaluation": 2048})
    group = TrainingGroup(model, [short], compute=compute_short)
    with memory_capped(scene.device, MEMORY_CAP):
        group.step()
    group.keep([])
    left = compute_short.tokens["training"]
    yield Finding(f"out of memory at {HUGE_BUDGET} tokens: tokens in the end", left, HUGE_BUDGET / 2)
    loss = short.counters.take_recent()["train_loss"]
    yield Finding("out of memory: nats at the step", abs(loss - expected[0, 0]), NATS)
    assert short.adapter.grad is not None
    assert enough.adapter.grad is not None
    error = normwise(short.adapter.grad, enough.adapter.grad)
    yield Finding("out of memory: the step's gradient", error, 1e-4)


def run_of(
    model: LoraModel, task: TokenisedExamples, seed: int, *, training: PhaseASettings = RUN
) -> AdapterRun:
    """Return a cell of its own adapter, order and masks."""
    return AdapterRun(
        adapters(model, CELLS).weights[seed],
        stream=phase_a_stream(len(task), seed=seed, training=training),
        tasks=(task, task),
        settings=training,
        dropout=model.dropout_stream(seed),
    )


def run(
    runs: list[AdapterRun], model: LoraModel, task: TokenisedExamples, *, budget: int = BUDGET, steps: int = 8
) -> tuple[np.ndarray, list[float]]:
    """Train to the end; return every step's loss (steps, K), and each run's loss on `task` then, nats a
    token.
    """
    device = model.device
    compute_here = Compute(device, "fp32", {"training": budget, "evaluation": budget})
    group = TrainingGroup(model, runs, compute=compute_here)
    trained = np.zeros((steps, len(runs)))
    for step in range(steps):
        group.step()
        trained[step] = [run.counters.take_recent()["train_loss"] for run in runs]
    counts = task.supervised_counts("completion")
    nll = evaluate(model, task, stack=group.stack, compute=compute_here)
    group.keep([])
    return trained, [token_weighted(values, counts) for values in nll]


def plain_run(
    scene: Scene, model: LoraModel, run: AdapterRun, task: TokenisedExamples
) -> tuple[np.ndarray, float]:
    """Return what `run` does for one run, by torch's own loop over the plain model."""
    plain = PlainModel(plain_base(scene, "fp32"), LORA, model.export_weights(run.adapter))
    weights = list(plain.parameters.values())
    optimiser = torch.optim.AdamW(weights, lr=RUN.lr, weight_decay=RUN.weight_decay)
    scheduler = get_scheduler(
        RUN.schedule, optimiser, num_warmup_steps=RUN.warmup_steps, num_training_steps=run.stream.steps
    )
    trained = []
    for step in range(run.stream.steps):
        batch = run.batch(step)
        supervised = _supervised(batch.examples)
        optimiser.zero_grad()
        nll = plain.step_nll(list(batch.examples), dropout=batch.dropout, step=step)
        for weight in weights:
            assert weight.grad is not None
            weight.grad /= supervised
        assert RUN.gradient_clipping is not None
        torch.nn.utils.clip_grad_norm_(weights, RUN.gradient_clipping)
        optimiser.step()
        scheduler.step()
        trained.append(sum(nll) / supervised)
    with torch.no_grad():
        last = sum(plain.nll(task, index).item() for index in range(len(task)))
    return np.array(trained), last / _supervised(all_of(task))


@contextmanager
def memory_capped(device: torch.device, room: int) -> Iterator[None]:
    """Let this process have `room` bytes of GPU memory beyond what it uses now."""
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + room) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _supervised(examples: Sequence[tuple[TokenisedExamples, int]]) -> int:
    return sum(int(task.supervised_counts("completion")[index]) for task, index in examples)
