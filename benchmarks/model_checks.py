"""Checks of a whole small model against the plain path: every example's loss, and the adapters' gradients."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from benchmarks.findings import DTYPES, Finding, Scene, normwise
from benchmarks.lengths import make_up
from benchmarks.plain import PlainModel, plain_base, same_base
from trainables.engine.compile import undo_compilation
from trainables.engine.compute_plan import ComputePlan, Work
from trainables.engine.device import device_name
from trainables.engine.session import make_trainable
from trainables.model import loss
from trainables.model.attention import attentions_on
from trainables.model.dropout import DropoutStream
from trainables.model.lora import AdapterStack, LoraModel, accumulate_gradients
from trainables.model.loss import by_example, supervised_nll
from trainables.model.packing import AdapterBatch, Microbatch, pack
from trainables.settings import LoraSettings, ModelSettings, Precision
from trainables.tasks.tokenised import TokenisedExamples

LORA = LoraSettings(r=8, alpha=16, dropout=0.1)
PAIRS = [(300, 120), (5, 2), (130, 129), (2, 1), (64, 10), (257, 200), (31, 7), (513, 400)]
MATRIX = 4096  # its products keep the GPU busy while microbatches are copied
BUDGETS = (1, 300, 2**20)  # tokens: an example a microbatch, some, all
NATS: dict[Precision, float] = {"fp32": 1e-4, "bf16": 5e-2}  # a token
GRADIENT: dict[Precision, float] = {"fp32": 1e-3, "bf16": 6e-2}  # by norm, the worst of all factors

Examples = list[tuple[TokenisedExamples, int]]


@dataclass(frozen=True)
class Result:
    """Of runs computed once: every example's nll (K, n), nats a token, and the adapters' gradients (K, P)."""

    nll: np.ndarray
    gradients: torch.Tensor


def check_attention_in_the_model(scene: Scene) -> Iterator[Finding]:
    """A model with each attention, two runs of unequal length and dropout, however its batch is cut."""
    for precision, dtype in DTYPES.items():
        examples = two_runs(scene)
        plain = None
        for attention in attentions_on(scene.device, dtype, width=scene.head_width):
            model = trainable(scene, precision, attention=attention)
            stack = adapters(model, len(examples))
            plain = plain or plain_result(scene, precision, model, stack, examples)
            for budget in BUDGETS:
                found = compute(model, stack, examples, budget=budget)
                title = f"model with {attention} attention, {precision}, {budget} tokens at a time"
                yield from compare(title, found, plain, model, precision)


def check_chunks(scene: Scene) -> Iterator[Finding]:
    """The loss and its gradient, however the vocabulary projection is cut."""
    for precision in DTYPES:
        examples = two_runs(scene)
        model = trainable(scene, precision)
        stack = adapters(model, len(examples))
        plain = plain_result(scene, precision, model, stack, examples)
        for rows in (1, 7, 2**16):
            with logits_in_chunk(scene, rows * scene.sizes["vocab_size"]):
                found = compute(model, stack, examples, budget=2**20)
            yield from compare(
                f"loss in chunks of {rows} tokens, {precision}", found, plain, model, precision
            )


def check_checkpointing(scene: Scene) -> Iterator[Finding]:
    """Recomputing layers in the backward pass changes nothing, dropout included."""
    for precision in DTYPES:
        examples, results = two_runs(scene), []
        for recompute in (False, True):
            model = trainable(scene, precision, checkpointing=recompute)
            results.append(compute(model, adapters(model, 2), examples, budget=700))
        yield from compare(f"layers recomputed, {precision}", results[1], results[0], model, precision)


def check_compiled(scene: Scene) -> Iterator[Finding]:
    """Compiled layers, for microbatches of several sizes with one compilation."""
    examples = two_runs(scene)
    model = trainable(scene, "bf16", compiled=True)
    stack = adapters(model, len(examples))
    plain = plain_result(scene, "bf16", model, stack, examples)
    for budget in BUDGETS:
        found = compute(model, stack, examples, budget=budget)
        title = f"compiled layers, bf16, {budget} tokens at a time"
        yield from compare(title, found, plain, model, "bf16")
    undo_compilation(model.base)


def check_repeats(scene: Scene) -> Iterator[Finding]:
    """The same step twice: losses bit for bit; gradients to rounding, and whether also bit for bit."""
    for precision in DTYPES:
        examples, model = two_runs(scene), trainable(scene, precision)
        stack = adapters(model, len(examples))
        first, again = (compute(model, stack, examples, budget=700) for _ in range(2))
        differing = int((first.nll != again.nll).sum())
        yield Finding(f"the same step twice, {precision}: losses that differ in a bit", differing, 0)
        apart = normwise(again.gradients, first.gradients)
        equal = "bit for bit" if torch.equal(again.gradients, first.gradients) else "not bit for bit"
        title = f"the same step twice, {precision}: gradients"
        yield Finding(title, apart, GRADIENT[precision], f"({equal})")


def check_copies(scene: Scene) -> Iterator[Finding]:
    """Microbatches copied from another thread while the GPU is busy arrive whole."""
    task = make_up(PAIRS * 8, vocabulary=scene.sizes["vocab_size"], seed=7)
    run = AdapterBatch(all_of(task), "completion", DropoutStream(3, 16), 0)
    batches = pack([run] * 2, token_budget=700)
    load = scene.draw(MATRIX, MATRIX, dtype=torch.float32, seed=0)
    with ThreadPoolExecutor(1) as thread:
        moved = thread.submit(lambda: [batch.to(scene.device) for batch in batches])
        for _ in range(100):
            load = load @ load / load.norm()
        differing = sum(_differ(one, other) for one, other in zip(moved.result(), batches, strict=True))
    yield Finding(f"copies of {len(batches)} microbatches while computing: those that differ", differing, 0)


def trainable(
    scene: Scene, precision: Precision, *, attention: str | None = None, **choices: bool
) -> LoraModel:
    """Return the scene's model as the engine trains it; `choices` are ComputePlan's."""
    attention = attention or attentions_on(scene.device, DTYPES[precision], width=scene.head_width)[0]
    tokens: dict[Work, int] = {"training": 600, "evaluation": 600}
    compute_plan = ComputePlan(
        device_name(scene.device), precision, attention, tokens, **({"checkpointing": False} | choices)
    )
    settings = ModelSettings(name="check", lora=LORA)
    model, _ = make_trainable(
        same_base(scene, precision), settings, compute_plan=compute_plan, fingerprint="check"
    )
    return model


def adapters(model: LoraModel, cells: int) -> AdapterStack:
    """Return adapters that do something: neither factor is zero."""
    stack = model.new_stack(cells)
    for row in range(cells):
        drawn = torch.randn(model.size, generator=torch.Generator().manual_seed(row))
        stack.weights[row] = 0.05 * drawn.to(model.device)
    return stack


def compute(model: LoraModel, stack: AdapterStack, runs: Sequence[AdapterBatch], *, budget: int) -> Result:
    """Compute every run's loss and gradient with the engine."""
    model.install(stack)
    stack.gradients.zero_()
    nll = _nothing(runs)
    for batch in pack(runs, token_budget=budget):
        batch = batch.to(model.device)
        tokens = supervised_nll(model, batch)
        accumulate_gradients(tokens.sum())
        nll[batch.runs, batch.places] = by_example([tokens], [batch])[0] / batch.counts
    return Result(nll, stack.gradients.clone())


