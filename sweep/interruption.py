"""Turning signals into a clean stop: running cells checkpoint, then the driver ends.

SIGUSR1 is the warning that Slurm and others send some time before they end a job.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """The first signal sets `requested`; a second one ends the driver at once."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.signal: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over the signals while the block runs."""
        before = self.listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen(self) -> dict[signal.Signals, Any]:
        """Take over the signals, where this is the main thread; return who handled them before."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._handle) for number in HANDLED}

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested.is_set():
            raise KeyboardInterrupt
        self.signal = number
        self.requested.set()
