"""LoRA adapters as files in PEFT's format.

Weights travel as NumPy arrays (fp32), so that Ray's object store shares them without a copy.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from trainables.digests import digest_files
from trainables.settings import LoraSettings

if TYPE_CHECKING:
    from peft import LoraConfig

AdapterWeights = dict[str, npt.NDArray[np.float32]]  # by PEFT's names
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


class AdapterError(ValueError):
    """An adapter that does not fit the model or the configuration."""


def lora_config(lora: LoraSettings, *, base_model: str | None = None) -> "LoraConfig":
    """Return PEFT's form of the settings."""
    from peft import LoraConfig

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


def adapter_files(weights: AdapterWeights, *, lora: LoraSettings, base_model: str) -> dict[str, bytes]:
    """Return the files of a folder that `PeftModel.from_pretrained(base, folder)` loads, by name."""
    with TemporaryDirectory() as folder:
        lora_config(lora, base_model=base_model).save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return files | {WEIGHTS_FILE: save(weights, metadata={"format": "pt"})}


def load_adapter(folder: Path) -> AdapterWeights:
    """Read the weights of a PEFT adapter from safetensors."""
    try:
        return load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{folder / WEIGHTS_FILE} is not a readable safetensors file: {error}") from error


def check_adapter(folder: Path, *, lora: LoraSettings, shapes: dict[str, tuple[int, int]]) -> str:
    """Check that a user's adapter fits `lora` and has the weights that `shapes` names.

    Returns its digest. Raises AdapterError naming what differs.
    """
    absent = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if absent:
        raise AdapterError(
            f"phase_a.adapter: {folder} lacks {', '.join(absent)}; it must be a PEFT adapter directory"
        )
    _check_config(folder, lora)
    found = {name: array.shape for name, array in load_adapter(folder).items()}
    if found != shapes:
        name = min(name for name in {**shapes, **found} if shapes.get(name) != found.get(name))
        raise AdapterError(
            f"phase_a.adapter: {folder} does not fit the model: {name} is {found.get(name, 'absent')}, "
            f"the model needs {shapes.get(name, 'no such weight')}"
        )
    return digest_files([folder / CONFIG_FILE, folder / WEIGHTS_FILE])


def _check_config(folder: Path, lora: LoraSettings) -> None:
    from peft import LoraConfig

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
