"""Faults inside a worker: memory that runs out, a loss that explodes, a step that hangs."""

import pickle
from contextlib import suppress

import numpy as np
import psutil

from sweep.ledger.ledger import Ledger
from tests.chaos.bench import Bench
from tests.chaos.kills import PACE
from tests.chaos.outcome import Outcome, total
from tests.sweep.waiting import wait_for
from trainables.ledger import schema

NEAR = 1e-5  # nats, in fp32, after a whole run: what another cut into microbatches may change
PROGRESS_TIMEOUT = 8.0  # seconds; a worker takes some of them to load the model
# A process keeps the sizes that fitted with its model: no other fault's study may be trained by it.
APART, FURTHER_APART = {"cpus": 0.25}, {"cpus": 0.3}
CELLS = 3  # of the bench's study
WRITTEN = (
    "rows.",
    "losses.",
    "result.",
    "checkpoint-",
    "selection.",
    "cell.",
)  # in the names of a cell's files


def run_out_of_memory(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Let microbatches above a size run out of memory: smaller ones are taken, for the same numbers."""
    outcomes = [_run_out_of_memory(bench, limit=int(generator.choice([256, 512]))) for _ in range(injections)]
    return total(
        outcomes, note=f"torch.OutOfMemoryError above a size: halved until it fits, equal within {NEAR:g}"
    )


def _run_out_of_memory(bench: Bench, *, limit: int) -> Outcome:
    under_test = bench.under_test(resources=APART)
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)
    with bench.ordered("memory", f"{limit} "):
        ended = bench.run(under_test)
    assert ended.code == 0, ended.output
    assert watch.count("memory") > 0, "no microbatch ran out of memory"
    watch.injected(workers=0)
    return watch.outcome(reference, within=NEAR)


def never_fit(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Let one cell's batches never fit: it fails with a message, the others go on; the next run finishes
    it.
    """
    outcomes = [_never_fit(bench, place=int(generator.integers(CELLS))) for _ in range(injections)]
    note = "failed once with the reason; the other cells are done; the next run finishes it"
    return total(outcomes, note=note)


def _never_fit(bench: Bench, *, place: int) -> Outcome:
    under_test = bench.under_test(resources=FURTHER_APART | {"retries": 1})
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)
    key, record = sorted(reference.described().items())[place]
    with bench.ordered("memory", f"0 {record['order_hash']}"):
        ended = bench.run(under_test)
    assert ended.code == 1, ended.output
    assert "failed for good; the others go on" in ended.output, ended.output
    assert under_test.ledger.counts() == {schema.DONE: CELLS - 1, schema.FAILED: 1}, ended.output
    failure = under_test.ledger.failure(key)
    assert "OutOfMemoryError" in failure["error"], failure
    assert failure["attempts"] == 1, failure
    assert "Traceback" not in ended.output, ended.output
    watch.injected(workers=0)
    ended = bench.run(under_test)
    assert ended.code == 0, ended.output
    return watch.outcome(reference)


