"""Ray on this machine alone: its directory, its token, its addresses and its process group. Imports Ray.

Nothing of it is reachable from another machine, or without the token; what the user has set is left as it is.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError

from sweep.cluster.ray_log import replaced
from sweep.config.errors import ClusterError

LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes; the kernel's limit for a socket's path
LONGEST_SESSION = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # below Ray's directory
LONGEST_DIRECTORY = LONGEST_SOCKET - len(LONGEST_SESSION)
SHORT_DIRECTORY = "/tmp/ray"  # noqa: S108 (Ray's own default)
TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": every address of a local cluster is 127.0.0.1
DAEMONS = ("gcs_server", "raylet")
Say = Callable[[str], None]


class _Apart(subprocess.Popen):  # type: ignore[type-arg]
    """A daemon in a session of its own: signals to the driver's process group are the driver's alone."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options, start_new_session=True)


@contextmanager
def local_cluster(*, say: Say) -> Iterator[dict[str, Any]]:
    """Yield what `ray.init` needs beside its usual arguments, in an environment for a local cluster.

    Its daemons die with this process all the same: the kernel kills them. Raises ClusterError.
    """
    directory = ray_directory(say=say)
    with ExitStack() as stack:
        stack.enter_context(variables({LOOPBACK_VARIABLE: "0"}))
        stack.enter_context(replaced(ray_constants, "ENABLE_RAY_CLUSTER", False))  # read at its import
        stack.enter_context(replaced(services, "ConsolePopen", _Apart))
        stack.enter_context(_own_token(say))
        yield {"address": "local", "include_dashboard": False, "_temp_dir": directory}


def daemons_live() -> Callable[[], bool]:
    """Return what says whether all the daemons still live without which this cluster is none."""
    daemons = [each for each in psutil.Process().children() if each.name() in DAEMONS]

    def live() -> bool:
        try:
            return all(each.status() != psutil.STATUS_ZOMBIE for each in daemons)
        except psutil.NoSuchProcess:
            return False

    return live


def ray_directory(*, say: Say) -> str:
    """Return where Ray keeps its sockets and logs: the user's RAY_TMPDIR, TMPDIR, or one that is short
    enough.

    Raises ClusterError where RAY_TMPDIR is none that Ray can use.
    """
    chosen = os.environ.get("RAY_TMPDIR")
    if chosen:
        directory = os.path.abspath(chosen)
        fault = _fault(directory)
        if fault:
            raise ClusterError(
                f"RAY_TMPDIR: {fault}; unset it, or give a directory of at most {LONGEST_DIRECTORY} bytes "
                "that can be written to"
            )
        return directory
    directory = os.path.join(os.path.abspath(os.environ.get("TMPDIR") or "/tmp"), "ray")  # noqa: S108
    fault = _fault(directory)
    if not fault:
        return directory
    other = _fault(SHORT_DIRECTORY)
    if other:
        raise ClusterError(f"Ray needs a directory: {fault}, and {other}; set RAY_TMPDIR to another one")
    say(f"{fault}: Ray's files go to {SHORT_DIRECTORY} (RAY_TMPDIR chooses another place)")
    return SHORT_DIRECTORY


def _fault(directory: str) -> str | None:
    """Return why Ray could not keep its files in a directory, which is made."""
    if len(os.fsencode(directory)) > LONGEST_DIRECTORY:
        return f"{directory!r:.200} is too long for Ray's sockets"
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except FileExistsError:
        return f"{directory} is a file"
    except OSError as error:
        return f"{directory} cannot be written to ({error.strerror})"
    return None


@contextmanager
def _own_token(say: Say) -> Iterator[None]:
    """Let only who holds a token use the cluster: the one that a variable names, else one of its own.

    A token in the home directory is another cluster's: a plain `ray.init()` leaves one there.
    """
    mode = os.environ.get("RAY_AUTH_MODE") or "token"
    chosen = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if mode.lower() == "disabled":
        say("RAY_AUTH_MODE=disabled: any user of this machine can run code as you, through this run's Ray")
        chosen = True
    with variables({"RAY_AUTH_MODE": mode} | ({} if chosen else {"RAY_AUTH_TOKEN": secrets.token_hex(32)})):
        read_token_settings()
        has_token()
        yield
    read_token_settings()


def has_token() -> bool:
    """Return whether Ray finds a token. Raises ClusterError where a variable names no such file."""
    try:
        there: bool = AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    except AuthenticationError as error:
        path = os.environ.get("RAY_AUTH_TOKEN_PATH")
        raise ClusterError(
            f"RAY_AUTH_TOKEN_PATH: {path} cannot be read or is empty: unset it, or name a file that holds "
            "the token (`ray get-auth-token --generate` makes one)"
        ) from error
    return there


def read_token_settings() -> None:
    """Let Ray read its token and whether it asks for one from the environment, as it did at its import."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables, in this process and in what it starts, while the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
