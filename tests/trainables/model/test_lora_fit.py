"""How large an adapter is, and whether a user's fits: answered from the cache as from the model."""

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from trainables.model import lora_fit
from trainables.model.lora import adapter_shapes
from trainables.model.lora_files import AdapterError, lora_config
from trainables.model.lora_fit import adapter_parameters, fitting_digest
from trainables.model.sources import ModelError, ModelSource, load_empty_model, resolve_model
from trainables.settings import LoraSettings, ModelSettings

LORA = LoraSettings(r=2, alpha=4)


@pytest.fixture
def source(tiny_model: Path) -> ModelSource:
    return resolve_model(ModelSettings(name=str(tiny_model)))


@pytest.fixture
def looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ModelSource]:
    """The models that were built to look at them; the cache is empty."""
    sources: list[ModelSource] = []

    def counting(source: ModelSource) -> object:
        sources.append(source)
        return load_empty_model(source)

    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lora_fit, "load_empty_model", counting)
    return sources


@pytest.fixture
def adapter(source: ModelSource, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    lora_config(LORA).save_pretrained(str(folder))
    shapes = adapter_shapes(load_empty_model(source), LORA)
    weights = {name: np.ones(shape, dtype=np.float32) for name, shape in shapes.items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("lora", [LORA, LoraSettings(r=3, target_modules=("up_proj",))])
def test_the_size_is_the_sum_over_the_adapters_shapes(
    source: ModelSource, lora: LoraSettings, looked: list[ModelSource]
) -> None:
    shapes = adapter_shapes(load_empty_model(source), lora)
    expected = sum(math.prod(shape) for shape in shapes.values())
    assert adapter_parameters(source, lora) == adapter_parameters(source, lora) == expected
    assert len(looked) == 1


def test_another_shape_of_the_adapter_is_looked_at_anew(
    source: ModelSource, looked: list[ModelSource]
) -> None:
    assert adapter_parameters(source, LoraSettings(r=4)) == 2 * adapter_parameters(source, LoraSettings(r=2))
    assert len(looked) == 2


def test_a_target_that_the_model_lacks_is_named_at_every_call(source: ModelSource) -> None:
    for _ in range(2):
        with pytest.raises(AdapterError, match="model.lora.target_modules: nowhere not in the model"):
            adapter_parameters(source, LoraSettings(target_modules=("nowhere",)))


def test_a_model_whose_configuration_cannot_be_read_is_named(source: ModelSource, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    unknown = ModelSource("directory", str(tmp_path), None, "unknown")
    with pytest.raises(ModelError, match="no configuration could be read from directory"):
        adapter_parameters(unknown, LORA)


def test_a_fitting_adapter_is_checked_once_until_it_changes(
    source: ModelSource, adapter: Path, looked: list[ModelSource]
) -> None:
    before = fitting_digest(adapter, source=source, lora=LORA)
    assert fitting_digest(adapter, source=source, lora=LORA) == before
    assert len(looked) == 1
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text() + "\n")
    assert fitting_digest(adapter, source=source, lora=LORA) != before
    assert len(looked) == 2


def test_an_adapter_that_does_not_fit_is_refused_at_every_call(source: ModelSource, adapter: Path) -> None:
    assert fitting_digest(adapter, source=source, lora=LORA)
    for _ in range(2):
        with pytest.raises(AdapterError, match=r"has r=2, model.lora.r is 4"):
            fitting_digest(adapter, source=source, lora=LoraSettings(r=4, alpha=4))
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match=r"lacks adapter_config\.json"):
        fitting_digest(adapter, source=source, lora=LORA)


def test_nothing_is_kept_of_a_model_with_code_of_its_own(
    tiny_model: Path, adapter: Path, looked: list[ModelSource]
) -> None:
    source = resolve_model(ModelSettings(name=str(tiny_model), trust_remote_code=True))
    for _ in range(2):
        adapter_parameters(source, LORA)
        fitting_digest(adapter, source=source, lora=LORA)
    assert len(looked) == 4
