"""Waiting while a study's storage is full or does not answer: cells are paused, nothing is lost."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from trainables.storage.base import Storage, StorageError

PROBE = "probe"
PROBE_SECONDS = 2.0
Pause = tuple[str, int]  # what a worker met, and the bytes it needs to be free


@dataclass
class Outages:
    """Knows why cells are paused, and waits up to `patience` seconds for the storage to be usable again.

    `unresolved` says what was wrong where the wait was in vain.
    """

    storage: Storage
    patience: float
    stop_requested: threading.Event
    say: Callable[[str], None]
    unresolved: str | None = field(default=None, init=False)

    def wait_out(self, pauses: Sequence[Pause]) -> bool:
        """Return True once a file as large as any that failed can be written, False if it never was."""
        message, needed = max(pauses, key=lambda pause: pause[1])
        self.say(f"paused: {message}; nothing is lost, waiting up to {self.patience:g} s")
        end = time.monotonic() + self.patience
        while time.monotonic() < end and not self.stop_requested.wait(PROBE_SECONDS):
            if self._usable(needed):
                self.say("the storage is usable again: going on")
                return True
        self.unresolved = message
        return False

    def _usable(self, needed: int) -> bool:
        prompt = replace(self.storage, patience=0.0)
        try:
            prompt.write(PROBE, b"\0" * max(1, needed))
            prompt.delete(PROBE)
        except StorageError:
            return False
        return True
