"""Faults of two drivers on one study: at once, one after the other's death, one asleep for too long."""

import signal
import time

import numpy as np

from sweep.ledger import lease
from tests.chaos.bench import Bench
from tests.chaos.kills import PACE
from tests.chaos.outcome import Outcome, total
from tests.chaos.study_under_test import StudyUnderTest
from tests.sweep.object_store import ObjectStore, serve_objects
from tests.sweep.slow_store import Delay, proxied
from tests.sweep.waiting import wait_for
from trainables.ledger import schema

BEAT = "0.3"  # seconds between two heartbeats of a lease; it lapses after six
SLOWER_BEAT = "1"  # for two drivers that are both to end well, on a machine that is busy with them
LATE = 8.0  # seconds: longer than a lapse of that, and than a request may take
LOOKS = 4  # of a waiting driver at the lease
WAITING = "works on this study: waiting"


def start_two_drivers(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Start a second driver while the first is at work: it waits, and both end well."""
    outcomes = [_start_two(bench) for _ in range(injections)]
    return total(
        outcomes, note="the second driver waits for the first, finds nothing left, and both exit with 0"
    )


def _start_two(bench: Bench) -> Outcome:
    under_test = bench.under_test()
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)
    run = ("run", str(under_test.config))
    with bench.ordered("pace", PACE), bench.driver(*run) as first, bench.driver(*run) as second:
        wait_for(lambda: WAITING in first.said + second.said, "a driver that waits", seconds=180)
        watch.injected(workers=0)
        codes = [first.end(), second.end()]
        said = first.said + second.said
    assert codes == [0, 0], said
    assert said.count("cells to run") == 1, said
    return watch.outcome(reference)


def kill_the_first_driver(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Kill -9 a driver while another waits for the study: the other takes over."""
    outcomes = [_kill_the_first(bench, steps=int(generator.integers(5, 40))) for _ in range(injections)]
    return total(outcomes, note="the second driver sees at once that the first is gone, and goes on")


def _kill_the_first(bench: Bench, *, steps: int) -> Outcome:
    under_test = bench.under_test()
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)
    run = ("run", str(under_test.config))
    with bench.ordered("pace", PACE), bench.driver(*run) as first:
        first.wait_for(lambda: watch.steps() > 0, "a step")
        with bench.driver(*run) as second:
            second.wait_until_said(WAITING)
            first.wait_for(lambda: watch.steps() >= steps, "more steps")
            first.kill()
            watch.injected(workers=bench.workers)
            assert second.end() == 0, second.said
    return watch.outcome(reference)


def suspend_the_first_driver(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """SIGSTOP a driver until its lease has lapsed and another has the study, then wake it: it leaves it
    alone.
    """
    outcomes = [_suspend_the_first(bench, steps=int(generator.integers(28, 60))) for _ in range(injections)]
    note = "asleep for longer than its lease; awake again it ends with exit code 1 and writes nothing"
    return total(outcomes, note=note)


def _suspend_the_first(bench: Bench, *, steps: int) -> Outcome:
    under_test = bench.under_test(
        resources={"max_concurrent": 1}
    )  # the cluster has room for both drivers' workers
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)
    run = ("run", str(under_test.config))
    with bench.ordered("beat", BEAT), bench.ordered("pace", PACE), bench.driver(*run) as first:
        first.wait_for(lambda: watch.steps() >= steps, "steps of a cell")
        first.send(signal.SIGSTOP)
        watch.injected(workers=1)
        with bench.driver(*run) as second:
            assert second.end() == 0, second.said
            assert "cells to run" in second.said, second.said
        before = _state(under_test)
        first.send(signal.SIGCONT)
        assert first.end() == 1, first.said
        assert "another driver" in first.said, first.said
    assert _state(under_test) == before, "the first driver wrote after it had lost the study"
    return watch.outcome(reference)


def _state(under_test: StudyUnderTest) -> dict[str, float]:
    """Return when each file of the study was last written."""
    files = under_test.storage.files()
    return {
        name: info.modified for name, info in files.items() if not name.startswith(schema.LEASES_DIRECTORY)
    }


def delay_a_put(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Let one of two drivers' puts of a lease come late to an S3 server, every second time its answer to the
    driver.
    """
    with serve_objects("127.0.0.1") as store:
        outcomes = [
            _delay_a_put(bench, store, answered_late=position % 2 == 1) for position in range(injections)
        ]
    note = (
        "S3 (moto) behind a proxy: one driver at a time holds the study, the one at work stays, both exit "
        "with 0"
    )
    return total(outcomes, note=note)


def _delay_a_put(bench: Bench, store: ObjectStore, *, answered_late: bool) -> Outcome:
    quick = bench.under_test(storage=store.uri())
    reference = bench.reference(quick)
    watch = bench.watch(quick)
    seen: list[str] = []

    def late(request: str) -> Delay:
        if not (request.startswith("PUT") and "/leases/0" in request):
            return Delay()
        seen.append(request)
        if answered_late:
            return Delay(after=LATE if len(seen) == 1 else 0.0)
        wait_for(
            lambda: quick.storage.files(schema.LEASES_DIRECTORY), "the lease of the other driver", seconds=50
        )
        return Delay()

    with proxied(store, late) as way:
        location = quick.location.replace(f":{store.port}", f":{way.port}")
        slow = bench.changed(quick, storage=location)
        with (
            bench.ordered("beat", SLOWER_BEAT),
            bench.ordered("pace", PACE),
            bench.driver("run", str(slow.config)) as first,
        ):
            first.wait_for(lambda: seen, "the put of a lease")
            with bench.driver("run", str(quick.config)) as second:
                codes = [first.end(), second.end()]
                said = first.said + second.said
    watch.injected(workers=0)
    assert codes == [0, 0], said
    assert said.count("cells to run") == 1, said
    return watch.outcome(reference)


def step_the_clock(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Set the clock forward by hours while one driver works and another waits, then back: the wait goes
    on.
    """
    outcomes = [_step_the_clock(bench, hours=int(generator.integers(1, 48))) for _ in range(injections)]
    return total(
        outcomes, note="boot times as psutil 5.9 tells them after a step: nobody takes the study over"
    )


def _step_the_clock(bench: Bench, *, hours: int) -> Outcome:
    under_test = bench.under_test()
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)
    run = ("run", str(under_test.config))
    with bench.ordered("pace", PACE), bench.driver(*run) as first:
        first.wait_for(lambda: watch.steps() > 0, "a step")
        with bench.driver(*run) as second:
            second.wait_until_said(WAITING)
            with bench.ordered("clock", str(3600 * hours)):
                watch.injected(workers=0)
                time.sleep(LOOKS * float(lease.BEAT_SECONDS))
            codes = [first.end(), second.end()]
            said = first.said + second.said
    assert codes == [0, 0], said
    assert said.count("cells to run") == 1, said
    return watch.outcome(reference)
