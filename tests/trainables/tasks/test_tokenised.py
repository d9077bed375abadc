"""Tokens: the exact boundary, BOS and EOS, control tokens in the data, and the digest."""

import copy
import dataclasses
import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from trainables.tasks.examples import Example, TaskError, content_hash
from trainables.tasks.tokenised import TokenisedExamples, encode_examples, pack

PROMPT = "[INST] What is 2 + 3? [/INST] Solution:"


def example(prompt: str = PROMPT, completion: str = "The sum is 5.", level: str | None = None) -> Example:
    return Example(prompt, completion, level, None, math.nan, content_hash(prompt))


def tokenise(
    *examples: Example,
    tokenizer: PreTrainedTokenizerBase,
    prompt_format: Literal["instruct", "chat"] = "instruct",
) -> TokenisedExamples:
    encoded = encode_examples(examples, tokenizer=tokenizer, prompt_format=prompt_format)
    return pack(examples, encoded=encoded)


def both_parts(
    tokenised: TokenisedExamples, index: int, *, tokenizer: PreTrainedTokenizerBase
) -> tuple[str, str]:
    """The text before the boundary and the text from it on."""
    tokens, boundary = tokenised.example(index).tolist(), tokenised.prompt_lengths[index]
    return tokenizer.decode(tokens[:boundary]), tokenizer.decode(tokens[boundary:])


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.text(st.characters(codec="utf-8"), min_size=1),
    completion=st.text(st.characters(codec="utf-8"), min_size=1),
)
def test_prompt_tokens_are_never_supervised_and_completion_and_eos_always_are(
    byte_tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str
) -> None:
    tokenised = tokenise(example(prompt, completion), tokenizer=byte_tokenizer)
    space = "" if prompt[-1].isspace() else " "
    assert both_parts(tokenised, 0, tokenizer=byte_tokenizer) == (f"<s>{prompt}", f"{space}{completion}</s>")


@pytest.mark.parametrize("text", ["]", "[1, 2]", "[/INST]", "[INST] x [/INST] Solution: 5", "Answer:"])
def test_brackets_in_the_data_do_not_move_the_boundary(
    byte_tokenizer: PreTrainedTokenizerBase, text: str
) -> None:
    plain, in_solution, in_problem = (
        example(),
        example(completion=f"It is {text} and {text}"),
        example(f"[INST] Is {text} it? [/INST] Solution:"),
    )
    tokenised = tokenise(plain, in_solution, in_problem, tokenizer=byte_tokenizer)
    assert tokenised.prompt_lengths[0] == tokenised.prompt_lengths[1]
    assert both_parts(tokenised, 1, tokenizer=byte_tokenizer)[1] == f" It is {text} and {text}</s>"
    assert both_parts(tokenised, 2, tokenizer=byte_tokenizer)[1] == " The sum is 5.</s>"


