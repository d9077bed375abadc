"""Runs one target: a number of examples, each with a deadline, and what counts as an error of our own."""

import contextlib
import faulthandler
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

DEADLINE = 5.0  # seconds an input may take, on a busy machine too
HARD_DEADLINE = 60.0  # then the process ends, for a hang in C answers no signal
PHASES = (Phase.explicit, Phase.generate, Phase.shrink)


@dataclass(frozen=True)
class Target:
    """One reader of files. `check` raises for an input that it crashes or hangs on, or takes for good."""

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]


class Hang(BaseException):
    """An input that took longer than DEADLINE; no `except Exception` in a library swallows it."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise Hang in the block once it has taken `seconds`; end the process where that does not help."""

    def stop(*_: object) -> None:
        raise Hang(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(HARD_DEADLINE, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_target(target: Target, *, examples: int, derandomize: bool) -> int:
    """Check `examples` inputs of `target` and return how many were run; raises what the first fault
    raises.
    """
    count = 0

    @settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(target.inputs)
    def check(value: Any) -> None:
        nonlocal count
        count += 1
        with deadline(DEADLINE):
            target.check(value)

    check()
    return count
