"""Lean layers: same numbers and derivatives as what they replace, and no more replaced than that."""

from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from trainables.model.fused_layers import LeanAttention, LeanGatedMLP, LeanLastLayer, LeanNorm, slim

SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "vocab_size": 50,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
}


def models() -> tuple[LlamaForCausalLM, LlamaForCausalLM]:
    """Return the same model twice, with norm weights that are not all one."""
    torch.manual_seed(0)
    plain = LlamaForCausalLM(LlamaConfig(**SIZES)).eval().requires_grad_(False)
    for name, weight in plain.named_parameters():
        if "norm" in name:
            weight.uniform_(0.5, 1.5)
    slimmed = LlamaForCausalLM(LlamaConfig(**SIZES)).eval().requires_grad_(False)
    slimmed.load_state_dict(plain.state_dict())
    return plain, slimmed


def test_every_norm_mlp_and_attention_of_a_llama_is_replaced() -> None:
    _, slimmed = models()
    assert slim(slimmed) == 5 + 2 + 2 + 1
    kinds = [type(module) for module in slimmed.modules()]
    assert [kinds.count(kind) for kind in (LeanNorm, LeanGatedMLP, LeanAttention, LeanLastLayer)] == [
        5,
        2,
        2,
        1,
    ]
    assert type(slimmed.model.layers[-1]) is LeanLastLayer
    slim(slimmed)
    assert [type(layer) is LeanLastLayer for layer in slimmed.model.layers] == [False, True]


def test_outputs_and_gradients_are_the_plain_models() -> None:
    plain, slimmed = models()
    slim(slimmed)
    inputs = torch.randn(2, 7, 24)
    results = []
    for model in (plain, slimmed):
        embedded = inputs.clone().requires_grad_()
        logits = model(inputs_embeds=embedded).logits
        (logits * torch.linspace(-1, 1, 50)).sum().backward()
        assert embedded.grad is not None
        results.append((logits, embedded.grad))
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_layers_of_another_kind_stay() -> None:
    """Gemma's norm multiplies by 1 + weight and its MLP gates with GELU."""
    model = Gemma2ForCausalLM(Gemma2Config(**SIZES)).eval()
    before = model(input_ids=torch.arange(5)[None]).logits
    assert slim(model) == 0
    torch.testing.assert_close(model(input_ids=torch.arange(5)[None]).logits, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_the_models_in_low_precision_too(dtype: torch.dtype) -> None:
    plain, slimmed = models()
    slim(slimmed)
    x = torch.randn(3, 24, dtype=dtype)
    ours, theirs = (model.to(dtype).model.norm(x) for model in (slimmed, plain))
    torch.testing.assert_close(ours, theirs)
    assert ours.dtype == dtype
