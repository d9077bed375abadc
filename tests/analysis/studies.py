"""Writes synthetic study directories in the ledger's layout, with cells in any state.

With `effects` and `noise` the differences between strategies are known; with `per_example` there are
validation examples, and losses of each, whose token-weighted mean is the row's loss.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow.fs import FileSystem, LocalFileSystem, copy_files

from tests.analysis.study_content import (
    POOL,
    STRATEGIES,
    Label,
    digest,
    make_losses,
    make_rows,
    make_selection,
    make_validation,
)
from tests.analysis.study_content import STARTS as STARTS
from trainables.ledger import schema
from trainables.ledger.sealed_json import checksum, seal, unseal

TORN_RESULT, TORN_ROWS, TORN_FAILURE, UNKNOWN = "torn result", "torn rows", "torn failure", "unknown"
PROGRESS = {schema.PARTIAL: 0.55, schema.FAILED: 0.35, schema.DIVERGED: 0.45}


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
    effects: Mapping[str, float] | None = None,
    noise: float = 1.0,
    per_example: bool = False,
    answers: Mapping[str, float] | None = None,
    watched: Sequence[str] = (),
) -> Path:
    """Write a study and return its directory.

    `states`: cells that are not done. `merged`: label -> the label whose cell it shares. `slots`:
    labels with a slots hash of their own. `adapters`: a Phase A adapter for each seed. `effects`: what a
    strategy adds to A's final loss, nats a token (0 if not named). `noise`: scales each run's own noise; at 0
    paired differences are the effects. `per_example`: LOSSES_FILE in cells, VALIDATION_FILE in the study.
    `answers`: a strategy's share of right answers to both tasks at the end (a half if not named), of all
    before; a hundredth less for every seed. `watched`: corpora whose loss rises.
    """
    axes = dict(axes or {})
    labels = [(s, m, seed) for s, m, seed in itertools.product(strategies, mixes, seeds)]
    labels += [(schema.NO_REPLAY, 0.0, seed) for seed in seeds] if control else []
    plan = []
    for values, label in itertools.product(itertools.product(*axes.values()), labels):
        extra = dict(zip(axes, values, strict=True))
        source = (merged or {}).get(label, label)
        state = (states or {}).get(source, schema.DONE)
        key = digest(source, extra)
        plan.append({"labels": _named(label, extra), "key": None if state == UNKNOWN else key})
        if label == source and state not in (UNKNOWN, schema.MISSING):
            cell = directory / schema.CELLS_DIRECTORY / key
            rows = make_rows(
                label, lr=float(extra.get("lr", 7e-5)), adapters=adapters, effects=effects, noise=noise
            )
            if answers is not None:
                share = answers.get(label[0], 0.5) - 0.01 * label[2]
                rows[0] |= dict.fromkeys(schema.SCORE_COLUMNS, 1.0)
                rows[-1] |= dict.fromkeys(schema.SCORE_COLUMNS, share)
            for name in watched:
                rows[0][schema.WATCHED_BASE_LOSS.format(name=name)] = 3.1
                for row in rows:
                    rise = 0.1 * row[schema.STEP] / rows[-1][schema.STEP] + 0.01 * label[2]
                    row[schema.WATCHED_LOSS.format(name=name)] = 3.0 + (rise if row[schema.STEP] else 0.0)
            own = (slots or {}).get(label)
            write_cell(
                cell, label=label, extra=extra, state=state, rows=rows, slots=own, per_example=per_example
            )
    if shuffle is not None:
        plan = [plan[position] for position in np.random.default_rng(shuffle).permutation(len(plan))]
    study = {
        "schema": schema.SCHEMA_VERSION,
        "name": "synthetic",
        "task_a": "math",
        "task_b": "hotpotqa",
        "axes": list(axes),
        "dtype": "bf16",
        "model": "smollm2-135m",
        "mix_mode": "add",
        "config": {"model": {"lora": {"dropout": 0.05}}},
        "fingerprint": {"task_a": {"name": "math", "train": POOL}},
        **(description or {}),
    }
    evaluation: dict[str, Any] = {"watch": [{"name": name} for name in watched]}
    if answers is not None:
        evaluation["generate"] = {"tasks": [*schema.TASKS]}
    if answers is not None or watched:
        study["config"] = {"evaluation": evaluation, **study["config"]}
    write_json(directory / schema.STUDY_FILE, study)
    write_json(directory / schema.PLAN_FILE, {"schema": schema.SCHEMA_VERSION, "cells": plan})
    if per_example:
        write_json(directory / schema.VALIDATION_FILE, make_validation())
    return directory


def write_cell(
    directory: Path,
    *,
    label: Label,
    extra: Mapping[str, Any],
    state: str,
    rows: list[dict[str, Any]],
    slots: str | None,
    per_example: bool,
) -> None:
    """Write one cell's directory in `state`."""
    strategy, mix, seed = label
    rows = rows[: max(2, int(len(rows) * PROGRESS.get(state, 1.0)))]
    if state == schema.DIVERGED:
        rows[-1][schema.TASK_A_LOSS] = 40.0
        rows.append({**rows[-1], schema.STEP: rows[-1][schema.STEP] + 10, schema.TASK_A_LOSS: None})
    if per_example:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / schema.LOSSES_FILE).write_bytes(make_losses(rows, label=label))
    drawn = seed if strategy in ("random", schema.AA) else 0
    hashes = {"slots_hash": slots or digest(mix, seed), "order_hash": digest(*label)}
    files = {
        schema.CELL_FILE: {"key": directory.name, **_named(label, extra), **hashes, "hyperparameters": {}},
        schema.SELECTION_FILE: make_selection(strategy, mix=mix, drawn=drawn),
        schema.ROWS_FILE: {"rows": rows},
    }
    for name, record in files.items():
        write_json(directory / name, record)
    if state == schema.FAILED:
        failure = {"error": "CUDA out of memory\nTried to allocate 2 GiB", "log": "logs/a.txt", "attempts": 3}
        write_json(directory / schema.FAILURE_FILE, failure)
    elif state != schema.PARTIAL:
        ended = schema.DIVERGED if state == schema.DIVERGED else schema.DONE
        end = {"step": rows[-1][schema.STEP], "total_steps": 80, "seconds": 60.0, "artifact": None}
        write_result(directory, {"state": ended, **end})
    if state == TORN_FAILURE:
        (directory / schema.RESULT_FILE).unlink()
        (directory / schema.FAILURE_FILE).write_text("")
    torn = {TORN_RESULT: schema.RESULT_FILE, TORN_ROWS: schema.ROWS_FILE}.get(state)
    if torn is not None:
        (directory / torn).write_text('{"state": "do')


