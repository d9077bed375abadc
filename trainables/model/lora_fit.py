"""What a model asks of its adapters: how large one is, and whether a user's fits. Answers are kept.

Only a question that was not asked before on this machine builds the model (without weights) to look.
"""

import math
import socket
from importlib.metadata import version
from pathlib import Path

from trainables.cache.code_identity import module_digests
from trainables.cache.file_digests import remembered_digest
from trainables.cache.machine import keep, recall
from trainables.ledger.digests import digest_files, digest_json
from trainables.model.lora_files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterError,
    AdapterWeights,
    check_adapter,
    load_adapter,
)
from trainables.model.sources import ModelSource, load_empty_model
from trainables.settings import LoraSettings

SIZES, FITTING = "adapter_sizes", "fitting_adapters"  # kinds of entries in the machine's cache
CODE = ("trainables/model/lora_files.py", "trainables/model/lora.py", "trainables/model/sources.py")


def adapter_parameters(source: ModelSource, lora: LoraSettings) -> int:
    """Return the number of LoRA parameters of one adapter.

    Raises AdapterError where a target module is not in the model, ModelError where there is no model.
    """
    key = _key(source, lora)
    kept = recall(SIZES, key) if key else None
    if kept is not None:
        return int(kept)
    count = sum(math.prod(shape) for shape in _shapes(source, lora).values())
    if key:
        keep(SIZES, key, str(count).encode())
    return count


def fitting_digest(folder: Path, *, source: ModelSource, lora: LoraSettings) -> str:
    """Return the digest of the user's adapter in `folder`. Raises AdapterError where it does not fit."""
    files = [folder / CONFIG_FILE, folder / WEIGHTS_FILE]
    if all(file.is_file() for file in files):
        digest = digest_files(files, digest=remembered_digest)
        key = _key(source, lora, digest)
        if key and recall(FITTING, key) is not None:
            return digest
    digest = check_adapter(folder, lora=lora, shapes=_shapes(source, lora))
    key = _key(source, lora, digest)
    if key:
        keep(FITTING, key, b"")
    return digest


def read_fitting(folder: Path, digest: str | None) -> AdapterWeights:
    """Return the weights of the user's adapter in `folder`. Raises AdapterError where it is not that of
    `digest`.

    A path may lead to another one on another machine.
    """
    weights = load_adapter(folder)
    files = [file for file in (folder / CONFIG_FILE, folder / WEIGHTS_FILE) if file.is_file()]
    found = digest_files(files, digest=remembered_digest)
    if found != digest:
        raise AdapterError(
            f"phase_a.adapter: {folder} on {socket.gethostname()} is another adapter than the driver's"
        )
    return weights


def _key(source: ModelSource, lora: LoraSettings, adapter: str | None = None) -> str | None:
    """Return the key of an answer, None for a model that comes with code of its own: no key covers that."""
    if source.trust_remote_code:
        return None
    return digest_json(
        {
            "model": source.fingerprint,
            "lora": lora.model_dump(mode="json"),
            "adapter": adapter,
            "code": {name: module_digests()[name] for name in CODE},
            "transformers": version("transformers"),
        }
    )


def _shapes(source: ModelSource, lora: LoraSettings) -> dict[str, tuple[int, int]]:
    from trainables.model.lora import adapter_shapes

    return adapter_shapes(load_empty_model(source), lora)
