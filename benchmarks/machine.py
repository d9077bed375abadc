"""What a measurement was made on, and where it is kept: machine, versions, revision, command, JSON.

Nothing here names a place on this machine: of an absolute path only the last part is kept.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.ledger.atomic_write import publish_json

if TYPE_CHECKING:
    import torch

REPOSITORY = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("forgetting-sweep", "torch", "transformers", "peft", "ray", "accelerate", "numpy")
BF16_FLAGS = ("avx512f", "avx512_bf16", "amx_bf16", "bf16")  # as Linux names them on x86 and ARM
GEMM_SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
ROUNDS = 5


def describe_machine() -> dict[str, Any]:
    """Return what a reader needs to judge a measurement, as JSON: hardware, versions, revision, command."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "bf16_flags": _bf16_flags(),
        "gpus": _gpus(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version()} | _versions(),
        "revision": _revision(),
        "command": command_line(),
    }


def publish_result(name: str, record: dict[str, Any], *, folder: Path = RESULTS) -> Path:
    """Write `<folder>/<name>.json`, whole or not at all; return its path."""
    target = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    publish_json(target, record)
    return target


def read_result(path: Path) -> dict[str, Any]:
    """Read what `publish_result` wrote."""
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def gemm_peak(device: "torch.device | str", dtype: "torch.dtype", seconds: float = 2.0) -> float:
    """Return the fastest square matrix product here, in FLOP/s: the ceiling that a training step has.

    `seconds` is the time spent in all, warm-up left out. The best of several rounds over several sizes.
    """
    import torch

    place = torch.device(device)
    sizes = GEMM_SIZES[place.type]
    return max(_gemm_rate(size, place, dtype, seconds=seconds / len(sizes)) for size in sizes)


def _gemm_rate(size: int, device: "torch.device", dtype: "torch.dtype", *, seconds: float) -> float:
    import torch

    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty(size, size, device=device, dtype=dtype)

    def multiply(times: int) -> float:
        _synchronise(device)
        started = time.perf_counter()
        for _ in range(times):
            torch.matmul(left, right, out=out)
        _synchronise(device)
        return time.perf_counter() - started

    multiply(2)  # warm-up: the first calls choose kernels and allocate workspace
    once = multiply(1)
    times = max(1, int(seconds / ROUNDS / once))
    fastest = min(_repeat(lambda: multiply(times), rounds=ROUNDS, seconds=seconds))
    return 2 * size**3 * times / fastest


def _repeat(measure: Callable[[], float], *, rounds: int, seconds: float) -> list[float]:
    """Measure at least twice, then until the rounds or the time are used up."""
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) < rounds and sum(taken) < seconds):
        taken.append(measure())
    return taken


def _synchronise(device: "torch.device") -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def command_line() -> str:
    """Return the command this process was started with, absolute paths cut to their last part."""
    program = Path(sys.argv[0])
    package = program.parent.relative_to(REPOSITORY) if program.is_relative_to(REPOSITORY) else program.parent
    name = ".".join(package.parts) if package != program.parent else package.name
    start = ["python", "-m", name] if program.name == "__main__.py" else [program.name]
    return " ".join([*start, *(without_places(argument) for argument in sys.argv[1:])])


def without_places(text: str) -> str:
    """Return `text` with every absolute path in it cut to its last part."""
    return re.sub(r"(?<![\w.~-])/(?:[^\s/=,;:'\"]+/)*([^\s/=,;:'\"]+)/?", r"\1", text)


def _cpuinfo(field: str) -> str | None:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return None
    found = re.search(rf"^{field}\s*:\s*(.+)$", path.read_text(), re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else None


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _bf16_flags() -> list[str]:
    present = (_cpuinfo("flags") or _cpuinfo("features") or "").split()
    return [flag for flag in BF16_FLAGS if flag in present]


def _gpus() -> list[dict[str, str]]:
    """Return name, driver and memory of every NVIDIA GPU; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    fields = ("name", "driver", "memory")
    rows = [line.split(", ") for line in listed.splitlines()]
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _revision() -> str | None:
    """Return the commit of this working tree, "+changes" after it where files differ from it."""
    head = _git("rev-parse", "HEAD")
    if head is None:
        return None
    changed = _git("status", "--porcelain")
    return head + ("+changes" if changed else "")


def _git(*arguments: str) -> str | None:
    tool = shutil.which("git")
    if tool is None:
        return None
    done = subprocess.run([tool, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
