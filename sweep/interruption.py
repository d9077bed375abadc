"""Turning signals into a clean stop: running cells checkpoint, then the driver ends.

SIGUSR1 is the warning that Slurm and others send some time before they end a job.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """The first signal sets `requested`; a second one ends the driver at once."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.signal: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over the signals while the block runs, where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in HANDLED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested.is_set():
            raise KeyboardInterrupt
        self.signal = number
        self.requested.set()
