"""The GPU check: its dry run on a CPU, that it can fail, and that it needs little to be installed."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from benchmarks import gpu_check as command
from benchmarks import model_checks, run_checks
from benchmarks.findings import Finding, Scene, elementwise, normwise, scene_on
from benchmarks.gpu_check import CHECKS, gpu_check
from benchmarks.machine import read_result
from benchmarks.trace import Event, covered, summarise
from tests.trainables.pretended_gpus import A100, CUDA, pretend
from trainables.engine.loop import TrainingGroup
from trainables.model.attention import ATTENTIONS
from trainables.model.packing import Microbatch

CPU = torch.device("cpu")
ABSENT = ["ray", "peft", "datasets", "pandas", "pyarrow", "xxhash"]
OURS_TO_AVOID = [
    "sweep",
    "analysis",
    *(f"trainables.{n}" for n in ("phase_a", "phase_b", "cell")),
]
DRY_RUN = f"""
import importlib.machinery, sys

class Bare(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {ABSENT} else super().find_spec(name, path, target)

finder = sys.meta_path.index(importlib.machinery.PathFinder)
sys.meta_path[finder] = Bare
from benchmarks import machine
from benchmarks.__main__ import cli
machine.GEMM_SIZES["cpu"] = (256,)
try:
    cli(["gpu-check", "--device", "cpu", "--folder", sys.argv[1]])
finally:
    print("imported:", [name for name in {ABSENT + OURS_TO_AVOID} if name in sys.modules])
"""


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_dry_run_passes_without_what_a_bare_machine_lacks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRY_RUN, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "imported: []"
    record = read_result(tmp_path / "gpu_check.json")
    assert len(record["findings"]) > 50
    assert all(finding["ok"] for finding in record["findings"])
    names = "\n".join(finding["name"] for finding in record["findings"])
    assert "a later worker: flash attention is chosen" in names
    assert "model with flash attention, bf16, 300 tokens at a time" in names
    compute_plan = record["step"][0]["tuning"]
    assert (compute_plan["precision"], compute_plan["attention"], compute_plan["tokens"]["training"]) == (
        "bf16",
        "flash",
        32768,
    )
    assert record["step"][0]["model"] == record["trace"][0][0]["model"] == "tiny-shape"
    assert "FAILED" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("way", ["later tokens", "the example before"])
def test_a_broken_attention_is_found_and_the_command_says_so(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = ATTENTIONS["sdpa"]

    def broken(module: Any, q: Any, k: Any, v: Any, mask: Any, **options: Any) -> Any:
        if way == "later tokens":
            return attend(module, q, k.flip(2), v.flip(2), mask, **options)
        bounds = options["cu_seq_lens_q"]
        options |= {"cu_seq_lens_q": torch.cat((bounds[:1], bounds[2:])), "max_length_q": int(bounds[-1])}
        return attend(module, q, k, v, mask, **options)

    monkeypatch.setitem(ATTENTIONS, "sdpa", broken)
    options = ["--device", "cpu", "--only", "attention", "--folder", str(tmp_path)]
    result = CliRunner().invoke(gpu_check, options, catch_exceptions=False)
    assert result.exit_code == 1
    findings = read_result(tmp_path / "gpu_check.json")["findings"]
    assert {"sdpa" in finding["name"]: finding["ok"] for finding in findings} == {True: False, False: True}
    assert "FAILED attention sdpa, fp32, TinyLlama's heads, a number" in result.output


def test_a_check_that_cannot_run_has_failed_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(scene: Scene) -> Iterator[Finding]:
        yield Finding("before", 0.0, 1.0)
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(command, "CHECKS", {"crash": crash, "lora": CHECKS["lora"]})
    found = list(command.run_checks(scene_on(CPU), only=()))
    assert [finding.ok for finding in found] == [True, False, *[True] * 8]
    assert "RuntimeError at test_gpu_check.py" in found[1].note
    json.dumps(found[1].record(), allow_nan=False)


@pytest.mark.parametrize("error", [math.nan, math.inf, 0.2])
def test_what_is_no_number_or_beyond_the_tolerance_is_not_ok(error: float) -> None:
    assert not Finding("x", error, 0.1).ok
    assert Finding("x", 0.1, 0.1).ok


def test_one_wrong_number_shows_whatever_the_others_are() -> None:
    right = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    wrong = right.clone()
    wrong[5] += 3
    assert elementwise(right, right) == normwise(right, right) == 0
    assert elementwise(wrong, right) > 0.5
    assert normwise(wrong, right) < 0.2


def test_without_a_gpu_the_command_says_what_can_be_done(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = CliRunner().invoke(gpu_check, ["--folder", str(tmp_path)])
    assert result.exit_code == 1
    assert "--device cpu is a dry run" in result.output


def test_every_check_computes_with_a_workers_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, which no tolerance of fp32 is meant for."""
    found: list[tuple[torch.device, str]] = []

    def note(scene: Scene) -> Iterator[Finding]:
        found.append((scene.device, torch.get_float32_matmul_precision()))
        yield Finding("noted", 0.0, 0.0)

    monkeypatch.setattr(command, "CHECKS", {"attention": note})
    monkeypatch.setattr(command, "describe_machine", dict)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pretend(monkeypatch, A100):
            CliRunner().invoke(
                gpu_check, ["--only", "attention", "--folder", str(tmp_path)], catch_exceptions=False
            )
    finally:
        torch.set_float32_matmul_precision(before)
    assert found == [(CUDA, "highest")]


@pytest.mark.slow
def test_the_memory_check_sees_a_step_that_was_started_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shortage made up, since a CPU has no cap to run into."""
    accumulate = TrainingGroup._accumulate

    def short(group: TrainingGroup, budget: int) -> list[float]:
        if budget > 8192:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return accumulate(group, budget)

    monkeypatch.setattr(run_checks, "memory_capped", lambda *_: nullcontext())
    monkeypatch.setattr(run_checks, "HUGE_BUDGET", 16384)
    never_short = list(run_checks.check_memory(scene_on(CPU)))
    assert [finding.ok for finding in never_short] == [False, True, True]
    monkeypatch.setattr(TrainingGroup, "_accumulate", short)
    assert all(finding.ok for finding in run_checks.check_memory(scene_on(CPU)))


def test_copies_that_arrive_broken_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_checks, "MATRIX", 16)
    assert all(finding.ok for finding in model_checks.check_copies(scene_on(CPU)))

    def lose(batch: Microbatch, device: torch.device) -> Microbatch:
        return replace(batch, tokens=batch.tokens * 0)

    monkeypatch.setattr(Microbatch, "to", lose)
    assert not any(finding.ok for finding in model_checks.check_copies(scene_on(CPU)))


def test_kernels_that_overlap_count_once() -> None:
    events: list[Event] = [
        {"cat": "kernel", "name": "gemm", "ts": 10.0, "dur": 4.0},
        {"cat": "kernel", "name": "gemm", "ts": 12.0, "dur": 1.0},
        {"cat": "kernel", "name": "norm", "ts": 13.0, "dur": 3.0},
        {"cat": "gpu_memcpy", "name": "copy", "ts": 30.0, "dur": 2.0},
        {"cat": "cuda_runtime", "name": "launch", "ts": 0.0, "dur": 90.0},
        {"ph": "M", "name": "process_name"},
    ]
    assert covered(events[:3]) == 6.0
    found = summarise(events, seconds=20e-6)
    assert (found["busy"], found["copying"], found["kernels"]) == (pytest.approx(0.3), pytest.approx(0.1), 3)
    assert found["longest_kernels"][0] == {"name": "gemm", "share_of_kernel_time": 5 / 8}
