"""What a run prints outlives its terminal, and native output goes elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINTING = """
import os, sys
from pathlib import Path
from sweep.console.terminal import keep_printing, native_output
keep_printing()
print("first", flush=True)
with native_output(Path(sys.argv[1])):
    os.write(1, b"native\\n")
    os.write(2, b"native error\\n")
    print("second")
    print("an error", file=sys.stderr)
sys.stdin.readline()
print("into nowhere", flush=True)
print("and again", file=sys.stderr, flush=True)
Path(sys.argv[2]).write_text("the end was reached")
"""


def test_a_closed_terminal_drops_output_and_ends_nothing(tmp_path: Path) -> None:
    log, end = tmp_path / "log", tmp_path / "end"
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTING, str(log), str(end)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    assert process.stdin
    assert [process.stdout.readline(), process.stdout.readline()] == [b"first\n", b"second\n"]
    assert process.stderr.readline() == b"an error\n"
    assert log.read_text() == "native\nnative error\n"
    process.stdout.close()
    process.stderr.close()
    process.stdin.close()
    assert process.wait(30) == 0
    assert end.read_text() == "the end was reached"


def test_a_descriptor_that_was_closed_is_no_files(tmp_path: Path) -> None:
    code = (
        "from sweep.console.terminal import keep_printing; keep_printing(); "
        "import sys; print(open(sys.argv[1], 'w').fileno() > 2)"
    )
    closing = 'exec "$@" 2>&- <&-'
    command = ["sh", "-c", closing, "sh", sys.executable, "-c", code, str(tmp_path / "file")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"True\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals here")
def test_a_terminal_that_hung_up_drops_output(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    code = (
        "from sweep.console.terminal import keep_printing; keep_printing(); input(); print('x', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.close(ours)
    process.communicate(b"\n", timeout=30)
    assert process.returncode == 0