def write_result(directory: Path, result: Mapping[str, Any]) -> None:
    """Write a cell's result, which lists its other files as they are now."""
    contents = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
    contents.pop(schema.RESULT_FILE, None)
    listed = {
        name: {"size": len(content), "checksum": checksum(content)} for name, content in contents.items()
    }
    write_json(directory / schema.RESULT_FILE, {**result, "files": listed})


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the record in a cell's file as if it had been published so."""
    record = read_json(path)
    change(record)
    write_json(path, record)
    result = path.with_name(schema.RESULT_FILE)
    if result != path and result.exists():
        write_result(result.parent, read_json(result))


def upload(directory: Path, location: str) -> str:
    """Copy a study's directory to s3://bucket/prefix; return the location."""
    filesystem, path = FileSystem.from_uri(location)
    copy_files(str(directory), path, source_filesystem=LocalFileSystem(), destination_filesystem=filesystem)
    return location


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a record as the ledger does: sealed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(seal(dict(value)))


def read_json(path: Path) -> dict[str, Any]:
    """Return what `write_json` wrote."""
    return unseal(path.read_bytes())


def seal_text(body: bytes) -> bytes:
    """Return `body`, an object without its closing brace that the ledger itself would not write, sealed as it
    seals.
    """
    return body + f',\n "checksum": "{checksum(body)}"\n}}\n'.encode()


def _named(label: Label, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {**dict(zip(schema.LABEL_COLUMNS, label, strict=True)), **extra}
