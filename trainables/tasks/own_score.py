"""A user's own score: a Python file whose `score(answer, reference)` judges generated answers.

Its code is run here once, where that was asked for, to see that it works; workers are sent its text, and run
it in a process of its own (`tasks.judging`).
"""

from collections.abc import Callable
from pathlib import Path

from trainables.ledger.errors import FAULTS_OF_A_FILE, UserError
from trainables.ledger.schema import EXACT_MATCH
from trainables.tasks.scoring import SCORES, Score, Scores


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
    except FAULTS_OF_A_FILE as error:
        kind = "" if isinstance(error, (TypeError, ValueError)) else f"{type(error).__name__}: "
        raise OwnScoreError(f"{path}: {kind}{error}") from error
    SCORES[str(path)] = Score(compare, apart=True, source=source)


def own_comparison(source: str) -> Callable[[str, str], Scores]:
    """Run a user's file and return its `score` as a comparison: its value, in [0, 1], is the exact match.

    Raises TypeError for a file without one, and the comparison ValueError for a value that is no share.
    """
    names: dict[str, object] = {"__name__": "own_score"}
    exec(compile(source, "own_score.py", "exec"), names)  # noqa: S102  what the user asked for
    score = names.get("score")
    if not callable(score):
        raise TypeError("it must define score(answer, reference), which returns a share in [0, 1]")

    def compare(answer: str, reference: str) -> Scores:
        value = score(answer, reference)
        if not isinstance(value, (bool, int, float)) or not 0 <= value <= 1:
            raise ValueError(f"score({answer!r:.60}, {reference!r:.60}) must be in [0, 1], got {value!r:.60}")
        return {EXACT_MATCH: float(value)}

    return compare


def _try(compare: Callable[[str, str], Scores]) -> None:
    for answer, reference in (("4", "4"), ("", "four"), ("no\nanswer", "4")):
        compare(answer, reference)
