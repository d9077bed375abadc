"""LoRA over a frozen model, for one adapter or for several that train side by side.

The frozen layers run once over all adapters' tokens; only the low-rank products are per adapter.
Hidden states are (K, T, width): row k holds the tokens of adapter k.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from trainables.model.attention import attends_from_tails
from trainables.model.dropout import DropoutStream, MaskTable
from trainables.model.four_bit import FourBitLinear, dense
from trainables.model.fused_layers import tail_modules
from trainables.model.lora_files import AdapterError, AdapterWeights
from trainables.model.packing import Tail
from trainables.settings import LoraSettings

Linear = torch.nn.Linear | FourBitLinear


class _AdaptedProduct(torch.autograd.Function):
    """x W^T + bias + scale (mask * x) A^T B^T (Hu et al. 2021, eq. 3), for K adapters at once.

    x (K, T, in), A (K, r, in), B (K, out, r); `scale` is LoRA's, over the kept share under dropout.
    Keeps x and the (K, T, r) product alone for the backward pass; W, which may be packed, gets no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        weight_scales: torch.Tensor | None,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
        table: torch.Tensor | None,
        rows: torch.Tensor | None,
    ) -> torch.Tensor:
        a, b = a.to(x.dtype), b.to(x.dtype) * scale
        mask = _mask(x, table, rows)
        low = torch.bmm(x if mask is None else x * mask, a.transpose(1, 2))
        ctx.save_for_backward(x, weight, weight_scales, a, b, low, table, rows)
        ctx.scale = scale
        frozen = dense(weight, weight_scales, shape=(b.shape[1], x.shape[-1]), dtype=x.dtype)
        return functional.linear(x, frozen, bias).baddbmm_(low, b.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, weight_scales, a, b, low, table, rows = ctx.saved_tensors
        gradient = gradient.contiguous()
        mask = _mask(x, table, rows)
        low_gradient = torch.bmm(gradient, b)
        gradient_a = torch.bmm(low_gradient.transpose(1, 2), x if mask is None else x * mask)
        gradient_b = torch.bmm(gradient.transpose(1, 2), low)
        gradient_x = None
        if ctx.needs_input_grad[0]:
            frozen = dense(weight, weight_scales, shape=(b.shape[1], x.shape[-1]), dtype=x.dtype)
            gradient_x = gradient @ frozen
            if mask is None:
                gradient_x.baddbmm_(low_gradient, a)
            else:
                gradient_x.addcmul_(torch.bmm(low_gradient, a), mask)
        factors = gradient_a.float(), gradient_b.float() * ctx.scale
        return gradient_x, None, None, None, *factors, None, None, None


def _mask(x: torch.Tensor, table: torch.Tensor | None, rows: torch.Tensor | None) -> torch.Tensor | None:
    """Return the dropout mask of every number in x, None where nothing is dropped."""
    if table is None or rows is None:
        return None
    return table.index_select(0, rows).view_as(x)


class AdaptedLinear(torch.nn.Module):
    """A frozen linear layer with a low-rank update per adapter; `a` and `b` are views of the stack.

    `weight` is packed where it has `weight_scales`.
    """

    weight: torch.Tensor
    weight_scales: torch.Tensor | None
    a: torch.Tensor
    b: torch.Tensor

    def __init__(self, base: Linear, lora: LoraSettings) -> None:
        super().__init__()
        if isinstance(base, FourBitLinear):
            self.register_buffer("weight", base.packed)
            self.register_buffer("weight_scales", base.scales)
            self.dtype = base.dtype
        else:
            self.weight, self.weight_scales, self.dtype = base.weight, None, base.weight.dtype
        self.bias = base.bias
        self.in_features, self.out_features = base.in_features, base.out_features
        self.rank, self.scale, self.dropout = lora.r, lora.scale, lora.dropout
        self.mask_table: torch.Tensor | None = None
        self.mask_rows: torch.Tensor | None = None  # (K * T,), of the microbatch at work

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        table = None if self.mask_rows is None else self.mask_table
        scale = self.scale if table is None else self.scale / (1 - self.dropout)
        product: torch.Tensor = _AdaptedProduct.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.weight_scales, self.bias, self.a, self.b, scale, table, self.mask_rows
        )
        return product

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers in A and in B."""
        return self.rank * self.in_features, self.rank * self.out_features


@dataclass(frozen=True, eq=False)
class AdapterStack:
    """K adapters as flat fp32 arrays: `weights` and `gradients` are (K, P), row k is adapter k."""

    weights: torch.Tensor
    gradients: torch.Tensor

    def __len__(self) -> int:
        return len(self.weights)


class LoraModel:
    """A frozen base model with an AdaptedLinear in place of every target projection.

    `adapters` names them in the order their numbers lie in a stack's row.
    """

    def __init__(self, base: PreTrainedModel, lora: LoraSettings) -> None:
        """Put the adapted layers in. Raises AdapterError as `adapter_shapes` does."""
        self.shapes = adapter_shapes(base, lora)
        self.base, self.lora = base.requires_grad_(False), lora
        base.eval()  # type: ignore[no-untyped-call]
        self.adapters: dict[str, AdaptedLinear] = {}
        for name, module in _targets(base, lora).items():
            parent, _, leaf = name.rpartition(".")
            self.adapters[name] = AdaptedLinear(module, lora)
            setattr(base.get_submodule(parent), leaf, self.adapters[name])
        self.size = sum(sum(adapter.sizes) for adapter in self.adapters.values())
        self._set_mask_tables()
        self._of_tail = tail_modules(base)
        self._stack: AdapterStack | None = None
        self.install(self.new_stack(1))

    @property
    def device(self) -> torch.device:
        return next(iter(self.adapters.values())).weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What activations are computed in; adapters are fp32 always."""
        return next(iter(self.adapters.values())).dtype

    def _set_mask_tables(self) -> None:
        if self.lora.dropout == 0:
            return
        tables = MaskTable(self.lora.dropout, dtype=self.dtype, device=self.device)
        for adapter in self.adapters.values():
            adapter.mask_table = tables.of_width(adapter.in_features)

    def new_stack(self, cells: int) -> AdapterStack:
        """Return a stack of `cells` adapters that are zero, so the model computes what it did before."""
        weights, gradients = (torch.zeros(cells, self.size, device=self.device) for _ in range(2))
        return AdapterStack(weights, gradients)

    def install(self, stack: AdapterStack) -> None:
        """Compute with the adapters of `stack` from now on, and accumulate their gradients into it."""
        if stack is self._stack:
            return
        self._stack = stack
        position = 0
        for adapter in self.adapters.values():
            size_a, size_b = adapter.sizes
            adapter.a = _leaf(stack, position, (adapter.rank, adapter.in_features))
            adapter.b = _leaf(stack, position + size_a, (adapter.out_features, adapter.rank))
            position += size_a + size_b

    def dropout_stream(self, seed: int) -> DropoutStream | None:
        """Return a cell's choice of masks for the adapted layers, None where nothing is dropped."""
        return DropoutStream(seed, len(self.adapters)) if self.lora.dropout > 0 else None

    @property
    def takes_tails(self) -> bool:
        """Whether the last layer can be asked for the tail of a microbatch alone."""
        return self._of_tail is not None and attends_from_tails(self.base)

    def set_mask_rows(self, rows: torch.Tensor | None, *, tail: Tail | None = None) -> None:
        """Choose each token's dropout masks: (adapters, K * T) rows of the mask table, or no dropout.

        With a `tail`, adapters of the last layer that compute that alone get its rows.
        """
        for number, (name, adapter) in enumerate(self.adapters.items()):
            adapter.mask_rows = None if rows is None else rows[number]
            if adapter.mask_rows is not None and tail is not None and name in (self._of_tail or ()):
                adapter.mask_rows = adapter.mask_rows[tail.flat]

    def export_weights(self, flat: torch.Tensor) -> AdapterWeights:
        """Return a copy of one adapter, a row (P,) of a stack, named as PEFT names it in files."""
        numbers = flat.detach().float().cpu().numpy()
        weights, position = {}, 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            weights[name] = numbers[position : position + size].reshape(shape).copy()
            position += size
        return weights

    def import_weights(self, weights: AdapterWeights) -> torch.Tensor:
        """Return an adapter as the row (P,) of a stack, on the model's device."""
        parts = [np.ravel(weights[name]) for name in self.shapes]
        return torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(self.device)

    def fresh_weights(self, *, seed: int) -> torch.Tensor:
        """Return a new adapter (P,): A Kaiming-uniform as PEFT draws it, B zero."""
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for adapter in self.adapters.values():
            a = torch.empty(adapter.rank, adapter.in_features)
            torch.nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
            parts += [a.ravel(), torch.zeros(adapter.sizes[1])]
        return torch.cat(parts).to(self.device)


