"""What a run prints: its lines outlive the terminal, and nothing that Ray's core prints stands between
them.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

STANDARD = (0, 1, 2)


class LastingOutput(io.TextIOWrapper):
    """Text to a terminal, a pipe or a file that may go away; what cannot be written any more is dropped."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        """Let what is written from now on, and what is still buffered, go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def keep_printing() -> None:
    """Let this process end no sooner than its work: print to descriptors of its own that may go away."""
    for descriptor in STANDARD:  # one that was closed would become that of the next file to be opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if _descriptor(stream) in STANDARD:
            setattr(sys, name, _lasting(stream))


def _lasting(stream: TextIO) -> LastingOutput:
    stream.flush()
    own = open(os.dup(stream.fileno()), "wb")  # noqa: SIM115 (open as long as the process)
    return LastingOutput(own, encoding=stream.encoding, errors=stream.errors, line_buffering=True)


@contextmanager
def native_output(log: Path) -> Iterator[None]:
    """Send what libraries write to the process's own descriptors to `log` while the block runs.

    Does nothing where Python prints to them as well.
    """
    if {_descriptor(sys.stdout), _descriptor(sys.stderr)} & set(STANDARD):
        yield
        return
    before = [os.dup(descriptor) for descriptor in STANDARD[1:]]
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for descriptor in STANDARD[1:]:
            os.dup2(file, descriptor)
        yield
    finally:
        for descriptor, kept in zip(STANDARD[1:], before, strict=True):
            os.dup2(kept, descriptor)
            os.close(kept)
        os.close(file)


def _descriptor(stream: TextIO | None) -> int | None:
    """Return what a stream writes to, None where that is memory."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None
