"""Attention with a cache of keys and values, for generating token by token with any model whose attention
goes through transformers' interface.

Prompts are packed, as everything else is; their keys and values are kept by sequence. From then on every
sequence asks with one token at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from trainables.model.attention import ATTENTIONS, REGISTERED, check_options

NAME = "cached_attention"  # as transformers knows it


class KeyValueCache:
    """Keys and values of S sequences at every layer, with room for `room` tokens each.

    `lengths`: (S,) tokens that are kept of each sequence. `filling`: (2, tokens) sequence and position of
    each token of the packed prompts at work; None once every sequence asks with one token.
    """

    def __init__(self, sequences: int, room: int, *, device: torch.device) -> None:
        self.lengths = torch.zeros(sequences, dtype=torch.long, device=device)
        self.room = room
        self.filling: torch.Tensor | None = None
        self.used = 0  # of the room, by the longest sequence
        self._kept: dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}  # (S, room, h, D) each

    def keep(self, layer: torch.nn.Module, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store what a layer gives its attention, (rows, h, T, D): of `filling`, else a token a sequence."""
        flat = [heads.transpose(1, 2).flatten(0, 1) for heads in (key, value)]  # (tokens, h, D)
        if layer not in self._kept:
            shape = (len(self.lengths), self.room)
            self._kept[layer] = (
                flat[0].new_zeros(*shape, *flat[0].shape[1:]),
                flat[1].new_zeros(*shape, *flat[1].shape[1:]),
            )
        everyone = torch.arange(len(self.lengths), device=self.lengths.device)
        places = (everyone, self.lengths) if self.filling is None else tuple(self.filling)
        for kept, heads in zip(self._kept[layer], flat, strict=True):
            kept[places] = heads

    def attend(self, layer: torch.nn.Module, query: torch.Tensor, *, scaling: float) -> torch.Tensor:
        """Return what each sequence's newest token attends to: query (rows, H, T, D) -> (rows, T, H, D)."""
        heads = query.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # (S, H, 1, D)
        key, value = (kept[:, : self.used + 1].transpose(1, 2) for kept in self._kept[layer])
        seen = torch.arange(self.used + 1, device=self.lengths.device) <= self.lengths[:, None]
        mixed = functional.scaled_dot_product_attention(
            heads, key, value, attn_mask=seen[:, None, None], scale=scaling, enable_gqa=True
        )
        return mixed.view(query.shape[0], query.shape[2], *mixed.shape[1::2])

    def advance(self) -> None:
        """Count the token that every sequence has asked with."""
        self.lengths += 1
        self.used += 1

    def select(self, sequences: torch.Tensor) -> None:
        """Go on with these sequences alone."""
        self.lengths = self.lengths[sequences]
        self.used = int(self.lengths.max())
        for layer, (key, value) in self._kept.items():
            self._kept[layer] = key[sequences], value[sequences]


@contextmanager
def cached(base: PreTrainedModel, cache: KeyValueCache) -> Iterator[None]:
    """Let `base` attend with `cache`, and to prompts as it does otherwise. Layers are computed plainly."""
    registered: str = base.config._attn_implementation
    packed = ATTENTIONS[next(name for name, known in REGISTERED.items() if known == registered)]

    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        scaling: float,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        cache.keep(module, key, value)
        if cache.filling is not None:
            return packed(module, query, key, value, attention_mask, scaling=scaling, **options)
        check_options(
            options.pop("cu_seq_lens_q", None), options.pop("sliding_window", None), cache.used + 1, options
        )
        return cache.attend(module, query, scaling=scaling), None

    AttentionInterface.register(NAME, attend)
    base.set_attn_implementation(NAME)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        base.set_attn_implementation(registered)
