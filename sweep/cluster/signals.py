"""Turning signals into a clean stop: running cells checkpoint, then the driver ends.

SIGUSR1 is the warning that Slurm and others send some time before they end a job; SIGHUP is a lost terminal.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
SAME_REQUEST_SECONDS = 1.0  # within which a wrapper or a shell may pass one Ctrl-C on a second time
Handler = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """A signal came while there was nothing to checkpoint."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interruption:
    """The first signal sets `requested`; a second Ctrl-C ends the driver at once.

    Other signals come twice from `timeout`, and from a shell that dies with its terminal: once is meant.
    """

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.signal: int | None = None
        self._since = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over the signals while the block runs."""
        before = self.listen()
        try:
            yield
        finally:
            _restore(before)

    def listen(self) -> dict[signal.Signals, Any]:
        """Take over the signals, where this is the main thread; return who handled them before."""
        return _take_over(self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if not self.requested.is_set():
            self.signal, self._since = number, now
            self.requested.set()
        elif number == signal.SIGINT and now > self._since + SAME_REQUEST_SECONDS:
            raise KeyboardInterrupt


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Raise Interrupted at any of the signals, where nothing else takes them over."""
    before = _take_over(_end)
    try:
        yield
    finally:
        _restore(before)


def _end(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def _take_over(handler: Handler) -> dict[signal.Signals, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    hung_up = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup: the work is to go on
    numbers = [number for number in HANDLED if not (number is signal.SIGHUP and hung_up)]
    return {number: signal.signal(number, handler) for number in numbers}


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
