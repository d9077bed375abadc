"""The tidy table and the states of cells, from whole, running and damaged studies."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import analysis
from analysis.reading.errors import AnalysisError, LedgerWarning
from analysis.reading.study import read_study
from tests.analysis.studies import (
    TORN_FAILURE,
    TORN_RESULT,
    TORN_ROWS,
    UNKNOWN,
    make_rows,
    read_json,
    rewrite,
    seal_text,
    write_json,
)
from trainables.ledger import schema
from trainables.ledger.sealed_json import seal

Builder = Callable[..., Path]
HARD = ("difficulty_hard", 0.1, 0)
RANDOM = ("random", 0.1, 0)


def key_of(directory: Path, state: str) -> str:
    cells = analysis.load_cells(directory)
    return str(cells.loc[cells["state"] == state, "cell"].item())


def state_of(cells: pd.DataFrame, label: tuple[str, float, int]) -> str:
    chosen = cells[(cells[list(schema.LABEL_COLUMNS)] == list(label)).all(axis=1)]
    return str(chosen["state"].item())


def test_the_table_has_a_row_per_planned_label_and_evaluation(study: Builder) -> None:
    frame = analysis.load(study(mixes=(0.1, 0.2), axes={"lr": [2e-5, 7e-5]}))
    expected = sum(
        len(make_rows((strategy, mix, seed), lr=lr, adapters=False))
        for lr in (2e-5, 7e-5)
        for seed in range(3)
        for strategy, mix in [
            ("none", 0.0),
            *((s, m) for s in ("random", "difficulty_hard", "difficulty_easy") for m in (0.1, 0.2)),
        ]
    )
    assert len(frame) == expected
    assert list(frame.columns) == ["strategy", "mix", "seed", "lr", "cell", "state", *schema.ROW_COLUMNS]
    assert not frame.duplicated(["strategy", "mix", "seed", "lr", "step"]).any()
    assert frame["step"].dtype == "int64"
    assert frame.loc[frame["step"] == 0, "train_loss"].isna().all()


def test_labels_of_one_cell_appear_twice_with_the_same_cell(study: Builder) -> None:
    frame = analysis.load(study(merged={HARD: RANDOM}))
    runs = frame[(frame["seed"] == 0) & frame["strategy"].isin(["random", "difficulty_hard"])]
    assert runs["cell"].nunique() == 1
    first, second = (
        run.drop(columns="strategy").reset_index(drop=True) for _, run in runs.groupby("strategy")
    )
    pd.testing.assert_frame_equal(first, second)


STATES = [
    (schema.DONE, schema.DONE, 0),
    (schema.DIVERGED, schema.DIVERGED, 0),
    (schema.FAILED, schema.FAILED, 0),
    (schema.PARTIAL, schema.PARTIAL, 0),
    (schema.MISSING, schema.MISSING, 0),
    (UNKNOWN, schema.MISSING, 0),
    (TORN_RESULT, schema.PARTIAL, 1),
    (TORN_FAILURE, schema.FAILED, 1),
    (TORN_ROWS, schema.PARTIAL, 1),
]


@pytest.mark.parametrize(("written", "read", "problems"), STATES)
def test_each_cell_has_its_state_and_damage_is_named(
    study: Builder, written: str, read: str, problems: int
) -> None:
    found = read_study(study(states={HARD: written}))
    assert state_of(found.cells, HARD) == read
    assert len(found.cells) == 12
    assert len(found.problems) == problems
    assert all(".json" in problem for problem in found.problems)


def test_a_failed_cell_has_its_error_and_a_done_one_has_none(study: Builder) -> None:
    cells = analysis.load_cells(study(states={HARD: schema.FAILED}))
    failed = cells[cells["state"] == "failed"]
    assert failed["error"].item().startswith("CUDA out of memory")
    assert failed["log"].item() == "logs/a.txt"
    assert cells.loc[cells["state"] == "done", ["error", "log"]].isna().all(axis=None)


@pytest.mark.parametrize("file", [schema.ROWS_FILE, schema.CLAIM_FILE])
def test_rows_or_a_claim_alone_make_a_cell_partial(study: Builder, file: str) -> None:
    directory = study(states={HARD: schema.PARTIAL})
    cell = directory / schema.CELLS_DIRECTORY / key_of(directory, "partial")
    kept = (cell / schema.ROWS_FILE).read_bytes()
    for path in cell.iterdir():
        path.unlink()
    assert state_of(analysis.load_cells(directory), HARD) == schema.MISSING
    (cell / file).write_bytes(kept)
    assert state_of(analysis.load_cells(directory), HARD) == schema.PARTIAL


def test_a_result_outlives_an_earlier_failure(study: Builder) -> None:
    directory = study()
    for cell in (directory / schema.CELLS_DIRECTORY).iterdir():
        write_json(cell / schema.FAILURE_FILE, {"error": "old", "attempts": 1})
    assert set(analysis.load_cells(directory)["state"]) == {schema.DONE}


UNUSABLE = [
    (b"not JSON", "cut off or has no checksum"),
    (b'{"rows": []}', "cut off or has no checksum"),
    (seal({"rows": 3}).replace(b"3", b"4"), "does not match its checksum"),
    (seal_text(b'{"rows": ' + b"[" * 100_000), "it is not JSON"),
    (seal({"rows": 3}), "rows: Input should be a valid list, got 3"),
    (seal({"rows": [{"step": 0}]}), "lacks epoch"),
]


@pytest.mark.parametrize(("content", "message"), UNUSABLE, ids=[message for _, message in UNUSABLE])
def test_unusable_rows_are_named_and_the_rest_is_loaded(study: Builder, content: bytes, message: str) -> None:
    directory = study(states={HARD: schema.PARTIAL})
    key = key_of(directory, "partial")
    (directory / schema.CELLS_DIRECTORY / key / schema.ROWS_FILE).write_bytes(content)
    with pytest.warns(LedgerWarning, match=rf"{key}.*{message}"):
        frame = analysis.load(directory)
    assert frame["cell"].nunique() == 11


WRONG_VALUES = [
    ("step", None, "must be a whole number"),
    ("step", -1, "must be a whole number"),
    ("step", 6.5, "must be a whole number"),
    ("task_b_tokens_seen", 10**400, "must be a whole number"),
    ("task_a_loss", "low", "must be a number, got 'low'"),
    ("task_a_loss", 10**400, "must be a number"),
    ("epoch", True, "must be a number"),
]


@pytest.mark.parametrize(("column", "value", "message"), WRONG_VALUES)
def test_a_row_of_wrong_values_is_refused(study: Builder, column: str, value: object, message: str) -> None:
    directory = study(states={HARD: schema.PARTIAL})
    rows = directory / schema.CELLS_DIRECTORY / key_of(directory, "partial") / schema.ROWS_FILE
    rewrite(rows, lambda record: record["rows"][1].update({column: value}))
    (problem,) = read_study(directory).problems
    assert message in problem


def test_done_with_a_last_loss_that_is_not_finite_is_not_done(study: Builder) -> None:
    directory = study(strategies=("random",), seeds=(0,), control=False)
    (rows,) = directory.glob(f"{schema.CELLS_DIRECTORY}/*/{schema.ROWS_FILE}")
    rewrite(rows, lambda record: record["rows"][-1].update({schema.TASK_A_LOSS: None}))
    found = read_study(directory)
    assert list(found.cells["state"]) == [schema.PARTIAL]
    (problem,) = found.problems
    assert "done, but the last losses are not finite" in problem


FALSE_RESULTS = [
    ({"state": "finished"}, "(done|diverged)\\z', got 'finished'"),
    ({"step": 3}, "done at step 3, but the last row is of step 66"),
    ({"step": [66]}, "step: Input should be a valid integer, got [66]"),
    ({"files": None}, "files: Input should be a valid dictionary, got None"),
    ({"files": ["rows.json"]}, "files: Input should be a valid dictionary, got ['rows.json']"),
    ({"files": {}}, "does not match the checksum that its record lists"),
]


@pytest.mark.parametrize(("change", "message"), FALSE_RESULTS)
def test_a_result_that_its_files_do_not_bear_out_finishes_nothing(
    study: Builder, change: dict[str, object], message: str
) -> None:
    directory = study(strategies=("random",), seeds=(0,), control=False)
    (result,) = directory.glob(f"{schema.CELLS_DIRECTORY}/*/{schema.RESULT_FILE}")
    write_json(result, read_json(result) | change)
    found = read_study(directory)
    assert list(found.cells["state"]) == [schema.PARTIAL]
    assert message in found.problems[0]
    assert found.cells["error"].item() == found.problems[0]


@pytest.mark.parametrize(
    "log", ["/etc/passwd", "../../secrets", "cells/../../x", "a\nb", 3, ["a"], "a\\..\\b"]
)
def test_a_log_outside_the_study_is_left_out_and_listed(study: Builder, log: object) -> None:
    directory = study(states={HARD: schema.FAILED})
    failure = directory / schema.CELLS_DIRECTORY / key_of(directory, "failed") / schema.FAILURE_FILE
    rewrite(failure, lambda record: record.update({"log": log}))
    found = read_study(directory)
    assert found.cells["log"].isna().all()
    assert state_of(found.cells, HARD) == schema.FAILED
    assert re.search(
        r"failure\.json is damaged: log: (must be a path inside|Input should be)", found.problems[0]
    )


def test_the_order_of_the_plan_does_not_matter(study: Builder, tmp_path: Path) -> None:
    states = {HARD: schema.FAILED, ("random", 0.2, 1): schema.PARTIAL}
    plain = read_study(study(mixes=(0.1, 0.2), states=states))
    shuffled = read_study(study(mixes=(0.1, 0.2), states=states, shuffle=3))
    pd.testing.assert_frame_equal(plain.rows, shuffled.rows)
    pd.testing.assert_frame_equal(plain.cells, shuffled.cells)


def test_axis_values_of_any_kind_group_and_sort(study: Builder) -> None:
    frame = analysis.load(study(axes={"targets": [["q", "v"], None, "all"]}))
    assert set(frame["targets"]) == {'["q", "v"]', "null", "all"}


def test_a_plan_without_known_cells_gives_an_empty_table(study: Builder) -> None:
    labels = [(s, 0.1, seed) for s in ("random", "difficulty_hard") for seed in range(3)]
    directory = study(
        strategies=("random", "difficulty_hard"), control=False, states=dict.fromkeys(labels, UNKNOWN)
    )
    assert analysis.load(directory).empty
    assert list(analysis.load_cells(directory)["state"]) == [schema.MISSING] * 6


def test_a_directory_that_is_not_a_study_is_refused_by_name(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(AnalysisError, match=r"not a study directory.*study\.json"):
            analysis.load(directory)


LABELS = {"strategy": "random", "mix": 0.1, "seed": 0}
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    (schema.STUDY_FILE, {"schema": 7}, "schema 7"),
    (schema.STUDY_FILE, {"axes": ["cell"]}, "got cell"),
    (schema.STUDY_FILE, {"axes": ["lr"]}, "labels must be strategy, mix, seed, lr; got"),
    (schema.STUDY_FILE, {"axes": "lr"}, "axes: Input should be a valid list, got 'lr'"),
    (schema.STUDY_FILE, {"axes": ["lr", "lr"]}, "named twice: lr, lr"),
    (schema.PLAN_FILE, {"cells": None}, "cells: Input should be a valid list"),
    (schema.PLAN_FILE, {"cells": [{"labels": {"mix": 0.1}}]}, "labels.strategy: Field required"),
    (
        schema.PLAN_FILE,
        {"cells": [{"labels": LABELS | {"mix": "10%"}}]},
        "mix: Input should be a valid number, got '10%'",
    ),
    (schema.PLAN_FILE, {"cells": [{"labels": LABELS, "key": None}] * 2}, "label twice"),
]


@pytest.mark.parametrize(("file", "content", "message"), FAULTS)
def test_a_faulty_study_is_refused_with_the_fault(
    study: Builder, file: str, content: dict[str, Any], message: str
) -> None:
    directory = study()
    rewrite(directory / file, lambda record: record.update(content))
    with pytest.raises(AnalysisError, match=message):
        analysis.load(directory)


@pytest.mark.parametrize("key", ["../../etc", "", "A" * 20, "0" * 21, "0" * 20 + "\n", 7, ["0"]])
def test_a_key_that_is_no_digest_is_refused_by_name(study: Builder, key: object) -> None:
    directory = study()
    rewrite(directory / schema.PLAN_FILE, lambda record: record["cells"][0].update({"key": key}))
    with pytest.raises(AnalysisError, match=r"cells\.0\.key.*got " + re.escape(repr(key))):
        analysis.load(directory)


def test_an_axis_may_not_shadow_a_column(study: Builder) -> None:
    with pytest.raises(AnalysisError, match="got step"):
        analysis.load(study(axes={"step": [1]}))


@pytest.mark.parametrize(
    "evaluation",
    [
        7,
        {"generate": {"tasks": 5}},
        {"generate": {"tasks": ["task_a"], "examples": "all"}, "watch": "wikitext"},
        {"watch": [{"name": "x"}, {"name": "x_base"}, {"name": "x"}, {"title": "y"}, 3]},
    ],
)
def test_a_declared_evaluation_that_makes_no_sense_is_read_as_far_as_it_does(
    study: Callable[..., Path], evaluation: Any
) -> None:
    frame = analysis.load(study(description={"config": {"evaluation": evaluation}}))
    assert frame.columns.is_unique
    assert len(frame) > 0