def test_eos_is_supervised_although_it_is_the_padding_token(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    assert byte_tokenizer.pad_token_id == byte_tokenizer.eos_token_id
    tokenised = tokenise(example(), example(completion="5"), tokenizer=byte_tokenizer)
    for index in range(2):
        supervised = tokenised.example(index)[tokenised.prompt_lengths[index] :]
        assert supervised[-1] == byte_tokenizer.eos_token_id
        assert len(supervised) == tokenised.supervised_counts("completion")[index]


@pytest.mark.parametrize("prompt", [PROMPT, "<s><|user|>\nHm?</s>\n<|assistant|>\n"])
def test_bos_comes_first_exactly_once(byte_tokenizer: PreTrainedTokenizerBase, prompt: str) -> None:
    tokenised = tokenise(example(prompt), tokenizer=byte_tokenizer, prompt_format="chat")
    tokens = tokenised.example(0).tolist()
    assert tokens[0] == byte_tokenizer.bos_token_id
    assert tokens.count(byte_tokenizer.bos_token_id) == 1


def test_a_tokenizer_without_bos_gets_none(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    with_bos = tokenise(example(), tokenizer=byte_tokenizer)
    without_bos = tokenise(example(), tokenizer=_without(byte_tokenizer, "bos_token"))
    assert without_bos.tokens.tolist() == with_bos.tokens.tolist()[1:]
    assert without_bos.prompt_lengths[0] == with_bos.prompt_lengths[0] - 1


def test_a_tokenizer_without_eos_is_an_error(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(TaskError, match="must have an EOS token"):
        tokenise(example(), tokenizer=_without(byte_tokenizer, "eos_token"))


def _without(tokenizer: PreTrainedTokenizerBase, token: str) -> PreTrainedTokenizerBase:
    changed = copy.deepcopy(tokenizer)
    setattr(changed, token, None)
    return changed


def test_the_text_of_a_control_token_in_the_data_stays_text(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    tokenised = tokenise(example("[INST] What is </s>?", "It is <s> or </s>."), tokenizer=byte_tokenizer)
    tokens = tokenised.example(0).tolist()
    assert [tokens.count(byte_tokenizer.bos_token_id), tokens.count(byte_tokenizer.eos_token_id)] == [1, 1]
    assert byte_tokenizer.decode(tokens) == "<s>[INST] What is </s>? It is <s> or </s>.</s>"


def test_a_chat_completion_follows_its_template_without_a_space(
    byte_tokenizer: PreTrainedTokenizerBase,
) -> None:
    prompt = "<s><|user|>\nHm?</s>\n<|assistant|>\n"
    tokenised = tokenise(example(prompt, "Ah </s>"), tokenizer=byte_tokenizer, prompt_format="chat")
    assert both_parts(tokenised, 0, tokenizer=byte_tokenizer) == (prompt, "Ah </s></s>")
    assert tokenised.tokens.tolist().count(byte_tokenizer.eos_token_id) == 2


def test_a_tokenizer_that_marks_spaces_itself_gets_no_second_one(
    space_marking_tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenised = tokenise(example(), tokenizer=space_marking_tokenizer)
    supervised = tokenised.example(0)[tokenised.prompt_lengths[0] :].tolist()
    whole = space_marking_tokenizer.encode(f"{PROMPT} The sum is 5.", add_special_tokens=False)
    assert tokenised.tokens.tolist()[1:-1] == whole
    assert space_marking_tokenizer.convert_ids_to_tokens(supervised[:1])[0].startswith("▁T")


def test_examples_are_laid_out_flat_beside_what_identifies_them(
    byte_tokenizer: PreTrainedTokenizerBase,
) -> None:
    examples = [example("A:", "1", "easy"), example("B and more:", "2 3 4", "hard")]
    tokenised = tokenise(*examples, tokenizer=byte_tokenizer)
    assert len(tokenised) == 2
    assert tokenised.offsets.tolist() == [0, *np.cumsum(tokenised.lengths).tolist()]
    assert np.concatenate([tokenised.example(0), tokenised.example(1)]).tolist() == tokenised.tokens.tolist()
    assert tokenised.levels == ("easy", "hard")
    assert tokenised.ids == tuple(each.content[:16] for each in examples)
    assert [tokenised.tokens.dtype, tokenised.offsets.dtype, tokenised.prompt_lengths.dtype] == [
        np.int32,
        np.int64,
        np.int32,
    ]


def test_loss_on_all_supervises_everything_but_the_first_token(
    byte_tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenised = tokenise(example(), tokenizer=byte_tokenizer)
    assert tokenised.supervised_counts("all").tolist() == [len(tokenised.tokens) - 1]


def made_by_hand() -> TokenisedExamples:
    return TokenisedExamples(
        tokens=np.array([1, 5, 6, 2, 1, 7, 2], dtype=np.int32),
        offsets=np.array([0, 4, 7], dtype=np.int64),
        prompt_lengths=np.array([2, 1], dtype=np.int32),
        difficulty=np.array([1.0, math.nan]),
        levels=("easy", None),
        types=(None, "bridge"),
        ids=("a" * 16, "b" * 16),
    )


def test_the_digest_is_the_same_in_every_process_and_on_every_machine() -> None:
    assert made_by_hand().digest == "27663cf9983c8dbea74d2ab4eb55e7b5ab13db746675db6fd384365b668ebaef"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(TokenisedExamples)])
def test_the_digest_covers_every_field(field: str) -> None:
    value = getattr(made_by_hand(), field)
    changed = value[::-1].copy() if isinstance(value, np.ndarray) else value[::-1]
    assert dataclasses.replace(made_by_hand(), **{field: changed}).digest != made_by_hand().digest
