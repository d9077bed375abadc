"""Faults of storage: a disk that is full, a directory that is away, an object store that does not answer."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from tests.chaos.bench import Bench, UnavailableError
from tests.chaos.kills import PACE
from tests.chaos.outcome import Outcome, total
from tests.chaos.study_under_test import StudyUnderTest
from tests.chaos.watch import Watch
from tests.sweep.object_store import serve_objects
from tests.sweep.waiting import wait_for

ROOM = 16 << 20  # bytes of the small disk, of which a study here takes a tenth
USABLE = "the storage is usable"


@dataclass(frozen=True)
class Outage:
    """A way for a study's storage to fail.

    `begins` makes it fail for as long as its block runs; `place` makes the location of a new study, of which
    the outage knows. `sign` is what the user is told; `patience` the study's.
    """

    begins: Callable[[StudyUnderTest], AbstractContextManager[None]]
    place: Callable[[str], str]
    sign: str
    patience: float


def fill_the_disk(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Fill a small disk while cells run; make room again in time, every second time too late."""
    with _small_disk(bench.folder / "disk") as disk:
        outage = Outage(_full, lambda name: str(disk / name), "no room for", patience=8.0)
        return _disturb(
            bench, outage, injections, generator, what="a full tmpfs (the room that is needed is named)"
        )


def take_the_directory_away(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Rename a study's directory away while cells run, and back in time, every second time too late."""
    outage = Outage(_away, lambda name: str(bench.folder / name), "did not answer", patience=6.0)
    return _disturb(bench, outage, injections, generator, what="the study's directory renamed away and back")


def suspend_the_object_store(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Stop an S3 server's process while cells run, and let it go on in time, every second time too late."""
    with serve_objects("127.0.0.1") as store:
        server = psutil.Process(store.pid)

        @contextmanager
        def silent(under_test: StudyUnderTest) -> Iterator[None]:
            server.suspend()
            try:
                yield
            finally:
                server.resume()

        outage = Outage(silent, lambda name: store.uri(), "did not answer", patience=6.0)
        return _disturb(
            bench, outage, injections, generator, what="an S3 server (moto) stopped and continued"
        )


def _disturb(
    bench: Bench, outage: Outage, injections: int, generator: np.random.Generator, *, what: str
) -> Outcome:
    outcomes = [
        _strike(bench, outage, position, steps=int(generator.integers(26, 70)))
        for position in range(injections)
    ]
    note = (
        f"{what}: cells pause and go on in the same run; where it lasts too long, exit code 1, and `run` "
        "goes on"
    )
    return total(outcomes, note=note)


def _strike(bench: Bench, outage: Outage, position: int, *, steps: int) -> Outcome:
    patience = {"storage_patience": outage.patience}
    under_test = bench.under_test(storage=outage.place(f"outage-{position}"), resources=patience)
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)
    strike = _strike_for_a_while if position % 2 == 0 else _strike_until_given_up
    with bench.ordered("pace", PACE):
        strike(bench, outage, watch, steps)
    return watch.outcome(reference)


def _strike_for_a_while(bench: Bench, outage: Outage, watch: Watch, steps: int) -> None:
    """Let the outage last until the driver has said that the cells are paused."""

    def disturb() -> None:
        wait_for(lambda: watch.steps() >= steps, "steps", seconds=180)
        watch.injected(workers=bench.workers)
        with outage.begins(watch.under_test):
            wait_for(lambda: "paused: " in bench.said, "the pause", seconds=300)
        wait_for(lambda: USABLE in bench.said, "the end of the pause", seconds=60)

    ended = bench.run(watch.under_test, meanwhile=disturb)
    assert ended.code == 0, ended.output
    assert outage.sign in ended.output, ended.output
    assert "Traceback" not in ended.output, ended.output


def _strike_until_given_up(bench: Bench, outage: Outage, watch: Watch, steps: int) -> None:
    """Let the outage last until the driver gives up; run again after it."""
    given_up = threading.Event()

    def disturb() -> None:
        wait_for(lambda: watch.steps() >= steps, "steps", seconds=180)
        watch.injected(workers=bench.workers)
        with outage.begins(watch.under_test):
            assert given_up.wait(180), "the driver did not give up"

    with ThreadPoolExecutor(1) as beside:
        disturbance = beside.submit(disturb)
        try:
            ended = bench.run(watch.under_test)
        finally:
            given_up.set()
        disturbance.result()
    assert ended.code == 1, ended.output
    assert outage.sign in ended.output, ended.output
    assert "Traceback" not in ended.output, ended.output
    ended = bench.run(watch.under_test)
    assert ended.code == 0, ended.output


@contextmanager
def _small_disk(place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise UnavailableError(f"a small tmpfs needs root: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def _full(under_test: StudyUnderTest) -> Iterator[None]:
    """Fill the disk to its last byte while the block runs."""
    filler = under_test.path.parent / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    assert shutil.disk_usage(filler.parent).free == 0
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def _away(under_test: StudyUnderTest) -> Iterator[None]:
    elsewhere = under_test.path.with_name(f"{under_test.path.name}-away")
    under_test.path.rename(elsewhere)
    try:
        yield
    finally:
        assert not under_test.path.exists(), "something was written where the study had been"
        elsewhere.rename(under_test.path)
