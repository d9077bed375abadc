"""Leases: one driver at a time, whatever dies, stalls or is torn, and whatever its clock says."""

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweep.ledger import lease as lease_module
from sweep.ledger.lease import Lease, LeaseLostError, WaitEndedError, acquire, held, this_process
from tests.sweep.object_store import ObjectStore, object_store  # noqa: F401 (a fixture)
from tests.sweep.slow_store import Delay, proxied
from trainables.ledger.schema import LEASES_DIRECTORY
from trainables.ledger.storage.base import Storage
from trainables.ledger.storage.location import check_location, open_storage
from trainables.ledger.storage.s3 import ObjectStorage


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.05)


@pytest.fixture(params=["directory", "s3"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "directory":
        return open_storage(str(tmp_path))
    store: ObjectStore = request.getfixturevalue("object_store")
    return open_storage(check_location(store.uri()))


@pytest.fixture
def messages() -> list[str]:
    return []


def abandon(lease: Lease) -> None:
    """Stop a lease's heartbeat without releasing it, as a stalled or cut-off driver does."""
    lease._ended.set()
    lease._thread.join()


def somewhere_else(study: Storage, lease: Lease) -> None:
    """Make a lease look as if it were held on another machine, by a process nobody here can look for."""
    elsewhere = asdict(replace(this_process(), host="elsewhere", boot="another kernel"))
    study.inside(LEASES_DIRECTORY).write_record("00000001.json", lease.record | {"owner": elsewhere})


def test_drivers_hold_a_study_one_after_the_other(study: Storage, messages: list[str]) -> None:
    inside: list[int] = []
    overlaps: list[int] = []

    def drive() -> None:
        with held(study, say=messages.append):
            inside.append(1)
            overlaps.append(len(inside))
            time.sleep(0.3)
            inside.pop()

    drivers = [threading.Thread(target=drive) for _ in range(3)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert overlaps == [1, 1, 1]


def test_terms_rise_and_old_leases_are_cleared_away(study: Storage, messages: list[str]) -> None:
    fencing_tokens = []
    for _ in range(4):
        with held(study, say=messages.append) as lease:
            fencing_tokens.append(lease.fencing_token)
    assert fencing_tokens == [1, 2, 3, 4]
    assert set(study.files(LEASES_DIRECTORY)) == {"00000003.json", "00000004.json"}
    assert messages == []


def test_the_lease_of_a_dead_process_of_this_machine_is_free_at_once(tmp_path: Path) -> None:
    code = (
        "import os, sys; from sweep.ledger.lease import acquire; from trainables.ledger.storage.location "
        "import open_storage;"
        "acquire(open_storage(sys.argv[1]).inside('leases'), say=print); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    messages: list[str] = []
    with held(open_storage(str(tmp_path)), say=messages.append) as lease:
        assert lease.fencing_token == 2
    assert messages == []


def test_a_silent_lease_of_another_machine_lapses(study: Storage, messages: list[str]) -> None:
    first = acquire(study.inside(LEASES_DIRECTORY), say=messages.append)
    abandon(first)
    somewhere_else(study, first)
    with held(study, say=messages.append) as lease:
        assert lease.fencing_token == 2
    assert "on elsewhere works on this study: waiting" in messages[0]


def test_a_stop_ends_the_wait_for_another_driver(study: Storage, messages: list[str]) -> None:
    stop = threading.Event()
    with held(study, say=messages.append):
        threading.Timer(0.2, stop.set).start()
        with (
            pytest.raises(WaitEndedError, match="another driver worked on"),
            held(study, say=messages.append, stop=stop),
        ):
            raise AssertionError("the lease was held twice")
    assert stop.is_set()


def test_a_lease_that_beats_is_waited_for_however_long(study: Storage, messages: list[str]) -> None:
    with held(study, say=messages.append):
        second = threading.Thread(
            target=lambda: acquire(study.inside(LEASES_DIRECTORY), say=messages.append).release()
        )
        second.start()
        second.join(20 * lease_module.BEAT_SECONDS * lease_module.LAPSE / 6)
        assert second.is_alive()
    second.join(10)
    assert not second.is_alive()


def test_a_driver_that_was_given_up_finds_out_and_leaves_the_lease_alone(
    study: Storage, messages: list[str]
) -> None:
    leases = study.inside(LEASES_DIRECTORY)
    first = acquire(leases, say=messages.append)
    abandon(first)
    somewhere_else(study, first)
    second = acquire(leases, say=messages.append)
    with pytest.raises(LeaseLostError):
        first.check()
    first.release()
    second.check()
    second.release()


def test_a_lost_lease_stops_its_driver(study: Storage, messages: list[str]) -> None:
    told = threading.Event()
    leases = study.inside(LEASES_DIRECTORY)
    first = acquire(leases, say=messages.append, on_lost=told.set)
    leases.create_record("00000002.json", first.record | {"nonce": "another"})
    assert told.wait(20)
    first.release()
    record = leases.read_record("00000002.json")
    assert record is not None
    assert record["nonce"] == "another"


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff"])
def test_a_torn_lease_lapses_like_a_silent_one(study: Storage, messages: list[str], content: bytes) -> None:
    study.inside(LEASES_DIRECTORY).write("00000001.json", content)
    with held(study, say=messages.append) as lease:
        assert lease.fencing_token == 2
    assert messages[0].startswith("another driver works on this study")


def test_a_step_of_the_clock_does_not_make_a_living_process_look_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psutil 5.9 keeps the boot time that it read first, and adds it to the start of every process."""
    owner = this_process()
    stepped = psutil.boot_time() + 3600
    monkeypatch.setattr(psutil, "boot_time", lambda: stepped)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: time.time())
    assert not owner.gone()
    assert this_process() == owner
    assert replace(owner, started=owner.started + 60).gone(), "another process has the number now"


@pytest.mark.parametrize("late", [Delay(before=0.5), Delay(after=0.5)], ids=["sent late", "answered late"])
def test_a_slow_put_neither_holds_a_study_with_another_nor_throws_it_out(
    object_store: ObjectStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    late: Delay,
) -> None:
    """One driver's puts are slow; the other begins after it, and is quick: who came first at the store goes
    first.
    """
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.3)
    location = object_store.uri()
    inside, overlaps, lost = [], [], []

    def drive(port: int) -> None:
        study = open_storage(check_location(location.replace(str(object_store.port), str(port))))
        with held(study, say=lambda message: None, on_lost=lambda: lost.append(port)) as lease:
            inside.append(port)
            overlaps.append(len(inside))
            time.sleep(0.6)
            inside.remove(port)
            lease.check()

    with proxied(object_store, lambda request: late if request.startswith("PUT") else Delay()) as slow:
        drivers = [threading.Thread(target=drive, args=[store.port]) for store in (slow, object_store)]
        for driver in drivers:
            driver.start()
            time.sleep(0.3)
        for driver in drivers:
            driver.join()
    assert overlaps == [1, 1]
    assert lost == []


@pytest.mark.slow
def test_writes_slower_than_a_lapse_do_not_lose_the_lease(
    request: pytest.FixtureRequest, study: Storage, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fsync and every put takes longer than the time in which a silent lease lapses."""
    slow = 2 * lease_module.BEAT_SECONDS * lease_module.LAPSE
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (time.sleep(slow), sync(handle)))
    with ExitStack() as stack:
        if isinstance(study, ObjectStorage):
            store: ObjectStore = request.getfixturevalue("object_store")
            way = proxied(store, lambda request: Delay(before=slow if request.startswith("PUT") else 0))
            port = stack.enter_context(way).port
            study = replace(study, location=study.location.replace(str(store.port), str(port)))
        with held(study, say=messages.append) as lease:
            stop = threading.Event()
            threading.Timer(3 * slow, stop.set).start()
            with pytest.raises(WaitEndedError):
                acquire(study.inside(LEASES_DIRECTORY), say=messages.append, stop=stop)
            lease.check()


def test_a_late_beat_of_a_lost_lease_brings_nothing_back(study: Storage, messages: list[str]) -> None:
    leases = study.inside(LEASES_DIRECTORY)
    first = acquire(leases, say=messages.append)
    abandon(first)
    somewhere_else(study, first)
    acquire(leases, say=messages.append).release()
    with held(study, say=messages.append) as third:
        with suppress(FileNotFoundError):  # a directory has no file any more to give a new date
            first.leases.touch("00000001.json", first.record)
        with pytest.raises(LeaseLostError):
            first.check()
        third.check()
    with held(study, say=messages.append) as fourth:
        assert fourth.fencing_token == 4


def test_who_creates_an_old_term_late_does_not_hold_the_study(
    study: Storage, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three sessions pass between a driver's look at the leases and its creating the next: it goes on
    waiting.
    """
    leases = study.inside(LEASES_DIRECTORY)
    create, fencing_tokens = type(leases).create_record, []

    def late(storage: Storage, name: str, value: dict[str, Any]) -> bool:
        monkeypatch.undo()
        for _ in range(3):
            with held(study, say=messages.append) as lease:
                fencing_tokens.append(lease.fencing_token)
        storage.delete("00000001.json")
        return create(storage, name, value)

    monkeypatch.setattr(type(leases), "create_record", late)
    with held(study, say=messages.append) as lease:
        assert lease.fencing_token == 4
    assert fencing_tokens == [1, 2, 3]
