"""Whether a model can be trained here: its configuration is read, and a cut-down copy of random weights
computed.

The copy has as many of the model's layers as hold one of every kind, at full width, and goes the way that
a worker's model goes.
"""

import math
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, PreTrainedModel

from trainables.engine.autotune import kept_bytes, probe_batch
from trainables.engine.session import check_logits, check_packing
from trainables.model.attention import ATTENTIONS, AttentionError, use_packed_attention
from trainables.model.fused_layers import slim
from trainables.model.lora import LoraModel, accumulate_gradients
from trainables.model.lora_files import AdapterError
from trainables.model.loss import LogitsError, hidden_states, supervised_nll
from trainables.model.sources import UNBUILDABLE
from trainables.model.weight_files import ModelError
from trainables.settings import LoraSettings

TRIAL_TOKENS = 16  # fewer than any vocabulary has
TRIAL_ATTENTION = "packed_trial"  # not the name of a library that transformers would look for
WIDTHS = ("num_hidden_layers", "num_attention_heads", "hidden_size")  # what measuring a device reads
# Settings by which architectures cap or scale their logits after the output layer; these values do nothing.
LOGIT_SETTINGS = (
    "final_logit_softcapping",
    "logits_soft_cap",
    "output_logit_soft_cap",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier",
)
NEUTRAL = (None, 1)
SAME = 1e-3  # relative difference of hidden states that rounding to fp32 explains
# By what layers of one structure can differ.
KINDS = ("attention_type", "is_sliding", "layer_type", "sliding_window")


def check_configuration(config: Any, *, dequantised: bool = False) -> None:
    """Raise ModelError for a model that its configuration alone shows cannot be trained here.

    `dequantised`: what the configuration says about quantised weights has been undone.
    """
    kind = f"a {config.model_type!r} model"
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"model.name: {kind} has an encoder of its own; a decoder-only language model is needed"
        )
    if config.get_text_config(decoder=True) is not config:
        parts = ", ".join(sorted(config.sub_configs))
        raise ModelError(
            f"model.name: {kind} wraps several models ({parts}); a text-only language model is needed, such "
            "as its text part saved alone"
        )
    if not dequantised:
        _refuse_quantised(config)
    for name in WIDTHS:
        value = getattr(config, name, None)
        if type(value) is not int or value < 1:
            raise ModelError(
                f"model.name: the configuration of {kind} must give {name} as a whole number, got "
                f"{value!r:.60}: only models of attention layers of one width can be trained here"
            )
    for name in LOGIT_SETTINGS:
        value = getattr(config, name, None)
        if value not in NEUTRAL:
            raise ModelError(
                f"model.name: {kind} caps or scales its logits after the output layer ({name}={value}), "
                "which the loss here does not do"
            )
    if getattr(config, "attention_chunk_size", None):
        raise ModelError(
            f"model.name: {kind} attends within chunks of {config.attention_chunk_size} tokens, which "
            "attention over packed examples does not do"
        )


def _refuse_quantised(config: Any) -> None:
    quantised = getattr(config, "quantization_config", None) or getattr(config, "compression_config", None)
    if quantised:
        named = quantised if isinstance(quantised, dict) else vars(quantised)
        method = named.get("quant_method", "a method that is not named")
        raise ModelError(
            f"model.name: the checkpoint is quantised ({getattr(method, 'value', method)}): quantised "
            "weights cannot be trained here; give the model in bf16, fp16 or fp32"
        )


class Trial(NamedTuple):
    """The smallest attention window of a model, None where all attend to everything; and the numbers a token
    and layer that its forward pass keeps for the backward pass.
    """

    window: int | None
    kept: float


