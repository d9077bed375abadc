"""What cannot be trained is refused before anything is spent, with the reason; what can be is asked once."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from trainables.engine import model_fit
from trainables.engine.model_fit import Limits, check_model
from trainables.engine.trial_model import check_configuration
from trainables.model.lora_files import AdapterError
from trainables.model.sources import ModelError, load_empty_model, resolve_model
from trainables.settings import LoraSettings, ModelSettings

BASE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
GROUPED = BASE | {"num_key_value_heads": 2}
MLA = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6} | {
    "num_key_value_heads": 4,
    "first_k_dense_replace": 3,
}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 1}


@dataclass(frozen=True)
class Model:
    """A model of random weights: its configuration's class and values, and what of it is adapted."""

    config: str
    values: dict[str, Any]
    targets: tuple[str, ...] = ("q_proj", "v_proj")

    def check(self, folder: Path) -> Limits:
        config = getattr(transformers, self.config)(**self.values)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        return check_folder(folder, *self.targets)


def check_folder(folder: Path, *targets: str) -> Limits:
    settings = ModelSettings(name=str(folder), lora=LoraSettings(r=2, alpha=4, target_modules=targets))
    return check_model(resolve_model(settings), settings).limits


REFUSED: dict[str, tuple[Model, str]] = {
    "convolutions": (
        Model("Lfm2Config", GROUPED | {"layer_types": ["full_attention", "full_attention", "conv"]}),
        "the model mixes tokens by more than attention",
    ),
    "states": (
        Model("MambaConfig", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
        "must give num_attention_heads as a whole number, got None",
    ),
    "attention of its own": (
        Model("BloomConfig", {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
        "BloomForCausalLM computes its attention in code of its own",
    ),
    "attention without bounds": (
        Model("NemotronConfig", GROUPED),
        "does not tell its attention where packed examples end",
    ),
    "keys and values of two widths": (
        Model("DeepseekV3Config", BASE | MLA, ("o_proj",)),
        "keys are 12 wide and its values 6: packed attention takes heads of one width",
    ),
    "an encoder": (
        Model("CamembertConfig", BASE, ("query", "value")),
        "its own attention is not the causal one .* it looks ahead",
    ),
    "the output layer": (
        Model("LlamaConfig", GROUPED, ("q_proj", "lm_head")),
        "model.lora.target_modules: lm_head is the output layer",
    ),
    "Conv1D": (Model("GPT2Config", GPT2, ("c_attn",)), r"transformer\.h\.0\.attn\.c_attn is a Conv1D"),
    "no such module": (Model("LlamaConfig", GROUPED, ("query",)), "query not in the model"),
    "attention sinks": (
        Model("GptOssConfig", GROUPED | {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1}),
        "the model's attention needs s_aux",
    ),
    "capped logits": (
        Model("Gemma2Config", GROUPED | {"head_dim": 8, "final_logit_softcapping": 30.0}),
        r"caps or scales its logits .*\(final_logit_softcapping=30\.0\)",
    ),
    "scaled logits": (
        Model("GraniteConfig", GROUPED | {"logits_scaling": 1.001}),
        r"caps or scales its logits .*\(logits_scaling=1\.001\)",
    ),
    "multiplied logits": (Model("CohereConfig", GROUPED), r"\(logit_scale=0\.0625\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_trained_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    model, message = REFUSED[kind]
    with pytest.raises((ModelError, AdapterError), match=message) as caught:
        model.check(tmp_path)
    assert "packed_" not in str(caught.value)


TAKEN: dict[str, tuple[Model, tuple[int | None, int | None]]] = {
    "llama": (Model("LlamaConfig", GROUPED), (2048, None)),
    "qwen": (Model("Qwen3Config", GROUPED | {"head_dim": 8}), (32768, None)),
    "experts": (Model("MixtralConfig", GROUPED | {"num_local_experts": 2}), (131072, None)),
    "neox": (Model("GPTNeoXConfig", BASE, ("query_key_value",)), (2048, None)),
    "positions that are learned": (
        Model("OPTConfig", {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "vocab_size": 64}
              | {"num_attention_heads": 4, "word_embed_proj_dim": 32}),
        (2048, None),
    ),
    "a window": (Model("MistralConfig", GROUPED | {"sliding_window": 512}), (131072, 512)),
    "a window in the last layer": (
        Model(
            "Qwen2Config",
            GROUPED | {"use_sliding_window": True, "sliding_window": 99, "max_window_layers": 2},
        ),
        (32768, 99),
    ),
    "stretched positions": (
        Model("LlamaConfig", GROUPED | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),  # noqa: E501
        (4096, None),
    ),
    "positions that depend on the longest": (
        Model("LlamaConfig", GROUPED | {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),  # noqa: E501
        (2048, None),
    ),
    "gated attention": (
        Model("AfmoeConfig", GROUPED | {"head_dim": 8, "num_dense_layers": 3, "layer_types": ["full_attention"] * 3}),  # noqa: E501
        (16384, None),
    ),
    "neutral scales": (Model("GraniteConfig", GROUPED | {"logits_scaling": 1.0}), (2048, None)),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAKEN)
def test_what_can_be_trained_is_taken_with_its_limits(tmp_path: Path, kind: str) -> None:
    model, (positions, window) = TAKEN[kind]
    assert model.check(tmp_path) == Limits(64, positions, window)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (transformers.T5Config(), "has an encoder of its own"),
        (transformers.Qwen2_5_VLConfig(), r"wraps several models \(text_config, vision_config\)"),
        (transformers.Llama4TextConfig(), "attends within chunks of 8192 tokens"),
        (transformers.LlamaConfig(quantization_config={"quant_method": "fp8"}), r"quantised \(fp8\)"),
    ],
)
def test_a_configuration_alone_shows_what_cannot_be_trained(config: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_configuration(config)


def test_a_model_that_is_no_language_model_is_named_without_a_list_of_all(tmp_path: Path) -> None:
    AutoConfig.for_model("vit").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelError) as caught:
        load_empty_model(resolve_model(ModelSettings(name=str(tmp_path))))
    assert "a 'vit' model, which is no causal language model" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("width", [33, "thirty-two"])
def test_a_configuration_that_contradicts_itself_is_named(
    tiny_model: Path, tmp_path: Path, width: object
) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text()) | {"hidden_size": width}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="model.name: "):
        check_folder(tmp_path, "q_proj")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(10, 99, None), "at most 99, the positions that the model has, got 100"),
        (Limits(10, 1000, 64), "at most 64, the window that the model's attention is limited to, got 100"),
    ],
)
def test_longer_examples_than_the_model_reads_are_refused(limits: Limits, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        limits.check_length(100)
    Limits(10, 100, 100).check_length(100)


def test_a_model_is_looked_at_once(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path))
    limits = check_folder(tiny_model, "q_proj")
    monkeypatch.setattr(model_fit, "load_empty_model", lambda source: pytest.fail("looked at again"))
    assert check_folder(tiny_model, "q_proj") == limits


