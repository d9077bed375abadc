"""A cell's evaluation points: from the rows of a JSON file to an array, or what is wrong with them."""

import sys
from itertools import pairwise
from operator import itemgetter
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from analysis.reading.errors import shortened
from trainables.ledger import schema

COUNTS = (
    schema.STEP,
    schema.TASK_A_EXAMPLES,
    schema.TASK_B_EXAMPLES,
    schema.TASK_A_TOKENS,
    schema.TASK_B_TOKENS,
)
MEASUREMENTS = tuple(name for name in schema.ROW_COLUMNS if name not in COUNTS)
POSITIONS = {name: position for position, name in enumerate(schema.ROW_COLUMNS)}
LARGEST_COUNT = 2**53  # whole numbers up to here are exact in the array
_VALUES_OF, _COUNTS_OF, _MEASUREMENTS_OF = (
    itemgetter(*names) for names in (schema.ROW_COLUMNS, COUNTS, MEASUREMENTS)
)
_PLAIN = {int, float, type(None)}

Points = npt.NDArray[np.float64]
NO_POINTS: Points = np.empty((0, len(schema.ROW_COLUMNS)))


class RowsError(ValueError):
    """Rows that are no evaluation points; the message says why."""


def make_points(rows: Any) -> Points:
    """Return rows as an array (P, ROW_COLUMNS), None as NaN; raises RowsError.

    Every row has all ROW_COLUMNS; counts are whole numbers, and steps rise from 0.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RowsError("it has no list of rows")
    for row in rows:
        if not _is_plain(row):
            _check(row)
    steps = [row[schema.STEP] for row in rows]
    if steps and (steps[0] != 0 or any(later <= earlier for earlier, later in pairwise(steps))):
        raise RowsError(f"steps must rise from 0, got {steps[:4]}")
    values = [_VALUES_OF(row) for row in rows]
    try:
        return np.array(values, dtype=np.float64) if rows else NO_POINTS
    except OverflowError as err:
        raise RowsError(f"a number is too large ({err})") from err


def _is_plain(row: dict[str, Any]) -> bool:
    """Return whether `_check` has nothing to say of a row, as of nearly all; it takes several times as long."""
    try:
        counts, measured = _COUNTS_OF(row), _MEASUREMENTS_OF(row)
    except KeyError:
        return False
    whole = set(map(type, counts)) == {int} and min(counts) >= 0 and max(counts) <= LARGEST_COUNT
    return whole and set(map(type, measured)) <= _PLAIN


def _check(row: dict[str, Any]) -> None:
    absent = [name for name in schema.ROW_COLUMNS if name not in row]
    if absent:
        raise RowsError(f"a row lacks {', '.join(absent)}")
    for name in COUNTS:
        if type(row[name]) is not int or not 0 <= row[name] <= LARGEST_COUNT:
            raise RowsError(f"{name} must be a whole number, got {shortened(row[name])}")
    for name in MEASUREMENTS:
        if row[name] is not None and not is_real(row[name]):
            raise RowsError(f"{name} must be a number, got {shortened(row[name])}")


def is_real(value: Any) -> TypeGuard[float]:
    """Return whether `value` is a JSON number, NaN and infinities included."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether `value` is a JSON number that is finite as a float."""
    return is_real(value) and abs(value) <= sys.float_info.max
