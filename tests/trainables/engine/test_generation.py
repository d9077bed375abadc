"""Greedy answers: those of transformers' `generate` with PEFT's merged adapter, however they are batched."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import get_peft_model, set_peft_model_state_dict

from tests.trainables.learning import stop_at
from trainables.engine.compile import compile_layers
from trainables.engine.compute_plan import ComputePlan
from trainables.engine.device import Compute
from trainables.engine.generation import Answer, generate
from trainables.engine.interruption import StoppedError
from trainables.engine.session import make_trainable
from trainables.model.lora import LoraModel
from trainables.model.lora_files import lora_config
from trainables.settings import LoraSettings, ModelSettings
from trainables.tasks.tokenised import TokenisedExamples

BASE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "vocab_size": 64,
    "num_attention_heads": 4,
}
GROUPED = BASE | {"num_key_value_heads": 2}
QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
MODELS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "llama": ("LlamaConfig", GROUPED, QKVO),
    "qwen": ("Qwen3Config", GROUPED | {"head_dim": 8}, QKVO),
    "a window": ("MistralConfig", GROUPED | {"sliding_window": 40}, QKVO),
    "neox": ("GPTNeoXConfig", BASE, ("query_key_value",)),
    "positions that are learned": (
        "OPTConfig",
        {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "vocab_size": 64, "num_attention_heads": 4}
        | {"word_embed_proj_dim": 32, "pad_token_id": 1},
        ("q_proj", "v_proj"),
    ),
}
LENGTHS = (3, 11, 1, 7, 20, 5)
LIMIT = 12


class Greedy:
    """A small random model twice: transformers' own, and ours with `cells` adapters that do something."""

    def __init__(self, kind: str, *, cells: int = 1, attention: str = "eager") -> None:
        name, values, targets = MODELS[kind]
        lora = LoraSettings(r=2, alpha=8, dropout=0.1, target_modules=targets)
        config = getattr(transformers, name)(**values)
        torch.manual_seed(0)
        self.plain = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in self.plain.parameters():
                parameter.mul_(6)  # so that not one token follows every prompt
        plan = ComputePlan("CPU", "fp32", attention, {"training": 256, "evaluation": 256}, False, False, 1)
        settings = ModelSettings(name="here", dtype="fp32", attention=attention, lora=lora)  # type: ignore[arg-type]
        self.lora, self.plan = lora, plan
        self.model: LoraModel = make_trainable(
            copy.deepcopy(self.plain), settings, compute_plan=plan, fingerprint="here"
        )[0]
        self.stack = self.model.new_stack(cells)
        self.stack.weights.copy_(0.3 * torch.randn(self.stack.weights.shape))
        self.prompts = [torch.randint(3, 64, (length,)) for length in LENGTHS]

    def examples(self, end: int) -> TokenisedExamples:
        """Return the prompts with a completion of one token and the EOS `end`."""
        texts = [np.append(prompt.numpy(), [5, end]).astype(np.int32) for prompt in self.prompts]
        count = len(texts)
        return TokenisedExamples(
            tokens=np.concatenate(texts),
            offsets=np.cumsum([0, *map(len, texts)]).astype(np.int64),
            prompt_lengths=np.array(LENGTHS, np.int32),
            difficulty=np.full(count, np.nan),
            levels=(None,) * count,
            types=(None,) * count,
            ids=tuple(map(str, range(count))),
        )

    def ours(self, end: int, *, budget: int = 256) -> list[list[Answer]]:
        compute = Compute(torch.device("cpu"), "fp32", {"training": budget, "evaluation": budget})
        return generate(
            self.model,
            self.examples(end),
            count=len(LENGTHS),
            max_new_tokens=LIMIT,
            stack=self.stack,
            compute=compute,
        )

    def theirs(self, cell: int, end: int | None) -> list[list[int]]:
        """Return what transformers generates from each prompt alone, with the adapter merged by PEFT."""
        peft = get_peft_model(copy.deepcopy(self.plain), lora_config(self.lora))
        weights = self.model.export_weights(self.stack.weights[cell])
        set_peft_model_state_dict(peft, {name: torch.from_numpy(array) for name, array in weights.items()})
        merged = peft.merge_and_unload()  # type: ignore[operator]
        options = {"do_sample": False, "max_new_tokens": LIMIT, "eos_token_id": end}
        return [
            merged.generate(prompt[None], attention_mask=torch.ones(1, len(prompt)).long(), **options)[
                0, len(prompt) :
            ].tolist()
            for prompt in self.prompts
        ]

    def common_token(self) -> int:
        """Return a token that some answers contain early and others do not."""
        answers = self.theirs(0, end=None)
        early = [set(answer[1:5]) for answer in answers]
        found = [
            token for token in set.union(*early) if 0 < sum(token in each for each in early) < len(LENGTHS)
        ]
        return found[0]


