"""What a check finds, how far two results are apart, and the scene that checks are played in."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from trainables.settings import Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Finding:
    """The largest error of one comparison; `note` says why there is none where it could not be made."""

    name: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return math.isfinite(self.error) and self.error <= self.tolerance

    def describe(self) -> str:
        verdict = "ok" if self.ok else "FAILED"
        return (
            f"{verdict:7}{self.name}: max error {self.error:.2g}, tolerance {self.tolerance:.2g} {self.note}"
        ).rstrip()

    def record(self) -> dict[str, Any]:
        """Return JSON, which knows no infinities."""
        error = self.error if math.isfinite(self.error) else None
        return {
            "name": self.name,
            "error": error,
            "tolerance": self.tolerance,
            "ok": self.ok,
            "note": self.note,
        }


@dataclass(frozen=True)
class Scene:
    """A device, and the small model that is checked on it: `sizes` are LlamaConfig's."""

    device: torch.device
    sizes: dict[str, Any]

    @property
    def head_width(self) -> int:
        width: int = self.sizes["hidden_size"] // self.sizes["num_attention_heads"]
        return width

    def draw(self, *shape: int, dtype: torch.dtype, seed: int, scale: float = 1.0) -> torch.Tensor:
        """Return normal numbers, drawn on the CPU so that every device has the same."""
        drawn = scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
        return drawn.to(self.device, dtype)


Check = Callable[[Scene], Iterator[Finding]]

_SHARED: dict[str, Any] = {"num_key_value_heads": 2, "tie_word_embeddings": True}
SCENES: dict[str, dict[str, Any]] = {
    "cpu": _SHARED
    | {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 300,
        "initializer_range": 0.125,  # one over the root of the width: scores and logits near one
    },
    "cuda": _SHARED
    | {
        "hidden_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "intermediate_size": 1408,
        "vocab_size": 4096,
        "initializer_range": 0.044,
    },
}


def scene_on(device: torch.device) -> Scene:
    """Return the scene for a kind of device."""
    return Scene(device, SCENES[device.type])


def elementwise(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference over the number's own size plus the root mean square of them all.

    A single number of another example's shows, and where a few numbers are large they do not hide it.
    """
    found, expected = found.detach().float(), expected.detach().float()
    typical = expected.square().mean().sqrt()
    return float(((found - expected).abs() / (expected.abs() + typical)).max())


def normwise(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the norm of the difference over the norm of what is expected."""
    found, expected = found.detach().float(), expected.detach().float()
    return float((found - expected).norm() / expected.norm())