def explode(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Add cells whose learning rate makes the loss explode: they diverge at a step, and are in every
    count.
    """
    outcomes = [_explode(bench, rate=float(10.0 ** generator.integers(10, 31))) for _ in range(injections)]
    return total(
        outcomes, note="learning rates of 1e10 and more: the cells diverge at their step; the others are done"
    )


def _explode(bench: Bench, *, rate: float) -> Outcome:
    original = bench.reference(bench.under_test())
    copy = bench.copy(original)
    under_test = bench.changed(copy, search={"lr": [original.values["phase_b"]["lr"], rate]})
    watch = bench.watch(under_test, copy_of=original)
    watch.injected(workers=0)
    ended = bench.run(under_test)
    assert ended.code == 0, ended.output
    assert under_test.ledger.counts() == {schema.DONE: CELLS, schema.DIVERGED: CELLS}, ended.output
    assert all(step > 0 for step in _ends(under_test.ledger)), ended.output
    return watch.outcome(original)


def _ends(ledger: Ledger) -> list[int]:
    """Return the step at which each diverged cell ended."""
    planned = ledger.planned_statuses()
    keys = [entry["key"] for entry, status in planned if status.state == schema.DIVERGED]
    results = [ledger.cell(key).read_record(schema.RESULT_FILE) for key in keys]
    return [result["step"] for result in results if result]


def hang(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Let one step of a cell sleep for good: its worker is ended, and the cell retried."""
    outcomes = [
        _hang(bench, step=int(generator.integers(25, 40))) for _ in range(injections)
    ]  # beyond Phase A
    return total(
        outcomes, note=f"no progress for {PROGRESS_TIMEOUT:g} s: the worker is ended and its cell retried"
    )


def _hang(bench: Bench, *, step: int) -> Outcome:
    under_test = bench.under_test(resources={"progress_timeout": PROGRESS_TIMEOUT, "retries": 20})
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)

    def look() -> None:
        wait_for(lambda: watch.count("hang"), "the hanging step", seconds=180)
        watch.injected(workers=1)

    with bench.ordered("hang", str(step)):
        ended = bench.run(under_test, meanwhile=look)
    assert ended.code == 0, ended.output
    assert f"no progress for {PROGRESS_TIMEOUT:g} s: ended, to be tried again" in ended.output, ended.output
    return watch.outcome(reference)


def hold_a_write(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Let a write of a worker get stuck until it is given up; it arrives once the cell's next attempt has
    finished.
    """
    outcomes = [_hold_a_write(bench, name=WRITTEN[position % len(WRITTEN)]) for position in range(injections)]
    note = (
        "a worker's write arrives after its successor finished the cell: the cell stays finished, the "
        "next run has nothing to do"
    )
    return total(outcomes, note=note)


def _hold_a_write(bench: Bench, *, name: str) -> Outcome:
    under_test = bench.under_test(resources={"progress_timeout": PROGRESS_TIMEOUT, "retries": 20})
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)

    def look() -> None:
        wait_for(lambda: watch.count("late"), f"a stuck write of {name}", seconds=180)
        watch.injected(workers=1)

    with bench.ordered("late", name):
        ended = bench.run(under_test, meanwhile=look)
    assert ended.code == 0, ended.output
    watch.look()
    method, place, file, content = pickle.loads((bench.folder / "late-write").read_bytes())
    with suppress(FileNotFoundError):  # its folder may have been cleared away
        getattr(place, method)(file, content)
    assert reference.finished() <= under_test.finished(), f"{file} of a given-up worker undid a finished cell"
    steps = watch.steps()
    ended = bench.run(under_test)
    assert ended.code == 0, ended.output
    assert watch.steps() == steps, ended.output
    return watch.outcome(reference)


def stop_a_worker(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """SIGSTOP a worker: nothing in it can end it, so its driver does, and its work is tried again."""
    outcomes = [_stop_a_worker(bench, steps=int(generator.integers(2, 40))) for _ in range(injections)]
    return total(
        outcomes, note="a process that is stopped for good: ended by its driver, its cell tried again"
    )


def _stop_a_worker(bench: Bench, *, steps: int) -> Outcome:
    under_test = bench.under_test(resources={"progress_timeout": PROGRESS_TIMEOUT, "retries": 20})
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)

    def stop() -> None:
        wait_for(lambda: watch.steps() >= steps, "steps", seconds=180)
        worker = psutil.Process(watch.worker())
        worker.suspend()
        watch.injected(workers=1)
        try:
            wait_for(lambda: not _stopped(worker), "the driver to end the stopped worker", seconds=120)
        finally:
            with suppress(psutil.NoSuchProcess):
                worker.resume()

    with bench.ordered("pace", PACE):
        ended = bench.run(under_test, meanwhile=stop)
    assert ended.code == 0, ended.output
    return watch.outcome(reference)


def _stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False
