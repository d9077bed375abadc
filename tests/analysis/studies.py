"""Writes synthetic study directories in the ledger's layout, with cells in any state."""

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow.fs import FileSystem, LocalFileSystem, copy_files

from trainables import columns

Label = tuple[str, float, int]  # strategy, mix, seed

STRATEGIES = ("random", "difficulty_hard", "difficulty_easy", "loss_descending", "loss_ascending")
STARTS = (1.0141, 1.9087)
TORN_RESULT, TORN_ROWS, TORN_FAILURE, UNKNOWN = "torn result", "torn rows", "torn failure", "unknown"
PROGRESS = {columns.PARTIAL: 0.55, columns.FAILED: 0.35, columns.DIVERGED: 0.45}


def write_study(
    directory: Path,
    *,
    strategies: Sequence[str] = STRATEGIES[:3],
    mixes: Sequence[float] = (0.1,),
    seeds: Sequence[int] = (0, 1, 2),
    axes: Mapping[str, Sequence[Any]] | None = None,
    states: Mapping[Label, str] | None = None,
    merged: Mapping[Label, Label] | None = None,
    slots: Mapping[Label, str] | None = None,
    control: bool = True,
    adapters: bool = False,
    description: Mapping[str, Any] | None = None,
    shuffle: int | None = None,
) -> Path:
    """Write a study and return its directory.

    `states`: cells that are not done. `merged`: label -> the label whose cell it shares. `slots`:
    labels with a slots hash of their own. `adapters`: a Phase A adapter for each seed.
    """
    axes = dict(axes or {})
    labels = [(s, m, seed) for s, m, seed in itertools.product(strategies, mixes, seeds)]
    labels += [(columns.NO_REPLAY, 0.0, seed) for seed in seeds] if control else []
    plan = []
    for values, label in itertools.product(itertools.product(*axes.values()), labels):
        extra = dict(zip(axes, values, strict=True))
        source = (merged or {}).get(label, label)
        state = (states or {}).get(source, columns.DONE)
        key = _digest(source, extra)
        plan.append({"labels": _named(label, extra), "key": None if state == UNKNOWN else key})
        if label == source and state not in (UNKNOWN, columns.MISSING):
            cell = directory / columns.CELLS_DIRECTORY / key
            write_cell(
                cell, label=label, extra=extra, state=state, adapters=adapters, slots=(slots or {}).get(label)
            )
    if shuffle is not None:
        plan = [plan[position] for position in np.random.default_rng(shuffle).permutation(len(plan))]
    study = {
        "schema": columns.SCHEMA_VERSION,
        "name": "synthetic",
        "task_a": "math",
        "task_b": "hotpotqa",
        "axes": list(axes),
        "dtype": "bf16",
        "model": "smollm2-135m",
        "mix_mode": "add",
        "config": {"model": {"lora": {"dropout": 0.05}}},
        **(description or {}),
    }
    write_json(directory / columns.STUDY_FILE, study)
    write_json(directory / columns.PLAN_FILE, {"schema": columns.SCHEMA_VERSION, "cells": plan})
    return directory


def write_cell(
    directory: Path, *, label: Label, extra: Mapping[str, Any], state: str, adapters: bool, slots: str | None
) -> None:
    """Write one cell's directory in `state`."""
    strategy, mix, seed = label
    rows = make_rows(label, lr=float(extra.get("lr", 7e-5)), adapters=adapters)
    rows = rows[: max(2, int(len(rows) * PROGRESS.get(state, 1.0)))]
    if state == columns.DIVERGED:
        rows[-1][columns.TASK_A_LOSS] = 40.0
        rows.append({**rows[-1], columns.STEP: rows[-1][columns.STEP] + 10, columns.TASK_A_LOSS: None})
    drawn = seed if strategy == "random" else 0
    hashes = {"slots_hash": slots or _digest(mix, seed), "order_hash": _digest(*label)}
    files = {
        columns.CELL_FILE: {"key": directory.name, **_named(label, extra), **hashes, "hyperparameters": {}},
        columns.SELECTION_FILE: {"id": _digest(strategy, mix, drawn)},
        columns.ROWS_FILE: {"rows": rows},
    }
    for name, record in files.items():
        write_json(directory / name, record)
    if state == columns.FAILED:
        failure = {"error": "CUDA out of memory\nTried to allocate 2 GiB", "log": "logs/a.txt", "attempts": 3}
        write_json(directory / columns.FAILURE_FILE, failure)
    elif state != columns.PARTIAL:
        ended = columns.DIVERGED if state == columns.DIVERGED else columns.DONE
        write_result(directory, {"state": ended, "step": rows[-1][columns.STEP], "total_steps": 80})
    if state == TORN_FAILURE:
        (directory / columns.RESULT_FILE).unlink()
        (directory / columns.FAILURE_FILE).write_text("")
    torn = {TORN_RESULT: columns.RESULT_FILE, TORN_ROWS: columns.ROWS_FILE}.get(state)
    if torn is not None:
        (directory / torn).write_text('{"state": "do')


