"""LoRA adapters: attaching one to the base model, copying its weights in and out, PEFT files.

Weights travel as NumPy arrays (fp32), so that Ray's object store shares them without a copy.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedModel

from trainables.digests import digest_files
from trainables.settings import LoraSettings

AdapterWeights = dict[str, npt.NDArray[np.float32]]
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


class AdapterError(ValueError):
    """An adapter that does not fit the model or the configuration."""


def lora_config(lora: LoraSettings, *, base_model: str | None = None) -> LoraConfig:
    """Return PEFT's form of the settings."""
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_model,
        inference_mode=False,
    )


def attach_adapter(base: PreTrainedModel, lora: LoraSettings) -> PeftModel:
    """Wrap `base` with a fresh fp32 adapter: B is zero, so the model computes what it did before.

    Raises AdapterError if a target module is not in the model.
    """
    names = {
        name.rpartition(".")[2]
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    absent = [target for target in lora.target_modules if target not in names]
    if absent:
        raise AdapterError(
            f"model.lora.target_modules: {', '.join(absent)} not in the model; its linear modules are "
            f"{', '.join(sorted(names))}"
        )
    model = get_peft_model(base, lora_config(lora))
    assert isinstance(model, PeftModel)
    return model


def initialise_adapter(model: PeftModel, *, seed: int) -> None:
    """Draw A anew (Kaiming uniform, PEFT's rule) and set B to zero."""
    torch.manual_seed(seed)
    for module in model.modules():
        reset = getattr(module, "reset_lora_parameters", None)
        if reset is not None:
            reset("default", init_lora_weights=True)


def adapter_weights(model: PeftModel) -> AdapterWeights:
    """Return a copy of the adapter, named as PEFT names it in files."""
    state = get_peft_model_state_dict(model)
    return {name: tensor.detach().float().cpu().numpy().copy() for name, tensor in state.items()}


def set_adapter_weights(model: PeftModel, weights: AdapterWeights) -> None:
    """Copy `weights` into the model; the arrays themselves stay untouched (they may be shared)."""
    state = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    set_peft_model_state_dict(model, state)


def save_adapter(weights: AdapterWeights, folder: Path, *, lora: LoraSettings, base_model: str) -> None:
    """Write an adapter that `PeftModel.from_pretrained(base, folder)` loads."""
    lora_config(lora, base_model=base_model).save_pretrained(str(folder))
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_adapter(folder: Path) -> AdapterWeights:
    """Read the weights of a PEFT adapter from safetensors."""
    try:
        return load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{folder / WEIGHTS_FILE} is not a readable safetensors file: {error}") from error


def check_adapter(folder: Path, *, lora: LoraSettings, base: PreTrainedModel) -> str:
    """Check that a user's adapter fits `lora` and `base` (which may be on the meta device).

    Returns its digest. Raises AdapterError naming what differs.
    """
    absent = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if absent:
        raise AdapterError(
            f"phase_a.adapter: {folder} lacks {', '.join(absent)}; it must be a PEFT adapter directory"
        )
    _check_config(folder, lora)
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in get_peft_model_state_dict(attach_adapter(base, lora)).items()
    }
    found = {name: array.shape for name, array in load_adapter(folder).items()}
    if found != expected:
        name = min(name for name in {**expected, **found} if expected.get(name) != found.get(name))
        raise AdapterError(
            f"phase_a.adapter: {folder} does not fit the model: {name} is {found.get(name, 'absent')}, "
            f"the model needs {expected.get(name, 'no such weight')}"
        )
    return digest_files([folder / CONFIG_FILE, folder / WEIGHTS_FILE])


def _check_config(folder: Path, lora: LoraSettings) -> None:
    try:
        config = LoraConfig.from_pretrained(str(folder))
    except (TypeError, ValueError, KeyError) as error:
        raise AdapterError(
            f"phase_a.adapter: {folder / CONFIG_FILE} is not a LoRA configuration: {error}"
        ) from error
    assert isinstance(config, LoraConfig)
    pairs: dict[str, tuple[Any, Any]] = {
        "r": (config.r, lora.r),
        "alpha": (config.lora_alpha, lora.alpha),
        "target_modules": (sorted(config.target_modules or []), sorted(lora.target_modules)),
    }
    for name, (found, wanted) in pairs.items():
        if found != wanted:
            raise AdapterError(f"phase_a.adapter: {folder} has {name}={found}, model.lora.{name} is {wanted}")
    if config.use_dora or config.use_rslora or config.bias != "none" or config.modules_to_save:
        raise AdapterError(
            f"phase_a.adapter: {folder} uses DoRA, rsLoRA, biases or modules_to_save; plain LoRA is needed"
        )
