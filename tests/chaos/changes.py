"""Faults of the user's making: another configuration for the same study, a study moved or copied."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.chaos.bench import SITE, Bench
from tests.chaos.damage import half_done_study
from tests.chaos.driver import ROOT
from tests.chaos.outcome import Outcome, total
from tests.chaos.study_under_test import StudyUnderTest, Values
from trainables.cache.code_identity import NUMERICS
from trainables.ledger import schema
from trainables.ledger.sealed_json import checksum

REFUSED = 2
CHANGES: dict[str, tuple[Values, str]] = {  # what is changed, and what the refusal must name
    "a hyperparameter": ({"phase_b": {"lr": 0.02}}, "phase_b.lr: finished with 0.01, now 0.02"),
    "the data": ({"task_b": {"seed": 1}}, "task_b.content: "),
    "the amount of data": ({"task_a": {"train": 11}}, "task_a.train: finished with 12, now 11"),
    "the adapter's shape": (
        {"model": {"lora": {"r": 4, "alpha": 4, "dropout": 0.1}}},
        "lora.r: finished with 2, now 4",
    ),
    "the precision": ({"model": {"dtype": "bf16"}}, "model.dtype: "),
}
CODE = ("trainables/engine/loop.py", "EXPLODED = 100.0", "EXPLODED = 99.0")
NUMBERS = ("trainables/cache/code_identity.py", f"NUMERICS = {NUMERICS}", f"NUMERICS = {NUMERICS + 1}")


def change_the_study(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Change hyperparameters, data, weights or the numbers of the code of a half-done study: refused before
    any compute.
    """
    original = bench.keep("half done", partial(half_done_study, bench))
    reference = bench.reference(bench.under_test())
    _run_beside(bench, original)
    under_test = bench.copy(original)
    watch = bench.watch(under_test, copy_of=original)
    names = [*CHANGES, "the weights", "the code's numbers"]
    for name in [names[place] for place in generator.permutation(len(names))[:injections]]:
        before = _contents(under_test)
        code, output, expected = _change(bench, under_test, name)
        assert code == REFUSED, f"{name}: {output}"
        assert expected in output, f"{name}: {output}"
        assert "cluster" not in output, f"{name}: {output}"
        assert _contents(under_test) == before, f"{name} changed the study"
        watch.injected(workers=0)
    ended = bench.run(under_test)
    assert ended.code == 0, ended.output
    note = (
        "refused with exit code 2 and what differs, before any compute; --new-study runs it beside the study"
    )
    return watch.outcome(reference, note=note)


def _change(bench: Bench, under_test: StudyUnderTest, name: str) -> tuple[int, str, str]:
    """Run with one thing changed; return the exit code, the output and what it must name."""
    if name == "the code's numbers":
        expected = f"engine.numerics: finished with {NUMERICS}, now {NUMERICS + 1}"
        return *_run_with_other_code(bench, under_test), expected
    if name == "the weights":
        changes, expected = (
            {"model": {"name": str(_other_weights(bench))}},
            "model.fingerprint: finished with",
        )
    else:
        changes, expected = CHANGES[name]
    ended = bench.run(bench.changed(under_test, **changes))
    return ended.code, ended.output, expected


def _other_code(bench: Bench, change: tuple[str, str, str]) -> Path:
    """Return a copy of the packages in which one constant is another."""
    copy = bench.folder / f"other-{Path(change[0]).stem}"
    for package in ("sweep", "trainables", "analysis"):
        shutil.copytree(ROOT / package, copy / package, dirs_exist_ok=True)
    name, before, after = change
    source = (copy / name).read_text()
    assert before in source or after in source, f"{name} has no {before!r} any more"
    (copy / name).write_text(source.replace(before, after))
    return copy


def _run_with_other_code(bench: Bench, under_test: StudyUnderTest) -> tuple[int, str]:
    """Run the study with other code."""
    copy = _other_code(bench, NUMBERS)
    command = [sys.executable, "-W", "ignore", "-m", "sweep", "run", str(under_test.config)]
    paths = os.pathsep.join([str(copy), os.environ["PYTHONPATH"]])
    ended = subprocess.run(
        command, cwd=copy, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout + ended.stderr


def join_with_other_code(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Let a node join whose package differs in one line of training code: refused by name, before any
    compute.
    """
    outcomes = [_join_with_other_code(bench) for _ in range(injections)]
    note = (
        "exit code 2, the node and the module are named, nothing is computed; without the node the study runs"
    )
    return total(outcomes, note=note)


def _join_with_other_code(bench: Bench) -> Outcome:
    under_test = bench.under_test()
    reference = bench.reference(under_test)
    watch = bench.watch(under_test)
    paths = {"PYTHONPATH": os.pathsep.join([str(SITE), str(_other_code(bench, CODE))])}
    node = bench.cluster.add_node(num_cpus=1, env_vars=paths)
    try:
        with bench.driver("run", str(under_test.config), folder=bench.folder) as driver:
            code = driver.end()
        assert code == REFUSED, driver.said
        assert f"{CODE[0]}: not the driver's code" in driver.said, driver.said
        assert watch.steps() == 0, driver.said
        watch.injected(workers=0)
    finally:
        bench.cluster.remove_node(node)
    ended = bench.run(under_test)
    assert ended.code == 0, ended.output
    return watch.outcome(reference)


def _other_weights(bench: Bench) -> Path:
    """Return a copy of the model in which one weight is another."""
    copy = bench.folder / "other-model"
    shutil.copytree(bench.model, copy, dirs_exist_ok=True)
    weights = load_file(copy / "model.safetensors")
    first = min(weights)
    weights[first].reshape(-1)[0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def _run_beside(bench: Bench, original: StudyUnderTest) -> None:
    """Run another configuration with --new-study: it gets a place of its own, and the study stays as it
    is.
    """
    under_test = bench.copy(original)
    before = _contents(under_test)
    changes, _ = CHANGES["a hyperparameter"]
    ended = bench.run(bench.changed(under_test, **changes), "--new-study")
    assert ended.code == 0, ended.output
    beside = under_test.moved(Path(f"{under_test.location}-2"))
    assert len(beside.finished()) == 3, ended.output
    assert _contents(under_test) == before, "--new-study changed the study it was run beside"


def _contents(under_test: StudyUnderTest) -> dict[str, str]:
    """Return the digest of every file, but for the leases that each command takes."""
    names = [name for name in under_test.storage.files() if schema.LEASES_DIRECTORY not in name]
    return {name: checksum(under_test.storage.read(name)) for name in names}


def move_the_study(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Move a half-done study to another directory, or copy it; `resume` it where it is now."""
    original = bench.keep("half done", partial(half_done_study, bench))
    reference = bench.reference(bench.under_test())
    outcomes = []
    for position in range(injections):
        under_test = bench.copy(original)
        place = bench.folder / f"moved-{position}" / "a new place"
        place.parent.mkdir()
        if position % 2 == 0:
            under_test.path.rename(place)
        watch = bench.watch(under_test.moved(place) if position % 2 == 0 else under_test, copy_of=original)
        watch.injected(workers=0)
        ended = bench.command("resume", watch.under_test.location)
        assert ended.code == 0, ended.output
        outcomes.append(watch.outcome(reference))
    return total(
        outcomes, note="moved with mv or copied with cp -r half-way; `resume` goes on in the new place"
    )
