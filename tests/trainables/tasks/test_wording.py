"""Prompts as an instruction and through a chat template."""

import math
from copy import deepcopy
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from trainables.settings import TaskSettings
from trainables.tasks.examples import Item, TaskError
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


def templated(tokenizer: PreTrainedTokenizerBase, template: str) -> PreTrainedTokenizerBase:
    changed = deepcopy(tokenizer)
    changed.chat_template = template
    return changed


FIRST = "messages[0]"
PARTS = f"USER:{{% for part in {FIRST}['content'] %}}{{{{ part['text'] }}}}{{% endfor %}} ASSISTANT:"
BY_ROLE = (
    "{{% for message in messages %}}{{% if message['role'] == {role!r} %}}{{{{ message['content'] }}}}"
    "{{% endif %}}{{% endfor %}}Answer:"
)
LOSING = {
    "parts of the content": (
        PARTS,
        "it reads a message's content as a list of parts.*it makes 'USER: ASSISTANT:'",
    ),
    "another role": (BY_ROLE.format(role="human"), "it knows the user by the role 'human'"),
    "an unheard-of role": (BY_ROLE.format(role="querent"), "it renders no message of the role 'user'"),
    "nothing": ("Hello!", "loses the question"),
    "a cut": (f"{{{{ {FIRST}['content'][:10] }}}}", "loses the question"),
    "capitals": (f"{{{{ {FIRST}['content'] | upper }}}}", "loses the question: it changes its letters"),
    "a wrapped word": (f"{{{{ {FIRST}['content'] | wordwrap(5) }}}}", "loses the question"),
    "an error of its own": ("{{ raise_exception('say please') }}", "TemplateError: say please"),
    "a type": (f"{{{{ {FIRST}['content'] + 1 }}}}", "fails on one user message: TypeError: "),
    "an index": (
        f"{{{{ {FIRST}['content'][0]['text'] + 'x' }}}}",
        "fails on one user message: UndefinedError: ",
    ),
    "a name": ("{{ tools | length }}", "fails on one user message: "),
    "its syntax": ("{% if %}", "fails on one user message: TemplateSyntaxError: "),
}


@pytest.mark.parametrize("kind", LOSING)
def test_a_chat_template_that_loses_the_question_is_refused_in_its_own_words(
    byte_tokenizer: PreTrainedTokenizerBase, kind: str
) -> None:
    template, message = LOSING[kind]
    with pytest.raises(TaskError, match=message):
        word_example(item("What?"), settings=CHAT, tokenizer=templated(byte_tokenizer, template))


def test_a_chat_template_that_loses_one_question_of_many_is_refused(
    byte_tokenizer: PreTrainedTokenizerBase,
) -> None:
    short = templated(byte_tokenizer, f"<|user|>{{{{ {FIRST}['content'][:40] }}}}<|assistant|>")
    word_example(item("What is 2 + 3?"), settings=CHAT, tokenizer=short)
    with pytest.raises(TaskError, match="does not keep the message 'What is .* as it is"):
        word_example(item("What is " + "2 + " * 20 + "3?"), settings=CHAT, tokenizer=short)


def test_a_chat_template_may_strip_the_message(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    stripping = templated(byte_tokenizer, f"<|user|>{{{{ {FIRST}['content'] | trim }}}}<|assistant|>")
    example = word_example(item("  What?\n"), settings=CHAT, tokenizer=stripping)
    assert example.prompt == "<|user|>What?<|assistant|>"


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{{ strftime_now('%d %b %Y') }}: {{ messages[0]['content'] }}", "26 Jul 2024: What?"),
        (
            "\n{{ strftime_now('%B %-d, %A %H:%M') }} {{ messages[0].content }}",
            "\nJuly 26, Friday 00:00 What?",
        ),
        (
            "{% macro day() %}{{ strftime_now('%Y-%m-%d') }}{% endmacro %}"
            "{%- if strftime_now is defined %}{%- set today = day() %}{%- endif %}"
            "{% for message in messages %}{{ today + '/' + strftime_now('%y') + ' ' + message.content }}{% "
            "endfor %}",
            "2024-07-26/24 What?",
        ),
    ],
)
def test_a_chat_template_that_writes_the_date_gives_the_same_prompt_on_every_day(
    byte_tokenizer: PreTrainedTokenizerBase, template: str, prompt: str
) -> None:
    example = word_example(item("What?"), settings=CHAT, tokenizer=templated(byte_tokenizer, template))
    assert example.prompt == prompt
