"""What a run's workers and their driver tell each other, in an actor's hands: it imports nothing heavy."""

import time

from trainables.watchdog import WorkerBeat


class Mailbox:
    """An actor through which the driver stops its workers, and they tell it what the user should know."""

    def __init__(self) -> None:
        self._stopping = False
        self._phase_a: dict[int, tuple[int, int]] = {}
        self._messages: list[str] = []
        self._pauses: list[tuple[str, int]] = []
        self._refusals: dict[str, None] = {}
        self._failures: dict[str, dict[str, str]] = {}
        self._beats: dict[WorkerBeat, float] = {}
        self._resting: dict[WorkerBeat, float] = {}

    def stop(self) -> None:
        self._stopping = True

    def beat(self, worker: WorkerBeat) -> bool:
        """Note that a worker makes progress; return whether it is to stop."""
        self._beats[worker] = time.monotonic()
        self._resting = {
            each: since for each, since in self._resting.items() if each.process != worker.process
        }
        return self._stopping

    def rest(self, worker: WorkerBeat) -> None:
        """Note that a piece of work has ended: its process is to take up the next, or to leave."""
        if self._beats.pop(worker, None) is not None:
            self._resting[worker] = time.monotonic()

    def forget(self, worker: WorkerBeat) -> None:
        """Note that a process has ended."""
        self._beats.pop(worker, None)
        self._resting.pop(worker, None)

    def silent(self, seconds: float) -> list[tuple[WorkerBeat, bool]]:
        """Return the processes not heard of for that long, and whether each was at work; each counts anew.

        One between two pieces of work may be stopped as well, with the next one waiting for it. If it is idle
        and no more, nothing is lost with it.
        """
        now = time.monotonic()
        silent = []
        for workers, at_work in ((self._beats, True), (self._resting, False)):
            late = [worker for worker, heard in workers.items() if now - heard >= seconds]
            workers |= dict.fromkeys(late, now)
            silent += [(worker, at_work) for worker in late]
        return silent

    def fail(self, keys: list[str], failure: dict[str, str]) -> None:
        """Note that cells failed for a reason that another try would meet again: its error and log."""
        self._failures |= dict.fromkeys(keys, failure)

    def take_failures(self) -> dict[str, dict[str, str]]:
        taken, self._failures = self._failures, {}
        return taken

    def refuse(self, line: str) -> None:
        """Note that a worker does not compute with what the driver has, and left its work."""
        self._refusals[line] = None

    def refusals(self) -> list[str]:
        return list(self._refusals)

    def tell_phase_a(self, seed: int, step: int, steps: int) -> None:
        self._phase_a[seed] = (step, steps)

    def phase_a(self) -> tuple[int, int]:
        """Return the steps taken, and all, of every Phase A that has begun."""
        steps, totals = zip((0, 0), *self._phase_a.values(), strict=True)
        return sum(steps), sum(totals)

    def say(self, message: str) -> None:
        self._messages.append(message)

    def take_messages(self) -> list[str]:
        taken, self._messages = self._messages, []
        return taken

    def pause(self, message: str, needed: int) -> None:
        """Note that a worker left its cells because the storage failed; it needs so many bytes free."""
        self._pauses.append((message, needed))

    def take_pauses(self) -> list[tuple[str, int]]:
        taken, self._pauses = self._pauses, []
        return taken
