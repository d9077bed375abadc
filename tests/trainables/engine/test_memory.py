"""What a model needs of a GPU, before there is one: against the model itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainables.engine.autotune import kept_bytes
from trainables.engine.memory import CARDS, Footprint
from trainables.engine.model_fit import check_model
from trainables.model.lora import LoraModel
from trainables.model.sources import resolve_model
from trainables.settings import LoraSettings, ModelSettings

LORA = LoraSettings(r=4)


def test_the_estimate_from_a_cut_down_copy_is_the_size_of_the_whole_model(tmp_path: Path) -> None:
    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=6, num_attention_heads=4, vocab_size=200
    )
    base = LlamaForCausalLM(config)
    base.save_pretrained(tmp_path)
    settings = ModelSettings(name=str(tmp_path), lora=LORA)
    size = check_model(resolve_model(settings), settings).size
    model = LoraModel(base, LORA)
    found = size.footprint(precision="fp32", quantization="none", adapter=model.size)
    assert found.weights == sum(each.numel() for each in base.parameters()) * 4
    assert found.adapter == 16 * model.size
    assert found.token == pytest.approx(kept_bytes(model), rel=0.25)  # the copy is unslimmed nowhere
    half = size.footprint(precision="bf16", quantization="none", adapter=model.size)
    assert (half.weights, half.token) == (found.weights / 2, found.token / 2)
    packed = size.footprint(precision="bf16", quantization="nf4", adapter=model.size)
    linear = sum(layer.weight.numel() for layer in base.model.modules() if isinstance(layer, torch.nn.Linear))
    linear += sum(adapter.weight.numel() for adapter in model.adapters.values())
    assert packed.weights == pytest.approx(half.weights - (2 - 0.5625) * linear)


def footprint(**changes: Any) -> Footprint:
    known: dict[str, Any] = {"weights": 2.2e9, "adapter": 36e6, "token": 1e6, "state": 4096, "layers": 22}
    return Footprint(**known | changes)


def test_layers_are_recomputed_on_small_cards_alone() -> None:
    found = [footprint().tokens(room * 1e9, device="cuda") for room in (1, 5, 10, 40, 80)]
    assert [each.recomputed for each in found] == [True, True, False, False, False]
    assert [each.training for each in found[2:]] == [4096, 16384, 32768]


def test_what_does_not_fit_a_card_is_said_for_each_size() -> None:
    needed, cards = footprint(weights=20e9).on_cards(2048, gpus=1, cells=1)
    assert "20 GB of weights" in needed
    assert "16 GB: does not fit" in cards
    assert cards.count("does not fit") == 1
    _, quarter = footprint(weights=20e9).on_cards(2048, gpus=0.25, cells=1)
    assert quarter.count("does not fit") == CARDS.index(141)
    assert "0.25 of a GPU" in quarter


def test_more_cells_and_longer_examples_need_more() -> None:
    plain = footprint().least(1024, cells=1)
    assert footprint().least(2048, cells=1) > plain
    assert footprint().least(1024, cells=4) > plain
