"""LoRA adapters as files in PEFT's format: PEFT's own loader reads them, its configuration class describes
them.

Weights travel as NumPy arrays (fp32), so that Ray's object store shares them without a copy.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import save

from trainables.ledger.digests import digest_files
from trainables.ledger.errors import UserError
from trainables.model.weight_files import is_pointer
from trainables.settings import ALL_LINEAR, LoraSettings

if TYPE_CHECKING:
    from peft import LoraConfig

AdapterWeights = dict[str, npt.NDArray[np.float32]]  # by PEFT's names
WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_WEIGHTS = "adapter_model.bin"
CONFIG_FILE = "adapter_config.json"

# Fields of a PEFT configuration: compared with `model.lora`; without meaning for finished weights; and what
# the others may hold in a plain LoRA adapter (Hu et al. 2021).
COMPARED = {"peft_type", "r", "lora_alpha", "target_modules", "use_rslora"}
INERT = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "peft_version",
    "revision",
    "runtime_config",
}
NOTHING: tuple[Any, ...] = (None, False, [], {})
PLAIN: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian"),
    "megatron_core": ("megatron.core",),
    "qalora_group_size": (16,),
    "task_type": ("CAUSAL_LM",),
}


class AdapterError(UserError):
    """An adapter that does not fit the model or the configuration."""


def lora_config(lora: LoraSettings, *, base_model: str | None = None) -> "LoraConfig":
    """Return PEFT's form of the settings."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=ALL_LINEAR if lora.all_linear else list(lora.target_modules),
        use_rslora=lora.scaling == "rslora",
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_model,
        inference_mode=False,
    )


def adapter_files(weights: AdapterWeights, *, lora: LoraSettings, base_model: str) -> dict[str, bytes]:
    """Return the files of a folder that `PeftModel.from_pretrained(base, folder)` loads, by name.

    The weights' file is byte for byte what `PeftModel.save_pretrained` writes of such an adapter, which needs
    a whole PeftModel for it.
    """
    with TemporaryDirectory() as folder:
        lora_config(lora, base_model=base_model).save_pretrained(folder)
        config = json.loads(Path(folder, CONFIG_FILE).read_text())
    config["target_modules"] = _last_names(
        _adapted_modules(weights)
    )  # PEFT keeps a set: another order in every process
    files = {CONFIG_FILE: (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()}
    return files | {WEIGHTS_FILE: save(weights, metadata={"format": "pt"})}


def load_adapter(folder: Path) -> AdapterWeights:
    """Read the weights of a PEFT adapter from safetensors, in fp32 whatever precision they were saved in.

    Raises AdapterError where there is no such file (PEFT would unpickle one, or ask the hub), or it is not
    one of numbers.
    """
    from peft.utils.save_and_load import load_peft_weights

    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise AdapterError(f"phase_a.adapter: {folder} lacks {WEIGHTS_FILE}")
    try:
        tensors = load_peft_weights(str(folder), device="cpu")
    except (OSError, SafetensorError) as error:
        why = "it is a git-lfs pointer: run `git lfs pull`" if is_pointer(file) else error
        raise AdapterError(f"phase_a.adapter: {file} is not a readable safetensors file: {why}") from error
    whole = sorted(name for name, tensor in tensors.items() if not tensor.is_floating_point())
    if whole:
        raise AdapterError(
            f"phase_a.adapter: {file} holds {whole[0]} in {tensors[whole[0]].dtype}, not a float"
        )
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def check_adapter(folder: Path, *, lora: LoraSettings, shapes: dict[str, tuple[int, int]]) -> str:
    """Check that a user's adapter fits `lora` and has the weights that `shapes` names.

    Returns its digest. Raises AdapterError naming what differs.
    """
    absent = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if WEIGHTS_FILE in absent and (folder / PICKLED_WEIGHTS).is_file():
        raise AdapterError(
            f"phase_a.adapter: {folder} holds its weights as {PICKLED_WEIGHTS}, a pickle, which can run any "
            f"code when it is read; save it anew as {WEIGHTS_FILE} where you trust it"
        )
    if absent:
        raise AdapterError(
            f"phase_a.adapter: {folder} lacks {', '.join(absent)}; it must be a PEFT adapter directory"
        )
    _check_config(folder, lora, modules=_adapted_modules(shapes))
    weights = load_adapter(folder)
    found = {name: array.shape for name, array in weights.items()}
    if found != shapes:
        name = min(name for name in {**shapes, **found} if shapes.get(name) != found.get(name))
        raise AdapterError(
            f"phase_a.adapter: {folder} does not fit the model: {name} is {found.get(name, 'absent')}, "
            f"the model needs {shapes.get(name, 'no such weight')}"
        )
    broken = sorted(name for name, array in weights.items() if not np.isfinite(array).all())
    if broken:
        raise AdapterError(
            f"phase_a.adapter: {folder} holds NaN or infinity in {len(broken)} of its {len(weights)} weights "
            f"({', '.join(broken[:3])}{', ...' if len(broken) > 3 else ''}): its training diverged, or its "
            "file is damaged"
        )
    return digest_files([folder / CONFIG_FILE, folder / WEIGHTS_FILE])


def _adapted_modules(names: Iterable[str]) -> set[str]:
    """Return the names of the modules whose factors have these PEFT names."""
    return {name.rpartition(".lora_")[0] for name in names}


def _last_names(modules: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in modules})


def _check_config(folder: Path, lora: LoraSettings, *, modules: set[str]) -> None:
    """Compare the user's configuration with ours, which alone is used: nothing in it is imported or loaded.

    `modules` are those to be adapted.
    """
    config = _read_config(folder / CONFIG_FILE)
    targets = _in_order(config.get("target_modules"))
    pairs: dict[str, tuple[Any, Any]] = {
        "r": (config.get("r"), lora.r),
        "alpha": (config.get("lora_alpha"), lora.alpha),
        "target_modules": (targets, targets if _are_targets(targets, modules) else _last_names(modules)),
        "scaling": ("rslora" if config.get("use_rslora") else "standard", lora.scaling),
    }
    for name, (found, wanted) in pairs.items():
        if found != wanted:
            raise AdapterError(
                f"phase_a.adapter: {folder} has {name}={found!r:.200}, model.lora.{name} is {wanted}"
            )
    strange = sorted(name for name in config.keys() - COMPARED - INERT if config[name] not in NOTHING)
    strange = [name for name in strange if config[name] not in PLAIN.get(name, ())]
    if strange:
        shown = ", ".join(f"{name}={config[name]!r:.60}" for name in strange[:5])
        raise AdapterError(f"phase_a.adapter: {folder} is not plain LoRA, it has {shown:.500}")


def _are_targets(targets: Any, modules: set[str]) -> bool:
    """Say whether PEFT's `targets`, each the end of some names, stand for these modules and no other."""
    if targets == ALL_LINEAR or not isinstance(targets, list):
        return bool(targets == ALL_LINEAR)  # the weights' names, compared later, say of which model
    if not all(isinstance(target, str) for target in targets):
        return False
    chosen = {target: {name for name in modules if f".{name}".endswith(f".{target}")} for target in targets}
    return all(chosen.values()) and set().union(*chosen.values()) == modules


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"phase_a.adapter: {path} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else config
        raise AdapterError(
            f"phase_a.adapter: {path} is not a LoRA configuration: peft_type must be 'LORA', got {kind!r:.60}"
        )
    return config


def _in_order(names: Any) -> Any:
    """Return a list of names sorted, anything else as it is."""
    plain = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return sorted(names) if plain else names