def accumulate_gradients(objective: torch.Tensor) -> None:
    """Add the objective's gradient to that of the installed stack."""
    with warnings.catch_warnings():
        # A stack keeps each adapter together, so a layer's part of several adapters is strided; meant so.
        warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")
        objective.backward()  # type: ignore[no-untyped-call]


def _leaf(stack: AdapterStack, start: int, shape: tuple[int, int]) -> torch.Tensor:
    """Return a layer's part of every adapter: (K, *shape), whose gradient is the stack's memory."""
    span = slice(start, start + math.prod(shape))
    leaf = stack.weights[:, span].view(len(stack), *shape).requires_grad_()
    leaf.grad = stack.gradients[:, span].view(len(stack), *shape)
    return leaf


def peft_name(module: str, factor: str) -> str:
    """Return the name of a LoRA factor ("A" or "B") in PEFT's adapter files."""
    return f"base_model.model.{module}.lora_{factor}.weight"


def adapter_shapes(base: PreTrainedModel, lora: LoraSettings) -> dict[str, tuple[int, int]]:
    """Return the shape of every adapter weight by PEFT's name, in a stack's order.

    Raises AdapterError if a target module is not in the model, which may be on the meta device.
    """
    shapes = {}
    for name, module in _targets(base, lora).items():
        shapes[peft_name(name, "A")] = (lora.r, module.in_features)
        shapes[peft_name(name, "B")] = (module.out_features, lora.r)
    return shapes


