"""Which driver works on a study: one lease at a time, kept alive by a heartbeat.

A lease is a file numbered by its term of office; whoever creates the next number holds the study. Nobody's
clock is trusted: a lease has lapsed once a watcher has read it LAPSE times without a change.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from trainables.columns import LEASES_DIRECTORY
from trainables.seals import DamagedError
from trainables.storage.base import Storage, StorageError
from trainables.storage.objects import ObjectStorage

BEAT_SECONDS = 5.0
LAPSE = 6  # readings, BEAT_SECONDS apart
SETTLE_SECONDS = 2.0  # after which two drivers that put the same object at once have seen each other
CLOCK_STEP = 1.5  # seconds by which two readings of the same start may differ
Record = dict[str, Any]


class LeaseLostError(RuntimeError):
    """Another driver has taken the study over; this one must not write anything more."""


class WaitEndedError(RuntimeError):
    """The wait for another driver's lease was ended by a stop."""


@dataclass(frozen=True)
class Owner:
    """A driver process: enough for another one on the same machine to see whether it still lives."""

    host: str
    boot: str
    pid: int
    started: float

    def describe(self) -> str:
        return f"process {self.pid} on {self.host}"

    def gone(self) -> bool:
        """Say whether the process is known to have ended; on another machine nobody knows."""
        if self.boot != _boot():
            return False
        try:
            return abs(_age_of_boot(self.pid) - self.started) > CLOCK_STEP
        except psutil.NoSuchProcess:
            return True


def this_process() -> Owner:
    """Return the owner that this process is."""
    return Owner(socket.gethostname(), _boot(), os.getpid(), _age_of_boot(os.getpid()))


def _age_of_boot(pid: int) -> float:
    """Return how many seconds the machine was up when the process started, whatever its clock says since."""
    return float(psutil.Process(pid).create_time() - psutil.boot_time())


def _boot() -> str:
    """Return what processes that can see each other's ids have in common."""
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{kernel} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {psutil.boot_time()}"


class Lease:
    """A held lease. `term` numbers its holder; `on_lost` is called once another driver has the study."""

    def __init__(
        self, leases: Storage, *, term: int, record: Record, on_lost: Callable[[], None] = lambda: None
    ) -> None:
        self.leases = replace(leases, patience=min(leases.patience, BEAT_SECONDS))
        self.term, self.record, self.on_lost = term, record, on_lost
        self.lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseLostError if another driver has taken over."""
        if self.lost or not self._is_ours():
            self.lost = True
            raise LeaseLostError(
                f"another driver holds {self.leases.describe()}: this one leaves the study alone"
            )

    def release(self) -> None:
        """Let the next driver have the study at once."""
        self._ended.set()
        self._thread.join()
        if not self.lost:
            with suppress(StorageError):  # it will lapse
                self._write(released=True)

    def _is_ours(self) -> bool:
        held = _read(self.leases, self.term)
        return (
            _newest(self.leases) <= self.term and held is not None and held["nonce"] == self.record["nonce"]
        )

    def _write(self, **changed: Any) -> None:
        self.record |= changed
        self.leases.write_record(_name(self.term), self.record)

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self.check()
                self._write(beats=self.record["beats"] + 1)
            except LeaseLostError:
                self.on_lost()
                return
            except StorageError:  # nothing can be written, or the storage is away, for who waits as well
                with suppress(StorageError, FileNotFoundError):
                    self.leases.touch(_name(self.term))


@contextmanager
def held(
    storage: Storage,
    *,
    say: Callable[[str], None],
    on_lost: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> Iterator[Lease]:
    """Hold the lease on a study while the block runs; wait, with a word to `say`, while another driver does."""
    lease = acquire(storage.inside(LEASES_DIRECTORY), say=say, on_lost=on_lost, stop=stop)
    try:
        yield lease
    finally:
        lease.release()


def acquire(
    leases: Storage,
    *,
    say: Callable[[str], None],
    on_lost: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> Lease:
    """Return the lease of the next term, once the one before has been released or has lapsed.

    Raises WaitEndedError if `stop` is set while it waits.
    """
    stop = stop or threading.Event()
    while True:
        newest = _newest(leases)
        if newest:
            _wait_until_free(leases, newest, say=say, stop=stop)
        term = newest + 1
        record = {"nonce": uuid.uuid4().hex, "owner": asdict(this_process()), "beats": 0, "released": False}
        if _create(leases, term, record):
            for name in leases.files():
                if name < _name(newest):
                    leases.delete(name)
            return Lease(leases, term=term, record=record, on_lost=on_lost)


def _create(leases: Storage, term: int, record: Record) -> bool:
    if not leases.create_record(_name(term), record):
        return False
    if isinstance(leases, ObjectStorage):  # where two may have created it
        time.sleep(SETTLE_SECONDS)
        held = _read(leases, term)
        return held is not None and held["nonce"] == record["nonce"]
    return True


def _wait_until_free(
    leases: Storage, term: int, *, say: Callable[[str], None], stop: threading.Event
) -> None:
    """Return once the holder of a term has released it, ended or let it lapse, or a newer term has begun."""
    before, unchanged = _look(leases, term), 0
    if not _free(before[0]):
        who = Owner(**before[0]["owner"]).describe() if before[0] else "another driver"
        say(
            f"{who} works on this study: waiting until it ends, or has been silent for {LAPSE * BEAT_SECONDS:g} s"
        )
    while unchanged < LAPSE and not _free(before[0]) and _newest(leases) == term:
        if stop.wait(BEAT_SECONDS):
            raise WaitEndedError(f"stopped while another driver worked on {leases.describe()}")
        now = _look(leases, term)
        unchanged = unchanged + 1 if now == before else 0
        before = now


def _free(record: Record | None) -> bool:
    return record is not None and (record["released"] or Owner(**record["owner"]).gone())


def _look(leases: Storage, term: int) -> tuple[Record | None, float]:
    """Return a lease and its date, one of which changes with every beat of its holder."""
    found = leases.files().get(_name(term))
    return _read(leases, term), found.modified if found else 0.0


def _read(leases: Storage, term: int) -> Record | None:
    """Return a lease as it stands; None where it cannot be read, as while it is being created."""
    try:
        record = leases.read_record(_name(term))
        return record if record and Owner(**record["owner"]) else None
    except (DamagedError, KeyError, TypeError):
        return None


def _newest(leases: Storage) -> int:
    return max((int(name[:8]) for name in leases.files() if name[:8].isdigit()), default=0)


def _name(term: int) -> str:
    return f"{term:08d}.json"
