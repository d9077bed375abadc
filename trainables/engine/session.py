"""The model that a worker trains: base weights and adapters, kept loaded from one cell to the next."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainables.engine.autotune import probe_batch, probe_run, tune
from trainables.engine.compile import CompilerError, compile_now
from trainables.engine.compute_plan import ComputePlan
from trainables.engine.device import (
    ADVICE,
    Compute,
    OutOfMemoryError,
    choose_precision,
    device_name,
    if_it_fits,
    limit_memory,
    open_device,
)
from trainables.engine.interruption import Heartbeat
from trainables.engine.setup import Setup
from trainables.model.attention import AttentionError, use_packed_attention
from trainables.model.four_bit import KIND, pack_layers
from trainables.model.fused_layers import slim
from trainables.model.lora import LoraModel
from trainables.model.loss import LogitsError, hidden_states, model_inputs, output_layer
from trainables.model.packing import pack
from trainables.model.sources import ModelError, check_quantization, load_base_model
from trainables.settings import ModelSettings

if TYPE_CHECKING:
    from trainables.model.base_weights import BaseWeights


@dataclass(frozen=True)
class ModelSession:
    """A model ready to train and how it computes; `weights` are the shared ones it lies on, if any."""

    setup: Setup
    model: LoraModel
    compute: Compute
    compute_plan: ComputePlan
    weights: "BaseWeights | None"

    def for_work(self, heartbeat: Heartbeat, *, settled: ComputePlan) -> "ModelSession":
        """Return the same model for one piece of work: no budget is halved yet, and `heartbeat` may end it.

        The budgets are those that the study has `settled`, where that was on a device of this kind.
        """
        tokens = (settled if settled.device == self.compute_plan.device else self.compute_plan).tokens
        return replace(self, compute=replace(self.compute, tokens=dict(tokens), heartbeat=heartbeat))

    def check_weights(self) -> None:
        """Raise SharedWeightsError where shared weights that were computed on have changed."""
        if self.weights is not None and self.compute.device.type == "cpu":
            self.weights.check()


_loaded: dict[Setup, ModelSession] = {}  # at most one: a process keeps the model from cell to cell


def forget_session() -> None:
    """Drop the loaded model, with all that was settled and compiled in this process."""
    _loaded.clear()


def load_session(
    setup: Setup,
    *,
    weights: "BaseWeights | None" = None,
    compute_plan: ComputePlan | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> ModelSession:
    """Return the model on its device, with adapters that the caller must set.

    `compute_plan` is how Phase A computed: its precision is kept, the rest is measured anew on another kind
    of device; `warn` is told where layers that it compiled cannot be compiled here. Raises ModelError,
    AdapterError, OutOfMemoryError, or CompilerError where compiling was asked for, if the model cannot be
    trained here.
    """
    if setup not in _loaded:
        _loaded.clear()
        _loaded[setup] = _load(setup, weights, compute_plan, warn)
    return _loaded[setup]


def _load(
    setup: Setup,
    weights: "BaseWeights | None",
    compute_plan: ComputePlan | None,
    warn: Callable[[str], None],
) -> ModelSession:
    device = open_device(use_gpu=setup.use_gpu)
    limit_memory(device, setup.memory_share)
    asked = (
        setup.settings.dtype
        if compute_plan is None or setup.settings.dtype != "auto"
        else compute_plan.precision
    )
    precision = choose_precision(asked, device)
    if weights is None or weights.precision != precision:
        weights, base = None, load_base_model(setup.source, precision=precision)
    else:
        # Here: it hashes with what a bare GPU machine lacks.
        from trainables.model.base_weights import build_base_model

        base = build_base_model(setup.source, weights)
    if setup.settings.quantization == KIND:
        _pack(base, device)
    _move(base, device)
    known = (
        compute_plan
        if compute_plan and (compute_plan.device, compute_plan.precision) == (device_name(device), precision)
        else None
    )
    try:
        model, compute_plan = make_trainable(
            base,
            setup.settings,
            compute_plan=known,
            fingerprint=setup.source.fingerprint,
            memory_share=setup.memory_share,
            warn=warn,
        )
    except (AttentionError, LogitsError) as error:
        raise ModelError(f"model.name: {setup.source.describe()}: {error}") from error
    compute = Compute(device, precision, dict(compute_plan.tokens), compiled=compute_plan.compiled)
    return ModelSession(setup, model, compute, compute_plan, weights)


def _pack(base: PreTrainedModel, device: torch.device) -> None:
    """Pack the linear layers on the device, one after another: it never holds them all unpacked."""
    check_quantization(KIND)
    slim(base)  # while its trials find weights that are plain
    if if_it_fits(lambda: (pack_layers(base, device=device),)) is None:
        raise OutOfMemoryError(f"out of memory with the model's weights alone, in 4 bits: {ADVICE}")


def _move(base: PreTrainedModel, device: torch.device) -> None:
    """Put the weights on the device. Raises OutOfMemoryError where they do not fit."""
    if if_it_fits(lambda: base.to(device)) is None:  # type: ignore[arg-type]
        raise OutOfMemoryError(f"out of memory with the model's weights alone: {ADVICE}")


def make_trainable(
    base: PreTrainedModel,
    settings: ModelSettings,
    *,
    compute_plan: ComputePlan | None,
    fingerprint: str,
    memory_share: float = 1.0,
    warn: Callable[[str], None] = lambda message: None,
) -> tuple[LoraModel, ComputePlan]:
    """Put lean layers, adapters and packed attention into `base`, on its device and in its precision.

    Without a `compute_plan` the device is measured, or what was measured before under `fingerprint` is taken.
    `memory_share` is the part of the GPU's or of the machine's memory that the model may count on.
    Raises AdapterError, AttentionError or LogitsError where the model cannot be computed so, and
    OutOfMemoryError where it does not fit. A broken compiler is told to `warn`, and is a CompilerError where
    compiling was asked for.
    """
    slim(base)
    model = LoraModel(base, settings.lora)
    if compute_plan is None:
        compute_plan = tune(model, settings, fingerprint=fingerprint, memory_share=memory_share)
    use_packed_attention(base, compute_plan.attention)
    if compute_plan.checkpointing:
        _recompute_layers(base)
    if compute_plan.compiled:
        compute_plan = _compile(model, settings, compute_plan, warn)
    check_logits(base)
    check_packing(base)
    return model, compute_plan


def _compile(
    model: LoraModel, settings: ModelSettings, compute_plan: ComputePlan, warn: Callable[[str], None]
) -> ComputePlan:
    """Compile the layers as Phase A did. A broken compiler costs time and rounding: said, unless it was asked
    for.
    """
    try:
        compile_now(model, token_budget=compute_plan.tokens["training"])
    except CompilerError as error:
        if settings.compile == "on":
            raise CompilerError(f"model.compile is on, and {error}") from error
        warn(f"{error}; they are computed plainly, which agrees with the study's other cells to rounding")
        return replace(compute_plan, compiled=False)
    return compute_plan


def _recompute_layers(base: PreTrainedModel) -> None:
    """Keep each layer's input alone and compute the rest again in the backward pass (Chen et al. 2016)."""
    base.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
    for module in base.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = (
                True  # where it looks; the model stays in evaluation mode, without its own dropout
            )


def check_logits(base: PreTrainedModel) -> None:
    """Raise LogitsError if the model does more to its logits than the output layer does."""
    batch = probe_batch([8], runs=1).to(base.device)
    with torch.inference_mode():
        ours = output_layer(base)(hidden_states(base, batch))
        theirs = base(**model_inputs(batch)).logits
    if not torch.allclose(ours.float(), theirs.float(), rtol=1e-2, atol=1e-2):
        raise LogitsError(
            "the model scales or caps its logits after the output layer, which the chunked loss does not do"
        )


def check_packing(base: PreTrainedModel) -> None:
    """Raise AttentionError if an example's numbers depend on what it is packed with."""
    run = probe_run([8, 5])
    apart = [replace(run, examples=[example]) for example in run.examples]
    with torch.inference_mode():
        together, *alone = (
            hidden_states(base, pack([one], token_budget=13)[0].to(base.device))[0].float()
            for one in (run, *apart)
        )
    expected = torch.cat(alone)
    if (together - expected).norm() > 5e-2 * expected.norm():
        raise AttentionError(
            "an example's hidden states depend on the examples packed beside it: the model mixes tokens by "
            "more than attention"
        )
