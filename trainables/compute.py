"""Where a run computes: device and precision, and how many tokens fit on it at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from trainables.interruption import Pulse
from trainables.settings import Precision
from trainables.tuning import Work

T = TypeVar("T")
SMALLEST_BUDGET = 128  # tokens; below this a smaller microbatch saves nothing worth having


@dataclass
class Compute:
    """A device with its precision, and the tokens of a microbatch that fit on it so far.

    `pulse` is called after every microbatch, and may raise to end the work there.
    """

    device: torch.device
    precision: Precision
    tokens: dict[Work, int] = field(default_factory=dict)
    pulse: Pulse = lambda: None

    def describe(self) -> str:
        """Return the device and precision in words, as results name them."""
        return f"{device_name(self.device)}, {self.precision}"

    def within_memory(self, work: Work, compute: Callable[[int], T]) -> T:
        """Return `compute(token_budget)`, halving the budget and starting over when memory runs out."""
        while True:
            try:
                return compute(self.tokens[work])
            except (RuntimeError, MemoryError) as error:
                self.tokens[work] = _smaller(self.tokens[work], error)


class DeviceError(ValueError):
    """A device that was asked for and is not there."""


def open_device(*, use_gpu: bool) -> torch.device:
    """Return the first visible GPU where `use_gpu`, else the CPU. Raises DeviceError where there is no GPU."""
    if use_gpu and not torch.cuda.is_available():
        raise DeviceError(f"a GPU was asked for, and torch {torch.__version__} has none that it can use here")
    device: torch.device = Accelerator(cpu=not use_gpu).device
    return device


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


class OutOfMemoryError(RuntimeError):
    """Not even the smallest microbatch fits; the message says what would help."""


def _smaller(budget: int, error: RuntimeError | MemoryError) -> int:
    """Return half the budget. Raises `error` where it is not about memory, OutOfMemoryError if none is left."""
    if not (isinstance(error, (MemoryError, torch.OutOfMemoryError)) or should_reduce_batch_size(error)):
        raise error
    if budget // 2 < SMALLEST_BUDGET:
        raise OutOfMemoryError(
            f"out of memory with microbatches of {budget} tokens, the smallest there are: give a trial more memory "
            "(fewer trials a machine: raise resources.cpus or resources.gpus), train fewer cells together "
            "(resources.cells_per_worker), or lower max_length"
        ) from error
    clear_device_cache(garbage_collection=True)
    return budget // 2
