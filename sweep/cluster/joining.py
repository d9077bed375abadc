"""Joining a Ray cluster at an address: is it there, does it let this driver in, is it still there. Imports
Ray.
"""

import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import ray
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RayError

from sweep.cluster.local_ray import has_token, read_token_settings, variables
from sweep.config.errors import ClusterError

PROBE_SECONDS = 3.0  # that a head has to accept a connection
ANSWER_SECONDS = 10.0  # and then to answer
MODE_VARIABLE = "RAY_AUTH_MODE"
EXIT_FAILED = 1


def find_cluster(address: str) -> tuple[str, str]:
    """Return host:port of the head that an address, or "auto", means, and the RAY_AUTH_MODE to join it with.

    Raises ClusterError within PROBE_SECONDS where nothing listens there, and at once for a wrong token.
    """
    if "://" in address:
        raise ClusterError(
            f"{address} is no address of a cluster's head: give HOST:PORT (6379 unless `ray start` was told "
            "otherwise), or 'auto' on one of its nodes"
        )
    try:
        head = canonicalize_bootstrap_address_or_die(address)
    except (ConnectionError, ValueError) as error:
        raise ClusterError(f"no Ray cluster was found for {address!r}: {error}") from error
    _connect(head, named=head if address == "auto" else address)
    return head, _agree(head)


def _agree(head: str) -> str:
    """Return the mode in which the head lets this driver in: the user's, or what the cluster asks for.

    A driver that asks for a token in a cluster without one would be cut off from its own workers.
    """
    said = os.environ.get(MODE_VARIABLE)
    there = has_token()
    if said is not None and said.lower() == "token" and not there:  # Ray itself ends the process for it
        raise ClusterError(token_refused(head))
    refused: RayError | None = None
    for mode in [said] if said else ["disabled", "token"] if there else ["disabled"]:
        with variables({MODE_VARIABLE: mode}):
            read_token_settings()
            refused = _ask(head)
        if refused is None:
            return mode
    if isinstance(refused, AuthenticationError):
        raise ClusterError(token_refused(head)) from refused
    raise ClusterError(f"no Ray cluster lets this driver in at {head}: {refused}") from refused


def _connect(head: str, *, named: str) -> None:
    host, port = _split(head)
    end = time.monotonic() + PROBE_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
            return
        except (OSError, UnicodeError) as error:  # the latter of a host that is no name
            if time.monotonic() > end:
                raise ClusterError(
                    f"no Ray cluster answers at {named} ({error}): is its head running, and is this its "
                    "address?"
                ) from error
        time.sleep(0.3)


def _ask(head: str) -> RayError | None:
    """Return why the head does not let this driver in, None where it does; Ray itself would try for 45 s."""
    answers: queue.Queue[RayError | None] = queue.Queue()

    def ask() -> None:
        try:
            GcsClient(address=head)
            answers.put(None)
        except RayError as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True, name="ask").start()
    try:
        return answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        raise ClusterError(
            f"what listens at {head} does not answer as the head of a Ray cluster: its port is 6379 unless "
            "`ray start` was told otherwise (8265 is the dashboard's, 10001 that of Ray's client)"
        ) from None


def token_refused(head: str) -> str:
    """Return what to do about a token that is missing or wrong."""
    mode = os.environ.get(MODE_VARIABLE, "token")
    if mode.lower() != "token":
        said = f"{MODE_VARIABLE} is {mode!r}"
    else:
        there = has_token()
        said = "the one here is another" if there else "there is none here"
    return (
        f"the Ray cluster at {head} asks for its token, and {said}: set RAY_AUTH_MODE=token and the "
        "cluster's RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH)"
    )


def head_answers() -> Callable[[], bool]:
    """Return what says whether the head of the cluster that was joined still accepts connections."""
    return _accepts(_split(ray.get_runtime_context().gcs_address), unless=OSError)


def own_node_answers() -> Callable[[], bool]:
    """Return what says whether the raylet still runs through which this driver has joined.

    Ray ends a driver without one, some seconds later.
    """
    own = ray.get_runtime_context().get_node_id()
    (node,) = [node for node in ray.nodes() if node["NodeID"] == own]  # type: ignore[no-untyped-call]
    return _accepts((node["NodeManagerAddress"], node["NodeManagerPort"]), unless=ConnectionRefusedError)


def _accepts(address: tuple[str, int], *, unless: type[OSError]) -> Callable[[], bool]:
    def accepts() -> bool:
        with suppress(OSError):
            try:
                socket.create_connection(address, timeout=1.0).close()
            except unless:
                return False
        return True

    return accepts


@contextmanager
def watched(there: Callable[[], bool], *, patience: float, loss: str) -> Iterator[None]:
    """End the process with one line once `there` has said no for `patience` seconds.

    Ray's own calls would hang then, or end the process with pages of its own.
    """
    ended = threading.Event()

    def watch() -> None:
        seen = time.monotonic()
        while not ended.wait(1.0):
            if there():
                seen = time.monotonic()
            elif time.monotonic() > seen + patience:
                sys.stderr.write(f"error: {loss}\n")
                sys.stderr.flush()
                os._exit(EXIT_FAILED)  # an orderly end would wait for the head as well

    watcher = threading.Thread(target=watch, daemon=True, name="head")
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