def try_model(empty: PreTrainedModel, lora: LoraSettings) -> Trial:
    """Compute a cut-down copy of `empty`, a model on the meta device.

    Changes `empty`. Raises AdapterError or ModelError where it cannot be trained.
    """
    if not getattr(empty, "_supports_attention_backend", False):
        raise ModelError(
            f"model.name: {type(empty).__name__} computes its attention in code of its own, which cannot "
            "keep packed examples apart; an architecture with exchangeable attention is needed"
        )
    if not isinstance(empty.get_output_embeddings(), torch.nn.Linear):  # type: ignore[no-untyped-call]
        raise ModelError(f"model.name: {type(empty).__name__} has no linear output layer over its vocabulary")
    empty.eval()  # type: ignore[no-untyped-call]
    layers = _cut_layers(empty)
    _fill(empty)
    try:
        expected = _states(empty, attention="eager")
        slim(empty)
        use_packed_attention(empty, "eager")
        _check_attention(empty, expected)
        check_packing(empty)
        _raise_logits(empty)
        check_logits(empty)
        window = _smallest_window(empty)
        use_packed_attention(empty, "eager")
        model = LoraModel(empty, lora)
        accumulate_gradients(supervised_nll(model, probe_batch([8], runs=1)).sum())
        return Trial(window, kept_bytes(model, tokens=TRIAL_TOKENS) / model.dtype.itemsize / layers)
    except AdapterError:
        raise
    except (AttentionError, LogitsError) as error:
        raise ModelError(f"model.name: {type(empty).__name__}: {error}") from error
    except UNBUILDABLE as error:  # from code of the architecture
        raise ModelError(
            f"model.name: {type(empty).__name__} cannot be computed on packed examples: "
            f"{type(error).__name__}: {error!s:.500}"
        ) from error


def _cut_layers(model: PreTrainedModel) -> int:
    """Keep the first layers, up to where every kind has come; return how many these are."""
    count = model.config.num_hidden_layers
    for module in model.get_decoder().modules():  # type: ignore[no-untyped-call]
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ModuleList) and len(child) == count:
                kinds = [_kind(layer) for layer in child]
                needed = 1 + max(kinds.index(kind) for kind in set(kinds))
                setattr(module, name, child[:needed])
                return needed
    return int(count)


def _kind(layer: torch.nn.Module) -> tuple[Any, ...]:
    return tuple(
        (name, type(module), *(str(vars(module).get(field)) for field in KINDS))
        for name, module in layer.named_modules()
    )


def _fill(model: PreTrainedModel) -> None:
    """Give every weight on the meta device random numbers of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(0)
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is None:
                continue
            if id(weight) not in made:
                numbers = torch.zeros(weight.shape) if name == "bias" else torch.ones(weight.shape)
                if weight.ndim > 1:
                    numbers.normal_(std=1 / math.sqrt(weight.shape[-1]), generator=generator)
                made[id(weight)] = torch.nn.Parameter(numbers, requires_grad=False)
            module._parameters[name] = made[id(weight)]


def _states(model: PreTrainedModel, *, attention: str) -> torch.Tensor:
    """Return the hidden states of one example, with an attention that transformers knows by this name."""
    model.set_attn_implementation(attention)
    with torch.inference_mode():
        return hidden_states(model, probe_batch([8], runs=1))


def _check_attention(model: PreTrainedModel, expected: torch.Tensor) -> None:
    """Raise AttentionError where the model's own attention gives other hidden states than ours."""
    with torch.inference_mode():
        ours = hidden_states(model, probe_batch([8], runs=1))
    if (ours - expected).norm() > SAME * expected.norm():
        raise AttentionError(
            "its own attention is not the causal one that is computed here: it looks ahead, as an encoder's "
            "does, or is weighted by more than queries and keys"
        )


def _raise_logits(model: PreTrainedModel) -> None:
    """Let logits be so large that a cap on them shows."""
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight.mul_(1000.0)


def _smallest_window(model: PreTrainedModel) -> int | None:
    """Return the smallest window that a layer asks its attention for, None where all attend to everything."""
    windows: list[int] = []

    def attend(*inputs: Any, sliding_window: int | None = None, **options: Any) -> Any:
        if sliding_window is not None:
            windows.append(sliding_window)
        return ATTENTIONS["eager"](*inputs, **options)

    AttentionInterface.register(TRIAL_ATTENTION, attend)
    _states(model, attention=TRIAL_ATTENTION)
    return min(windows, default=None)
