"""Judging answers; in a process of its own where a comparison may never end: it is killed, the next begun.

As a program it reads a JSON line [score, answer, reference] a pair, and says a line of scores to each.
"""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Sequence

from trainables.tasks.scoring import SCORES, Scores

SECONDS = 10.0  # that one comparison may take; an answer whose comparison takes longer counts as wrong


def judge(
    name: str, pairs: Sequence[tuple[str, str]], *, heartbeat: Callable[[], None] = lambda: None
) -> list[Scores]:
    """Return the scores of (answer, reference) pairs by the score called `name`, one of SCORES."""
    score = SCORES[name]
    if not score.apart:
        return [score.compare(answer, reference) for answer, reference in pairs]
    with _Judge(name) as apart:
        found = []
        for pair in pairs:
            found.append(apart.compare(*pair))
            heartbeat()
        return found


class _Judge:
    """A process that compares; begun anew once it had to be killed."""

    def __init__(self, name: str) -> None:
        self.name = name
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
        line = json.dumps([self.name, answer, reference]) + "\n"
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            answered = waiting.select(SECONDS)
        said = self._process.stdout.readline() if answered else b""
        if not said:  # too late, or it died of what it was given
            self._end()
            return dict.fromkeys(SCORES[self.name].names, 0.0)
        scores: Scores = json.loads(said)
        return scores

    def _begin(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "trainables.tasks.judging"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert process.stdout is not None
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
    from math_verify import parse  # once, before anyone waits for an answer

    parse("1")
    print("ready", flush=True)
    for line in sys.stdin:
        name, answer, reference = json.loads(line)
        print(json.dumps(SCORES[name].compare(answer, reference)), flush=True)


if __name__ == "__main__":
    main()
