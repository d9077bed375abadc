"""The errors and warnings of analysis that a user can cause, and how they show a value."""

from reprlib import Repr
from typing import Any

_REPR = Repr()
_REPR.maxstring = _REPR.maxother = 120


class AnalysisError(ValueError):
    """What was asked cannot be done: names the rule, the actual value and what to do."""


class NothingToShowError(AnalysisError):
    """The request is fine, but there is no data for it yet."""


class LedgerWarning(UserWarning):
    """A file of a study could not be used; the message names it."""


def shortened(value: Any) -> str:
    """Return `value` as a message shows it: its repr, cut where it is long or deep."""
    return _REPR.repr(value)
