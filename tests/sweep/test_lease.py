"""Leases: one driver at a time, whatever dies, stalls or is torn, and whatever its clock says."""

import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sweep import lease as lease_module
from sweep.lease import Lease, LeaseLostError, WaitEndedError, acquire, held, this_process
from tests.sweep.object_store import ObjectStore, object_store  # noqa: F401 (a fixture)
from trainables.columns import LEASES_DIRECTORY
from trainables.storage.base import Storage
from trainables.storage.locations import check_location, open_storage
from trainables.storage.objects import ObjectStorage


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lease_module, "SETTLE_SECONDS", 0.5)


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
    terms = []
    for _ in range(4):
        with held(study, say=messages.append) as lease:
            terms.append(lease.term)
    assert terms == [1, 2, 3, 4]
    assert set(study.files(LEASES_DIRECTORY)) == {"00000003.json", "00000004.json"}
    assert messages == []


def test_the_lease_of_a_dead_process_of_this_machine_is_free_at_once(tmp_path: Path) -> None:
    code = (
        "import os, sys; from sweep.lease import acquire; from trainables.storage.locations import open_storage;"
        "acquire(open_storage(sys.argv[1]).inside('leases'), say=print); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    messages: list[str] = []
    with held(open_storage(str(tmp_path)), say=messages.append) as lease:
        assert lease.term == 2
    assert messages == []


def test_a_silent_lease_of_another_machine_lapses(study: Storage, messages: list[str]) -> None:
    first = acquire(study.inside(LEASES_DIRECTORY), say=messages.append)
    abandon(first)
    somewhere_else(study, first)
    with held(study, say=messages.append) as lease:
        assert lease.term == 2
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
        assert lease.term == 2
    assert messages[0].startswith("another driver works on this study")


class Simultaneous(ObjectStorage):
    """An object store on which the first lease is created by both at the same moment."""

    barrier = threading.Barrier(2)

    def _create(self, name: str, content: bytes) -> bool:
        if name == "00000001.json":
            self.barrier.wait(10)
            self._write(name, content)
            return True
        return super()._create(name, content)


def test_two_puts_at_the_same_moment_leave_one_holder(object_store: ObjectStore) -> None:  # noqa: F811
    """An object store lets both create the object; the one that was overwritten stands back."""
    study = Simultaneous(check_location(object_store.uri()))
    inside, overlaps, terms = [], [], []

    def drive() -> None:
        lease = acquire(study.inside(LEASES_DIRECTORY), say=lambda message: None)
        inside.append(1)
        overlaps.append(len(inside))
        terms.append(lease.term)
        time.sleep(0.5)
        inside.pop()
        lease.release()

    drivers = [threading.Thread(target=drive) for _ in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert overlaps == [1, 1]
    assert terms == [1, 2]
