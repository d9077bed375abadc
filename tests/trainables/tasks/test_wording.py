"""Prompts as an instruction and through a chat template."""

import math
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from trainables.settings import TaskSettings
from trainables.tasks.records import Item, TaskError
from trainables.tasks.wording import word_example

INSTRUCT = TaskSettings(name="math")
CHAT = TaskSettings(name="math", prompt_format="chat")


def item(message: str, *, cue: str | None = "Solution:", completion: str = "5") -> Item:
    return Item(message, cue, completion, level=None, type=None, difficulty=math.nan)


def test_instruct_frames_a_built_in_task(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    example = word_example(item("What is 2 + 3?"), settings=INSTRUCT, tokenizer=byte_tokenizer)
    assert example.prompt == "[INST] What is 2 + 3? [/INST] Solution:"


def test_instruct_leaves_a_template_of_the_users_verbatim(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    settings = TaskSettings(name="mine", path=Path(__file__), prompt="{q}", completion="{a}")
    example = word_example(item("Q: hm?\nA: ", cue=None), settings=settings, tokenizer=byte_tokenizer)
    assert example.prompt == "Q: hm?\nA: "


def test_chat_makes_the_message_the_one_user_turn(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    example = word_example(item("What is 2 + 3?"), settings=CHAT, tokenizer=byte_tokenizer)
    assert example.prompt == "<s><|user|>\nWhat is 2 + 3?</s>\n<|assistant|>\n"


def test_the_same_question_has_one_content_hash_whatever_its_answer_and_format(
    byte_tokenizer: PreTrainedTokenizerBase,
) -> None:
    one = word_example(item("What?"), settings=INSTRUCT, tokenizer=byte_tokenizer)
    two = word_example(item("What?", completion="6"), settings=CHAT, tokenizer=byte_tokenizer)
    assert one.content == two.content


def test_chat_without_a_template_is_an_error(space_marking_tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(TaskError, match="needs a tokenizer with a chat template; choose 'instruct'"):
        word_example(item("What?"), settings=CHAT, tokenizer=space_marking_tokenizer)


def test_an_empty_completion_is_an_error(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(TaskError, match="the completion is empty"):
        word_example(item("What?", completion=""), settings=INSTRUCT, tokenizer=byte_tokenizer)
