"""Values of JSON records: what a number is, what the rows of a cell are, and how a message shows a value."""

import sys
from itertools import pairwise
from operator import itemgetter
from reprlib import Repr
from typing import Any, TypeGuard

from trainables.ledger import schema

COUNTS = (
    schema.STEP,
    schema.TASK_A_EXAMPLES,
    schema.TASK_B_EXAMPLES,
    schema.TASK_A_TOKENS,
    schema.TASK_B_TOKENS,
)
MEASUREMENTS = tuple(name for name in schema.ROW_COLUMNS if name not in COUNTS)
LARGEST_COUNT = 2**53  # whole numbers up to here are exact as floats
_COUNTS_OF, _MEASUREMENTS_OF = itemgetter(*COUNTS), itemgetter(*MEASUREMENTS)
_PLAIN = {int, float, type(None)}
_REPR = Repr()
_REPR.maxstring = _REPR.maxother = 120


def shortened(value: Any) -> str:
    """Return `value` as a message shows it: its repr, cut where it is long or deep."""
    return _REPR.repr(value)


def is_real(value: Any) -> TypeGuard[float]:
    """Return whether `value` is a JSON number, NaN and infinities included."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether `value` is a JSON number that is finite as a float."""
    return is_real(value) and abs(value) <= sys.float_info.max


def check_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return evaluation points. Raises ValueError where one lacks a column, or steps do not rise from 0.

    Every row has all ROW_COLUMNS, and may have SCORE_COLUMNS and those of watched corpora; counts are whole
    numbers, measurements numbers or None, scores numbers in [0, 1].
    """
    for row in rows:
        if not _is_plain(row):
            _check(row)
        if len(row) > len(schema.ROW_COLUMNS):
            _check_further(row)
    steps = [row[schema.STEP] for row in rows]
    if steps and (steps[0] != 0 or any(later <= earlier for earlier, later in pairwise(steps))):
        raise ValueError(f"steps must rise from 0, got {steps[:4]}")
    return rows


def _is_plain(row: dict[str, Any]) -> bool:
    """Return whether `_check` has nothing to say of a row, as of nearly all; it takes several times as
    long.
    """
    try:
        counts, measured = _COUNTS_OF(row), _MEASUREMENTS_OF(row)
    except KeyError:
        return False
    whole = set(map(type, counts)) == {int} and min(counts) >= 0 and max(counts) <= LARGEST_COUNT
    kinds = set(map(type, measured))
    return whole and kinds <= _PLAIN and (int not in kinds or all(map(_fits, measured)))


def _check(row: dict[str, Any]) -> None:
    absent = [name for name in schema.ROW_COLUMNS if name not in row]
    if absent:
        raise ValueError(f"a row lacks {', '.join(absent)}")
    for name in COUNTS:
        if type(row[name]) is not int or not 0 <= row[name] <= LARGEST_COUNT:
            raise ValueError(f"{name} must be a whole number, got {shortened(row[name])}")
    for name in MEASUREMENTS:
        if row[name] is not None and not (is_real(row[name]) and _fits(row[name])):
            raise ValueError(f"{name} must be a number, got {shortened(row[name])}")


def _check_further(row: dict[str, Any]) -> None:
    for name in schema.SCORE_COLUMNS:
        if name in row and not (is_real(row[name]) and 0 <= row[name] <= 1):
            raise ValueError(f"{name} must be in [0, 1], got {shortened(row[name])}")
    for name, value in row.items():
        if name.startswith(schema.WATCHED) and not is_number(value):
            raise ValueError(f"{name[:80]} must be a number, got {shortened(value)}")


def _fits(value: float | None) -> bool:
    """Return whether a number can be a float, as all can but large whole ones."""
    return type(value) is not int or abs(value) <= sys.float_info.max
