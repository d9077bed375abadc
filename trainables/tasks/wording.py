"""Prompts: how an item becomes the text a model reads, as an instruction or through a chat template."""

from typing import TYPE_CHECKING

from trainables.settings import TaskSettings
from trainables.tasks.records import Example, Item, TaskError, content_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Put inside the text of a control token that occurs in the data, so that a chat prompt holds it as text.
ZERO_WIDTH_SPACE = "\u200b"


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
    if tokenizer.chat_template is None:
        raise TaskError("prompt_format 'chat' needs a tokenizer with a chat template; choose 'instruct'")
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            message = message.replace(token.content, token.content[:1] + ZERO_WIDTH_SPACE + token.content[1:])
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
    )
    assert isinstance(rendered, str)
    return rendered
