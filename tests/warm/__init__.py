"""Ray's workers as forks of one warm process, so that a test does not wait for imports that it is not
about.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sweep.waiting import wait_for

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parent / "site"


@contextmanager
def warm_start(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment variables with which Ray's workers begin warm, while the block runs."""
    place = folder / "warm"
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.warm.server", str(place)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
    )
    try:
        wait_for(lambda: place.exists() or server.poll() is not None, "a process to fork workers of")
        path = os.pathsep.join([str(SITE), str(ROOT), os.environ.get("PYTHONPATH", "")])
        yield {"WARM_START": str(place), "PYTHONPATH": path}
    finally:
        server.communicate()
