"""Checkpoints as people have them: what is not whole, or not the model's, is refused by name."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from trainables.engine.model_fit import check_model
from trainables.model import weight_files
from trainables.model.sources import ModelError, load_base_model, load_empty_model, resolve_model
from trainables.model.weight_files import read_headers
from trainables.model.weight_files import weight_files as find_weights
from trainables.model.weight_names import check_names
from trainables.settings import LoraSettings, ModelSettings

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123\n"
Tensors = dict[str, torch.Tensor]
Change = Callable[[Path], None]


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def check(folder: Path) -> None:
    settings = ModelSettings(name=str(folder), lora=LoraSettings(r=2, alpha=4))
    check_model(resolve_model(settings), settings)


def weights(change: Callable[[Tensors], Tensors]) -> Change:
    """Return what rewrites a model's weights."""

    def rewrite(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return rewrite


def renamed(rename: Callable[[str], str]) -> Change:
    return weights(lambda tensors: {rename(name): tensor for name, tensor in tensors.items()})


def sharded(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    placed = {}
    for number, name in enumerate(sorted(tensors)):
        placed[name] = f"model-0000{1 + number % 2}-of-00002.safetensors"
    for file in set(placed.values()):
        part = {name: tensors[name] for name in placed if placed[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))


def with_a_tail_of_zeros(folder: Path) -> None:
    """Leave the file its length, as a download does that sets its room aside, or a node that lost its
    power.
    """
    weights(lambda tensors: tensors | {"zzz": torch.ones(2**16)})(folder)
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: -(2**16)] + bytes(2**16))


def without_a_shard(folder: Path) -> None:
    sharded(folder)
    shard = folder / "model-00002-of-00002.safetensors"
    shard.rename(shard.with_name(shard.name + ".incomplete"))


def with_an_index_that_lacks(part: str) -> Change:
    def cut(folder: Path) -> None:
        sharded(folder)
        file = folder / "model.safetensors.index.json"
        index = json.loads(file.read_text())
        del index[part]
        file.write_text(json.dumps(index))

    return cut


def with_a_pointer_among_shards(folder: Path) -> None:
    sharded(folder)
    (folder / "model-00002-of-00002.safetensors").write_text(POINTER)


def cut_to(size: Callable[[int], int]) -> Change:
    def cut(folder: Path) -> None:
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: size(len(content))])

    return cut


