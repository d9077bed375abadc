"""torch.compile for the model's layers: whether it can be done, what it costs, and whether it pays.

It pays where the study is long enough; the rule compares seconds measured here with each other.
"""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainables.cache.machine import cache_directory
from trainables.engine.autotune import probe_run, seconds_of
from trainables.engine.device import Compute, if_it_fits
from trainables.model.attention import keep_attention_out_of_graphs
from trainables.model.lora import LoraModel, accumulate_gradients
from trainables.model.loss import supervised_nll
from trainables.model.packing import pack

LEAST_SECONDS = 30.0  # a compilation that must be measured costs at least this
LARGEST_GAIN = 0.4  # of the training time; more was never seen
MARGIN = 2.0  # every worker compiles or reads the cache once more, and measurements are noisy
PROBE = (200, 300, 500)  # tokens of the examples that both ways are timed on, as often as fill a microbatch


class CompilerError(RuntimeError):
    """The layers cannot be compiled on this machine; the message names it and says why, in one line."""


@dataclass(frozen=True)
class Timing:
    """Seconds a training token, plain and compiled, and the seconds that compiling took."""

    plain: float
    compiled: float
    cost: float

    def pays_for(self, tokens: float) -> bool:
        """Say whether a worker that trains this many tokens would be done sooner."""
        return (self.plain - self.compiled) * tokens > MARGIN * self.cost


def compile_layers(base: PreTrainedModel, *, backend: str = "inductor") -> None:
    """Compile every decoder layer at its first use, for any number of tokens; kernels are kept on disk."""
    _keep_kernels()
    keep_attention_out_of_graphs(base)
    for layer in _layers(base):
        layer.compile(dynamic=True, backend=backend)


def compile_now(model: LoraModel, *, token_budget: int) -> None:
    """Compile the layers and compute with them once, in microbatches of `token_budget`.

    Raises CompilerError, and leaves the layers plain, where the compiler is broken or memory runs out.
    """
    compile_layers(model.base)
    try:
        _check(partial(_compute_probe, model, token_budget))
    except CompilerError:
        undo_compilation(model.base)
        raise


def check_compiler(device: torch.device) -> None:
    """Raise CompilerError where not even a trivial function can be compiled."""
    _keep_kernels()
    compiled: Callable[..., torch.Tensor] = torch.compile(torch.special.expit)
    _check(lambda: compiled(torch.ones(2, device=device)))


def _check(compute: Callable[[], object]) -> None:
    """Let compiled code run. Raises CompilerError where the compiler fails or memory runs out."""
    from torch._dynamo.exc import TorchDynamoException  # loads the compiler

    try:
        fitted = if_it_fits(lambda: (compute(),))
    except (TorchDynamoException, subprocess.CalledProcessError) as error:
        raise CompilerError(
            f"layers cannot be compiled on {socket.gethostname()}: {_in_one_line(error)}"
        ) from error
    if fitted is None:
        raise CompilerError(f"layers cannot be compiled on {socket.gethostname()}: memory runs out")


def _in_one_line(error: Exception) -> str:
    """Return an error's first line, and the first that its compiler calls an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines[1:] if "error:" in line][:1]
    return ": ".join(lines[:1] + telling)[:300]


def undo_compilation(base: PreTrainedModel) -> None:
    """Compute the layers plainly again."""
    for layer in _layers(base):
        layer._compiled_call_impl = None
    torch.compiler.reset()


def worth_compiling(
    model: LoraModel, *, compute: Compute, tokens: float, warn: Callable[[str], None] = lambda message: None
) -> bool:
    """Measure whether compiled layers pay for themselves over `tokens` training tokens of this worker.

    Leaves the layers compiled if they do. Measures nothing where even the largest gain would not pay, and
    says no where the compiler is broken, which `warn` is told.
    """
    plain = compute.within_memory("training", partial(_seconds_a_token, model))
    if LARGEST_GAIN * plain * tokens < MARGIN * LEAST_SECONDS:
        return False
    started = time.perf_counter()
    try:
        compile_now(model, token_budget=compute.tokens["training"])
    except CompilerError as error:
        warn(f"{error}; they are computed plainly")
        return False
    compiled = _seconds_a_token(model, compute.tokens["training"])
    pays = Timing(plain, compiled, time.perf_counter() - started).pays_for(tokens)
    if not pays:
        undo_compilation(model.base)
    return pays


def _layers(base: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    return [module for module in base.modules() if isinstance(module, GradientCheckpointingLayer)]


def _seconds_a_token(model: LoraModel, token_budget: int) -> float:
    seconds = seconds_of(partial(_compute_probe, model, token_budget), model.device)
    return seconds / sum(_probe_lengths(token_budget))


def _probe_lengths(token_budget: int) -> list[int]:
    return list(PROBE) * max(1, token_budget // sum(PROBE))


def _compute_probe(model: LoraModel, token_budget: int) -> None:
    """Evaluate and train a full microbatch, with an adapter that is thrown away and its dropout."""
    model.install(model.new_stack(1))
    run = probe_run(_probe_lengths(token_budget), dropout=model.dropout_stream(0))
    for batch in pack([run], token_budget=token_budget):
        batch = batch.to(model.device)
        with torch.inference_mode():
            supervised_nll(model, replace(batch, mask_rows=None))
        accumulate_gradients(supervised_nll(model, batch).sum())
    model.set_mask_rows(None)  # they are of this microbatch alone


def _keep_kernels() -> None:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_directory() / "inductor"))
