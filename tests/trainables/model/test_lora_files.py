"""A user's adapter is data: nothing in its directory runs, and what is not plain LoRA is refused with a
reason.
"""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainables.model.lora import LoraModel, adapter_shapes
from trainables.model.lora_files import AdapterError, adapter_files, check_adapter, load_adapter, lora_config
from trainables.settings import LoraSettings

LORA = LoraSettings(r=2, alpha=4, dropout=0.0, target_modules=("q_proj",))
SHAPES = {"base_model.q_proj.lora_A.weight": (2, 8)}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter as PEFT saves it."""
    lora_config(LORA, base_model="tiny").save_pretrained(str(tmp_path))
    save_file(
        {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()},
        tmp_path / "adapter_model.safetensors",
    )
    return tmp_path


def change(adapter: Path, **fields: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def check(adapter: Path) -> str:
    return check_adapter(adapter, lora=LORA, shapes=SHAPES)


def test_an_adapter_as_peft_saves_it_is_taken(adapter: Path) -> None:
    assert len(check(adapter)) == 20


def test_pickled_weights_are_refused_unread(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    (adapter / "adapter_model.bin").write_bytes(b"cbuiltins\nexit\n(I3\ntR.")
    with pytest.raises(
        AdapterError, match=r"adapter_model\.bin, a pickle, which can run any code .*safetensors"
    ):
        check(adapter)


def test_pickled_weights_beside_safetensors_are_never_read(adapter: Path) -> None:
    (adapter / "adapter_model.bin").write_bytes(b"cbuiltins\nexit\n(I3\ntR.")
    assert check(adapter)


def test_fields_that_name_code_or_places_lead_nowhere(adapter: Path) -> None:
    (adapter / "hostile_adapter_code.py").write_text("raise SystemExit('it was imported')")
    sys.path.insert(0, str(adapter))
    try:
        change(
            adapter,
            auto_mapping={"base_model_class": "Anything", "parent_library": "hostile_adapter_code"},
            base_model_name_or_path="../../hostile_adapter_code",
            revision="$(touch pwned)",
            runtime_config={"hostile_adapter_code": True},
        )
        assert check(adapter)
    finally:
        sys.path.remove(str(adapter))
    assert "hostile_adapter_code" not in sys.modules


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_dora": True}, "not plain LoRA, it has use_dora=True"),
        ({"use_rslora": True}, "has scaling='rslora', model.lora.scaling is standard"),
        ({"target_modules": ["q_proj", "k_proj"]}, r"has target_modules=\['k_proj', 'q_proj'\]"),
        ({"bias": "all"}, "bias='all'"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern="),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "megatron_config=.*megatron_core='os'"),
        ({"of_a_later_version": {"__class__": "os.system"}}, "of_a_later_version="),
        ({"peft_type": "ADALORA"}, "peft_type must be 'LORA', got 'ADALORA'"),
        ({"peft_type": ["LORA"]}, "peft_type must be 'LORA'"),
        ({"r": "2"}, "has r='2', model.lora.r is 2"),
        ({"target_modules": "(a+)+$"}, r"has target_modules='\(a\+\)\+\$'"),
        ({"target_modules": [["q_proj"]]}, r"has target_modules=\[\['q_proj'\]\]"),
    ],
)
def test_what_is_not_the_plain_lora_of_the_configuration_is_named(
    adapter: Path, fields: dict[str, Any], message: str
) -> None:
    change(adapter, **fields)
    with pytest.raises(AdapterError, match=message):
        check(adapter)


@pytest.mark.parametrize("content", ["", "[]", "null", "[" * 100_000, "1" * 5000, "{", "\ufffe"])
def test_a_configuration_that_is_none_is_refused(adapter: Path, content: str) -> None:
    (adapter / "adapter_config.json").write_text(content)
    with pytest.raises(
        AdapterError, match="adapter_config.json (cannot be read|is not a LoRA configuration)"
    ):
        check(adapter)


@pytest.fixture
def base(tiny_model: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tiny_model)
    return model


def random_weights(base: PreTrainedModel) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(0)
    shapes = adapter_shapes(base, LORA)
    return {name: drawn.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def write(folder: Path, weights: dict[str, np.ndarray], base_model: str) -> Path:
    folder.mkdir()
    for name, content in adapter_files(weights, lora=LORA, base_model=base_model).items():
        (folder / name).write_bytes(content)
    return folder


def test_peft_reads_what_we_write_and_we_what_it_writes_bit_for_bit(
    base: PreTrainedModel, tiny_model: Path, tmp_path: Path
) -> None:
    weights = random_weights(base)
    ours = write(tmp_path / "ours", weights, str(tiny_model))
    read = get_peft_model_state_dict(PeftModel.from_pretrained(base, ours))
    assert {name: tensor.numpy().tobytes() for name, tensor in read.items()} == {
        name: array.tobytes() for name, array in weights.items()
    }

    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = get_peft_model(plain, lora_config(LORA, base_model=str(tiny_model)))
    set_peft_model_state_dict(model, {name: torch.from_numpy(array) for name, array in weights.items()})
    theirs = tmp_path / "theirs"
    model.save_pretrained(theirs, save_embedding_layers=False)
    file = "adapter_model.safetensors"
    assert (theirs / file).read_bytes() == (ours / file).read_bytes()
    for folder in (ours, theirs):
        loaded = load_adapter(folder)
        assert {name: array.tobytes() for name, array in loaded.items()} == {
            name: array.tobytes() for name, array in weights.items()
        }


@pytest.mark.parametrize(
    "lora",
    [
        LoraSettings(r=4, alpha=6, dropout=0.0, scaling="rslora"),
        LoraSettings(r=2, alpha=6, dropout=0.0, target_modules="all-linear"),
        LoraSettings(r=4, alpha=6, dropout=0.0, target_modules=("down_proj", "v_proj"), scaling="rslora"),
    ],
)
def test_every_shape_of_adapter_computes_in_peft_what_it_does_here(
    base: PreTrainedModel, tiny_model: Path, tmp_path: Path, lora: LoraSettings
) -> None:
    """And the folder that PEFT saves of it fits the same settings."""
    shapes, drawn = adapter_shapes(base, lora), np.random.default_rng(0)
    weights = {name: drawn.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    for name, content in adapter_files(weights, lora=lora, base_model=str(tiny_model)).items():
        (tmp_path / name).write_bytes(content)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path).eval()
    theirs.save_pretrained(tmp_path / "saved", save_embedding_layers=False)
    assert check_adapter(tmp_path / "saved", lora=lora, shapes=shapes)
    ours = LoraModel(base, lora)
    stack = ours.new_stack(1)
    stack.weights[0] = ours.import_weights(weights)
    ours.install(stack)
    tokens = torch.arange(1, 20)[None]
    with torch.inference_mode():
        torch.testing.assert_close(base(tokens).logits, theirs(tokens).logits, rtol=1e-4, atol=1e-4)


def test_all_linear_is_every_linear_layer_but_the_output_layer(base: PreTrainedModel) -> None:
    lora = LoraSettings(r=2, alpha=4, target_modules="all-linear")
    peft = get_peft_model(copy.deepcopy(base), lora_config(lora))
    theirs = {name.replace(".default", "") for name, each in peft.named_parameters() if each.requires_grad}
    assert adapter_shapes(base, lora).keys() == theirs
    assert any("down_proj" in name for name in theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_adapter_in_half_precision_is_read_as_the_same_numbers_in_fp32(
    adapter: Path, dtype: torch.dtype
) -> None:
    half = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    save_tensors({next(iter(SHAPES)): half}, adapter / "adapter_model.safetensors")
    assert check(adapter)
    (array,) = load_adapter(adapter).values()
    assert array.dtype == np.float32
    assert torch.equal(torch.from_numpy(array), half.float())


def test_the_loader_never_asks_for_a_pickle_or_the_hub(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "elsewhere")
    (adapter / "adapter_model.bin").write_bytes(b"cbuiltins\nexit\n(I3\ntR.")
    with pytest.raises(AdapterError, match=r"lacks adapter_model\.safetensors"):
        load_adapter(adapter)


def test_whole_numbers_are_no_adapter(adapter: Path) -> None:
    save_tensors(
        {next(iter(SHAPES)): torch.ones(2, 8, dtype=torch.int8)}, adapter / "adapter_model.safetensors"
    )
    with pytest.raises(AdapterError, match="int8, not a float"):
        load_adapter(adapter)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_another_float_are_read_as_fp32(adapter: Path, dtype: torch.dtype) -> None:
    numbers = torch.linspace(-3, 3, 16).reshape(2, 8).to(dtype)
    save_tensors(dict.fromkeys(SHAPES, numbers), adapter / "adapter_model.safetensors")
    assert check(adapter)
    for array in load_adapter(adapter).values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, numbers.float().numpy())


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_that_are_not_finite_are_refused(adapter: Path, number: float, dtype: torch.dtype) -> None:
    numbers = torch.zeros(2, 8, dtype=dtype)
    numbers[1, 3] = number
    save_tensors(dict.fromkeys(SHAPES, numbers), adapter / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"holds NaN or infinity in 1 of its 1 weights \(base_model"):
        check(adapter)


def test_a_pointer_in_the_place_of_an_adapters_weights_is_called_one(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"
    )
    with pytest.raises(
        AdapterError, match=r"phase_a\.adapter: .* it is a git-lfs pointer: run `git lfs pull`"
    ):
        check(adapter)
