"""Whether a study's model can be trained, before anything is spent: its weights, its layers, its limits.

Answers are kept: a model, adapter shape and code that passed on this machine are not looked at again.
"""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.cache.code_identity import module_digests
from trainables.cache.machine import keep, recall
from trainables.engine.memory import BYTES_PACKED, BYTES_TRAINED, Footprint
from trainables.ledger.digests import digest_json
from trainables.model.sources import ModelSource, load_config, load_empty_model, snapshot_folder
from trainables.model.weight_files import INDEX, WEIGHTS, ModelError, read_headers, weight_files
from trainables.settings import ModelSettings, Precision, Quantization
from trainables.tasks.tokenised import TokenisedExamples

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LIMITS, WHOLE = "model_limits", "whole_models"  # kinds of entries in the machine's cache
# Ways to stretch positions after training: up to `factor` times the original ones, ...
STRETCHED = {"linear", "yarn"}
# ... or with angles that depend on the longest example of a microbatch, beyond the original ones.
SHIFTING = {"dynamic", "longrope"}


@dataclass(frozen=True)
class Limits:
    """What a model's examples must keep to; None where there is no such limit.

    `vocabulary`: rows of the embedding. `positions`: tokens that it has positions for. `window`: tokens that
    its attention reaches back.
    """

    vocabulary: int
    positions: int | None
    window: int | None

    def check_length(self, max_length: int) -> None:
        """Raise ModelError where examples may be longer than the model can read."""
        if self.positions is not None and max_length > self.positions:
            raise ModelError(
                f"max_length must be at most {self.positions}, the positions that the model has, got "
                f"{max_length}"
            )
        if self.window is not None and max_length > self.window:
            raise ModelError(
                f"max_length must be at most {self.window}, the window that the model's attention is limited "
                f"to, got {max_length}"
            )

    def check_tokens(self, examples: TokenisedExamples, *, name: str) -> None:
        """Raise ModelError where an example holds a token that the embedding has no row for."""
        largest = int(examples.tokens.max())
        if largest >= self.vocabulary:
            raise ModelError(
                f"task {name}: the tokenizer gives token {largest}, but the model's embedding has only "
                f"{self.vocabulary} rows: were tokens added to the tokenizer alone (as for a chat template)? "
                "Give the model that was trained with this tokenizer, or another prompt_format"
            )


@dataclass(frozen=True)
class Size:
    """How large a model is: its frozen `parameters`, `linear` of them in layers that can be packed; `layers`,
    `width` numbers wide, each of which keeps `kept` numbers a token for the backward pass.
    """

    parameters: int
    linear: int
    layers: int
    width: int
    kept: float

    def footprint(self, *, precision: Precision, quantization: Quantization, adapter: int) -> Footprint:
        """Return what the model needs of a device, with adapters of so many numbers."""
        number = 2 if precision == "bf16" else 4
        packed = self.linear if quantization == "nf4" else 0
        return Footprint(
            weights=number * (self.parameters - packed) + BYTES_PACKED * packed,
            adapter=BYTES_TRAINED * adapter,
            token=number * self.kept * self.layers,
            state=number * self.width,
            layers=self.layers,
        )


@dataclass(frozen=True)
class ModelFit:
    """What a model that can be trained asks of its examples, and of a device."""

    limits: Limits
    size: Size


def check_model(source: ModelSource, settings: ModelSettings) -> ModelFit:
    """Return what the model's examples must keep to, and how large it is.

    Raises ModelError or AdapterError where the model cannot be trained, or its weights, as far as they are on
    this machine, are not whole.
    """
    key = _key(source, settings)
    kept = recall(LIMITS, key) if key else None
    whole = key is not None and recall(WHOLE, key) is not None
    if kept is not None and whole:
        return _recalled(kept)
    from trainables.engine.trial_model import check_configuration
    from trainables.model.weight_names import unreported

    if source.origin != "gguf":  # whose configuration takes seconds to read, and would be read twice
        check_configuration(load_config(source))
    with unreported():
        empty = load_empty_model(source)
    if source.origin == "gguf":
        check_configuration(empty.config, dequantised=True)
    if not whole and _check_weights(source, empty) and key:
        keep(WHOLE, key, b"")
    with unreported():
        fit = _recalled(kept) if kept is not None else _try(empty, settings)
    if key:
        keep(LIMITS, key, json.dumps(asdict(fit)).encode())
    return fit


def _recalled(kept: bytes) -> ModelFit:
    record = json.loads(kept)
    return ModelFit(Limits(**record["limits"]), Size(**record["size"]))


def _key(source: ModelSource, settings: ModelSettings) -> str | None:
    """Return the key of an answer, None for a model that comes with code of its own: no key covers that."""
    if source.trust_remote_code:
        return None
    return digest_json(
        {
            "model": source.fingerprint,
            "lora": settings.lora.model_dump(mode="json"),
            "code": {name: each for name, each in module_digests().items() if "/tasks/" not in name},
            "versions": {name: version(name) for name in ("accelerate", "torch", "transformers")},
        }
    )


def _check_weights(source: ModelSource, empty: "PreTrainedModel") -> bool:
    """Check the weights against the model; return False where they are not on this machine yet."""
    from trainables.model.weight_names import check_names, check_numbers

    folder = snapshot_folder(source)
    if folder is None:
        return True  # a GGUF file is checked when it is dequantised
    if source.origin == "hub" and not _is_fetched(folder):
        return False
    stored = read_headers(weight_files(folder))
    check_names(empty, stored, where=str(folder))
    check_numbers(empty, stored)
    return True


def _is_fetched(folder: Path) -> bool:
    """Say whether a hub model's weights are in the local cache; what is missing is fetched by workers."""
    if (folder / WEIGHTS).is_file():
        return True
    if not (folder / INDEX).is_file():
        return False
    try:
        weight_files(folder)
    except ModelError:
        return False
    return True


def _try(empty: "PreTrainedModel", settings: ModelSettings) -> ModelFit:
    from torch.nn import Linear

    from trainables.engine.trial_model import try_model

    embedding: Any = empty.get_input_embeddings()
    config: Any = empty.config
    vocabulary, positions = int(embedding.weight.shape[0]), _positions(config)
    empty.tie_weights()
    parameters = sum(weight.numel() for weight in empty.parameters())  # tied ones once
    head = empty.get_output_embeddings()  # type: ignore[no-untyped-call]
    linear = sum(
        module.weight.numel()
        for module in empty.modules()
        if isinstance(module, Linear) and module is not head
    )
    trial = try_model(empty, settings.lora)
    size = Size(parameters, linear, config.num_hidden_layers, config.hidden_size, trial.kept)
    return ModelFit(Limits(vocabulary, positions, trial.window), size)


def _positions(config: Any) -> int | None:
    """Return how many tokens the model has positions for."""
    known = getattr(config, "max_position_embeddings", None)
    if not isinstance(known, int) or known < 1:
        return None
    rope = getattr(config, "rope_parameters", None) or {}
    kind, original = rope.get("rope_type"), rope.get("original_max_position_embeddings")
    if kind in SHIFTING:
        return int(original or known)
    if kind in STRETCHED:
        return max(known, int((original or known) * float(rope.get("factor") or 1)))
    return known
