"""Models to measure: one that can be downloaded or lies here, or random weights in a known model's shape."""

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from trainables.engine.compile import compile_layers
from trainables.engine.compute_plan import ComputePlan
from trainables.engine.device import Compute, choose_precision
from trainables.engine.session import make_trainable
from trainables.model.lora import LoraModel
from trainables.model.sources import load_base_model, resolve_model
from trainables.settings import ModelSettings

SHAPES: dict[str, dict[str, Any]] = {
    "tinyllama-shape": {  # TinyLlama-1.1B
        "hidden_size": 2048,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "intermediate_size": 5632,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    },
    "smollm2-shape": {  # SmolLM2-135M
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "tiny-shape": {  # for dry runs
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 512,
        "tie_word_embeddings": True,
    },
}


def open_model(
    name: str, device: torch.device, *, compiled: bool = False
) -> tuple[LoraModel, Compute, ComputePlan]:
    """Return a model of SHAPES, or what `name` means to a study, as a worker would train it on `device`.

    `compiled` layers are compiled at their first use. Raises ModelError where the model is not found.
    """
    settings = ModelSettings(name=name)
    precision = choose_precision("auto", device)
    if name in SHAPES:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        base, fingerprint = random_base(device=device, dtype=dtype, **SHAPES[name]), f"random:{name}"
    else:
        source = resolve_model(settings)
        base, fingerprint = load_base_model(source, precision=precision), source.fingerprint
        base.to(device)  # type: ignore[arg-type]
    model, compute_plan = make_trainable(base, settings, compute_plan=None, fingerprint=fingerprint)
    if compiled:
        compile_layers(model.base)
        compute_plan = replace(compute_plan, compiled=True)
    return model, Compute(device, precision, dict(compute_plan.tokens)), compute_plan


def random_base(*, device: torch.device, dtype: torch.dtype, seed: int = 0, **sizes: Any) -> PreTrainedModel:
    """Return a Llama with random weights; `sizes` are LlamaConfig's."""
    torch.manual_seed(seed)
    with torch.device(device):
        base: PreTrainedModel = AutoModelForCausalLM.from_config(LlamaConfig(**sizes), dtype=dtype)  # type: ignore[no-untyped-call]
    base.config.use_cache = False
    return base
