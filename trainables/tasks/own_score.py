"""A user's own score: a Python file whose `score(answer, reference)` judges generated answers.

Its code is run here once, where that was asked for, to see that it works; workers are sent its text, and run
it in a process of its own (`tasks.judging`).
"""

from collections.abc import Callable
from pathlib import Path

from trainables.ledger.errors import UserError
from trainables.tasks.scoring import SCORES, Score, Scores, own_comparison


class OwnScoreError(UserError):
    """A file whose score cannot be used; the message says why."""


def load_own_score(path: Path) -> None:
    """Run the file and add its `score` to SCORES, under its path. Raises OwnScoreError."""
    path = path.expanduser().absolute()
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OwnScoreError(f"--score: {path} cannot be read: {error}") from error
    try:
        compare = own_comparison(source)
        _try(compare)
    except (SyntaxError, ImportError, ArithmeticError, LookupError, AttributeError, NameError) as error:
        raise OwnScoreError(f"{path}: {type(error).__name__}: {error}") from error
    except (TypeError, ValueError) as error:
        raise OwnScoreError(f"{path}: {error}") from error
    SCORES[str(path)] = Score(compare, apart=True, source=source)


def _try(compare: Callable[[str, str], Scores]) -> None:
    for answer, reference in (("4", "4"), ("", "four"), ("no\nanswer", "4")):
        compare(answer, reference)