def plain_result(
    scene: Scene, precision: Precision, model: LoraModel, stack: AdapterStack, runs: Sequence[AdapterBatch]
) -> Result:
    """Compute the same plainly, in fp32 on the same weights."""
    nll = _nothing(runs)
    gradients = torch.zeros_like(stack.gradients)
    for row, run in enumerate(runs):
        plain = PlainModel(plain_base(scene, precision), LORA, model.export_weights(stack.weights[row]))
        found = plain.step_nll(list(run.examples), dropout=run.dropout, step=run.step)
        counts = [task.supervised_counts("completion")[index] for task, index in run.examples]
        nll[row, : len(found)] = np.array(found) / counts
        gradients[row] = model.import_weights(_gradients(plain))
    return Result(nll, gradients)


@contextmanager
def logits_in_chunk(scene: Scene, numbers: int) -> Iterator[None]:
    """Let the loss compute so many logits at a time."""
    before = loss.LOGITS_IN_CHUNK[scene.device.type]
    loss.LOGITS_IN_CHUNK[scene.device.type] = numbers
    try:
        yield
    finally:
        loss.LOGITS_IN_CHUNK[scene.device.type] = before


def _nothing(runs: Sequence[AdapterBatch]) -> np.ndarray:
    return np.zeros((len(runs), max(len(run.examples) for run in runs)))


def two_runs(scene: Scene) -> list[AdapterBatch]:
    """Return runs of eight and of five examples, at different steps of different dropout streams."""
    task = make_up(PAIRS, vocabulary=scene.sizes["vocab_size"], seed=4)
    layers = len(LORA.target_modules) * scene.sizes["num_hidden_layers"]
    chosen: list[Examples] = [all_of(task), all_of(task)[4:1:-1] + all_of(task)[5:7]]
    return [
        AdapterBatch(examples, "completion", DropoutStream(seed, layers), step=3 * seed)
        for seed, examples in enumerate(chosen)
    ]


def compare(
    title: str, found: Result, expected: Result, model: LoraModel, precision: Precision
) -> Iterator[Finding]:
    """Compare nats a token of each example, and the gradients factor by factor."""
    yield Finding(f"{title}, nats", float(np.abs(found.nll - expected.nll).max()), NATS[precision])
    worst = 0.0
    for ours, theirs in zip(found.gradients, expected.gradients, strict=True):
        named, wanted = model.export_weights(ours), model.export_weights(theirs)
        worst = max(
            worst, *(normwise(torch.from_numpy(named[n]), torch.from_numpy(wanted[n])) for n in wanted)
        )
    yield Finding(f"{title}, gradient", worst, GRADIENT[precision])


def _gradients(plain: PlainModel) -> dict[str, Any]:
    return {
        name: weight.grad.cpu().numpy()
        for name, weight in plain.parameters.items()
        if weight.grad is not None
    }


def all_of(task: TokenisedExamples) -> Examples:
    """Return every example of a task."""
    return [(task, index) for index in range(len(task))]


def _differ(moved: Microbatch, batch: Microbatch) -> bool:
    pairs = [(getattr(moved, field.name), getattr(batch, field.name)) for field in fields(batch)]
    return not all(torch.equal(one.cpu(), other) for one, other in pairs if isinstance(other, torch.Tensor))
