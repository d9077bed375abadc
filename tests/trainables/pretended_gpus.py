"""GPUs that are not there: what torch.cuda would say of each, so that choices made for them can be tested."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from benchmarks.stand_ins import flash_on

GIB = 2**30
CUDA = torch.device("cuda", 0)


@dataclass(frozen=True)
class Card:
    """An NVIDIA GPU as torch sees it."""

    name: str
    capability: tuple[int, int]
    memory: int  # bytes

    @property
    def has_bf16(self) -> bool:
        return self.capability >= (8, 0)


T4 = Card("Tesla T4", (7, 5), 15 * GIB)
A100 = Card("NVIDIA A100-SXM4-40GB", (8, 0), 40 * GIB)
H100 = Card("NVIDIA H100 80GB HBM3", (9, 0), 80 * GIB)
CARDS = (T4, A100, H100)


@dataclass
class Pretended:
    """A card and who holds its memory: this process (`reserved`, of which `allocated` is in use), and
    others.
    """

    card: Card
    allocated: int = 0
    reserved: int = 0
    others: int = 0
    limits: list[float] = field(default_factory=list)  # parts of the card that this process was limited to

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return self.card.memory - self.others - self.reserved, self.card.memory


@contextmanager
def pretend(monkeypatch: pytest.MonkeyPatch, card: Card) -> Iterator[Pretended]:
    """Let torch.cuda report one such card, and torch have FlashAttention's kernels for it."""
    here = Pretended(card)
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda device=None: card.name,
        "get_device_capability": lambda device=None: card.capability,
        "is_bf16_supported": lambda including_emulation=True: including_emulation or card.has_bf16,
        "mem_get_info": here.mem_get_info,
        "memory_reserved": lambda device=None: here.reserved,
        "memory_allocated": lambda device=None: here.allocated,
        "set_per_process_memory_fraction": lambda fraction, device=None: here.limits.append(fraction),
    }
    with monkeypatch.context() as patched, ExitStack() as kernels:
        if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_flash_attention_forward", "CUDA"):
            kernels.enter_context(flash_on("CUDA"))  # a torch built for CUDA has its own
        for name, answer in answers.items():
            patched.setattr(torch.cuda, name, answer)
        yield here


@contextmanager
def pretend_no_driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch.cuda be what it is where the driver is missing or too old."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("Found no NVIDIA driver on your system.")

    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: False)
        patched.setattr(torch.cuda, "device_count", lambda: 0)
        for name in ("get_device_name", "get_device_capability", "mem_get_info"):
            patched.setattr(torch.cuda, name, refuse)
        yield
