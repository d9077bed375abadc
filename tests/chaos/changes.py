"""Faults of the user's making: another configuration for the same study, a study moved or copied."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from tests.chaos.bench import Bench
from tests.chaos.damage import half_done_study
from tests.chaos.driver import ROOT
from tests.chaos.outcome import Outcome, total
from tests.chaos.patient import Patient, Values

REFUSED = 2
CHANGES: dict[str, tuple[Values, str]] = {  # what is changed, and what the refusal must name
    "a hyperparameter": ({"phase_b": {"lr": 0.02}}, "phase_b.lr: finished with 0.01, now 0.02"),
    "the data": ({"task_b": {"seed": 1}}, "task_b.content: "),
    "the amount of data": ({"task_a": {"train": 11}}, "task_a.train: finished with 12, now 11"),
    "the adapter's shape": ({"model": {"lora": {"r": 4, "alpha": 4, "dropout": 0.1}}}, "lora.r: finished with 2, now 4"),
    "the precision": ({"model": {"dtype": "bf16"}}, "model.dtype: "),
}
COMMENT = "\nEXPLODED = 99.0\n"


def change_the_study(bench: Bench, injections: int, generator: np.random.Generator) -> Outcome:
    """Change hyperparameters, data, model or code of a half-done study: refused before any compute."""
    original = bench.keep("half done", partial(half_done_study, bench))
    reference = bench.reference(bench.patient())
    patient = bench.copy(original)
    watch = bench.watch(patient, copy_of=original)
    names = [*CHANGES, "the code", "the weights"]
    for name in [names[place] for place in generator.permutation(len(names))[:injections]]:
        before = _contents(patient)
        if name == "the code":
            code, output = _run_with_other_code(bench, patient)
            expected = "code."
        elif name == "the weights":
            code, output = _run_with_other_weights(bench, patient)
            expected = "model.fingerprint: "
        else:
            changes, expected = CHANGES[name]
            ended = bench.run(bench.changed(patient, **changes))
            code, output = ended.code, ended.output
        assert code == REFUSED, f"{name}: {output}"
        assert expected in output, f"{name}: {output}"
        assert "cluster" not in output, f"{name}: {output}"
        assert _contents(patient) == before, f"{name} changed the study"
        watch.injected(workers=0)
    _run_beside(bench, patient)
    ended = bench.run(patient)
    assert ended.code == 0, ended.output
    note = "refused with exit code 2 and what differs, before any compute; --new-study runs it beside the study"
    return watch.outcome(reference, note=note)
