"""Which driver works on a study: one lease at a time, kept alive by a heartbeat.

A lease is a file numbered by its fencing token; whoever creates the next number holds the study. Nobody's
clock is trusted, nor the storage's speed: a lease has lapsed once a watcher, who writes as often as its
holder should, has read it LAPSE times without a change.
"""

import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from trainables.ledger.errors import RunEndedError
from trainables.ledger.schema import LEASES_DIRECTORY
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Storage, StorageError

BEAT_SECONDS = 5.0
LAPSE = 6  # readings, BEAT_SECONDS apart
WAITING_FILE = "waiting.json"  # written by who waits
TICK = 0.01  # seconds; what Linux counts the starts of processes in
AT_WORK, SILENT, ENDED = "at work", "silent", "ended"  # what a lease's holder is
Record = dict[str, Any]


class LeaseLostError(RunEndedError):
    """Another driver has taken the study over; this one must not write anything more."""


class WaitEndedError(RuntimeError):
    """The wait for another driver's lease was ended by a stop."""


@dataclass(frozen=True)
class Owner:
    """A driver process: enough for another one on the same machine to see whether it still lives.

    `started` is in seconds since the machine's boot, which no change of its clock moves; 0 where only the
    process's number is known.
    """

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
        started = _started(self.pid)
        return started is None or abs(started - self.started) > TICK / 2


@dataclass(frozen=True)
class Holder:
    """Who holds a study's lease, or did last; `age` is in seconds since its last heartbeat, by this machine's
    clock.
    """

    owner: Owner
    fencing_token: int
    age: float
    released: bool

    @property
    def state(self) -> str:
        """Return AT_WORK, SILENT or ENDED."""
        if self.released or self.owner.gone():
            return ENDED
        return SILENT if self.age > LAPSE * BEAT_SECONDS else AT_WORK


def this_process() -> Owner:
    """Return the owner that this process is."""
    started = _started(os.getpid())
    assert started is not None, "this process lives"
    return Owner(socket.gethostname(), _boot(), os.getpid(), started)


def _started(pid: int) -> float | None:
    """Return how many seconds after the machine's boot a process started, None where there is none.

    psutil tells it by the clock's time; the kernel's own count is the 22nd field of proc(5)'s stat.
    """
    if sys.platform != "linux":
        return 0.0 if psutil.pid_exists(pid) else None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # from the third on; a name may hold anything
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _boot() -> str:
    """Return what processes that can see each other's ids have in common."""
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{kernel} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {psutil.boot_time()}"


class Lease:
    """A held lease. `fencing_token` numbers its holder; `on_lost` is called once another driver has the
    study.
    """

    def __init__(
        self,
        leases: Storage,
        *,
        fencing_token: int,
        record: Record,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.leases = replace(leases, patience=min(leases.patience, BEAT_SECONDS))
        self.fencing_token, self.record, self.on_lost = fencing_token, record, on_lost
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
                self.leases.write_record(_name(self.fencing_token), self.record | {"released": True})

    def _is_ours(self) -> bool:
        held = _read(self.leases, self.fencing_token)
        return (
            _newest(self.leases) <= self.fencing_token
            and held is not None
            and held["nonce"] == self.record["nonce"]
        )

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self.check()
                self.record["beats"] += 1
                self.leases.touch(_name(self.fencing_token), self.record)
            except LeaseLostError:
                self.on_lost()
                return
            except (StorageError, FileNotFoundError):  # the storage is away, for who waits as well
                continue


@contextmanager
def held(
    storage: Storage,
    *,
    say: Callable[[str], None],
    on_lost: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> Iterator[Lease]:
    """Hold the lease on a study while the block runs; wait, with a word to `say`, while another driver
    does.
    """
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
        fencing_token = newest + 1
        record = {"nonce": uuid.uuid4().hex, "owner": asdict(this_process()), "beats": 0, "released": False}
        if leases.create_record(_name(fencing_token), record) and _newest(leases) == fencing_token:
            for name in leases.files():
                if name < _name(newest) or name == WAITING_FILE:
                    leases.delete(name)
            return Lease(leases, fencing_token=fencing_token, record=record, on_lost=on_lost)


def _wait_until_free(
    leases: Storage, fencing_token: int, *, say: Callable[[str], None], stop: threading.Event
) -> None:
    """Return once the holder of a term has released it, ended or let it lapse, or a newer term has begun."""
    before, unchanged = _look(leases, fencing_token), 0
    if not _free(before[0]):
        who = Owner(**before[0]["owner"]).describe() if before[0] else "another driver"
        say(
            f"{who} works on this study: waiting until it ends, or has been silent for "
            f"{LAPSE * BEAT_SECONDS:g} s"
        )
    while unchanged < LAPSE and not _free(before[0]) and _newest(leases) == fencing_token:
        if stop.wait(BEAT_SECONDS):
            raise WaitEndedError(f"stopped while another driver worked on {leases.describe()}")
        with suppress(StorageError):  # takes at least as long as the holder's next sign of life
            leases.write_record(WAITING_FILE, asdict(this_process()))
        now = _look(leases, fencing_token)
        unchanged = unchanged + 1 if now == before else 0
        before = now


def find_holder(storage: Storage) -> Holder | None:
    """Return who holds the lease on the study in `storage`, or held it last; None where nobody can tell."""
    leases = storage.inside(LEASES_DIRECTORY)
    newest = _newest(leases)
    record, written = _look(leases, newest) if newest else (None, 0.0)
    if record is None:
        return None
    age = max(0.0, time.time() - written)
    return Holder(Owner(**record["owner"]), newest, age, bool(record["released"]))


def _free(record: Record | None) -> bool:
    return record is not None and (record["released"] or Owner(**record["owner"]).gone())


def _look(leases: Storage, fencing_token: int) -> tuple[Record | None, float]:
    """Return a lease and its date, one of which changes with every beat of its holder."""
    record = _read(
        leases, fencing_token
    )  # first: a network's file system asks for a new date once a file is opened
    found = leases.files().get(_name(fencing_token))
    return record, found.modified if found else 0.0


def _read(leases: Storage, fencing_token: int) -> Record | None:
    """Return a lease as it stands; None where it cannot be read, as while it is being created."""
    try:
        record = leases.read_record(_name(fencing_token))
        return record if record and Owner(**record["owner"]) else None
    except (DamagedError, KeyError, TypeError):
        return None


def _newest(leases: Storage) -> int:
    return max((int(name[:8]) for name in leases.files() if name[:8].isdigit()), default=0)


def _name(fencing_token: int) -> str:
    return f"{fencing_token:08d}.json"
