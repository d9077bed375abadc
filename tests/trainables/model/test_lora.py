"""Adapter maths: against PEFT, for one adapter and for several, with and without dropout."""

import numpy as np
import pytest
import torch
from peft import get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from trainables.model.dropout import TABLE_ROWS, DropoutStream, MaskTable
from trainables.model.lora import (
    AdaptedLinear,
    AdapterError,
    AdapterStack,
    LoraModel,
    accumulate_gradients,
    adapter_shapes,
)
from trainables.model.lora_files import lora_config
from trainables.settings import LoraSettings

LORA = LoraSettings(r=3, alpha=5, dropout=0.0)


def small_base(**changes: int) -> LlamaForCausalLM:
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 50}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **heads, **changes}))


def layer(lora: LoraSettings, *, cells: int, bias: bool = True) -> tuple[AdaptedLinear, AdapterStack]:
    """Return a layer 6 -> 4 on a bank of its own."""
    adapted = AdaptedLinear(torch.nn.Linear(6, 4, bias=bias).requires_grad_(False), lora)
    a, b = torch.randn(cells, lora.r, 6), torch.randn(cells, 4, lora.r)
    adapted.a, adapted.b = a.requires_grad_(), b.requires_grad_()
    return adapted, AdapterStack(a, b)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_computes_the_formula_and_its_derivatives(bias: bool) -> None:
    adapted, _ = layer(LORA, cells=2, bias=bias)
    x = torch.randn(2, 5, 6, requires_grad=True)

    def formula(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        low = torch.einsum("kti,kri->ktr", x, a)
        frozen = x @ adapted.weight.T + (adapted.bias if bias else 0)
        return frozen + 5 / 3 * torch.einsum("ktr,kor->kto", low, b)

    inputs, weights = (x, adapted.a, adapted.b), torch.randn(2, 5, 4)
    ours, theirs = adapted(x), formula(*inputs)
    torch.testing.assert_close(ours, theirs)
    for found, expected in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_a_dropped_layer_computes_the_formula_of_its_masked_input() -> None:
    lora = LoraSettings(r=3, alpha=5, dropout=0.25)
    adapted, _ = layer(lora, cells=2)
    adapted.mask_table = MaskTable(0.25, dtype=torch.float32, device=torch.device("cpu")).of_width(6)
    adapted.mask_rows = torch.randint(0, TABLE_ROWS, (10,))
    x = torch.randn(2, 5, 6, requires_grad=True)
    dropped = x * adapted.mask_table[adapted.mask_rows].view(2, 5, 6) / 0.75
    low = torch.einsum("kti,kri->ktr", dropped, adapted.a)
    theirs = torch.nn.functional.linear(x, adapted.weight, adapted.bias)
    theirs = theirs + 5 / 3 * torch.einsum("ktr,kor->kto", low, adapted.b)
    ours, weights, inputs = adapted(x), torch.randn(2, 5, 4), (x, adapted.a, adapted.b)
    torch.testing.assert_close(ours, theirs)
    for found, expected in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_names_and_shapes_are_pefts() -> None:
    peft = get_peft_model(small_base(), lora_config(LORA))
    theirs = {
        name.replace(".default", ""): tuple(value.shape)
        for name, value in peft.named_parameters()
        if value.requires_grad
    }
    assert adapter_shapes(small_base(), LORA) == theirs


def test_a_fresh_adapter_changes_nothing_and_draws_a_as_peft_does() -> None:
    model = LoraModel(small_base(), LORA)
    weights = model.export_weights(model.fresh_weights(seed=3))
    peft = get_peft_model(small_base(), lora_config(LORA))
    for name, value in peft.named_parameters():
        if "lora_A" in name:
            ours = weights[name.replace(".default", "")]
            bound = 1 / np.sqrt(value.shape[1])  # Kaiming uniform with a = sqrt(5)
            assert abs(value).max() <= bound
            assert 0.8 * bound < abs(ours).max() <= bound
        elif "lora_B" in name:
            assert not weights[name.replace(".default", "")].any()
    assert not np.array_equal(model.fresh_weights(seed=3), model.fresh_weights(seed=4))


def test_weights_survive_a_round_trip() -> None:
    model = LoraModel(small_base(), LORA)
    flat = torch.randn(model.size)
    assert torch.equal(model.import_weights(model.export_weights(flat)), flat)


def test_an_absent_target_module_is_named_with_those_there_are() -> None:
    with pytest.raises(AdapterError, match="c_attn not in the model; its linear modules are .*q_proj"):
        LoraModel(small_base(), LoraSettings(target_modules=("c_attn",)))


def test_gradients_of_one_adapter_never_reach_another() -> None:
    adapted, _ = layer(LORA, cells=3)
    x = torch.randn(3, 5, 6)
    accumulate_gradients(adapted(x)[1].sum())
    assert adapted.a.grad is not None
    assert adapted.a.grad[1].any()
    assert not adapted.a.grad[0].any()
    assert not adapted.a.grad[2].any()


def test_masks_keep_the_share_they_should_and_are_independent() -> None:
    table = MaskTable(0.1, dtype=torch.float32, device=torch.device("cpu")).of_width(64)
    assert table.shape == (TABLE_ROWS, 64)
    share = table.mean().item()
    assert share == pytest.approx(0.9, abs=5 * np.sqrt(0.09 / table.numel()))
    correlation = np.corrcoef(table.numpy().T)
    np.fill_diagonal(correlation, 0)
    assert abs(correlation).max() < 5 / np.sqrt(TABLE_ROWS)


def test_the_masks_of_an_example_depend_on_seed_step_and_place_alone() -> None:
    stream = DropoutStream(seed=5, layers=4)
    rows = stream.rows(2, 3, 50)
    assert rows.shape == (4, 50)
    assert np.array_equal(rows, DropoutStream(seed=5, layers=4).rows(2, 3, 50))
    assert np.array_equal(rows[:, :20], stream.rows(2, 3, 20))
    others = [stream.rows(3, 3, 50), stream.rows(2, 4, 50), DropoutStream(seed=6, layers=4).rows(2, 3, 50)]
    assert all((rows != other).mean() > 0.99 for other in others)
    assert rows.min() >= 0
    assert rows.max() < TABLE_ROWS
    assert all((rows[0] != rows[layer]).mean() > 0.9 for layer in (1, 2, 3))
