"""Rows in the form of HotpotQA (Yang et al. 2018): a question, its paragraphs and a short answer.

Paragraphs and supporting facts come in two shapes: the hub's, a dict of parallel lists, and the
original files', a list of pairs. Both read the same.
"""

from collections.abc import Mapping
from typing import Any

from trainables.settings import TaskSettings
from trainables.tasks.records import (
    Item,
    Row,
    TaskError,
    check_text,
    read_difficulty,
    read_label,
    read_text,
    read_value,
)

INSTRUCTION = "Answer the question from the paragraphs. Reply with the answer only."


def read_item(row: Row, *, settings: TaskSettings) -> Item:
    """Read `question`, `answer`, `type`, `level`, `context` and, for supporting paragraphs only,
    `supporting_facts`; the difficulty is 1, 2, 3 for easy, medium, hard.

    Part of the released rows have a context that lacks supporting paragraphs: such a row keeps those
    there are, and only its question where there are none.
    """
    paragraphs = read_paragraphs(row)
    if settings.paragraphs == "supporting":
        facts = read_pairs(row, column="supporting_facts", fields=("title", "sent_id"))
        titles = [title for title, _ in facts]
        paragraphs = [(title, sentences) for title, sentences in paragraphs if title in titles]
    level = read_label(row, column="level")
    text = [
        f"{title}: {' '.join(sentence.strip() for sentence in sentences)}" for title, sentences in paragraphs
    ]
    question = f"Question: {read_text(row, column='question').strip()}"
    return Item(
        message="\n\n".join([INSTRUCTION, *(["\n".join(text)] if text else []), question]),
        cue="Answer:",
        completion=read_text(row, column="answer").strip(),
        level=level,
        type=read_label(row, column="type"),
        difficulty=read_difficulty(level),
    )


def read_paragraphs(row: Row) -> list[tuple[str, list[str]]]:
    """Return a row's paragraphs: titles with their sentences."""
    paragraphs = read_pairs(row, column="context", fields=("title", "sentences"))
    for title, sentences in paragraphs:
        if not isinstance(sentences, (list, tuple)) or not all(
            isinstance(text, str) for text in (title, *sentences)
        ):
            raise TaskError("column 'context' must hold titles with lists of sentences, all of them text")
        for text in (title, *sentences):
            check_text(text, place="column 'context'")
    return paragraphs


def read_pairs(row: Row, *, column: str, fields: tuple[str, str]) -> list[tuple[str, Any]]:
    """Return a column's (title, value) pairs from either of its two shapes."""
    value = read_value(row, column=column)
    try:
        if isinstance(value, Mapping):
            return list(zip(value[fields[0]], value[fields[1]], strict=True))
        return [(title, content) for title, content in value]
    except (KeyError, TypeError, ValueError) as error:
        first, second = fields
        raise TaskError(
            f"column {column!r} must be {{{first}: [...], {second}: [...]}} or a list of [{first}, {second}], "
            f"got {type(value).__name__} ({error})"
        ) from error
