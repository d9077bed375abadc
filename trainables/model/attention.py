"""Causal attention over packed examples: each token attends to its own example's earlier tokens.

Registered with transformers under the names in ATTENTIONS; the model is handed (1 or K, T) tokens
without padding and the boundaries between examples.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from trainables.ledger.errors import UserError

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None  # type: ignore[assignment]
# The arguments of torch's variable-length attention, which differ from release to release.
VARLEN_TAKES = frozenset(inspect.signature(varlen_attn).parameters if varlen_attn is not None else ())
QUERY_BLOCK = 256  # queries of one block; its scores stay in a CPU core's cache


class AttentionError(UserError):
    """A model whose attention cannot be computed over packed examples."""


class _BlockwiseAttention(torch.autograd.Function):
    """softmax(scale q k^T + causal mask) v of one example, a block of queries at a time.

    q (H, Q, D), k and v (h, L, D) with h a divisor of H (grouped queries); the queries are those of the last
    Q <= L tokens. Keys after a block are never touched; the backward pass computes the probabilities again
    instead of keeping them.
    """

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        out = torch.empty_like(q)
        for block in _blocks(q, k, scale):
            mixed = torch.bmm(block.probabilities(), v[:, : block.end])
            block.part(out).copy_(mixed.view_as(block.part(out)))
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        grad_q = torch.empty_like(q)
        grad_k, grad_v = (torch.zeros_like(one, dtype=torch.float32) for one in (k, v))
        for block in _blocks(q, k, ctx.scale):
            mine = block.rows(block.part(gradient))
            weights = block.probabilities()
            grad_v[:, : block.end] += torch.bmm(weights.transpose(1, 2), mine)
            scores = torch._softmax_backward_data(
                torch.bmm(mine, v[:, : block.end].transpose(1, 2)), weights, -1, weights.dtype
            )
            from_keys = torch.bmm(scores, k[:, : block.end]).mul_(ctx.scale)
            block.part(grad_q).copy_(from_keys.view_as(block.part(grad_q)))
            grad_k[:, : block.end] += torch.bmm(scores.transpose(1, 2), block.queries)
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None


class _Block:
    """Queries of every head, from the token `start` on, against keys 0..end."""

    def __init__(self, q: torch.Tensor, k: torch.Tensor, scale: float, first: int) -> None:
        self.earlier = k.shape[1] - q.shape[1]  # tokens that have keys and no query
        self.start, self.end = self.earlier + first, self.earlier + min(first + QUERY_BLOCK, q.shape[1])
        self.shared_heads = len(k)
        self.keys = k[:, : self.end]
        self.queries = self.rows(self.part(q)) * scale

    def part(self, heads: torch.Tensor) -> torch.Tensor:
        """Return the block of (H, Q, D) as a view (h, H / h, block, D)."""
        span = heads[:, self.start - self.earlier : self.end - self.earlier]
        return span.view(self.shared_heads, -1, *span.shape[1:])

    def rows(self, part: torch.Tensor) -> torch.Tensor:
        """Lay the heads that share keys one after another: (h, H / h * block, D)."""
        return part.flatten(1, 2)

    def probabilities(self) -> torch.Tensor:
        """(h, H / h * block, end)."""
        scores = torch.bmm(self.queries, self.keys.transpose(1, 2))
        length = self.end - self.start
        on_diagonal = scores.view(self.shared_heads, -1, length, self.end)[..., self.start :]
        on_diagonal += _causal_mask(length, scores.dtype, scores.device)
        return torch.softmax(scores, -1)


def _blocks(q: torch.Tensor, k: torch.Tensor, scale: float) -> Iterator[_Block]:
    return (_Block(q, k, scale, start) for start in range(0, q.shape[1], QUERY_BLOCK))


@lru_cache(maxsize=QUERY_BLOCK * 2)
def _causal_mask(length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):  # kept for training, whoever asks first
        return torch.full((length, length), float("-inf"), dtype=dtype, device=device).triu(1)


def _one_by_one(
    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor],
) -> Callable[..., tuple[torch.Tensor, None]]:
    """Make an attention over packed examples of one over a single example."""

    def packed(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        scaling: float,
        cu_seq_lens_q: torch.Tensor | None = None,
        max_length_q: int = 0,
        query_bounds: torch.Tensor | None = None,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        bounds = check_options(cu_seq_lens_q, sliding_window, max_length_q, options)
        if key.shape[-1] != value.shape[-1]:
            raise AttentionError(
                f"the model's keys are {key.shape[-1]} wide and its values {value.shape[-1]}: packed "
                "attention takes heads of one width"
            )
        # Split, not sliced: the gradient of each slice alone would be as large as the whole.
        lengths = bounds.diff().tolist()
        queries = lengths if query_bounds is None else query_bounds.diff().tolist()
        split = (
            torch.split(_flatten_rows(heads), each, dim=1)
            for heads, each in ((query, queries), (key, lengths), (value, lengths))
        )
        parts = [attend(q, k, v, scaling) for q, k, v in zip(*split, strict=True)]
        out = (
            torch.cat(parts, dim=1).transpose(0, 1).contiguous()
        )  # (K * T, H, D); some models ask for a view
        return out.view(query.shape[0], query.shape[2], *out.shape[1:]), None

    return packed


def _flatten_rows(heads: torch.Tensor) -> torch.Tensor:
    """(K, H, T, D) as (H, K * T, D); a view where K is 1."""
    return heads.transpose(0, 1).flatten(1, 2)


def check_options(
    bounds: torch.Tensor | None, sliding_window: int | None, longest: int, options: dict[str, Any]
) -> torch.Tensor:
    """Return the bounds of the examples. Raises AttentionError for what changes numbers and is not computed
    here.
    """
    if bounds is None:
        raise AttentionError("the model does not tell its attention where packed examples end")
    unknown = [name for name in ("s_aux", "softcap") if options.get(name) is not None]
    if unknown:
        raise AttentionError(
            f"the model's attention needs {', '.join(unknown)}, which packed attention does not have"
        )
    if sliding_window is not None and sliding_window < longest:
        raise AttentionError(
            f"the model attends within a window of {sliding_window} tokens and an example has {longest}: "
            f"set max_length to at most {sliding_window}"
        )
    return bounds


def _blockwise(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    attended: torch.Tensor = _BlockwiseAttention.apply(q, k, v, scale)  # type: ignore[no-untyped-call]
    return attended


def _sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    return functional.scaled_dot_product_attention(
        q[None], k[None], v[None], is_causal=True, scale=scale, enable_gqa=True
    )[0]


def _varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """FlashAttention over all examples in one kernel (Dao 2023), on GPUs in bf16.

    Query heads share keys as they are where torch knows how (2.13). Where the kernel may be told not to split
    its keys, an example's output does not depend on what else is in the microbatch.
    """
    bounds = check_options(cu_seq_lens_q, sliding_window, max_length_q, options)
    q, k, v = (_flatten_rows(heads).transpose(0, 1) for heads in (query, key, value))  # (K * T, H, D)
    groups, longest = q.shape[1] // k.shape[1], max_length_q
    asked: dict[str, Any] = {"num_splits": 1} if "num_splits" in VARLEN_TAKES else {}
    if groups > 1 and "enable_gqa" in VARLEN_TAKES:
        asked["enable_gqa"] = True
    elif groups > 1:
        k, v = (heads.repeat_interleave(groups, dim=1) for heads in (k, v))
    out = varlen_attn(q, k, v, bounds, bounds, longest, longest, scale=scaling, window_size=(-1, 0), **asked)
    assert isinstance(out, torch.Tensor)
    return out.view(query.shape[0], query.shape[2], *out.shape[1:]), None


ATTENTIONS: dict[str, Callable[..., tuple[torch.Tensor, None]]] = {
    "eager": _one_by_one(_blockwise),
    "sdpa": _one_by_one(_sdpa),
    "flash": _varlen,
}
OF_ONE_SHAPE = {"flash"}  # whose operators do not change with the number of examples
OF_TAILS = {"eager"}  # which attend from the last tokens of an example alone where they are asked to
# What transformers knows them by: it reads a wish of its own into a name with "flash" or "sdpa" in it, and
# for "flash" asks for the flash-attn package.
REGISTERED = {name: f"packed_attention_{number}" for number, name in enumerate(ATTENTIONS)}
LARGEST_HEAD = 256  # of the variable-length kernel, whose heads are multiples of HEAD_STEP wide
HEAD_STEP = 8
LEAST_CAPABILITY = (8, 0)  # Ampere: the oldest NVIDIA architecture with that kernel


def use_packed_attention(base: PreTrainedModel, name: str) -> None:
    """Let `base` compute the attention `name` of ATTENTIONS. Raises AttentionError where it cannot."""
    if not getattr(base, "_supports_attention_backend", False):
        raise AttentionError(
            f"model.name: {type(base).__name__} cannot attend over packed examples in this release of "
            "transformers; a model whose attention goes through its AttentionInterface is needed"
        )
    AttentionInterface.register(REGISTERED[name], ATTENTIONS[name])
    base.set_attn_implementation(REGISTERED[name])


def keep_attention_out_of_graphs(base: PreTrainedModel) -> None:
    """Let compiled layers call an attention that goes from example to example as it is: its shapes differ
    with every microbatch. The variable-length kernel is an operator like any other.
    """
    registered: str = base.config._attn_implementation
    name = next(name for name, known in REGISTERED.items() if known == registered)
    if name not in OF_ONE_SHAPE:
        AttentionInterface.register(registered, torch.compiler.disable(ATTENTIONS[name]))  # type: ignore[no-untyped-call]


def attends_from_tails(base: PreTrainedModel) -> bool:
    """Say whether the model's attention can be asked for the last tokens of each example alone."""
    return base.config._attn_implementation in {REGISTERED[name] for name in OF_TAILS}


def head_width(base: torch.nn.Module) -> int:
    """Return how wide one head of the model's attention is."""
    config: Any = base.config
    width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return width


def attentions_on(device: torch.device, dtype: torch.dtype, *, width: int) -> tuple[str, ...]:
    """Return the names of ATTENTIONS that can be computed there with heads of this width, preferred first."""
    kernel_takes = dtype == torch.bfloat16 and width <= LARGEST_HEAD and width % HEAD_STEP == 0
    if kernel_takes and has_varlen(device):
        return ("flash", "sdpa", "eager")
    return ("eager", "sdpa")


def has_varlen(device: torch.device) -> bool:
    """Whether torch has the kernel for the device, and with a causal window (2.11 and later)."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key(
        "aten::_flash_attention_forward", device.type.upper()
    ):
        return False
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        return False
    return "window_size" in VARLEN_TAKES
