"""Preparing a study: what a finished study's run loads, and what its fingerprint says about the code."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from transformers import AutoTokenizer

from sweep.config.study import StudyConfig, validate_study
from sweep.planning import inputs
from sweep.planning.inputs import prepare
from trainables.cache.code_identity import NUMERICS
from trainables.model.lora import adapter_shapes
from trainables.model.lora_files import lora_config
from trainables.model.sources import ModelError, load_empty_model, resolve_model
from trainables.replay.strategies import STRATEGIES

HEAVY = ("torch", "transformers", "tokenizers", "datasets", "peft", "accelerate", "ray", "pandas")
PREPARE = f"""
import json, sys
from sweep.config.study import validate_study
from sweep.planning.inputs import prepare

prepared = prepare(validate_study(json.loads(sys.argv[1]), origin="test"))
print(json.dumps({{
    "heavy": [name for name in {HEAVY} if name in sys.modules],
    "fingerprint": prepared.fingerprint,
    "digests": [prepared.task_a.digest, prepared.task_b.digest],
    "artifact": str(prepared.artifacts[0]),
    "adapter_parameters": prepared.adapter_parameters,
}}))
"""


@pytest.fixture
def own_adapter(study: StudyConfig, tmp_path: Path) -> str:
    """A PEFT adapter of the user's that fits the study."""
    lora = study.model.lora
    lora_config(lora).save_pretrained(str(tmp_path / "adapter"))
    shapes = adapter_shapes(load_empty_model(resolve_model(study.model)), lora)
    weights = {name: np.ones(shape, dtype=np.float32) for name, shape in shapes.items()}
    save_file(weights, tmp_path / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    return str(tmp_path / "adapter")


@pytest.mark.parametrize("brought", [False, True], ids=["trained", "the user's adapter"])
def test_a_study_that_was_prepared_before_is_prepared_without_anything_heavy(
    study_values: dict[str, Any], own_adapter: str, brought: bool
) -> None:
    if brought:
        study_values["phase_a"] = {"adapter": own_adapter}
    prepared = prepare(validate_study(study_values, origin="test"))
    command = [sys.executable, "-c", PREPARE, json.dumps(study_values)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == {
        "heavy": [],
        "fingerprint": prepared.fingerprint,
        "digests": [prepared.task_a.digest, prepared.task_b.digest],
        "artifact": str(prepared.artifacts[0]),
        "adapter_parameters": prepared.adapter_parameters,
    }


def test_an_adapters_size_grows_with_its_rank(study_values: dict[str, Any]) -> None:
    small = prepare(validate_study(study_values, origin="test")).adapter_parameters
    study_values["model"]["lora"]["r"] *= 3
    assert prepare(validate_study(study_values, origin="test")).adapter_parameters == 3 * small


def test_the_fingerprint_names_numerics_and_versions_and_what_each_strategy_does(study: StudyConfig) -> None:
    found = prepare(study).fingerprint
    assert found["engine"] == {"numerics": NUMERICS}
    assert found["code"].keys() == {"torch", "transformers"}
    assert found["code"]["transformers"] == version("transformers")
    assert version("torch").startswith(found["code"]["torch"])
    assert found["strategies"] == {name: STRATEGIES[name].digest for name in ("random", "difficulty_hard")}


def test_what_a_strategy_is_given_is_part_of_it() -> None:
    random = STRATEGIES["random"]
    assert (
        len({random.digest, replace(random, stream="other").digest, STRATEGIES["difficulty_hard"].digest})
        == 3
    )


def test_the_build_of_torch_is_no_part_of_its_version(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prepare(study).fingerprint["code"]
    torch = before["torch"]
    monkeypatch.setattr(inputs, "version", lambda name: f"{torch}+cu999" if name == "torch" else "1")
    assert prepare(study).fingerprint["code"] == before | {"transformers": "1"}


def test_tokens_that_the_embedding_has_not_are_refused(
    study_values: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|user|>"], special_tokens=True)
    tokenizer.chat_template = "<|user|>{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(folder)
    study_values["model"]["name"] = str(folder)
    assert prepare(validate_study(study_values, origin="test"))
    study_values["task_b"]["prompt_format"] = "chat"
    with pytest.raises(
        ModelError, match=r"task multihop: the tokenizer gives token 348, .* has only 348 rows"
    ):
        prepare(validate_study(study_values, origin="test"))


def test_examples_beyond_the_models_positions_are_refused(study_values: dict[str, Any]) -> None:
    study_values["max_length"] = 2049
    with pytest.raises(ModelError, match="max_length must be at most 2048, .* got 2049"):
        prepare(validate_study(study_values, origin="test"))