COMMIT = "0123abcd" * 5


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local snapshot of a hub model, of which the small files are there; the hub cannot be asked."""
    model = tmp_path / "hub" / "models--owner--name"
    snapshot = Path(shutil.copytree(tiny_model, model / "snapshots" / COMMIT))
    (snapshot / "model.safetensors").rename(tmp_path / "weights")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path / "cache"))
    return snapshot


def check_hub() -> Limits:
    settings = ModelSettings(name="owner/name", lora=LoraSettings(r=2))
    return check_model(resolve_model(settings), settings).limits


def test_a_hub_models_weights_are_checked_once_they_are_here(hub: Path, tmp_path: Path) -> None:
    limits = check_hub()
    (hub / "model.safetensors").write_bytes((tmp_path / "weights").read_bytes()[:-1])
    with pytest.raises(ModelError, match="was not copied whole"):
        check_hub()
    (hub / "model.safetensors").write_bytes((tmp_path / "weights").read_bytes())
    assert check_hub() == limits
    (hub / "model.safetensors").unlink()
    assert check_hub() == limits  # a commit's files stay what they were


def test_an_adapter_beside_a_hub_models_weights_is_refused(hub: Path) -> None:
    (hub / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(
        ModelError, match=r"an adapter \(adapter_config\.json\) beside the model's own weights"
    ):
        check_hub()


def test_a_library_gives_no_advice_on_a_model_that_is_only_tried(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    monkeypatch.setattr(model_fit, "recall", lambda kind, key: None)
    for name in ("load_empty_model", "_try"):
        monkeypatch.setattr(model_fit, name, listening(getattr(model_fit, name), heard))
    before = transformers.logging.get_verbosity()
    check_folder(tiny_model, "q_proj")
    assert heard == [transformers.logging.ERROR] * 2
    assert transformers.logging.get_verbosity() == before


def listening(function: Callable[..., Any], heard: list[int]) -> Callable[..., Any]:
    """Return the function as one that notes from which level on transformers reports when it is called."""

    def call(*inputs: Any) -> Any:
        heard.append(transformers.logging.get_verbosity())
        return function(*inputs)

    return call
