"""The last layer computed where the loss needs it alone: the same losses and gradients, and less work."""

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainables.engine.autotune import probe_run
from trainables.engine.compute_plan import ComputePlan
from trainables.engine.session import make_trainable
from trainables.model.lora import LoraModel, accumulate_gradients
from trainables.model.loss import supervised_nll
from trainables.model.packing import Microbatch, pack
from trainables.settings import LoraSettings, ModelSettings

LENGTHS = [300, 120, 9, 513, 2]  # some longer than a block of queries


def model_of(*, checkpointing: bool = False, attention: str = "eager", dropout: float = 0.1) -> LoraModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    plan = ComputePlan(
        "CPU", "fp32", attention, {"training": 10_000, "evaluation": 10_000}, checkpointing=checkpointing
    )
    settings = ModelSettings(lora=LoraSettings(r=4, dropout=dropout, target_modules=("all-linear",)))
    return make_trainable(LlamaForCausalLM(config), settings, compute_plan=plan, fingerprint="last")[0]


def batch_of(model: LoraModel, *, runs: int = 1, loss_on: str = "completion") -> Microbatch:
    run = replace(probe_run(LENGTHS, dropout=model.dropout_stream(0)), loss_on=loss_on)
    (batch,) = pack([run] * runs, token_budget=10_000)
    return batch


def computed(model: LoraModel, batch: Microbatch) -> tuple[torch.Tensor, torch.Tensor]:
    stack = model.new_stack(1)
    stack.weights.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    model.install(stack)
    nll = supervised_nll(model, batch)
    accumulate_gradients((nll * torch.linspace(-1, 1, len(nll))).sum())
    return nll.detach(), stack.gradients


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_losses_and_gradients_are_those_of_the_whole_layer(checkpointing: bool, dropout: float) -> None:
    model = model_of(checkpointing=checkpointing, dropout=dropout)
    batch = batch_of(model)
    assert batch.tail is not None
    for found, expected in zip(
        computed(model, batch), computed(model, replace(batch, tail=None)), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        unmasked = replace(batch, mask_rows=None)
        torch.testing.assert_close(
            supervised_nll(model, unmasked), supervised_nll(model, replace(unmasked, tail=None))
        )


@pytest.mark.parametrize(("attention", "computes_less"), [("eager", True), ("sdpa", False)])
def test_the_last_mlp_sees_supervised_positions_alone_where_the_attention_can(
    attention: str, computes_less: bool
) -> None:
    model = model_of(attention=attention)
    seen: list[int] = []
    for layer in model.base.model.layers:
        layer.mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    batch = batch_of(model)
    supervised_nll(model, batch)
    whole, needed = sum(LENGTHS), len(batch.targets) + len(LENGTHS)
    assert seen == [whole, whole, needed if computes_less else whole]


def test_nothing_is_left_out_where_nearly_everything_is_supervised_or_several_cells_train() -> None:
    model = model_of()
    assert batch_of(model, loss_on="all").tail is None
    assert batch_of(model, runs=2).tail is None


def test_a_tail_is_of_each_example_from_before_its_first_supervised_token_to_its_end() -> None:
    batch = batch_of(model_of())
    assert batch.tail is not None
    assert torch.equal(batch.tail.flat[batch.tail.supervised], batch.supervised)
    starts = batch.bounds[1:] - batch.tail.bounds.diff()
    for start, end, first, last in zip(
        starts.tolist(),
        batch.bounds[1:].tolist(),
        batch.tail.bounds[:-1].tolist(),
        batch.tail.bounds[1:].tolist(),
        strict=True,
    ):
        assert batch.tail.flat[first:last].tolist() == list(range(start, end))
