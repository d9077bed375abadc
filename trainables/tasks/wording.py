"""Prompts: how an item becomes the text a model reads, as an instruction or through a chat template."""

from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from trainables.settings import TaskSettings
from trainables.tasks.examples import Example, Item, TaskError, content_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Put inside the text of a control token that occurs in the data, so that a chat prompt holds it as text.
ZERO_WIDTH_SPACE = "\u200b"
PROBE = "What is 1729 plus 271?"
# What a template that writes the date is told it is, so that a study's prompts are the same on every day; the
# day that Llama's own templates name where nothing tells them.
TODAY = datetime(2024, 7, 26)
CLOCK = "strftime_now"  # the function by which templates ask
DATE_CODES = ("-d", "-m", "-H", "-I", "-M", "-S", "-j", *"aAbBcdeFHIjmMpSTuUVwWxXyY")
# Forms of the user's turn that some templates take alone, to say so.
OTHER_TURNS: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"role": "user", "content": [{"type": "text", "text": PROBE}]},
        "it reads a message's content as a list of parts, not as text",
    ),
    *(
        ({"role": role, "content": PROBE}, f"it knows the user by the role {role!r}")
        for role in ("human", "User", "USER", "Human", "instruction", "prompter")
    ),
)


def word_example(item: Item, *, settings: TaskSettings, tokenizer: "PreTrainedTokenizerBase") -> Example:
    """Return the example a model is trained on.

    `instruct` frames a built-in task as `[INST] message [/INST] cue` and leaves a task of the user's
    own verbatim; `chat` makes the message the one user turn of the tokenizer's chat template. The
    prompt is without BOS unless a chat template writes it.
    """
    if settings.prompt_format == "chat":
        prompt = _word_chat(item.message, tokenizer=tokenizer)
    elif item.cue is None:
        prompt = item.message
    else:
        prompt = f"[INST] {item.message} [/INST] {item.cue}"
    if not item.completion:
        raise TaskError("the completion is empty")
    return Example(
        prompt=prompt,
        completion=item.completion,
        level=item.level,
        type=item.type,
        difficulty=item.difficulty,
        content=content_hash(item.message),
    )


def _word_chat(message: str, *, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the chat prompt. Raises TaskError where it does not hold the message, but for spaces at its
    ends.
    """
    if tokenizer.chat_template is None:
        raise TaskError("prompt_format 'chat' needs a tokenizer with a chat template; choose 'instruct'")
    _check_template(tokenizer, str(tokenizer.chat_template))
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            message = message.replace(token.content, token.content[:1] + ZERO_WIDTH_SPACE + token.content[1:])
    rendered = _render(message, tokenizer=tokenizer)
    if message.strip() not in rendered:
        raise TaskError(
            f"the tokenizer's chat template does not keep the message {message!r:.200} as it is: it makes "
            f"{rendered!r:.200}; choose prompt_format 'instruct'"
        )
    return rendered


@lru_cache(maxsize=4)
def _check_template(tokenizer: "PreTrainedTokenizerBase", template: str) -> None:
    """Raise TaskError where the template loses a user's message, with what it asks for instead."""
    rendered = _render(PROBE, tokenizer=tokenizer)
    if PROBE in rendered:
        return
    changed = PROBE.casefold() in rendered.casefold()
    asks = next(
        (meaning for turn, meaning in OTHER_TURNS if PROBE in _render_or_nothing(turn, tokenizer=tokenizer)),
        "it changes its letters" if changed else "it renders no message of the role 'user'",
    )
    raise TaskError(
        f"the tokenizer's chat template loses the question: {asks}, and of a user's message {PROBE!r} it "
        f"makes {rendered!r:.200}; choose prompt_format 'instruct', or give the tokenizer a template for "
        "plain text"
    )


def _render(message: str, *, tokenizer: "PreTrainedTokenizerBase") -> str:
    try:
        return _apply({"role": "user", "content": message}, tokenizer=tokenizer)
    except _template_errors() as error:
        raise TaskError(
            f"the tokenizer's chat template fails on one user message: {type(error).__name__}: "
            f"{error!s:.300}; choose prompt_format 'instruct', or give the tokenizer a template that takes it"
        ) from error


def _render_or_nothing(turn: dict[str, Any], *, tokenizer: "PreTrainedTokenizerBase") -> str:
    try:
        return _apply(turn, tokenizer=tokenizer)
    except _template_errors():
        return ""


def _apply(turn: dict[str, Any], *, tokenizer: "PreTrainedTokenizerBase") -> str:
    template = _stop_clock(tokenizer.get_chat_template())
    rendered = tokenizer.apply_chat_template(
        [turn], chat_template=template, tokenize=False, add_generation_prompt=True
    )
    assert isinstance(rendered, str)
    return rendered


def _stop_clock(template: str) -> str:
    """Return the template with a clock of its own that stands still at TODAY, if it asks for the time."""
    if CLOCK not in template:
        return template
    filters = "".join(f" | replace('%{code}', '{TODAY.strftime(f'%{code}')}')" for code in DATE_CODES)
    return f"{{% macro {CLOCK}(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}\n{template}"


def _template_errors() -> tuple[type[Exception], ...]:
    """Return what a template raises: Jinja's own errors, and those of its expressions."""
    from jinja2 import TemplateError

    return (
        TemplateError,
        TypeError,
        ValueError,
        AttributeError,
        LookupError,
        ArithmeticError,
        RecursionError,
    )
