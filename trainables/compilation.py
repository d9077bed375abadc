"""torch.compile for the model's layers: where it is possible, what it costs, and whether it pays.

It pays where the study is long enough; the rule compares seconds measured here with each other.
"""

import os
import shutil
import time
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainables.attention import keep_attention_out_of_graphs
from trainables.compute import Compute
from trainables.lora import LoraModel, accumulate_gradients
from trainables.losses import supervised_nll
from trainables.machine_cache import cache_directory
from trainables.measuring import probe_batch, seconds_of

LEAST_SECONDS = 30.0  # a compilation that must be measured costs at least this
LARGEST_GAIN = 0.4  # of the training time; more was never seen
MARGIN = 2.0  # every worker compiles or reads the cache once more, and measurements are noisy
PROBE = (200, 300, 500)  # tokens of the examples that both ways are timed on


@dataclass(frozen=True)
class Timing:
    """Seconds a training token, plain and compiled, and the seconds that compiling took."""

    plain: float
    compiled: float
    cost: float

    def pays_for(self, tokens: float) -> bool:
        """Say whether a worker that trains this many tokens would be done sooner."""
        return (self.plain - self.compiled) * tokens > MARGIN * self.cost


def compile_layers(base: PreTrainedModel) -> None:
    """Compile every decoder layer at its first use, for any number of tokens; kernels are kept on disk."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_directory() / "inductor"))
    keep_attention_out_of_graphs(base)
    for layer in _layers(base):
        layer.compile(dynamic=True)


def undo_compilation(base: PreTrainedModel) -> None:
    """Compute the layers plainly again."""
    for layer in _layers(base):
        layer._compiled_call_impl = None
    torch.compiler.reset()


def worth_compiling(model: LoraModel, *, compute: Compute, tokens: float) -> bool:
    """Measure whether compiled layers pay for themselves over `tokens` training tokens of this worker.

    Leaves the layers compiled if they do. Measures nothing where even the largest gain would not pay,
    and says no where there is no compiler.
    """
    if not _has_compiler(compute.device):
        return False
    plain = _seconds_a_token(model, compute)
    if LARGEST_GAIN * plain * tokens < MARGIN * LEAST_SECONDS:
        return False
    started = time.perf_counter()
    compile_layers(model.base)
    compiled = _seconds_a_token(model, compute)
    pays = Timing(plain, compiled, time.perf_counter() - started).pays_for(tokens)
    if not pays:
        undo_compilation(model.base)
    return pays


def _layers(base: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    return [module for module in base.modules() if isinstance(module, GradientCheckpointingLayer)]


def _seconds_a_token(model: LoraModel, compute: Compute) -> float:
    model.install(model.new_bank(1))
    batch = probe_batch(PROBE, lanes=1).to(compute.device)

    def work() -> None:
        with torch.inference_mode():
            supervised_nll(model, batch)
        accumulate_gradients(supervised_nll(model, batch).sum())

    return seconds_of(work, compute.device) / sum(PROBE)


def _has_compiler(device: torch.device) -> bool:
    """Inductor needs a C++ compiler for CPUs, and Triton and a C compiler for GPUs."""
    if device.type == "cuda":
        return torch.utils._triton.has_triton() and any(map(shutil.which, ("gcc", "cc", "clang")))
    return any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++")))
