"""Ends a process that makes no more progress, so that its work is tried again elsewhere."""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

STDERR = 2
BACKSTOP = 60.0  # seconds after which a process that does not even run Python code is ended


@dataclass(frozen=True)
class WorkerBeat:
    """A process at work, as its heartbeats name it: `node` is Ray's id, `mark` tells it from a later one."""

    node: str
    host: str
    pid: int
    mark: str
    work: str

    @property
    def process(self) -> tuple[str, int, str]:
        return self.node, self.pid, self.mark


class Watchdog:
    """Kills this process if `beat` is not called for `seconds` inside the block.

    `report` is told before, and every thread's stack goes to stderr.
    """

    def __init__(self, seconds: float, *, report: Callable[[str], None]) -> None:
        self.seconds, self.report = seconds, report
        self._beaten = time.monotonic()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")

    def beat(self) -> None:
        """Take note of progress."""
        self._beaten = time.monotonic()

    def __enter__(self) -> Self:
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()  # else it may set the alarm again that is taken back here
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        while True:
            silent = time.monotonic() - self._beaten
            if silent >= self.seconds:
                break
            faulthandler.dump_traceback_later(self.seconds - silent + BACKSTOP, exit=True, file=STDERR)
            if self._left.wait(self.seconds - silent):
                return
        self.report(f"no progress for {self.seconds:g} s: ended, to be tried again from the last checkpoint")
        faulthandler.dump_traceback(file=STDERR)
        os.kill(os.getpid(), signal.SIGKILL)


def process_mark(pid: int) -> str | None:
    """Return what tells a process from a later one with its id, whatever the clock says; None if it is
    gone.
    """
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        )  # ticks from boot to its start
    except (FileNotFoundError, ProcessLookupError):
        pass
    try:
        return str(psutil.Process(pid).create_time())  # where there is no /proc
    except psutil.NoSuchProcess:
        return None


def end_process(pid: int, *, mark: str) -> bool:
    """Kill a process of this machine that no longer answers; return False if it was gone already."""
    if process_mark(pid) != mark:
        return False
    os.kill(pid, signal.SIGKILL)
    return True
