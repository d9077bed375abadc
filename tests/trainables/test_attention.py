"""Packed attention: every implementation against plain attention over each example alone."""

import itertools

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from trainables import attention
from trainables.attention import ATTENTIONS, AttentionError, attentions_on, use_packed_attention
from trainables.losses import hidden_states
from trainables.measuring import probe_batch

LENGTHS = [5, 130, 1, 64, 7]


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention of one example: q (H, L, D), k and v (h, L, D), the whole score matrix at once."""
    k, v = (heads.repeat_interleave(len(q) // len(k), dim=0) for heads in (k, v))
    scores = q @ k.transpose(1, 2) * 0.3
    hidden = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v


@pytest.mark.parametrize("name", attentions_on(torch.device("cpu"), torch.float32, width=8))
@pytest.mark.parametrize("block", [16, 64, 256])
def test_values_and_gradients_are_those_of_each_example_alone(
    name: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "QUERY_BLOCK", block)
    total = sum(LENGTHS)
    bounds = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist()], dtype=torch.int32)
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, total, 8).requires_grad_() for heads in (6, 2, 2))
    out, _ = ATTENTIONS[name](
        torch.nn.Identity(), q, k, v, None, scaling=0.3, cu_seq_lens_q=bounds, max_length_q=max(LENGTHS)
    )
    parts = [
        plain(q[0, :, a:b], k[0, :, a:b], v[0, :, a:b]).transpose(0, 1) for a, b in itertools.pairwise(bounds)
    ]
    expected, weights = torch.cat(parts)[None], torch.randn(1, total, 6, 8)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    ours = torch.autograd.grad((out * weights).sum(), (q, k, v))
    theirs = torch.autograd.grad((expected * weights).sum(), (q, k, v))
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", attentions_on(torch.device("cpu"), torch.float32, width=8))
def test_rows_of_several_lanes_are_kept_apart(name: str) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=100,
        )
    ).eval()
    use_packed_attention(model, name)
    alone, together = probe_batch([9, 4, 30], lanes=1), probe_batch([9, 4, 30], lanes=3)
    with torch.no_grad():
        one, three = hidden_states(model, alone), hidden_states(model, together)
    for row in three:
        torch.testing.assert_close(row, one[0], rtol=1e-4, atol=1e-5)


def test_an_example_beyond_the_models_window_is_refused_with_what_to_do() -> None:
    config = MistralConfig(
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=100,
        sliding_window=8,
    )
    model = MistralForCausalLM(config).eval()
    use_packed_attention(model, "eager")
    with torch.no_grad():
        hidden_states(model, probe_batch([8], lanes=1))
        with pytest.raises(
            AttentionError, match="window of 8 tokens and an example has 9: set max_length to at most 8"
        ):
            hidden_states(model, probe_batch([9], lanes=1))


def test_what_packed_attention_does_not_compute_is_refused_by_name() -> None:
    heads = torch.zeros(1, 2, 3, 4)
    bounds = torch.tensor([0, 3], dtype=torch.int32)
    for option in ("softcap", "s_aux"):
        with pytest.raises(AttentionError, match=option):
            ATTENTIONS["eager"](
                torch.nn.Identity(),
                heads,
                heads,
                heads,
                None,
                scaling=1.0,
                cu_seq_lens_q=bounds,
                max_length_q=3,
                **{option: torch.ones(1)},
            )
