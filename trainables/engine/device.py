"""Where a run computes: device and precision, and how many tokens fit on it at a time."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import psutil
import torch

from trainables.engine.compute_plan import Work
from trainables.engine.interruption import Heartbeat
from trainables.engine.memory import SMALLEST_BUDGET
from trainables.ledger.errors import UserError
from trainables.settings import Precision

T = TypeVar("T")
OUT_OF_MEMORY = (  # in lower case, what errors say that have no type of their own
    "out of memory",  # of CUDA's driver as of torch's allocator
    "_status_alloc_failed",  # cuBLAS, cuDNN, cuSOLVER
    "cublas_status_not_initialized",  # cuBLAS too, which asks for memory when it is first used
    "nvml_success ==",  # torch's allocator, where it may not ask how much there is (MIG, containers)
    "allocation_failed",  # cuDNN 9
    "can't allocate memory",  # torch's CPU allocator
)
ADVICE = (
    "give a trial more memory (fewer trials a machine: raise resources.cpus or resources.gpus), train fewer "
    "cells together (resources.cells_per_worker), or lower max_length"
)


@dataclass
class Compute:
    """A device with its precision, and the tokens of a microbatch that fit on it so far.

    `compiled` says whether the model's layers are. `heartbeat` is called after every microbatch, and may
    raise to end the work there.
    """

    device: torch.device
    precision: Precision
    tokens: dict[Work, int] = field(default_factory=dict)
    heartbeat: Heartbeat = lambda: None
    compiled: bool = False

    def describe(self) -> str:
        """Return the device, the precision and whether layers are compiled in words, as results name them."""
        compiled = ", compiled" if self.compiled else ""
        return f"{device_name(self.device)}, {self.precision}{compiled}"

    def within_memory(self, work: Work, compute: Callable[[int], T]) -> T:
        """Return `compute(token_budget)`, halving the budget and starting over when memory runs out."""
        while True:
            budget = self.tokens[work]
            try:
                return compute(budget)
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                if budget // 2 < SMALLEST_BUDGET:
                    raise OutOfMemoryError(
                        f"out of memory with microbatches of {budget} tokens, the smallest there are: "
                        f"{ADVICE}"
                    ) from error
            # Not in the handler: until it ends, the error's traceback keeps alive what the failed try
            # computed.
            release_memory()
            self.tokens[work] = budget // 2


def if_it_fits(compute: Callable[[], T]) -> T | None:
    """Return what `compute` returns, None where memory runs out."""
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
    release_memory()
    return None


class OutOfMemoryError(RuntimeError):
    """Not even the smallest microbatch fits; the message says what would help."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, whichever library noticed."""
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def release_memory() -> None:
    """Give back what a failed try held; to be called when nothing refers to it any more."""
    gc.collect()  # autograd graphs may refer to themselves
    torch.cuda.empty_cache()  # does nothing where CUDA is not in use


class DeviceError(UserError):
    """A device that was asked for and is not there."""


def open_device(*, use_gpu: bool) -> torch.device:
    """Return the first visible GPU where `use_gpu`, else the CPU. Raises DeviceError where there is no GPU.

    Whatever a launcher has set (RANK, WORLD_SIZE, LOCAL_RANK) has no say: Ray shows a worker its own GPU
    alone.
    """
    if not use_gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError(f"a GPU was asked for, and torch {torch.__version__} has none that it can use here")
    torch.set_float32_matmul_precision("highest")  # no TF32, whatever this process did before
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False  # sums in fp32
    return torch.device("cuda", 0)


def limit_memory(device: torch.device, share: float) -> None:
    """Let this process have `share` of a GPU's memory; a CUDA context's few hundred MiB come on top."""
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, device)


def memory_room(device: torch.device, share: float) -> float:
    """Return the bytes that a model on `device`, loaded already, may use beside its weights.

    On a GPU: min(free, total x share) - weights, where `free` is what other processes leave: the
    driver's free memory and what this process has reserved. On a CPU: its share of the machine's memory.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        left_by_others = free + torch.cuda.memory_reserved(device)
        return float(min(left_by_others, total * share) - torch.cuda.memory_allocated(device))
    return float(psutil.virtual_memory().total) * share


def device_name(device: torch.device) -> str:
    """Return what the device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def choose_precision(asked: Literal["auto", "bf16", "fp32"], device: torch.device) -> Precision:
    """Return the precision of activations: what was asked, and for "auto" bf16 where hardware has it."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if capable else "fp32"
