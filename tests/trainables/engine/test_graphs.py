"""What a step asks of a GPU, counted where there is none: graphs and their breaks, kernels a layer, waits."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.stand_ins import flash_on
from trainables.engine.autotune import probe_run
from trainables.engine.compile import compile_layers, undo_compilation
from trainables.engine.compute_plan import ComputePlan
from trainables.engine.device import Compute
from trainables.engine.loop import AdapterRun, TrainingGroup
from trainables.engine.session import make_trainable
from trainables.model.lora import LoraModel, accumulate_gradients
from trainables.model.loss import supervised_nll
from trainables.model.packing import Microbatch, pack
from trainables.replay.batch_order import phase_a_stream
from trainables.settings import LoraSettings, ModelSettings, TrainingSettings

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
LAYERS = 22  # of TinyLlama
MOST_KERNELS = 155  # a layer, forward and backward, in bf16 with dropout
WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")
MOST_WAITS = 3  # a step: whether losses and gradient are sound, and the clipping's norm


@pytest.fixture(autouse=True)
def _kernels() -> Iterator[None]:
    with flash_on("CPU"):
        yield


def model_of(layers: int, *, attention: str = "flash") -> LoraModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    plan = ComputePlan("CPU", "bf16", attention, {"training": 600, "evaluation": 600}, checkpointing=False)
    base = LlamaForCausalLM(config).to(torch.bfloat16)
    settings = ModelSettings(lora=LoraSettings(dropout=0.1))
    return make_trainable(base, settings, compute_plan=plan, fingerprint="counted")[0]


def batch_of(model: LoraModel, lengths: list[int], *, runs: int = 1, dropout: bool = True) -> Microbatch:
    run = probe_run(lengths, dropout=model.dropout_stream(0) if dropout else None)
    (batch,) = pack([run] * runs, token_budget=10_000)
    return batch


def train(model: LoraModel, batch: Microbatch, *, runs: int = 1) -> None:
    model.install(model.new_stack(runs))
    accumulate_gradients(supervised_nll(model, batch).sum())


@pytest.mark.slow
def test_compiled_layers_hold_the_attention_without_a_break_in_few_graphs_over_all_shapes() -> None:
    model = model_of(LAYERS)
    torch._dynamo.reset()
    counters.clear()
    compile_layers(model.base, backend="eager")
    try:
        for lengths in ([40, 30, 20], [50, 20], [5], [61, 32, 9, 7]):
            train(model, batch_of(model, lengths))
        trained = counters["stats"]["unique_graphs"]
        for lengths in ([40, 30], [60, 30, 9], [7]):
            with torch.inference_mode():
                supervised_nll(model, batch_of(model, lengths, dropout=False))
        assert not counters["graph_break"]
        assert trained <= 3  # the first layer, whose input has no gradient, the inner ones, the last
        assert counters["stats"]["unique_graphs"] <= 5  # evaluation: inner ones and the last
    finally:
        undo_compilation(model.base)


class Dispatched(TorchDispatchMode):
    """Counts what reaches a device: every operator that is no mere view."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func.overloadpacket.__name__ != "_unsafe_view":
            self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def dispatched(model: LoraModel, batch: Microbatch) -> Counter[str]:
    with Dispatched() as seen:
        train(model, batch)
    return seen.counts


def test_a_layer_dispatches_no_more_kernels_than_it_did() -> None:
    counts = []
    for layers in (2, 3):
        model = model_of(layers)
        counts.append(dispatched(model, batch_of(model, [40, 30, 20])))
    layer = counts[1] - counts[0]
    assert layer.total() <= MOST_KERNELS, layer
    assert layer["mm"] + layer["bmm"] + layer["addmm"] > 20  # it is the layer that was counted


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_an_attention_by_example_computes_no_gradient_as_large_as_the_whole_batch_for_each(
    attention: str,
) -> None:
    model = model_of(2, attention=attention)
    few, many = (dispatched(model, batch_of(model, [10] * count)) for count in (3, 9))
    assert many["slice_backward"] == few["slice_backward"]


def test_a_step_waits_for_the_device_at_its_end_alone() -> None:
    model = model_of(2)
    batch = probe_run([40, 30, 20, 50])
    ((task, _), *_) = batch.examples
    settings = TrainingSettings(steps=4, batch_size=4)
    run = AdapterRun(
        model.fresh_weights(seed=0),
        stream=phase_a_stream(4, seed=0, training=settings),
        tasks=(task, task),
        settings=settings,
        dropout=model.dropout_stream(0),
    )
    waits = []
    for budget in (1_000, 60):  # one microbatch, and several
        group = TrainingGroup(
            model, [run], compute=Compute(torch.device("cpu"), "bf16", {"training": budget})
        )
        group.step()
        with Dispatched() as seen:
            group.step()
        waits.append(sum(seen.counts[name] for name in WAITING))
        group.keep([])
    assert waits[0] == waits[1] <= MOST_WAITS


def test_shared_keys_are_repeated_only_where_torch_cannot_share_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainables.model import attention

    model = model_of(2)
    batch = replace(batch_of(model, [20, 9]), mask_rows=None)
    native = supervised_nll(model, batch).detach()
    counts = dispatched(model, batch)
    shares = "enable_gqa" in attention.VARLEN_TAKES
    monkeypatch.setattr(attention, "VARLEN_TAKES", attention.VARLEN_TAKES - {"enable_gqa", "num_splits"})
    repeated = dispatched(model, batch)
    torch.testing.assert_close(supervised_nll(model, batch).detach(), native, rtol=0.02, atol=0.02)
    assert (repeated.total() > counts.total()) is shares