def write_result(directory: Path, result: Mapping[str, Any]) -> None:
    """Write a cell's result, which lists its other files as they are now."""
    contents = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
    contents.pop(columns.RESULT_FILE, None)
    listed = {
        name: {"size": len(content), "checksum": checksum(content)} for name, content in contents.items()
    }
    write_json(directory / columns.RESULT_FILE, {**result, "files": listed})


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the record in a cell's file as if it had been published so."""
    record = read_json(path)
    change(record)
    write_json(path, record)
    result = path.with_name(columns.RESULT_FILE)
    if result != path and result.exists():
        write_result(result.parent, read_json(result))


def make_rows(label: Label, *, lr: float, adapters: bool) -> list[dict[str, Any]]:
    """Return rows shaped like real ones: A rises and levels off, B falls, then overfits a little."""
    strategy, mix, seed = label
    rng = np.random.default_rng(int(_digest(*label, lr), 16) % 2**32)
    block = np.random.default_rng(seed).normal(0, 0.0015)
    effect = 0.002 * (STRATEGIES.index(strategy) - 1) if strategy in STRATEGIES else 0.0
    rise = (0.02 + 0.06 * np.exp(-12 * mix)) * (lr / 7e-5) ** 0.5 + effect + block + rng.normal(0, 0.0006)
    total = round(60 * (1 + mix))
    start = STARTS[0] + (0.002 * seed if adapters else 0.0)
    rows = []
    for step in [*range(0, total, 6), total]:
        share = step / total
        noise = rng.normal(0, 0.0004, 2) if step else (0.0, 0.0)
        loss_a = start + rise * (1 - np.exp(-4 * share)) + noise[0]
        loss_b = STARTS[1] - 0.12 * (1 - np.exp(-6 * share)) + (0.03 + effect) * share**2 + block + noise[1]
        loss_b = STARTS[1] if step == 0 else loss_b
        rows.append(
            {
                columns.STEP: step,
                columns.EPOCH: 2 * share,
                columns.TASK_A_LOSS: float(loss_a),
                columns.TASK_B_LOSS: float(loss_b),
                columns.TASK_A_LOSS_PER_EXAMPLE: float(loss_a) + 0.01,
                columns.TASK_B_LOSS_PER_EXAMPLE: float(loss_b) + 0.01,
                columns.TRAIN_LOSS: float(loss_b) - 0.1 if step else None,
                columns.LEARNING_RATE: lr * (1 - share),
                columns.TASK_A_EXAMPLES: round(64 * step * mix),
                columns.TASK_B_EXAMPLES: 64 * step,
                columns.TASK_A_TOKENS: 100 * round(64 * step * mix),
                columns.TASK_B_TOKENS: 256 * step,
                columns.TOKENS_PER_SECOND: 700.0 if step else None,
                columns.SECONDS: 3.0 * step,
            }
        )
    return rows


def upload(directory: Path, location: str) -> str:
    """Copy a study's directory to s3://bucket/prefix; return the location."""
    filesystem, path = FileSystem.from_uri(location)
    copy_files(str(directory), path, source_filesystem=LocalFileSystem(), destination_filesystem=filesystem)
    return location


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a record as the ledger does: sealed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(seal(value))


def read_json(path: Path) -> dict[str, Any]:
    """Return what `write_json` wrote."""
    record: dict[str, Any] = json.loads(path.read_text())
    del record["checksum"]
    return record


def seal(value: Mapping[str, Any]) -> bytes:
    """Return `value` as JSON that ends in the checksum of all before it."""
    return seal_text(json.dumps(value, indent=1).removesuffix("\n}").encode())


def seal_text(body: bytes) -> bytes:
    """Return `body`, a JSON object without its closing brace, and the seal that closes it."""
    return body + f',\n "checksum": "{checksum(body)}"\n}}\n'.encode()


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _named(label: Label, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {**dict(zip(columns.LABEL_COLUMNS, label, strict=True)), **extra}


def _digest(*values: Any) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:20]
