"""RMS norm, gated MLP and rotary attention with fewer passes over memory, and nothing kept that is cheap
to compute again.

Each takes a module's place only after it gave the same numbers on a trial input.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    eager_attention_forward,
)

from trainables.model.packing import Tail

TRIAL_TOKENS = 8
MLP_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
ATTENTION_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


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


class _Rotation(torch.autograd.Function):
    """Rotary position embedding (Su et al. 2021), the two halves of a head paired as in Llama.

    heads (n, H, D), cos and sin (n, D). Swapping halves is a product with a signed permutation: exact,
    and faster than copying strided halves.
    """

    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        cos, sin = cos[:, None], sin[:, None]
        turned = (heads.flatten(0, 1) @ _half_turn(heads)).view_as(heads)
        return torch.addcmul(heads * cos, turned, sin)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = (angle[:, None] for angle in ctx.saved_tensors)
        turned_back = (gradient * sin).flatten(0, 1) @ _half_turn(gradient).T
        return torch.addcmul(turned_back.view_as(gradient), gradient, cos), None, None


_half_turns: dict[tuple[int, torch.dtype, torch.device], torch.Tensor] = {}


def _half_turn(heads: torch.Tensor) -> torch.Tensor:
    """Return the matrix (D, D) that takes (a, b) to (-b, a), each half of a head."""
    key = (heads.shape[-1], heads.dtype, heads.device)
    if key not in _half_turns:
        with torch.inference_mode(False):  # kept for training, whoever asks first
            half = torch.eye(heads.shape[-1] // 2)
            none = torch.zeros_like(half)
            turn = torch.cat((torch.cat((none, half), 1), torch.cat((-half, none), 1)))
            _half_turns[key] = turn.to(heads.device, heads.dtype)
    return _half_turns[key]


class LeanAttention(torch.nn.Module):
    """Stands in for Llama's self-attention without a cache; calls the model's attention function."""

    def __init__(self, original: LlamaAttention) -> None:
        super().__init__()
        for name in ATTENTION_PROJECTIONS:
            self.add_module(name, original.get_submodule(name))
        self.config, self.head_dim, self.scaling = original.config, original.head_dim, original.scaling
        self.num_key_value_groups, self.layer_idx = original.num_key_value_groups, original.layer_idx
        self.is_causal = True

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: None = None,
        tail: Tail | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        runs, length, _ = hidden_states.shape
        cos, sin = (angle.expand(runs, -1, -1).flatten(0, 1) for angle in position_embeddings)
        of_query, of_key, of_value, output = self.children()
        asking, own_cos, own_sin = hidden_states, cos, sin
        if tail is not None:  # of one run
            asking, own_cos, own_sin = hidden_states[:, tail.flat], cos[tail.flat], sin[tail.flat]
            length, options = len(tail.flat), options | {"query_bounds": tail.bounds}
        query, key, value = (
            projection(states).unflatten(-1, (-1, self.head_dim)).flatten(0, 1)
            for projection, states in ((of_query, asking), (of_key, hidden_states), (of_value, hidden_states))
        )
        query = _Rotation.apply(query, own_cos, own_sin)  # type: ignore[no-untyped-call]
        key = _Rotation.apply(key, cos, sin)  # type: ignore[no-untyped-call]
        heads = (one.unflatten(0, (runs, -1)).transpose(1, 2) for one in (query, key, value))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        mixed, _ = attend(self, *heads, attention_mask, scaling=self.scaling, **options)
        result: torch.Tensor = output(mixed.reshape(runs, length, -1))
        return result, None


class LeanNorm(torch.nn.Module):
    """Stands in for a model's RMS norm."""

    def __init__(self, weight: torch.nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu":
            return functional.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)
        normed: torch.Tensor = _RootMeanSquareNorm.apply(x, self.weight, self.epsilon)  # type: ignore[no-untyped-call]
        return normed


class LeanGatedMLP(torch.nn.Module):
    """Stands in for a model's gated MLP; its projections may be adapted layers."""

    def __init__(self, original: torch.nn.Module) -> None:
        super().__init__()
        for name in MLP_PROJECTIONS:
            self.add_module(name, original.get_submodule(name))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up, down = self.children()
        unit = _GatedUnit.apply(gate(x), up(x))  # type: ignore[no-untyped-call]
        result: torch.Tensor = down(unit)
        return result


