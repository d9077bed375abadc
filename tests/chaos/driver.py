"""A driver as its user starts it: a process of its own, with signals, output and an exit code."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.sweep.waiting import wait_for

ROOT = Path(__file__).parents[2]


class Driver:
    """One `python -m sweep ...` in a process group of its own and a folder; `output` is a file that it writes
    into.
    """

    def __init__(self, arguments: Sequence[str], *, output: Path, folder: Path = ROOT) -> None:
        self.output = output
        self.log = output.open("wb")
        command = [sys.executable, "-W", "ignore", "-m", "sweep", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT)])},
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, condition: Callable[[], object], what: str, *, seconds: float = 180) -> None:
        """Wait until `condition` holds. Fails where the driver ends before it."""
        wait_for(lambda: condition() or not self.running, what, seconds=seconds)
        assert self.running, f"the driver ended before {what}:\n{self.said}"

    def wait_until_said(self, text: str, *, seconds: float = 180) -> None:
        self.wait_for(lambda: text in self.said, f"the driver said {text!r}", seconds=seconds)

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the driver, or as a terminal does to all of its process group."""
        assert self.running, f"the driver ended before {number.name}:\n{self.said}"
        (os.killpg if group else os.kill)(self.process.pid, number)

    def kill(self) -> None:
        """Kill the driver alone, without a warning; what it started has to notice by itself."""
        self.send(signal.SIGKILL)
        self.process.wait()

    def end(self, *, seconds: float = 300) -> int:
        """Return the exit code once the driver has ended."""
        return self.process.wait(seconds)


@contextmanager
def driving(arguments: Sequence[str], *, output: Path, folder: Path = ROOT) -> Iterator[Driver]:
    """Start a driver for the block; nothing of its process group outlives the block."""
    driver = Driver(arguments, output=output, folder=folder)
    try:
        yield driver
    finally:
        with suppress(ProcessLookupError):
            os.killpg(driver.process.pid, signal.SIGKILL)
        driver.process.wait()
        driver.log.close()