def _targets(base: PreTrainedModel, lora: LoraSettings) -> dict[str, Linear]:
    modules = {name: module for name, module in base.named_modules() if not list(module.children())}
    head = base.get_output_embeddings()  # type: ignore[no-untyped-call]
    linear = {
        name: module for name, module in modules.items() if isinstance(module, Linear) and module is not head
    }
    if lora.all_linear:
        if not linear:
            raise AdapterError("model.lora.target_modules: the model has no linear layers to adapt")
        return linear
    chosen = {name: each for name, each in modules.items() if name.rpartition(".")[2] in lora.target_modules}
    _refuse_absent(chosen, linear, lora=lora)
    for name, module in chosen.items():
        if module is head:
            raise AdapterError(
                f"model.lora.target_modules: {name} is the output layer, which the loss computes with as it "
                "is; leave it out"
            )
        if not isinstance(module, Linear):
            raise AdapterError(
                f"model.lora.target_modules: {name} is a {type(module).__name__}; only torch.nn.Linear "
                "layers can be adapted"
            )
    return {name: module for name, module in chosen.items() if isinstance(module, Linear)}


def _refuse_absent(
    chosen: dict[str, torch.nn.Module], linear: dict[str, Linear], *, lora: LoraSettings
) -> None:
    """Raise AdapterError for a target that is the name of no layer."""
    known = {name.rpartition(".")[2] for name in chosen}
    absent = [target for target in lora.target_modules if target not in known]
    if absent:
        names = sorted({name.rpartition(".")[2] for name in linear})
        raise AdapterError(
            f"model.lora.target_modules: {', '.join(absent)} not in the model; its linear modules are "
            f"{', '.join(names) or 'none: its layers are of a kind that cannot be adapted'}"
        )
