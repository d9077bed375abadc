"""Where a run computes: device and precision through accelerate, and what to do when memory runs out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

T = TypeVar("T")
SMALLEST_BUDGET = 128  # padded tokens; below this a smaller microbatch saves nothing worth having
TRAINING_TOKENS = {"cpu": 1024, "cuda": 16384}  # padded tokens of one microbatch, by device type
EVALUATION_TOKENS = {"cpu": 2048, "cuda": 65536}


@dataclass
class Compute:
    """A device with its precision and the microbatch sizes (padded tokens) that fit on it so far."""

    accelerator: Accelerator
    training_tokens: int
    evaluation_tokens: int

    @property
    def device(self) -> torch.device:
        device: torch.device = self.accelerator.device
        return device

    def describe(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{name}, {self.accelerator.mixed_precision}"

    def train_within_memory(self, work: Callable[[int], T]) -> T:
        """Return `work(token_budget)`, halving the budget and starting over when memory runs out."""
        while True:
            try:
                return work(self.training_tokens)
            except (RuntimeError, MemoryError) as error:
                self.training_tokens = _smaller(self.training_tokens, error)

    def evaluate_within_memory(self, work: Callable[[int], T]) -> T:
        """Like `train_within_memory`, with the budget of evaluation."""
        while True:
            try:
                return work(self.evaluation_tokens)
            except (RuntimeError, MemoryError) as error:
                self.evaluation_tokens = _smaller(self.evaluation_tokens, error)


def open_compute(dtype: str, *, use_gpu: bool) -> Compute:
    """Open the first visible GPU where the worker was given one, else the CPU.

    A logical GPU without CUDA behind it computes on the CPU; `describe` says so in every result.
    `dtype` "bf16" computes in bf16 over fp32 adapters.
    """
    precision: Literal["bf16", "no"] = "bf16" if dtype == "bf16" else "no"
    accelerator = Accelerator(cpu=not (use_gpu and torch.cuda.is_available()), mixed_precision=precision)
    kind = accelerator.device.type
    return Compute(accelerator, TRAINING_TOKENS[kind], EVALUATION_TOKENS[kind])


def _smaller(budget: int, error: RuntimeError | MemoryError) -> int:
    """Return half the budget, or raise `error` where it is not about memory or nothing is left to halve."""
    if (
        not (isinstance(error, MemoryError) or should_reduce_batch_size(error))
        or budget // 2 < SMALLEST_BUDGET
    ):
        raise error
    clear_device_cache(garbage_collection=True)
    return budget // 2
