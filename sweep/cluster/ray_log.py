"""What Ray prints in the driver, in a file and not between the lines of a run. Imports Ray."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ray._private import worker

from sweep.config.errors import ClusterError, ClusterLostError
from sweep.console.terminal import native_output


@contextmanager
def ray_log() -> Iterator[Path]:
    """Yield a file that gets all that Ray prints; it goes with the block, unless an error names it.

    Raises ClusterError where none can be made.
    """
    try:
        handle, name = tempfile.mkstemp(prefix="forgetting-sweep-ray-", suffix=".log")
    except OSError as error:
        raise ClusterError(f"no temporary file can be made ({error}): set TMPDIR") from error
    log, named = Path(name), False
    try:
        with open(handle, "a", buffering=1) as file, native_output(log), _logged(file), _printed(file):
            yield log
    except (ClusterError, ClusterLostError) as error:
        named = name in str(error)
        raise
    finally:
        if not named:
            log.unlink(missing_ok=True)


@contextmanager
def _logged(file: TextIO) -> Iterator[None]:
    """Let what Ray's Python code logs go to `file` alone."""
    logger = logging.getLogger("ray")
    before = logger.handlers[:]
    logger.handlers[:] = [logging.StreamHandler(file)]
    try:
        yield
    finally:
        logger.handlers[:] = before
        logger.setLevel(logging.ERROR)  # threads of Ray's that outlive it have little to say


@contextmanager
def _printed(file: TextIO) -> Iterator[None]:
    """Let what Ray prints of lost nodes and processes go to `file` alone."""

    def write(data: dict[str, Any], ignore_prefix: bool) -> None:
        file.writelines(f"({data['pid']}) {line}\n" for line in data["lines"])

    with replaced(worker, "print_to_stdstream", write):
        yield


@contextmanager
def replaced(module: Any, name: str, value: object) -> Iterator[None]:
    """Let a name of a module of Ray's stand for `value` while the block runs."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
