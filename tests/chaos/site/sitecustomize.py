"""Loaded by every Python process below a bench: writes the journal, and carries out the bench's orders.

Does nothing unless CHAOS_FOLDER names the bench's folder. Every optimiser step is a line of `journal`; an
order is a file in `orders`, and this process obeys it as long as it is there.
"""

import importlib.abc
import importlib.machinery
import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

with suppress(ModuleNotFoundError):
    import warm_start  # noqa: F401

FOLDER = os.environ.get("CHAOS_FOLDER")


def _order(name: str) -> str | None:
    try:
        return Path(str(FOLDER), "orders", name).read_text()
    except FileNotFoundError:
        return None


def _note(line: str) -> None:
    """Append a line that no other process's line can break up, and that a kill cannot take back."""
    handle = os.open(f"{FOLDER}/journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(handle, f"{line} {os.environ.get('RAY_RAYLET_PID', 0)} {os.getpid()}\n".encode())
    os.close(handle)


def _watch_training(module: Any) -> None:
    """Note each optimiser step before it is taken; dawdle, hang or run out of memory where that is
    ordered.
    """
    advance, accumulate = module.AdapterRun.advance, module.TrainingGroup._accumulate

    def noted(run: Any, nll: float, *, seconds: float) -> None:
        step = run.counters.step + 1
        time.sleep(float(_order("pace") or 0))
        _hang(step)
        _note(f"step {run.stream.digest} {run.settings.lr!r} {step}")
        advance(run, nll, seconds=seconds)

    def limited(group: Any, token_budget: int) -> Any:
        order = _order("memory")
        if order is not None:
            limit, _, digest = order.partition(" ")
            ours = not digest or any(run.stream.digest == digest for run in group.runs)
            if ours and token_budget > int(limit):
                import torch

                _note(f"memory {token_budget} {limit}")
                raise torch.OutOfMemoryError(f"CUDA out of memory. Chaos: {token_budget} tokens do not fit")
        return accumulate(group, token_budget)

    module.AdapterRun.advance, module.TrainingGroup._accumulate = noted, limited


def _linger_in_evaluation(module: Any) -> None:
    """Note each evaluation as it begins; make it last as long as is ordered."""
    evaluate = module.evaluate

    def noted(*arguments: Any, **named: Any) -> Any:
        _note("evaluation")
        time.sleep(float(_order("linger") or 0))
        return evaluate(*arguments, **named)

    module.evaluate = noted


def _hang(step: int) -> None:
    """Sleep for good in the one process that takes the order away first."""
    order = _order("hang")
    if order is None or int(order) != step:
        return
    if not _take_order("hang"):
        return
    _note(f"hang {step}")
    while True:
        time.sleep(3600)


def _watch_cells(module: Any) -> None:
    """Note each cell that is finished."""
    finish = module.CellStore.finish

    def noted(store: Any, result: dict[str, Any]) -> None:
        finish(store, result)
        _note(f"finish {store.storage.prefix}")

    module.CellStore.finish = noted


def _take_order(name: str) -> bool:
    """Take an order away; say whether this process was the first to."""
    try:
        os.unlink(f"{FOLDER}/orders/{name}")
    except FileNotFoundError:
        return False
    return True


def _hold_a_write(module: Any) -> None:
    """Let a cell's file of an ordered name get stuck on its way to the storage; `late-write` keeps what is on
    its way.
    """
    storage = module.DirectoryStorage

    def held(name_of_method: str) -> Any:
        write = getattr(storage, name_of_method)

        def noted(place: Any, name: str, content: bytes) -> Any:
            order = _order("late")
            ours = order is not None and place.prefix.startswith("cells/") and order in name
            if ours and _take_order("late"):
                Path(str(FOLDER), "late-write").write_bytes(
                    pickle.dumps((name_of_method, place, name, content))
                )
                _note(f"late {name}")
                while True:
                    time.sleep(3600)
            return write(place, name, content)

        return noted

    storage._write, storage._create = held("_write"), held("_create")


def _step_the_clock(module: Any) -> None:
    """Let the clock be ordered away from what it was when processes started, as psutil 5.9 sees it."""
    boot_time = module.boot_time
    module.boot_time = lambda: boot_time() + float(_order("clock") or 0)


def _quicken_leases(module: Any) -> None:
    module.BEAT_SECONDS = float(_order("beat") or module.BEAT_SECONDS)


def _quicken_requests(module: Any) -> None:
    module.REQUEST_SECONDS = float(_order("request") or module.REQUEST_SECONDS)


PATCHES: dict[str, Callable[[Any], None]] = {
    "trainables.engine.loop": _watch_training,
    "trainables.engine.cell_folder": _watch_cells,
    "trainables.phase_a": _linger_in_evaluation,
    "trainables.phase_b": _linger_in_evaluation,
    "sweep.ledger.lease": _quicken_leases,
    "trainables.ledger.storage.s3": _quicken_requests,
    "trainables.ledger.storage.directory": _hold_a_write,
    "psutil": _step_the_clock,
}


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        PATCHES[module.__name__](module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of PATCHES as the import system would, and has them patched once they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(spec.name, spec.origin)
        return spec


if FOLDER:
    sys.meta_path.insert(0, _Finder())
