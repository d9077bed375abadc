"""The process whose forks are Ray's workers: it has imported what is slow to import, and nothing of this
package.

`python -m tests.warm.server SOCKET` serves until its starter closes its input. A fork takes over the
arguments, environment, folder, network and outputs of the process that asked, so that all it imports from
here on is its own.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

# What workers import of others' packages, except Ray, which reads its environment when it is imported.
MODULES = (
    "torch",
    "torch._dynamo",
    "pandas",
    "pyarrow.fs",
    "pyarrow.parquet",
    "scipy.stats",
    "datasets",
    "transformers.models.llama.modeling_llama",
    "peft",
    "ruamel.yaml",
    "pydantic",
)


def serve(place: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place + "~")
    listener.listen(64)
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()
    os.rename(place + "~", place)
    asking: dict[int, socket.socket] = {}  # by fork
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([listener, woken, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        if woken in ready:
            os.read(woken, 1 << 10)
            for pid, code in _ended():
                with asking.pop(pid) as connection:
                    connection.sendall(b"%d\n" % code)
        if listener in ready:
            connection, _ = listener.accept()
            request, handles = _receive(connection)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for each in (listener, connection, *asking.values()):
                    each.close()
                os.close(woken)
                os.close(wake)
                _become(request, handles)
            for handle in handles:
                os.close(handle)
            asking[pid] = connection


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    content, handles, _, _ = socket.recv_fds(connection, 1 << 16, 4)
    while not content.endswith(b"\n"):
        content += connection.recv(1 << 16)
    return json.loads(content), handles


def _ended() -> list[tuple[int, int]]:
    found = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        code = os.waitstatus_to_exitcode(status)
        found.append((pid, code if code >= 0 else 128 - code))


def _become(request: dict[str, Any], handles: list[int]) -> None:
    """Go on as the process that asked would have; never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    *outputs, network = handles
    for number, handle in enumerate(outputs):
        os.dup2(handle, number)
    ctypes.CDLL(None, use_errno=True).setns(network, 0)  # for good where it is another one
    for handle in handles:
        os.close(handle)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    script, *arguments = request["arguments"][request_start(request["arguments"]) :]
    sys.argv = [script, *arguments]
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [str(Path(script).parent), *paths, *(path for path in sys.path[1:] if path not in PATHS)]
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    sys.modules.pop("sitecustomize", None)
    code = 0
    try:
        importlib.import_module("sitecustomize")
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 (as the interpreter does)
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def request_start(arguments: list[str]) -> int:
    return next(place for place, word in enumerate(arguments) if word.endswith(".py"))


PATHS = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]

if __name__ == "__main__":
    serve(sys.argv[1])
