"""Rows in the form of HotpotQA (Yang et al. 2018): a question, its paragraphs and a short answer.

Paragraphs and supporting facts are published as parallel lists (the hub), as pairs (the original files), as
objects, and each of these as JSON text in a cell. All of them read the same; any other shape is an error.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainables.settings import TaskSettings
from trainables.tasks.examples import (
    Item,
    Row,
    TaskError,
    check_text,
    find_column,
    is_null,
    read_difficulty,
    read_label,
    read_text,
)
from trainables.tasks.sources import HubDataset
from trainables.tasks.task import Task

INSTRUCTION = "Answer the question from the paragraphs. Reply with the answer only."
# The names that published copies give each column, and each field inside two of them; the original's first.
COLUMNS = {
    "question": ("question", "question_text"),
    "answer": ("answer",),
    "type": ("type",),
    "level": ("level",),
    "context": ("context", "contexts", "paragraphs"),
    "supporting_facts": ("supporting_facts", "supporting_fact"),
}
FIELDS = {
    "title": ("title", "wikipedia_title"),
    "sentences": ("sentences", "content", "paragraph_text", "text"),
    "sent_id": ("sent_id", "sent_idx", "sentence_id", "sentence_idx", "sentence_index"),
}
WHOLE_PARAGRAPHS = ("paragraph_text", "text")  # hold a paragraph as one text, not as sentences
SUPPORTS = "is_supporting"  # marks a paragraph where no column of facts does

Paragraph = tuple[str, list[str]]  # title and sentences


def read_item(row: Row, *, settings: TaskSettings) -> Item:
    """Read `question`, `answer`, `type`, `level`, `context` and, for supporting paragraphs only,
    `supporting_facts`; the difficulty is 1, 2, 3 for easy, medium, hard.

    Part of the released rows have a context that lacks supporting paragraphs: such a row keeps those
    there are, and only its question where there are none.
    """
    paragraphs, lacking = read_paragraphs(row), 0
    if settings.paragraphs == "supporting":
        titles = read_supporting_titles(row)
        lacking = len(titles - {title for title, _ in paragraphs})
        paragraphs = [(title, sentences) for title, sentences in paragraphs if title in titles]
    level = read_label(row, column=_column(row, "level"))
    text = [
        f"{title}: {' '.join(sentence.strip() for sentence in sentences)}" for title, sentences in paragraphs
    ]
    question = f"Question: {read_text(row, column=_column(row, 'question')).strip()}"
    return Item(
        message="\n\n".join([INSTRUCTION, *(["\n".join(text)] if text else []), question]),
        cue="Answer:",
        completion=read_text(row, column=_column(row, "answer")).strip(),
        level=level,
        type=read_label(row, column=_column(row, "type")),
        difficulty=read_difficulty(level),
        paragraphs=len(paragraphs),
        lacking=lacking,
    )


def read_paragraphs(row: Row) -> list[Paragraph]:
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


def read_supporting_titles(row: Row) -> set[str]:
    """Return the titles of the paragraphs that support a row's answer."""
    marked = None if any(name in row for name in COLUMNS["supporting_facts"]) else _marked_titles(row)
    if marked is not None:
        return marked
    facts = read_pairs(row, column="supporting_facts", fields=("title", "sent_id"))
    wrong = next((title for title, _ in facts if not isinstance(title, str)), None)
    if wrong is not None:
        raise TaskError(f"column 'supporting_facts' must hold titles that are text, got {wrong!r:.80}")
    return {title for title, _ in facts}


def _marked_titles(row: Row) -> set[str] | None:
    """Return the titles of the paragraphs that are marked as supporting, None where none says so or not."""
    paragraphs = _plain(row[_column(row, "context")], column="context")
    marks = paragraphs if isinstance(paragraphs, list) else []
    if not marks or not all(
        isinstance(each, Mapping) and each.get(SUPPORTS) in (True, False) for each in marks
    ):
        return None
    return {each[_field(each, "title")] for each in marks if each[SUPPORTS]}


def read_pairs(row: Row, *, column: str, fields: tuple[str, str]) -> list[tuple[Any, Any]]:
    """Return a column's (title, value) pairs from any of its shapes. Raises TaskError for another."""
    value = _plain(row[_column(row, column)], column=column)
    pairs = _parallel(value, fields) if isinstance(value, Mapping) else _each(value, fields)
    if pairs is None:
        first, second = fields
        raise TaskError(
            f"column {column!r} must be {{{first}: [...], {second}: [...]}}, a list of {{{first}, {second}}} "
            f"or a list of [{first}, {second}], got {_shape(value)}"
        )
    return pairs


def _column(row: Row, column: str) -> str:
    return find_column(row, column=column, names=COLUMNS[column])


def _plain(value: Any, *, column: str) -> Any:
    """Return a cell as lists and objects: tables without nesting hold them as JSON text, pandas as arrays."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"column {column!r} holds text that is not JSON: {value!r:.80}") from error
    return value


def _parallel(value: Mapping[str, Any], fields: tuple[str, str]) -> list[tuple[Any, Any]] | None:
    names = [_field(value, field) for field in fields]
    if None in names:
        return None
    titles, others = (_listed(value[name]) for name in names)
    if titles is None or others is None or len(titles) != len(others):
        return None
    return [(title, _sentences(other, name=names[1])) for title, other in zip(titles, others, strict=True)]


def _each(value: Any, fields: tuple[str, str]) -> list[tuple[Any, Any]] | None:
    """Return the pairs of a list of objects or of pairs, None where it is none."""
    entries = _listed(value)
    if entries is None:
        return None
    pairs = []
    for entry in entries:
        if isinstance(entry, Mapping):
            names = [_field(entry, field) for field in fields]
            if None in names:
                return None
            pairs.append((entry[names[0]], _sentences(entry[names[1]], name=names[1])))
        else:
            pair = _listed(entry)
            if pair is None or len(pair) != 2:
                return None
            pairs.append((pair[0], _sentences(pair[1], name=fields[1])))
    return pairs


def _field(value: Mapping[str, Any], field: str) -> Any:
    return next((name for name in FIELDS[field] if name in value), None)


def _listed(value: Any) -> Sequence[Any] | None:
    """Return a list, None for whatever is none: text is a sequence too, of letters."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return value if isinstance(value, (list, tuple)) else None


def _sentences(value: Any, *, name: str) -> Any:
    if isinstance(value, str) and name in WHOLE_PARAGRAPHS:
        return [value]
    listed = _listed(value)
    return value if listed is None else listed


def _shape(value: Any) -> str:
    """Say what a cell holds, for a message."""
    if isinstance(value, Mapping):
        return f"an object of {', '.join(map(str, value)) or 'nothing'}"[:200]
    if isinstance(value, (list, tuple)) and value:
        kinds = dict.fromkeys(
            _shape(each) if isinstance(each, Mapping) else type(each).__name__ for each in value
        )
        return f"a list of {', '.join(kinds)}"[:200]
    return "null" if is_null(value) else type(value).__name__


TASK = Task(
    "hotpotqa",
    read_item,
    hub=HubDataset("hotpotqa/hotpot_qa", "distractor"),
    options=("paragraphs",),
    score="short_answer",
)
