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
from tests.chaos.study_under_test import StudyUnderTest
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


def half_done_study(bench: Bench) -> StudyUnderTest:
    """Return a study stopped with a cell done, and one half done that is on record as failed."""
    under_test = bench.under_test(resources={"max_concurrent": 1})
    watch = bench.watch(under_test)

    def inside() -> set[str]:
        names = [name for name in under_test.checkpoints() if name.startswith(schema.CELLS_DIRECTORY)]
        return {name.split("/")[1] for name in names} - under_test.finished()

    stop_when(lambda: bool(under_test.finished() and inside()), bench, under_test)
    (half_done,) = inside()  # a cell that has just finished may have its checkpoints still
    under_test.ledger.record_failure(half_done, error="chaos", log="chaos", attempts=1)
    assert watch.recomputed() == 0
    return under_test


def study_in_phase_a(bench: Bench) -> StudyUnderTest:
    """Return a study stopped in the middle of Phase A."""
    under_test = bench.under_test()
    watch = bench.watch(under_test)
    stop_when(lambda: watch.steps() >= 8, bench, under_test)
    return under_test


def stop_when(ready: Callable[[], bool], bench: Bench, under_test: StudyUnderTest) -> None:
    """Run a study and stop it with a signal at that moment."""

    def stop() -> None:
        wait_for(ready, "the moment to stop at", seconds=180)
        os.kill(os.getpid(), signal.SIGTERM)

    with bench.ordered("pace", "0.1"):
        ended = bench.run(under_test, meanwhile=stop)
    assert ended.code == 128 + signal.SIGTERM, ended.output


STATES: dict[str, Callable[[Bench], StudyUnderTest]] = {
    "finished": lambda bench: bench.reference(bench.under_test()),
    "half done": half_done_study,
    "in Phase A": study_in_phase_a,
}


def damage_files(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Damage one file of a finished or half-done study, each kind of file in each way; `run` it to its
    end.
    """
    reference = bench.reference(bench.under_test())
    under_test = {state: bench.keep(state, partial(make, bench)) for state, make in STATES.items()}
    possible = [
        (under_test, name, way)
        for under_test in under_test.values()
        for name in _kinds(under_test)
        for way in DAMAGES
    ]
    chosen = generator.permutation(len(possible))[:injections]
    outcomes = [
        _damage_one(bench, *possible[place], reference=reference, generator=generator) for place in chosen
    ]
    note = (
        f"{len(chosen)} of {len(possible)} ways to damage one file (every kind of file, "
        f"{', '.join(DAMAGES)}) of a study "
        f"that is {', '.join(STATES)}; a damaged file that matters is named"
    )
    return total(outcomes, note=note)


def _kinds(under_test: StudyUnderTest) -> list[str]:
    """Return one file of each kind: of several cells' in one state, and of several checkpoints, the last
    one.
    """
    finished = under_test.finished()
    found: dict[str, str] = {}
    for name in sorted(under_test.storage.files()):
        kind = NUMBER.sub("*", name)
        for key in finished:
            kind = kind.replace(key, "finished")
        for key in under_test.described():
            kind = kind.replace(key, "begun")
        found[kind] = name
    return [*found.values()]


def _damage_one(
    bench: Bench,
    original: StudyUnderTest,
    name: str,
    way: str,
    *,
    reference: StudyUnderTest,
    generator: np.random.Generator,
) -> Outcome:
    under_test = bench.copy(original)
    cost = _cost(original, name)
    inflict(DAMAGES[way], under_test.path / name, generator)
    watch = bench.watch(under_test, copy_of=original)
    watch.injected(workers=0)
    watch.bound = cost
    ended = bench.run(under_test, "--check")
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


def _matters(under_test: StudyUnderTest, name: str) -> bool:
    """Say whether a file is one that the next run would read and use as it is."""
    top, _, rest = name.partition("/")
    if top == schema.ARTIFACTS_DIRECTORY:
        return not rest.endswith(schema.CLAIM_FILE) and schema.LEASES_DIRECTORY not in rest
    if top == schema.CELLS_DIRECTORY:
        return rest.partition("/")[0] in under_test.finished() or name in under_test.checkpoints()
    return top in (schema.STUDY_FILE, schema.PLAN_FILE)


def _cost(under_test: StudyUnderTest, name: str) -> int:
    """Return how many steps may be taken again for the loss of a file."""
    if name in under_test.checkpoints():
        return max(
            int(under_test.values["phase_a"]["checkpoint_every"]),
            int(under_test.values["phase_b"]["eval_every"]),
        )
    if name.startswith(schema.ARTIFACTS_DIRECTORY):
        return PHASE_A_STEPS
    key = name.partition("/")[2].partition("/")[0]
    return max(
        (step for cell, step in under_test.rows() if cell == key and key in under_test.finished()), default=0
    )