class LeanLastLayer(GradientCheckpointingLayer):  # type: ignore[no-untyped-call]
    """Stands in for the last of Llama's layers: asked for a tail, it returns the states of that alone.

    Keys and values are those of all tokens; queries, the output projection and the MLP those of the tail.
    """

    def __init__(self, original: torch.nn.Module) -> None:
        super().__init__()
        for name, child in original.named_children():
            self.add_module(name, child)

    def forward(
        self, hidden_states: torch.Tensor, *, last_tail: Tail | None = None, **options: Any
    ) -> torch.Tensor:
        normalised = self.get_submodule("input_layernorm")(hidden_states)
        mixed, _ = self.get_submodule("self_attn")(hidden_states=normalised, tail=last_tail, **options)
        states = mixed + (hidden_states if last_tail is None else hidden_states[:, last_tail.flat])
        result: torch.Tensor = states + self.get_submodule("mlp")(
            self.get_submodule("post_attention_layernorm")(states)
        )
        return result


def tail_modules(base: PreTrainedModel) -> set[str] | None:
    """Return the names of what the last layer computes for a tail alone; None where it takes none."""
    for name, module in base.named_modules():
        if isinstance(module, LeanLastLayer):
            inner = {f"{name}.{each}" for each, _ in module.named_modules() if each}
            return {each for each in inner if each.rpartition(".")[2] not in ("k_proj", "v_proj")}
    return None


def slim(base: PreTrainedModel) -> int:
    """Put lean layers into `base` wherever they reproduce what is there; return how many.

    A norm, MLP or attention of another kind (an offset weight, another activation, normed queries) stays
    as it is.
    """
    replaced = 0
    for name, module in list(base.named_modules()):
        stand_in = _stand_in(module)
        if stand_in is not None and _agree(module, stand_in):
            parent, _, leaf = name.rpartition(".")
            setattr(base.get_submodule(parent), leaf, stand_in)
            replaced += 1
    return replaced + _slim_last(base)


def _slim_last(base: PreTrainedModel) -> int:
    """Put a lean last layer in where all in it is lean already; return how many."""
    last = f".{base.config.num_hidden_layers - 1}"
    for name, layer in list(base.named_modules()):
        is_last = type(layer) is LlamaDecoderLayer and name.endswith(last)
        if is_last and isinstance(layer.self_attn, LeanAttention):
            parent, _, leaf = name.rpartition(".")
            setattr(base.get_submodule(parent), leaf, LeanLastLayer(layer))
            return 1
    return 0


def _stand_in(module: torch.nn.Module) -> torch.nn.Module | None:
    """Return the lean layer for `module`, None where there is none."""
    kind = type(module).__name__
    epsilon, weight = getattr(module, "variance_epsilon", None), getattr(module, "weight", None)
    if kind.endswith("RMSNorm") and isinstance(epsilon, float) and isinstance(weight, torch.nn.Parameter):
        return LeanNorm(weight, epsilon)
    if kind.endswith("MLP") and _has_linear(module, MLP_PROJECTIONS):
        return LeanGatedMLP(module)
    if type(module) is LlamaAttention:  # others add windows, caps or norms that a trial need not show
        return LeanAttention(module)
    return None


def _has_linear(module: torch.nn.Module, names: tuple[str, ...]) -> bool:
    return all(isinstance(getattr(module, name, None), torch.nn.Linear) for name in names)


def _agree(original: torch.nn.Module, lean: torch.nn.Module) -> bool:
    """Say whether both give the same numbers on a trial input, rounding aside."""
    weight = next(original.parameters())
    trial, options = _trial(lean, weight)
    tolerance = 1e-5 if weight.dtype == torch.float32 else 2e-2
    with torch.inference_mode():
        expected, found = original(trial, **options), lean(trial, **options)
    if isinstance(found, tuple):
        expected, found = expected[0], found[0]
    return bool((expected - found).norm() <= tolerance * expected.norm())


def _trial(lean: torch.nn.Module, weight: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(weight.device, weight.dtype)

    options: dict[str, Any] = {}
    if isinstance(lean, LeanAttention):
        angles = draw(1, TRIAL_TOKENS, lean.head_dim // 2).repeat(1, 1, 2)
        options = {"position_embeddings": (angles.cos(), angles.sin()), "attention_mask": None}
        bounds = torch.tensor([0, TRIAL_TOKENS], dtype=torch.int32, device=weight.device)
        options |= {"cu_seq_lens_q": bounds, "max_length_q": TRIAL_TOKENS}  # for packed attention
    return draw(1, TRIAL_TOKENS, weight.shape[-1]), options
