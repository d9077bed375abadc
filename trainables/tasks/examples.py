"""What a task's rows become on their way to tokens: items, examples, and the one error of this package.

Reading single values out of a row lives here; reading files and wording prompts do not.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.ledger.errors import UserError

Row = Mapping[str, Any]

LONGEST_LIST = 1000  # characters of a message that lists what there is
NAMED_DIFFICULTIES = {"easy": 1.0, "medium": 2.0, "hard": 3.0}


class TaskError(UserError):
    """A task cannot be prepared; the message names the rule, the value and the choices."""


@dataclass(frozen=True)
class Item:
    """One row as its task reads it, before it is worded for a model.

    `message` is everything that is asked; `cue` opens the answer of an `instruct` prompt. An item
    without a cue comes from a template of the user's and is used verbatim. `paragraphs` counts those in
    the message, None where the task has none; `lacking` those that should be there and are not in the row.
    """

    message: str
    cue: str | None
    completion: str
    level: str | None
    type: str | None
    difficulty: float
    paragraphs: int | None = None
    lacking: int = 0


@dataclass(frozen=True)
class Example:
    """One worded example; `content` is the hash of its question, whatever its answer or prompt format."""

    prompt: str
    completion: str
    level: str | None
    type: str | None
    difficulty: float
    content: str


def content_hash(message: str) -> str:
    """Return the SHA-256 (hex) of a message, in which every run of white space counts as one space."""
    return hashlib.sha256(" ".join(message.split()).encode()).hexdigest()


def find_column(row: Row, *, column: str, names: Sequence[str]) -> str:
    """Return the first of `names`, by which a column is published, that the row has."""
    found = next((name for name in names if name in row), None)
    if found is None:
        others = [name for name in names if name != column]
        hint = f" ({', '.join(others)} would do)" if others else ""
        columns = ", ".join(map(str, row))[:LONGEST_LIST]
        raise TaskError(f"no column {column!r}; the columns are {columns}{hint}")
    return found


def read_value(row: Row, *, column: str) -> Any:
    """Return a row's value in a column it must have; it may be null."""
    return row[find_column(row, column=column, names=(column,))]


def read_text(row: Row, *, column: str) -> str:
    """Return a row's value as text; null and nested values are refused, an empty text is not."""
    value = read_value(row, column=column)
    if is_null(value):
        raise TaskError(f"column {column!r} has no value (null)")
    if isinstance(value, (Mapping, list, tuple, bytes)):
        raise TaskError(f"column {column!r} must hold text or numbers, got {type(value).__name__}")
    return check_text(str(value), place=f"column {column!r}")


def check_text(text: str, *, place: str) -> str:
    """Return `text`, which must be Unicode that UTF-8 can spell: JSON may escape half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TaskError(
            f"{place} must hold Unicode text, got half a surrogate pair at character {error.start}"
        ) from error
    return text


def read_label(row: Row, *, column: str) -> str | None:
    """Return a row's value as text, or None where it is null."""
    return None if is_null(read_value(row, column=column)) else read_text(row, column=column)


def is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def read_difficulty(label: str | None) -> float:
    """Return the number a difficulty label stands for: a number, text with one number in it
    ("Level 5"), or easy, medium, hard (1, 2, 3). NaN where it is none of these ("Level ?")."""
    text = (label or "").strip().lower()
    if text in NAMED_DIFFICULTIES:
        return NAMED_DIFFICULTIES[text]
    try:
        number = float(text)
    except ValueError:
        # A minus sign counts only where a word could start: "3-5" is a range, "gsm-8" is not negative.
        numbers = re.findall(r"(?:(?<!\S)-)?\d+(?:\.\d+)?", text)
        number = float(numbers[0]) if len(numbers) == 1 else math.nan
    return number if math.isfinite(number) else math.nan
