"""RMS norm and gated MLP with fewer passes over memory, and nothing kept that is cheap to compute again.

Each takes a module's place only after it gave the same numbers on a trial input.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

TRIAL_TOKENS = 8


class _RootMeanSquareNorm(torch.autograd.Function):
    """weight * x / sqrt(mean(x^2) + eps) over the last axis (Zhang & Sennrich 2019), in fp32."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        normalised: torch.Tensor = (x * inverse).to(x.dtype)
        return normalised.mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        normalised = x * inverse
        scaled = gradient * weight.float()
        along = (scaled * normalised).mean(-1, keepdim=True)
        return normalised.mul_(-along).add_(scaled).mul_(inverse).to(x.dtype), None, None


class _GatedUnit(torch.autograd.Function):
    """silu(gate) * up (Shazeer 2020); keeps its two inputs alone."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        grad_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return grad_gate, functional.silu(gate).mul_(gradient)


class LeanNorm(torch.nn.Module):
    """Stands in for a model's RMS norm."""

    def __init__(self, weight: torch.nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cuda":
            return functional.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)
        normed: torch.Tensor = _RootMeanSquareNorm.apply(x, self.weight, self.epsilon)  # type: ignore[no-untyped-call]
        return normed


class LeanGatedMLP(torch.nn.Module):
    """Stands in for a model's gated MLP; its projections may be adapted layers."""

    def __init__(self, original: torch.nn.Module) -> None:
        super().__init__()
        for name in ("gate_proj", "up_proj", "down_proj"):
            self.add_module(name, original.get_submodule(name))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up, down = self.children()
        unit = _GatedUnit.apply(gate(x), up(x))  # type: ignore[no-untyped-call]
        result: torch.Tensor = down(unit)
        return result


def slim(base: PreTrainedModel) -> int:
    """Put lean layers into `base` wherever they reproduce what is there; return how many.

    A norm or MLP of another kind (an offset weight, another activation) stays as it is.
    """
    replaced = 0
    for name, module in list(base.named_modules()):
        stand_in = _stand_in(module)
        if stand_in is not None and _agree(module, stand_in[0], width=stand_in[1]):
            parent, _, leaf = name.rpartition(".")
            setattr(base.get_submodule(parent), leaf, stand_in[0])
            replaced += 1
    return replaced


def _stand_in(module: torch.nn.Module) -> tuple[torch.nn.Module, int] | None:
    """Return the lean layer for `module` and the width of its input, None where there is none."""
    epsilon = getattr(module, "variance_epsilon", None)
    weight = getattr(module, "weight", None)
    if type(module).__name__.endswith("RMSNorm") and isinstance(epsilon, float) and weight is not None:
        return LeanNorm(weight, epsilon), len(weight)
    projections = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if type(module).__name__.endswith("MLP") and all(isinstance(p, torch.nn.Linear) for p in projections):
        return LeanGatedMLP(module), projections[0].in_features  # type: ignore[union-attr]
    return None


def _agree(original: torch.nn.Module, lean: torch.nn.Module, *, width: int) -> bool:
    weight = next(original.parameters())
    trial = torch.randn(1, TRIAL_TOKENS, width, generator=torch.Generator().manual_seed(0))
    trial = trial.to(weight.device, weight.dtype)
    tolerance = 1e-5 if weight.dtype == torch.float32 else 2e-2
    with torch.inference_mode():
        expected, found = original(trial), lean(trial)
    return bool((expected - found).norm() <= tolerance * expected.norm())
