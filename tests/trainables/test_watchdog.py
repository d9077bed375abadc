"""The watchdog: ends a process that hangs, and leaves one alone that works."""

import subprocess
import sys

HANG = """
import sys, time
from trainables.watchdog import Watchdog
with Watchdog(0.5, report=lambda message: print(message, flush=True)) as watchdog:
    for _ in range(int(sys.argv[1])):
        time.sleep(0.05)
        watchdog.beat()
    time.sleep(float(sys.argv[2]))
print("went on", flush=True)
"""


def run(beats: int, silence: float) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", HANG, str(beats), str(silence)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_process_without_progress_is_ended_with_its_reason_and_its_stack() -> None:
    ended = run(beats=3, silence=50)
    assert ended.returncode == -9
    assert "no progress for 0.5 s" in ended.stdout
    assert "went on" not in ended.stdout
    assert 'File "<string>"' in ended.stderr


def test_a_process_that_beats_is_left_alone_however_long_it_works() -> None:
    ended = run(beats=30, silence=0)
    assert ended.returncode == 0
    assert ended.stdout == "went on\n"
