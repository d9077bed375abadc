"""A way to an S3 server on which chosen requests are late: a proxy in this process, for one driver or all.

It knows no HTTP but a request's first bytes, for the server closes a connection after one answer.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from tests.sweep.object_store import ObjectStore

PIECE = 1 << 16


@dataclass(frozen=True)
class Delay:
    """Seconds that a request is held before the server sees it, and its answer before the client does."""

    before: float = 0.0
    after: float = 0.0


@contextmanager
def proxied(
    store: ObjectStore, delay: Callable[[str], Delay], *, unsent: bytes | None = None
) -> Iterator[ObjectStore]:
    """Yield the same store as it is reached by a proxy, which delays as `delay` says of a request's first
    line.

    A header of the name `unsent` is lost on the way.
    """
    with socket.create_server((store.host, 0)) as listener:
        thread = threading.Thread(target=_serve, args=[listener, store, delay, unsent], daemon=True)
        thread.start()
        try:
            yield replace(store, port=listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(
    listener: socket.socket, store: ObjectStore, delay: Callable[[str], Delay], unsent: bytes | None
) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # shut down
            return
        threading.Thread(target=_pass_on, args=[client, store, delay, unsent], daemon=True).start()


def _pass_on(
    client: socket.socket, store: ObjectStore, delay: Callable[[str], Delay], unsent: bytes | None
) -> None:
    """Pass a request on, and its answer back; a client that has left meanwhile does not undo it."""
    with client, suppress(OSError):
        first = client.recv(PIECE)
        late = delay(first.partition(b"\r\n")[0].decode())
        if unsent is not None:
            first = first.replace(unsent, b"X-Lost")
        time.sleep(late.before)
        with socket.create_connection((store.host, store.port)) as server:
            server.sendall(first)
            threading.Thread(target=_pump, args=[client, server], daemon=True).start()
            _pump(server, client, hold=late.after)


def _pump(source: socket.socket, sink: socket.socket, *, hold: float = 0.0) -> None:
    with suppress(OSError):  # either has closed
        while piece := source.recv(PIECE):
            time.sleep(hold)
            hold = 0.0
            sink.sendall(piece)
