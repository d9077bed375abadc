"""Faults inside a worker: memory that runs out, a loss that explodes, a step that hangs."""

import numpy as np

from sweep.ledger import Ledger
from tests.chaos.bench import Bench
from tests.chaos.outcome import Outcome, total
from tests.chaos.patient import Patient
from tests.sweep.waiting import wait_for
from trainables import columns

NEAR = 1e-6  # nats, in fp32: what another cut of a batch into microbatches may change
PROGRESS_TIMEOUT = 8.0  # seconds; a worker takes some of them to load the model
EXPLODING = 1e30


def run_out_of_memory(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Let microbatches above a size run out of memory: smaller ones are taken, for the same numbers."""
    outcomes = []
    for _ in range(injections):
        patient = bench.patient()
        reference = bench.reference(patient)
        watch = bench.watch(patient)
        limit = int(generator.choice([256, 512]))
        with bench.ordered("memory", f"{limit} "):
            ended = bench.run(patient)
        assert ended.code == 0, ended.output
        assert watch.count("memory") > 0, "no microbatch ran out of memory"
        watch.injected(workers=0)
        outcomes.append(watch.outcome(reference, note="", within=NEAR))
    return total(outcomes, note=f"torch.OutOfMemoryError above a size: halved until it fits, equal within {NEAR:g}")


def never_fit(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Let one cell's batches never fit: it fails with a message, the others go on; the next run finishes it."""
    outcomes = []
    for _ in range(injections):
        patient = bench.patient(resources={"retries": 1})
        reference = bench.reference(patient)
        watch = bench.watch(patient)
        key, record = sorted(reference.described().items())[int(generator.integers(3))]
        with bench.ordered("memory", f"0 {record['order_hash']}"):
            ended = bench.run(patient)
        assert ended.code == 1, ended.output
        assert "failed for good; the others go on" in ended.output, ended.output
        assert patient.ledger.counts() == {columns.DONE: 2, columns.FAILED: 1}, ended.output
        assert "OutOfMemoryError" in patient.ledger.failure(key)["error"], patient.ledger.failure(key)
        watch.injected(workers=0)
        ended = bench.run(patient)
        assert ended.code == 0, ended.output
        outcomes.append(watch.outcome(reference, note=""))
    return total(outcomes, note="failed after its retries with the reason; the other cells are done; the next run finishes it")


def explode(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Add cells whose learning rate makes the loss explode: they are diverged, at a step, and in every count."""
    outcomes = []
    for _ in range(injections):
        original = bench.reference(bench.patient())
        patient = bench.copy(original)
        watch = bench.watch(patient, copy_of=original)
        watch.injected(workers=0)
        rates = [original.values["phase_b"]["lr"], EXPLODING]
        patient = bench.changed(patient, search={"lr": rates})
        ended = bench.run(patient)
        assert ended.code == 0, ended.output
        assert patient.ledger.counts() == {columns.DONE: 3, columns.DIVERGED: 3}, ended.output
        assert all(step > 0 for step in _ends(patient.ledger)), ended.output
        outcomes.append(watch.outcome(original, note=""))
    return total(outcomes, note=f"learning rate {EXPLODING:g}: three cells diverge at their step and keep their rows")


def _ends(ledger: Ledger) -> list[int]:
    """Return the step at which each diverged cell ended."""
    keys = [entry["key"] for entry, standing in ledger.planned_standings() if standing.state == columns.DIVERGED]
    results = [ledger.cell(key).read_record(columns.RESULT_FILE) for key in keys]
    return [result["step"] for result in results if result]


def hang(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Let one step of a cell sleep for good: its worker is ended, and the cell retried."""
    outcomes = []
    for _ in range(injections):
        patient = bench.patient(resources={"progress_timeout": PROGRESS_TIMEOUT, "retries": 20})
        reference = bench.reference(patient)
        watch = bench.watch(patient)
        step = int(generator.integers(25, 40))  # beyond Phase A

        def note(watch=watch) -> None:
            wait_for(lambda: watch.count("hang"), "the hanging step", seconds=180)
            watch.injected(workers=1)

        with bench.ordered("hang", str(step)):
            ended = bench.run(patient, meanwhile=note)
        assert ended.code == 0, ended.output
        assert f"no progress for {PROGRESS_TIMEOUT:g} s: ended, to be tried again" in ended.output, ended.output
        outcomes.append(watch.outcome(reference, note=""))
    return total(outcomes, note=f"no progress for {PROGRESS_TIMEOUT:g} s: the worker is ended and its cell retried")
