"""The model that a worker trains: base weights and adapters, kept loaded from one cell to the next.

The driver imports this module for `Setup` alone, so torch is imported where the model is built.
"""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trainables.models import ModelError, ModelSource, load_base_model
from trainables.settings import ModelSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from trainables.base_weights import BaseWeights
    from trainables.compute import Compute
    from trainables.lora import LoraModel
    from trainables.tuning import Tuning


@dataclass(frozen=True)
class Setup:
    """What a worker needs to build the model: the same for every cell of a study.

    `cpus` is what a cell is given; a CPU worker counts on that part of its machine's memory.
    """

    source: ModelSource
    settings: ModelSettings
    use_gpu: bool
    cpus: float

    @property
    def base_model(self) -> str:
        """The name written into adapter files, as PEFT looks it up."""
        return self.source.location


@dataclass(frozen=True)
class Trainee:
    """A model ready to train and how it computes; `weights` are the shared ones it lies on, if any."""

    setup: Setup
    model: "LoraModel"
    compute: "Compute"
    tuning: "Tuning"
    weights: "BaseWeights | None"

    def check_weights(self) -> None:
        """Raise SharedWeightsError where shared weights that were computed on have changed."""
        if self.weights is not None and self.compute.device.type == "cpu":
            self.weights.check()


_loaded: dict[Setup, Trainee] = {}  # at most one: a process keeps the model from cell to cell


def forget_trainee() -> None:
    """Drop the loaded model, with all that was settled and compiled in this process."""
    _loaded.clear()


def load_trainee(
    setup: Setup, *, weights: "BaseWeights | None" = None, tuning: "Tuning | None" = None
) -> Trainee:
    """Return the model on its device, with adapters that the caller must set.

    `tuning` is how Phase A computed: its precision is kept, the rest is measured anew on another kind of
    device. Raises ModelError or AdapterError where the model cannot be trained here.
    """
    if setup not in _loaded:
        _loaded.clear()
        _loaded[setup] = _load(setup, weights, tuning)
    return _loaded[setup]


def _load(setup: Setup, weights: "BaseWeights | None", tuning: "Tuning | None") -> Trainee:
    from trainables.attention import AttentionError
    from trainables.base_weights import build_base_model
    from trainables.compute import Compute, choose_precision, device_name, open_device
    from trainables.losses import LogitsError

    device = open_device(use_gpu=setup.use_gpu)
    asked = setup.settings.dtype if tuning is None or setup.settings.dtype != "auto" else tuning.precision
    precision = choose_precision(asked, device)
    if weights is None or weights.precision != precision:
        weights, base = None, load_base_model(setup.source, precision=precision)
    else:
        base = build_base_model(setup.source, weights)
    base.to(device)  # type: ignore[arg-type]
    known = (
        tuning if tuning and (tuning.device, tuning.precision) == (device_name(device), precision) else None
    )
    share = min(1.0, setup.cpus / (os.cpu_count() or 1))
    try:
        model, tuning = make_trainable(
            base, setup.settings, tuning=known, fingerprint=setup.source.fingerprint, memory_share=share
        )
    except (AttentionError, LogitsError) as error:
        raise ModelError(f"model.name: {setup.source.describe()}: {error}") from error
    return Trainee(setup, model, Compute(device, precision, dict(tuning.tokens)), tuning, weights)


def make_trainable(
    base: "PreTrainedModel",
    settings: ModelSettings,
    *,
    tuning: "Tuning | None",
    fingerprint: str,
    memory_share: float = 1.0,
) -> "tuple[LoraModel, Tuning]":
    """Put lean layers, adapters and packed attention into `base`, on its device and in its precision.

    Without a `tuning` the device is measured, or what was measured before under `fingerprint` is taken.
    `memory_share` is the part of the machine's memory that a model on the CPU may count on.
    Raises AdapterError, AttentionError or LogitsError where the model cannot be computed so.
    """
    from trainables.attention import use_packed_attention
    from trainables.compilation import compile_layers
    from trainables.lean_layers import slim
    from trainables.lora import LoraModel

    slim(base)
    model = LoraModel(base, settings.lora)
    if tuning is None:
        tuning = _tune(model, settings, fingerprint, memory_share)
    use_packed_attention(base, tuning.attention)
    if tuning.checkpointing:
        _recompute_layers(base)
    if tuning.compiled:
        compile_layers(base)
    check_logits(base)
    check_packing(base)
    return model, tuning


def _tune(model: "LoraModel", settings: ModelSettings, fingerprint: str, memory_share: float) -> "Tuning":
    """Measure the device, or take what was measured before for this model on this kind of device."""
    import torch

    from trainables.attention import AttentionError, attentions_on, use_packed_attention
    from trainables.compute import device_name
    from trainables.measuring import choose_attention, tune
    from trainables.tuning import cached

    key = {
        "model": fingerprint,
        "settings": settings.model_dump(mode="json", exclude={"name", "revision"}),
        "device": device_name(model.device),
        "precision": str(model.dtype),
        "memory_share": memory_share,
        "torch": torch.__version__,
    }

    def measure() -> "Tuning":
        attention: str = settings.attention
        if attention == "auto":
            attention = choose_attention(model.base, model.device, model.dtype)
        usable = attentions_on(model.device, model.dtype)
        if attention not in usable:
            raise AttentionError(
                f"model.attention: {attention!r} cannot be computed on {device_name(model.device)} in "
                f"{model.dtype}; choose from auto, {', '.join(usable)}"
            )
        use_packed_attention(model.base, attention)
        return tune(model, attention=attention, memory_share=memory_share)

    return cached(key, measure)


def _recompute_layers(base: "PreTrainedModel") -> None:
    """Keep each layer's input alone and compute the rest again in the backward pass (Chen et al. 2016)."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    base.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
    for module in base.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = (
                True  # where it looks; the model stays in evaluation mode, without its own dropout
            )


def check_logits(base: "PreTrainedModel") -> None:
    """Raise LogitsError if the model does more to its logits than the output layer does."""
    import torch

    from trainables.losses import LogitsError, hidden_states, model_inputs, output_layer
    from trainables.measuring import probe_batch

    batch = probe_batch([8], lanes=1).to(base.device)
    with torch.inference_mode():
        ours = output_layer(base)(hidden_states(base, batch))
        theirs = base(**model_inputs(batch)).logits
    if not torch.allclose(ours.float(), theirs.float(), rtol=1e-2, atol=1e-2):
        raise LogitsError(
            "the model scales or caps its logits after the output layer, which the chunked loss does not do"
        )


def check_packing(base: "PreTrainedModel") -> None:
    """Raise AttentionError if an example's numbers depend on what it is packed with."""
    import torch

    from trainables.attention import AttentionError
    from trainables.batches import pack
    from trainables.losses import hidden_states
    from trainables.measuring import probe_lane

    lane = probe_lane([8, 5])
    apart = [replace(lane, examples=[example]) for example in lane.examples]
    with torch.inference_mode():
        together, *alone = (
            hidden_states(base, pack([one], token_budget=13)[0].to(base.device))[0].float()
            for one in (lane, *apart)
        )
    expected = torch.cat(alone)
    if (together - expected).norm() > 5e-2 * expected.norm():
        raise AttentionError(
            "an example's hidden states depend on the examples packed beside it: the model mixes tokens by more "
            "than attention"
        )