def as_generated(answer: Answer, end: int) -> list[int]:
    return [*answer.tokens.tolist(), *([end] if answer.ended else [])]


@pytest.mark.parametrize("kind", MODELS)
def test_answers_are_those_of_transformers_with_the_adapter_merged_by_peft(kind: str) -> None:
    greedy = Greedy(kind)
    end = greedy.common_token()
    expected = greedy.theirs(0, end)
    (ours,) = greedy.ours(end)
    assert [as_generated(answer, end) for answer in ours] == expected
    assert {answer.ended for answer in ours} == {True, False}
    assert len({tuple(answer) for answer in expected}) > 3


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_adapters_side_by_side_answer_as_each_does_by_itself(attention: str) -> None:
    greedy = Greedy("llama", cells=3, attention=attention)
    end = greedy.common_token()
    for cell, ours in enumerate(greedy.ours(end)):
        assert [as_generated(answer, end) for answer in ours] == greedy.theirs(cell, end)


def test_answers_do_not_depend_on_how_many_fit_into_memory() -> None:
    greedy = Greedy("qwen", cells=2)
    end = greedy.common_token()
    whole = [[as_generated(answer, end) for answer in of_cell] for of_cell in greedy.ours(end)]
    for budget in (1, 20, 60):
        parts = greedy.ours(end, budget=budget)
        assert [[as_generated(answer, end) for answer in of_cell] for of_cell in parts] == whole


def test_losses_are_the_same_after_answers_as_before() -> None:
    from trainables.engine.evaluation import evaluate

    greedy = Greedy("llama")
    compute = Compute(torch.device("cpu"), "fp32", {"training": 256, "evaluation": 256})
    examples = greedy.examples(9)
    before = evaluate(greedy.model, examples, stack=greedy.stack, compute=compute)
    greedy.ours(9)
    after = evaluate(greedy.model, examples, stack=greedy.stack, compute=compute)
    np.testing.assert_array_equal(before, after)


def test_compiled_layers_answer_as_plain_ones_and_stay_compiled() -> None:
    greedy = Greedy("llama")
    end = greedy.common_token()
    plain = greedy.ours(end)
    compile_layers(greedy.model.base, backend="eager")
    assert [as_generated(each, end) for each in greedy.ours(end)[0]] == [
        as_generated(a, end) for a in plain[0]
    ]
    assert all(layer._compiled_call_impl is not None for layer in greedy.model.base.model.layers)


def test_an_end_to_the_work_leaves_the_model_as_it_was() -> None:
    greedy = Greedy("llama")
    before = greedy.model.base.config._attn_implementation
    compute = Compute(torch.device("cpu"), "fp32", {"training": 256, "evaluation": 256}, stop_at(2))
    with pytest.raises(StoppedError):
        generate(
            greedy.model,
            greedy.examples(9),
            count=3,
            max_new_tokens=LIMIT,
            stack=greedy.stack,
            compute=compute,
        )
    assert greedy.model.base.config._attn_implementation == before
