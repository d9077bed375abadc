"""Compiled layers: the plain ones' numbers, and the rule that decides for or against them."""

import shutil

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainables import compilation
from trainables.compilation import Timing, compile_layers, undo_compilation, worth_compiling
from trainables.compute import Compute
from trainables.lora import LoraModel, accumulate_gradients
from trainables.losses import supervised_nll
from trainables.measuring import probe_batch
from trainables.settings import LoraSettings, ModelSettings
from trainables.trainee import make_trainable
from trainables.tuning import Tuning

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
COMPUTE = Compute(torch.device("cpu"), "fp32", {"training": 1024})
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1, "vocab_size": 100}


def small_model() -> LoraModel:
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=4, num_key_value_heads=2))
    tuning = Tuning("CPU", "fp32", "eager", {"training": 1024, "evaluation": 1024}, checkpointing=False)
    settings = ModelSettings(lora=LoraSettings(r=2, dropout=0.0))
    return make_trainable(base, settings, tuning=tuning, fingerprint="small")[0]


def train(model: LoraModel, lengths: list[int], lanes: int) -> tuple[torch.Tensor, torch.Tensor]:
    bank = model.new_bank(lanes)
    bank.weights.copy_(torch.randn(bank.weights.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    model.install(bank)
    nll = supervised_nll(model, probe_batch(lengths, lanes=lanes))
    accumulate_gradients(nll.sum())
    return nll.detach(), bank.gradients


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_layers_give_the_plain_numbers_at_any_shape() -> None:
    shapes = [([30, 7], 1), ([9, 9, 9], 2)]
    model = small_model()
    plain = [train(model, *shape) for shape in shapes]
    compile_layers(model.base)
    try:
        compiled = [train(model, *shape) for shape in shapes]
    finally:
        undo_compilation(model.base)
    for found, expected in zip(compiled, plain, strict=True):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_rule_weighs_seconds_saved_against_seconds_spent() -> None:
    timing = Timing(plain=0.002, compiled=0.0015, cost=40.0)
    assert timing.pays_for(200_000)  # saves 100 s
    assert not timing.pays_for(150_000)  # saves 75 s, and 40 s are spent twice
    assert not Timing(plain=0.002, compiled=0.0021, cost=1.0).pays_for(1e9)


@pytest.mark.parametrize(("compiled", "kept"), [(1e-6, True), (1.2, False)])
def test_layers_stay_compiled_only_where_that_was_faster(
    monkeypatch: pytest.MonkeyPatch, compiled: float, kept: bool
) -> None:
    measured = iter([1.0, compiled])
    monkeypatch.setattr(compilation, "_compute_probe", lambda *arguments: None)
    monkeypatch.setattr(compilation, "_seconds_a_token", lambda model, budget: next(measured))
    model = small_model()
    assert worth_compiling(model, compute=COMPUTE, tokens=200.0) is kept
    layers = compilation._layers(model.base)
    assert all((layer._compiled_call_impl is not None) is kept for layer in layers)


def test_a_short_study_is_not_measured_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(compilation, "compile_layers", calls.append)
    assert not worth_compiling(small_model(), compute=COMPUTE, tokens=10.0)
    assert not calls
