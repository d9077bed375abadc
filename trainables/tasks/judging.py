"""Judging answers; in a process of its own where a comparison may never end: it is killed, the next begun.

As a program it reads a JSON line with the score's name and, of a user's own, its source; then a line [answer,
reference] a pair, and says a line of scores to each, or of what was wrong.
"""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Sequence

from trainables.ledger.errors import FAULTS_OF_A_CALL
from trainables.ledger.schema import EXACT_MATCH
from trainables.tasks.own_score import own_comparison
from trainables.tasks.scoring import SCORES, Scores

SECONDS = 10.0  # that one comparison may take; an answer whose comparison takes longer counts as wrong


def judge(
    name: str,
    pairs: Sequence[tuple[str, str]],
    *,
    source: str | None = None,
    heartbeat: Callable[[], None] = lambda: None,
) -> list[Scores]:
    """Return the scores of (answer, reference) pairs by the score called `name`, one of SCORES, or a user's
    own by its `source`. Raises RuntimeError for one that fails.
    """
    if source is None and not SCORES[name].apart:
        return [SCORES[name].compare(answer, reference) for answer, reference in pairs]
    with _Judge(name, source) as apart:
        found = []
        for pair in pairs:
            found.append(apart.compare(*pair))
            heartbeat()
        return found


class _Judge:
    """A process that compares; begun anew once it had to be killed."""

    def __init__(self, name: str, source: str | None) -> None:
        self.name, self.source = name, source
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_Judge":
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def compare(self, answer: str, reference: str) -> Scores:
        """Return a pair's scores, all 0 where the comparison did not end in time."""
        if self._process is None:
            self._process = self._begin()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._tell([answer, reference])
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            answered = waiting.select(SECONDS)
        said = self._process.stdout.readline() if answered else b""
        if not said:  # too late, or it died of what it was given
            self._end()
            names = (EXACT_MATCH,) if self.source is not None else SCORES[self.name].names
            return dict.fromkeys(names, 0.0)
        found = json.loads(said)
        if isinstance(found, str):
            raise RuntimeError(f"answers cannot be judged by {self.name!r}: {found}")
        scores: Scores = found
        return scores

    def _tell(self, what: list[str | None]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(what) + "\n").encode())
        self._process.stdin.flush()

    def _begin(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "trainables.tasks.judging"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert process.stdout is not None
        self._process = process
        self._tell([self.name, self.source])
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"answers cannot be judged by {self.name!r}: its process does not start")
        return process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def main() -> None:
    """Answer each line of the input with the scores of its pair."""
    name, source = json.loads(sys.stdin.readline())
    said = sys.stdout
    sys.stdout = sys.stderr  # what a user's own prints
    compare = SCORES[name].compare if source is None else own_comparison(source)
    if source is None:
        compare("1", "1")  # once, before anyone waits for an answer: imports take seconds
    print("ready", file=said, flush=True)
    for line in sys.stdin:
        try:
            found: Scores | str = compare(*json.loads(line))
        except FAULTS_OF_A_CALL as error:
            found = f"{type(error).__name__}: {error}"
        print(json.dumps(found), file=said, flush=True)


if __name__ == "__main__":
    main()
