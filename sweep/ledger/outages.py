"""Waiting while a study's storage is full or does not answer: cells are paused, nothing is lost."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from trainables.ledger.leftovers import PROBE_FILE
from trainables.ledger.storage.base import Storage, StorageError

PROBE_SECONDS = 2.0
Pause = tuple[str, int]  # what a worker met, and the bytes it needs to be free


@dataclass
class Outages:
    """Knows why work is paused, and waits up to `patience` seconds for the storage to be usable again.

    The seconds count from the first pause until there is progress, for what only a worker cannot reach the
    driver's probe does not see. `unresolved` says what was wrong where the wait was in vain.
    """

    patience: float
    stop_requested: threading.Event
    say: Callable[[str], None]
    unresolved: str | None = field(default=None, init=False)
    _since: float | None = field(default=None, init=False)

    def note_progress(self) -> None:
        """Take note that work went on: the next pause is a new one."""
        self._since = None

    def wait_out(self, pauses: Sequence[Pause], *, storage: Storage) -> bool:
        """Return True once a file as large as any that failed can be written, False if it never was."""
        message, needed = max(pauses, key=lambda pause: pause[1])
        if self._since is None:
            self._since = time.monotonic()
        end = self._since + self.patience
        self.say(
            f"paused: {message}; nothing is lost, waiting up to {max(0.0, end - time.monotonic()):.0f} s"
        )
        while time.monotonic() < end and not self.stop_requested.wait(PROBE_SECONDS):
            if self._usable(storage, needed):
                self.say("the storage is usable from here: trying again")
                return True
        self.unresolved = message
        return False

    def _usable(self, storage: Storage, needed: int) -> bool:
        prompt = replace(storage, patience=0.0)
        try:
            prompt.write(
                PROBE_FILE, os.urandom(max(1, needed))
            )  # not zeros, which some file systems do not store
            prompt.delete(PROBE_FILE)
        except StorageError:
            return False
        return True