def configured(**changes: object) -> Change:
    def rewrite(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return rewrite


def with_an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')


def with_a_dead_link(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../../blobs/gone")


NORM = "model.norm.weight"
LAYER = "model.layers.1.self_attn.q_proj.weight"


def holding(number: float) -> Change:
    def spoil(tensors: Tensors) -> Tensors:
        tensors[LAYER].flatten()[5] = number
        return tensors

    return weights(spoil)


REFUSED: dict[str, tuple[Change, str]] = {
    "a prefix": (
        renamed(lambda name: "_orig_mod." + name),
        r"21 of the model's weights are missing .*20 begin with '_orig_mod\.' and fit without it",
    ),
    "another prefix": (renamed(lambda name: "module." + name), r"20 begin with 'module\.'"),
    "one weight missing": (
        weights(lambda tensors: {name: each for name, each in tensors.items() if name != NORM}),
        r"1 of the model's weights are missing \(model\.norm\.weight\)",
    ),
    "one weight too many": (
        weights(lambda tensors: tensors | {"model.layers.0.extra.weight": torch.ones(2)}),
        r"1 are not the model's \(model\.layers\.0\.extra\.weight\)",
    ),
    "another shape": (
        weights(lambda tensors: tensors | {NORM: torch.ones(16)}),
        r"model\.norm\.weight is \(16,\) and must be \(32,\)",
    ),
    "one layer fewer": (configured(num_hidden_layers=3), r"9 of the model's weights are missing"),
    "a head that is not there": (configured(tie_word_embeddings=False), r"missing \(lm_head\.weight\)"),
    "two different ones that are tied": (
        weights(lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}),
        "config.json ties lm_head.weight to model.embed_tokens.weight, but the checkpoint holds two",
    ),
    "NaN": (holding(float("nan")), rf"holds NaN or infinity in 1 weights \({LAYER}\)"),
    "infinity": (holding(float("-inf")), "holds NaN or infinity in 1 weights"),
    "a pointer": (
        lambda folder: void((folder / "model.safetensors").write_text(POINTER)),
        r"model\.safetensors is a git-lfs pointer",
    ),
    "a pointer for the tokenizer": (
        lambda folder: void((folder / "tokenizer.json").write_text(POINTER)),
        r"tokenizer\.json is a git-lfs pointer",
    ),
    "a pointer among shards": (
        with_a_pointer_among_shards,
        "00002-of-00002.safetensors is a git-lfs pointer",
    ),
    "half a file": (cut_to(lambda size: size // 2), "was not copied whole"),
    "one byte less": (cut_to(lambda size: size - 1), "was not copied whole"),
    "a tail of zeros": (with_a_tail_of_zeros, "ends in 65,536 zeros or more"),
    "a type that torch has not": (configured(dtype="float99"), "no configuration could be read .*float99"),
    "a cut header": (cut_to(lambda size: 40), "not a whole safetensors file"),
    "an empty file": (cut_to(lambda size: 0), "is empty"),
    "a missing shard": (
        without_a_shard,
        r"00002-of-00002\.safetensors is not there; .*\.incomplete is a download that did not end",
    ),
    "an index without places": (with_an_index_that_lacks("weight_map"), "not a readable index .*weight_map"),
    "an index without metadata": (with_an_index_that_lacks("metadata"), "not a readable index .*metadata"),
    "an adapter beside": (
        with_an_adapter,
        r"an adapter \(adapter_config\.json\) beside the model's own weights",
    ),
    "a dead link": (with_a_dead_link, "is a link to ../../blobs/gone, which is not there"),
    "integers": (
        weights(lambda tensors: tensors | {LAYER: tensors[LAYER].to(torch.int8)}),
        "as I8: quantised weights",
    ),
    "fp8": (
        weights(lambda tensors: tensors | {LAYER: tensors[LAYER].to(torch.float8_e4m3fn)}),
        "as F8_E4M3: quantised weights",
    ),
    "GPTQ": (configured(quantization_config={"quant_method": "gptq", "bits": 4}), r"quantised \(gptq\)"),
    "bitsandbytes": (
        configured(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        r"quantised \(bitsandbytes\)",
    ),
    "AWQ names": (
        weights(lambda tensors: tensors | {LAYER.replace("weight", "scales"): torch.ones(2)}),
        "Likely it is quantised",
    ),
}


def void(written: int) -> None:
    """Drop what `write_text` returns."""


@pytest.mark.parametrize("kind", REFUSED)
def test_a_checkpoint_that_is_not_the_models_is_refused_with_what_is_wrong(copy: Path, kind: str) -> None:
    change, message = REFUSED[kind]
    change(copy)
    with pytest.raises(ModelError, match=message):
        check(copy)


def in_another_precision(folder: Path) -> None:
    weights(lambda tensors: {name: tensor.bfloat16() for name, tensor in tensors.items()})(folder)


def with_old_buffers(folder: Path) -> None:
    buffers = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "model.layers.0.attn.masked_bias": torch.tensor(-1e9),
        "model.layers.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
    }
    weights(lambda tensors: tensors | buffers)(folder)


def with_both_of_a_tied_pair(folder: Path) -> None:
    weights(lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()})(
        folder
    )


def as_a_hub_snapshot(folder: Path) -> None:
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for file in list(folder.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(Path("..", "blobs", file.name))


def beside_files_that_are_not_read(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_text(POINTER)
    (folder / "consolidated.safetensors").write_text(POINTER)
    (folder / "model.onnx").symlink_to("gone")
    (folder / "model.safetensors.incomplete").write_bytes(b"")


@pytest.mark.parametrize(
    "change",
    [
        sharded,
        beside_files_that_are_not_read,
        in_another_precision,
        with_old_buffers,
        with_both_of_a_tied_pair,
        as_a_hub_snapshot,
        renamed(lambda name: name.removeprefix("model.")),  # as the model without its output layer is saved
    ],
)
def test_a_checkpoint_that_differs_in_form_alone_is_taken(copy: Path, change: Change) -> None:
    change(copy)
    check(copy)
    model = load_base_model(resolve_model(ModelSettings(name=str(copy))), precision="fp32")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    "kind",
    [
        "a prefix",
        "one weight missing",
        "another shape",
        "NaN",
        "two different ones that are tied",
        "half a file",
    ],
)
def test_a_worker_refuses_what_it_loads_as_the_plan_does(copy: Path, kind: str) -> None:
    source = resolve_model(ModelSettings(name=str(copy)))
    REFUSED[kind][0](copy)
    with pytest.raises(ModelError, match="model.name: "):
        load_base_model(source, precision="bf16")


def test_an_adapter_is_no_base_model(tmp_path: Path) -> None:
    with_an_adapter(tmp_path)
    with pytest.raises(ModelError, match=r"is an adapter .*give its base model as model\.name"):
        resolve_model(ModelSettings(name=str(tmp_path)))


def test_weights_are_searched_once_for_what_is_not_finite(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path / "cache"))
    file = copy / "model.safetensors"
    assert weight_files.not_finite(file) == []
    monkeypatch.setattr(weight_files, "_holds_not_finite", lambda stored: pytest.fail("searched again"))
    assert weight_files.not_finite(file) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_found_in_every_type(tmp_path: Path, dtype: torch.dtype, number: float) -> None:
    largest = torch.finfo(dtype).max
    sound = torch.tensor([0.0, -0.0, largest, -largest, torch.finfo(dtype).tiny], dtype=dtype)
    file = tmp_path / "model.safetensors"
    save_file({"sound": sound, "spoilt": torch.cat((sound, torch.tensor([number], dtype=dtype)))}, file)
    assert weight_files.not_finite(file) == ["spoilt"]


@pytest.mark.slow
def test_a_sharded_checkpoint_above_two_gigabytes_is_checked_by_its_headers(tmp_path: Path) -> None:
    """TinyLlama's shapes in two files that have holes where the numbers would be: no byte of them is read."""
    config = LlamaConfig(
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        vocab_size=32000,
    )
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    placed: dict[str, str] = {}
    names = sorted(model.state_dict())
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file, start, header = f"model-0000{number}-of-00002.safetensors", 0, {}
        for name in part:
            shape = list(model.state_dict()[name].shape)
            end = start + 2 * math.prod(shape)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
            placed[name], start = file, end
        text = json.dumps(header).encode()
        with (tmp_path / file).open("wb") as opened:
            opened.write(len(text).to_bytes(8, "little") + text)
            opened.truncate(8 + len(text) + start)
            opened.seek(-weight_files.TAIL, os.SEEK_END)
            opened.write(bytes([1]) * weight_files.TAIL)  # else it looks like a file that was never filled
    index = {"metadata": {}, "weight_map": placed}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    source = resolve_model(ModelSettings(name=str(tmp_path)))
    stored = read_headers(find_weights(tmp_path))
    assert sum(2 * math.prod(each.shape) for each in stored.values()) > 2e9
    check_names(load_empty_model(source), stored, where=str(tmp_path))
    del stored[names[0]]
    with pytest.raises(ModelError, match="missing|lacks"):
        check_names(load_empty_model(source), stored, where=str(tmp_path))
