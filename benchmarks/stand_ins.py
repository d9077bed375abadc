"""FlashAttention's kernels stood in for on the CPU, so that a GPU's default path runs where there is none.

torch.nn.attention.varlen calls two operators of torch that have no CPU kernel; they get one here, for a
while, written after the formula and as strict about its inputs as the real ones.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch

from trainables.cache.machine import CACHE_VARIABLE
from trainables.engine import autotune, memory
from trainables.model.attention import HEAD_STEP, LARGEST_HEAD

CAUSAL = (-1, 0)  # the window that varlen_attn is asked for


@contextmanager
def flash_on(key: str) -> Iterator[None]:
    """Give torch's dispatch key ("CPU", or "CUDA" where there is none) both operators, on CPU tensors."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", forward, key)
    library.impl("_flash_attention_backward", backward, key)
    try:
        yield
    finally:
        library._destroy()


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Let the CPU pass for a GPU where a worker decides how it computes.

    It has bf16, FlashAttention and a GPU's sizes of microbatches, and times say nothing, so that each
    decision falls on what a GPU prefers. What is decided is not kept for real runs.
    """
    with ExitStack() as pretended:
        cache = pretended.enter_context(TemporaryDirectory())
        pretended.enter_context(mock.patch.dict(os.environ, {CACHE_VARIABLE: cache}))
        pretended.enter_context(flash_on("CPU"))
        pretended.enter_context(mock.patch.object(torch.cpu, "_is_avx512_bf16_supported", return_value=True))
        for sizes in (memory.LARGEST, memory.USEFUL_TOKENS):
            pretended.enter_context(mock.patch.dict(sizes, cpu=sizes["cuda"]))
        pretended.enter_context(mock.patch.object(autotune, "seconds_of", _one_second))
        yield


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds_q: torch.Tensor,
    bounds_k: torch.Tensor,
    longest_q: int,
    longest_k: int,
    dropout: float,
    causal: bool,
    return_debug_mask: bool,
    *,
    scale: float,
    window_size_left: int,
    window_size_right: int,
    **unused: Any,
) -> tuple[torch.Tensor, ...]:
    """Return (T, H, D) attended values, their log-sum-exp (H, T) and what is not used here."""
    _check_inputs(query, key, value, bounds_q, bounds_k, longest_q, causal)
    assert (window_size_left, window_size_right) == CAUSAL
    out = torch.empty_like(query)
    log_sums = torch.empty(query.shape[1], len(query), dtype=torch.float32)
    for start, end in pairwise(bounds_q.tolist()):
        scores, values = _scores(query, key, start, end, scale), _heads(value, query, start, end)
        out[start:end] = (scores.softmax(-1) @ values).transpose(0, 1).to(query.dtype)
        log_sums[:, start:end] = scores.logsumexp(-1)
    nothing = torch.empty(0, dtype=query.dtype)
    return out, log_sums, torch.zeros(2, dtype=torch.uint64), nothing, nothing


def backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    log_sums: torch.Tensor,
    bounds_q: torch.Tensor,
    bounds_k: torch.Tensor,
    longest_q: int,
    longest_k: int,
    dropout: float,
    causal: bool,
    random_state: torch.Tensor,
    unused: torch.Tensor,
    *,
    scale: float,
    window_size_left: int,
    window_size_right: int,
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of query, key and value, from what the forward pass kept (Dao 2023, algorithm
    2).
    """
    _check_inputs(query, key, value, bounds_q, bounds_k, longest_q, causal)
    gradients = [torch.zeros_like(one) for one in (query, key, value)]
    for start, end in pairwise(bounds_q.tolist()):
        scores, values = _scores(query, key, start, end, scale), _heads(value, query, start, end)
        weights = (scores - log_sums[:, start:end, None]).exp()
        mine, attended = (_heads(one, query, start, end) for one in (gradient, out))
        inner = mine @ values.transpose(1, 2) - (mine * attended).sum(-1, keepdim=True)
        of_scores = weights * inner * scale
        parts = (
            of_scores @ _heads(key, query, start, end),
            of_scores.transpose(1, 2) @ _heads(query, query, start, end),
            weights.transpose(1, 2) @ mine,
        )
        for whole, part in zip(gradients, parts, strict=True):
            shared = part.unflatten(0, (whole.shape[1], -1)).sum(1)  # query heads that share a key head
            whole[start:end] = shared.transpose(0, 1).to(whole.dtype)
    return tuple(gradients)


def _check_inputs(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds_q: torch.Tensor,
    bounds_k: torch.Tensor,
    longest: int,
    causal: bool,
) -> None:
    """Refuse what the real kernels refuse."""
    assert causal, "computed causally alone"
    assert bounds_q.dtype == bounds_k.dtype == torch.int32
    assert torch.equal(bounds_q, bounds_k)
    assert int(bounds_q.diff().max()) <= longest
    assert int(bounds_q[-1]) == len(query) == len(key) == len(value)
    for heads in (query, key, value):
        assert heads.stride(-1) == 1
        assert heads.shape[-1] <= LARGEST_HEAD
        assert heads.shape[-1] % HEAD_STEP == 0
        assert query.shape[1] % heads.shape[1] == 0


def _heads(heads: torch.Tensor, query: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """Return an example's heads as (H, L, D), repeated where query heads share them, in fp32 at least."""
    one = heads[start:end].transpose(0, 1).repeat_interleave(query.shape[1] // heads.shape[1], dim=0)
    return one.to(torch.promote_types(one.dtype, torch.float32))


def _scores(query: torch.Tensor, key: torch.Tensor, start: int, end: int, scale: float) -> torch.Tensor:
    one, keys = (_heads(heads, query, start, end) for heads in (query, key))
    scores = one @ keys.transpose(1, 2) * scale
    later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, float("-inf"))


def _one_second(work: Any, device: torch.device, *, repeats: int = 1) -> float:
    work()
    return 1.0
