"""Packed attention: every implementation against plain attention over each example alone."""

import itertools

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from benchmarks.stand_ins import flash_on
from trainables.engine.autotune import probe_batch
from trainables.model import attention
from trainables.model.attention import (
    ATTENTIONS,
    REGISTERED,
    AttentionError,
    attentions_on,
    keep_attention_out_of_graphs,
    use_packed_attention,
)
from trainables.model.loss import hidden_states

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


def test_one_call_of_the_variable_length_kernel_is_our_own_attention_over_each_example() -> None:
    """Values and gradients, queries in groups, over a stand-in for the kernel that GPUs alone have."""
    bounds = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist()], dtype=torch.int32)
    torch.manual_seed(0)
    inputs = [torch.randn(1, heads, sum(LENGTHS), 8).requires_grad_() for heads in (6, 2, 2)]
    weights = torch.randn(1, sum(LENGTHS), 6, 8)
    found = {}
    with flash_on("CPU"):
        for name in ("eager", "flash"):
            out, _ = ATTENTIONS[name](
                torch.nn.Identity(),
                *inputs,
                None,
                scaling=0.3,
                cu_seq_lens_q=bounds,
                max_length_q=max(LENGTHS),
            )
            found[name] = [out, *torch.autograd.grad((out * weights).sum(), inputs)]
    for ours, theirs in zip(found["flash"], found["eager"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_kernel_is_there_only_where_torch_has_it_and_in_bf16() -> None:
    cpu = torch.device("cpu")
    assert "flash" not in attentions_on(cpu, torch.bfloat16, width=8)
    with flash_on("CPU"):
        assert attentions_on(cpu, torch.bfloat16, width=8)[0] == "flash"
        assert "flash" not in attentions_on(cpu, torch.float32, width=8)
    assert "flash" not in attentions_on(cpu, torch.bfloat16, width=8)


def small_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=100,
    )
    return LlamaForCausalLM(config).eval()


def test_every_attention_is_taken_by_transformers_under_a_name_that_means_nothing_else_to_it() -> None:
    model, batch = small_llama(), probe_batch([9, 4, 30], runs=1)
    states = []
    with flash_on("CPU"), torch.no_grad():
        for name in ATTENTIONS:
            use_packed_attention(model, name)
            keep_attention_out_of_graphs(model)
            assert model.config._attn_implementation == REGISTERED[name]
            states.append(hidden_states(model, batch))
    for other in states[1:]:
        torch.testing.assert_close(other, states[0], rtol=1e-4, atol=1e-5)
    for word in ("flash", "sdpa", "flex", "paged", "eager", "/", "|"):
        assert not any(word in name for name in REGISTERED.values())


@pytest.mark.parametrize("name", attentions_on(torch.device("cpu"), torch.float32, width=8))
def test_rows_of_several_runs_are_kept_apart(name: str) -> None:
    model = small_llama()
    use_packed_attention(model, name)
    alone, together = probe_batch([9, 4, 30], runs=1), probe_batch([9, 4, 30], runs=3)
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
        hidden_states(model, probe_batch([8], runs=1))
        with pytest.raises(
            AttentionError, match="window of 8 tokens and an example has 9: set max_length to at most 8"
        ):
            hidden_states(model, probe_batch([9], runs=1))


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
