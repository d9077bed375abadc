"""Faults of files: one file of a study truncated, emptied, changed by a bit or deleted; then `run` again."""

import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from tests.chaos.bench import Bench
from tests.chaos.outcome import Outcome, total
from tests.chaos.patient import Patient
from tests.sweep.waiting import wait_for
from trainables.ledger import schema

PHASE_A_STEPS = 24  # of the bench's study
NUMBER = re.compile(rf"(?<=checkpoint-)\d{{8}}|(?<=leases/)\d{{8}}|{schema.ATTEMPT_FORM}-")


def truncate(content: bytes, generator: np.random.Generator) -> bytes:
    return content[: int(generator.integers(1, max(2, len(content))))]


def empty(content: bytes, generator: np.random.Generator) -> bytes:
    return b""


def flip_a_bit(content: bytes, generator: np.random.Generator) -> bytes:
    changed = bytearray(content)
    changed[int(generator.integers(len(content)))] ^= 1 << int(generator.integers(8))
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes] | None] = {
    "truncated": truncate,
    "empty": empty,
    "a bit flipped": flip_a_bit,
    "missing": None,
}


def half_done_study(bench: Bench) -> Patient:
    """Return a study stopped with a cell done, and one half done that is on record as failed."""
    patient = bench.patient(resources={"max_concurrent": 1})
    watch = bench.watch(patient)

    def inside_the_second_cell() -> bool:
        names = patient.checkpoints()
        return (
            bool(patient.finished()) and len([name for name in names if schema.CELLS_DIRECTORY in name]) > 1
        )

    stop_when(inside_the_second_cell, bench, patient)
    (half_done,) = {name.split("/")[1] for name in patient.checkpoints()}
    patient.ledger.record_failure(half_done, error="chaos", log="chaos", attempts=1)
    assert watch.recomputed() == 0
    return patient


def study_in_phase_a(bench: Bench) -> Patient:
    """Return a study stopped in the middle of Phase A."""
    patient = bench.patient()
    watch = bench.watch(patient)
    stop_when(lambda: watch.steps() >= 8, bench, patient)
    return patient


def stop_when(ready: Callable[[], bool], bench: Bench, patient: Patient) -> None:
    """Run a study and stop it with a signal at that moment."""

    def stop() -> None:
        wait_for(ready, "the moment to stop at", seconds=180)
        os.kill(os.getpid(), signal.SIGTERM)

    with bench.ordered("pace", "0.1"):
        ended = bench.run(patient, meanwhile=stop)
    assert ended.code == 128 + signal.SIGTERM, ended.output


STATES: dict[str, Callable[[Bench], Patient]] = {
    "finished": lambda bench: bench.reference(bench.patient()),
    "half done": half_done_study,
    "in Phase A": study_in_phase_a,
}


def damage_files(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Damage one file of a finished or half-done study, each kind of file in each way; `run` it to its end."""
    reference = bench.reference(bench.patient())
    patients = {state: bench.keep(state, partial(make, bench)) for state, make in STATES.items()}
    possible = [
        (patient, name, way) for patient in patients.values() for name in _kinds(patient) for way in DAMAGES
    ]
    chosen = generator.permutation(len(possible))[:injections]
    outcomes = [
        _damage_one(bench, *possible[place], reference=reference, generator=generator) for place in chosen
    ]
    note = (
        f"{len(chosen)} of {len(possible)} ways to damage one file (every kind of file, {', '.join(DAMAGES)}) of a study "
        f"that is {', '.join(STATES)}; a damaged file that matters is named"
    )
    return total(outcomes, note=note)


def _kinds(patient: Patient) -> list[str]:
    """Return one file of each kind: of several cells' in one state, and of several checkpoints, the last one."""
    finished = patient.finished()
    found: dict[str, str] = {}
    for name in sorted(patient.storage.files()):
        kind = NUMBER.sub("*", name)
        for key in finished:
            kind = kind.replace(key, "finished")
        for key in patient.described():
            kind = kind.replace(key, "begun")
        found[kind] = name
    return [*found.values()]


def _damage_one(
    bench: Bench,
    original: Patient,
    name: str,
    way: str,
    *,
    reference: Patient,
    generator: np.random.Generator,
) -> Outcome:
    patient = bench.copy(original)
    cost = _cost(original, name)
    inflict(DAMAGES[way], patient.path / name, generator)
    watch = bench.watch(patient, copy_of=original)
    watch.injected(workers=0)
    watch.bound = cost
    ended = bench.run(patient, "--check")
    where = f"{name} {way}:\n{ended.output}"
    assert ended.code == 0, where
    assert "Traceback" not in ended.output, where
    if way != "missing" and _matters(original, name):
        assert name.rpartition("/")[2] in ended.output, f"nothing names {where}"
    return watch.outcome(reference)


def inflict(
    damage: Callable[[bytes, np.random.Generator], bytes] | None, path: Path, generator: np.random.Generator
) -> None:
    """Do to a file what `damage` does, or delete it."""
    if damage is None:
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(damage(content, generator))
        assert path.read_bytes() != content


def _matters(patient: Patient, name: str) -> bool:
    """Say whether a file is one that the next run would read and use as it is."""
    top, _, rest = name.partition("/")
    if top == schema.ARTIFACTS_DIRECTORY:
        return not rest.endswith(schema.CLAIM_FILE) and schema.LEASES_DIRECTORY not in rest
    if top == schema.CELLS_DIRECTORY:
        return rest.partition("/")[0] in patient.finished() or name in patient.checkpoints()
    return top in (schema.STUDY_FILE, schema.PLAN_FILE)


def _cost(patient: Patient, name: str) -> int:
    """Return how many steps may be taken again for the loss of a file."""
    if name in patient.checkpoints():
        return max(
            int(patient.values["phase_a"]["checkpoint_every"]), int(patient.values["phase_b"]["eval_every"])
        )
    if name.startswith(schema.ARTIFACTS_DIRECTORY):
        return PHASE_A_STEPS
    key = name.partition("/")[2].partition("/")[0]
    return max(
        (step for cell, step in patient.rows() if cell == key and key in patient.finished()), default=0
    )
