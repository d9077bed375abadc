"""Frozen linear layers in 4 bits: NF4 in blocks of 64 (Dettmers et al. 2023), packed by bitsandbytes.

A layer is unpacked where it is computed, forward and backward, in the precision of the activations; nothing
of that is kept. bitsandbytes is imported where layers are packed, and its operators are there from then on.
"""

from typing import Any, Literal

import torch
from torch.nn import functional
from transformers import PreTrainedModel

BLOCK = 64  # weights that share a scale
KIND: Literal["nf4"] = "nf4"


def dense(
    stored: torch.Tensor, scales: torch.Tensor | None, *, shape: tuple[int, int], dtype: torch.dtype
) -> torch.Tensor:
    """Return a weight (out, in) as it is computed with: `stored` itself where it has no `scales`."""
    if scales is None:
        return stored
    # As rows of whole blocks: bitsandbytes 0.50 unpacks rows that no block ends with wrongly on AVX-512.
    size = shape[0] * shape[1]
    rows = (size // BLOCK, BLOCK) if size % BLOCK == 0 else (1, size)
    unpacked: torch.Tensor = torch.ops.bitsandbytes.dequantize_4bit(stored, scales, BLOCK, KIND, rows, dtype)
    return unpacked.view(shape)


class _FrozenProduct(torch.autograd.Function):
    """x W^T + bias with W packed: (..., in) -> (..., out); keeps no unpacked weight."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        packed: torch.Tensor,
        scales: torch.Tensor,
        bias: torch.Tensor | None,
        out_features: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(packed, scales)
        ctx.shape = (out_features, x.shape[-1])
        return functional.linear(x, dense(packed, scales, shape=ctx.shape, dtype=x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        packed, scales = ctx.saved_tensors
        weight = dense(packed, scales, shape=ctx.shape, dtype=gradient.dtype)
        return gradient @ weight, None, None, None, None


class FourBitLinear(torch.nn.Module):
    """Stands in for a frozen linear layer; `packed` and `scales` lie on the device that it was packed on."""

    packed: torch.Tensor
    scales: torch.Tensor

    def __init__(self, original: torch.nn.Linear, *, device: torch.device) -> None:
        super().__init__()
        self.in_features, self.out_features = original.in_features, original.out_features
        weight = original.weight.detach().to(device)
        packed, scales = torch.ops.bitsandbytes.quantize_4bit(weight, BLOCK, KIND, torch.uint8)
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)
        self.bias, self.dtype = original.bias, weight.dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = _FrozenProduct.apply(  # type: ignore[no-untyped-call]
            x, self.packed, self.scales, self.bias, self.out_features
        )
        return product


def pack_layers(base: PreTrainedModel, *, device: torch.device) -> int:
    """Pack every linear layer but the output layer, one at a time on `device`; return how many."""
    import bitsandbytes  # noqa: F401  registers its operators

    head = base.get_output_embeddings()  # type: ignore[no-untyped-call]
    layers = {
        name: module
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    for name, layer in layers.items():
        parent, _, leaf = name.rpartition(".")
        setattr(base.get_submodule(parent), leaf, FourBitLinear(layer, device=device))
    return len(layers)
