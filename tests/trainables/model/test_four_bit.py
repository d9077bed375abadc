"""Frozen layers in 4 bits: the numbers of PEFT over transformers' own packing, and a study on them."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model, set_peft_model_state_dict
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from sweep.config.study import validate_study
from sweep.planning.inputs import prepare
from tests.trainables.learning import artifact_of, learn, run_cell
from trainables.engine.autotune import probe_run
from trainables.engine.session import forget_session
from trainables.model.attention import use_packed_attention
from trainables.model.four_bit import BLOCK, KIND, FourBitLinear, dense, pack_layers
from trainables.model.fused_layers import slim
from trainables.model.lora import LoraModel, accumulate_gradients, adapter_shapes
from trainables.model.lora_files import lora_config
from trainables.model.loss import supervised_nll
from trainables.model.packing import AdapterBatch, pack
from trainables.model.weight_files import ModelError
from trainables.settings import LoraSettings

LORA = LoraSettings(r=3, alpha=5, dropout=0.0, target_modules=("q_proj", "down_proj"))
CPU = torch.device("cpu")


def packed(tiny_model: Path) -> PreTrainedModel:
    base: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tiny_model)
    slim(base)
    pack_layers(base, device=CPU)
    return base


@pytest.fixture
def wide_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model whose rows end with a block's: bitsandbytes' own layers compute others wrongly on AVX-512."""
    config = AutoConfig.from_pretrained(tiny_model)
    config.hidden_size, config.intermediate_size, config.head_dim = 64, 128, 16
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "wide")
    return tmp_path / "wide"


@pytest.mark.parametrize("shape", [(32, 32), (16, 32), (5, 24), (64, 192), (3, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_is_unpacked_as_nf4_says_whatever_its_shape(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """Fault: on AVX-512, rows that no block of 64 ends with were unpacked wrongly, and nothing said so."""
    import bitsandbytes.functional as theirs

    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    packed, scales = torch.ops.bitsandbytes.quantize_4bit(drawn, BLOCK, KIND, torch.uint8)
    code = theirs.get_4bit_type(KIND, device="cpu")
    halves = packed.flatten().long()
    numbers = code[torch.stack([halves >> 4, halves & 15], dim=-1).flatten()][: drawn.numel()]
    expected = (numbers * scales.repeat_interleave(BLOCK)[: drawn.numel()]).view(shape)
    found = dense(packed, scales, shape=shape, dtype=dtype)
    torch.testing.assert_close(
        found.float(), expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-6
    )


def test_losses_and_gradients_are_those_of_peft_over_transformers_own_packing(wide_model: Path) -> None:
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    theirs_base = AutoModelForCausalLM.from_pretrained(
        wide_model, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"}
    )
    for module in theirs_base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # it would compute in bf16
    drawn = np.random.default_rng(0)
    plain = AutoModelForCausalLM.from_pretrained(wide_model)
    weights = {
        name: (0.1 * drawn.standard_normal(shape)).astype(np.float32)
        for name, shape in adapter_shapes(plain, LORA).items()
    }
    theirs = get_peft_model(theirs_base, lora_config(LORA))
    set_peft_model_state_dict(theirs, {name: torch.from_numpy(array) for name, array in weights.items()})
    base = packed(wide_model)
    use_packed_attention(base, "eager")
    ours = LoraModel(base, LORA)
    stack = ours.new_stack(1)
    stack.weights[0] = ours.import_weights(weights)
    ours.install(stack)
    run: AdapterBatch = probe_run([24])
    (batch,) = pack([run], token_budget=24)
    nll = supervised_nll(ours, batch)
    accumulate_gradients(nll.sum())
    logits = theirs(batch.tokens).logits[0, batch.supervised]
    expected = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    expected.sum().backward()
    torch.testing.assert_close(nll, expected, rtol=1e-4, atol=1e-4)
    gradients = ours.export_weights(stack.gradients[0])
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            found = torch.from_numpy(gradients[name.replace(".default", "")])
            torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-5)


def test_packed_layers_take_a_quarter_of_bf16_and_are_near_what_they_were(tiny_model: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    base = packed(tiny_model)
    before = {name: module for name, module in plain.named_modules() if isinstance(module, torch.nn.Linear)}
    after = {name: module for name, module in base.named_modules() if isinstance(module, FourBitLinear)}
    assert before.keys() - after.keys() == {"lm_head"}
    for name, layer in after.items():
        weight = before[name].weight
        assert layer.packed.nbytes + layer.scales.nbytes <= 0.29 * 2 * weight.numel()
        x = torch.eye(layer.in_features)
        found = layer(x).T
        assert (found - weight).norm() < 0.15 * weight.norm()


def test_the_backward_pass_unpacks_again_and_keeps_nothing_dense() -> None:
    layer = FourBitLinear(torch.nn.Linear(64, 128, bias=False), device=CPU)
    kept: list[int] = []
    x = torch.randn(2, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.nbytes), t)[1], lambda t: t):
        out = layer(x)
    assert sum(kept) < 64 * 128
    out.sum().backward()
    weight = layer(torch.eye(64)).T
    torch.testing.assert_close(x.grad, torch.ones(2, 128) @ weight, rtol=1e-5, atol=1e-5)


def test_a_study_on_packed_layers_learns_and_is_another_study(study_values: dict[str, Any]) -> None:
    plain = prepare(validate_study(study_values, origin="test")).fingerprint
    study_values["model"] |= {"quantization": "nf4", "attention": "eager"}
    study_values["storage"] += "-packed"
    study = validate_study(study_values, origin="test")
    try:
        learning = learn(study)
        expected = plain["model"] | {"quantization": "nf4", "attention": "eager"}
        assert learning.prepared.fingerprint["model"] == expected
        rows = list(run_cell(learning.spec(), shared=learning.shared(), store=learning.store("cell")))
        summary = artifact_of(learning).summary()
        assert summary["task_a_loss_after"] < summary["task_a_loss_before"]
        assert rows[-1]["task_b_loss"] < rows[0]["task_b_loss"]
        modules = learning.session().model.base.modules()
        assert any(isinstance(module, FourBitLinear) for module in modules)
    finally:
        forget_session()


def test_without_bitsandbytes_it_is_said_before_anything_is_read(
    study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study_values["model"] |= {"quantization": "nf4", "name": "/nowhere"}
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "bitsandbytes" else found(name, *rest),
    )
    with pytest.raises(ModelError, match=r"nf4 needs bitsandbytes .* pip install 'forgetting-sweep\[nf4\]'"):
        prepare(validate_study(study_values, origin="test"))
