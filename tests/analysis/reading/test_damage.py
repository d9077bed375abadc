"""Damage to a study's files, one at a time: it is named, and it never changes a number silently."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.findings.outcomes import METRICS, run_outcomes, summarise
from analysis.reading.errors import AnalysisError
from analysis.reading.study import RecordedStudy, read_study
from analysis.tables.run_lists import damage_text
from sweep.ledger.ledger import Ledger
from tests.analysis.studies import TORN_ROWS, read_json, rewrite, write_json, write_result
from trainables.ledger import schema
from trainables.ledger.sealed_json import DamagedError, seal, unseal
from trainables.ledger.storage.location import open_storage

Builder = Callable[..., Path]
Damage = Callable[[bytes], bytes | None]
HARD = ("difficulty_hard", 0.1, 0)


def flip(position: float) -> Damage:
    """Return a damage that flips the lowest bit at a share of the file."""

    def damage(content: bytes) -> bytes:
        byte = min(int(position * len(content)), len(content) - 1)
        return content[:byte] + bytes([content[byte] ^ 1]) + content[byte + 1 :]

    return damage


DAMAGES: dict[str, Damage] = {
    "first bit": flip(0),
    "a bit inside": flip(0.5),
    "a bit of the checksum": lambda content: flip(1 - 10 / len(content))(content),
    "last bit": flip(1),
    "cut off": lambda content: content[: len(content) // 2],
    "cut by one": lambda content: content[:-1],
    "one byte more": lambda content: content + b"\n",
    "zeros": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
    "absent": lambda content: None,
    "no seal": lambda content: content.split(b',\n "checksum"')[0] + b"\n}",
    "another whole file": lambda content: seal({"rows": [], "slots_hash": "x", "state": "done"}),
}
CELL_FILES = (schema.RESULT_FILE, schema.ROWS_FILE, schema.CELL_FILE, schema.SELECTION_FILE)


def inflict(path: Path, damage: Damage) -> None:
    content = damage(path.read_bytes())
    assert content != path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def folder_of(directory: Path, found: RecordedStudy, label: tuple[str, float, int]) -> Path:
    cells = found.cells
    chosen = cells[(cells[list(schema.LABEL_COLUMNS)] == list(label)).all(axis=1)]
    return directory / schema.CELLS_DIRECTORY / str(chosen["cell"].item())


def without(found: RecordedStudy, cell: str) -> tuple[pd.DataFrame, ...]:
    """Return what is known of all other cells: states, points and outcomes."""
    frames = (found.cells.drop(columns="error"), found.rows, run_outcomes(found))
    return tuple(frame[frame["cell"] != cell].reset_index(drop=True) for frame in frames)


@pytest.mark.parametrize("file", CELL_FILES)
@pytest.mark.parametrize("name", DAMAGES)
def test_a_done_cell_with_a_damaged_file_is_not_done_and_the_file_is_named(
    study: Builder, file: str, name: str
) -> None:
    directory = study()
    before = read_study(directory)
    folder = folder_of(directory, before, HARD)
    inflict(folder / file, DAMAGES[name])
    after = read_study(directory)
    cell = after.cells[after.cells["cell"] == folder.name]
    assert list(cell["state"]) == [schema.PARTIAL]
    assert run_outcomes(after).loc[cell.index, list(METRICS)].isna().all(axis=None)
    named = [problem for problem in after.problems if str(folder / file) in problem]
    assert named or (file, name) == (schema.RESULT_FILE, "absent")  # which is how a cell is before its end
    assert len(after.problems) == len(named)
    assert not named or cell["error"].item() == named[0]
    checked = Ledger(open_storage(str(directory))).statuses([folder.name], thorough=True)[folder.name]
    assert checked.state == schema.PARTIAL
    for kept, was in zip(without(after, folder.name), without(before, folder.name), strict=True):
        pd.testing.assert_frame_equal(kept, was)


WRONG: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "a row lacks a column": (schema.ROWS_FILE, lambda record: record["rows"][1].pop("epoch")),
    "a count is negative": (schema.ROWS_FILE, lambda record: record["rows"][1].update(step=-1)),
    "steps fall": (schema.ROWS_FILE, lambda record: record["rows"].reverse()),
    "no rows": (schema.ROWS_FILE, lambda record: record["rows"].clear()),
    "the last loss is not finite": (
        schema.ROWS_FILE,
        lambda record: record["rows"][-1].update(task_a_loss=None),
    ),
    "the last row is not there": (schema.ROWS_FILE, lambda record: record["rows"].pop()),
    "another cell": (schema.CELL_FILE, lambda record: record.update(key="0" * 20)),
    "no seed": (schema.CELL_FILE, lambda record: record.pop("seed")),
    "lists of two lengths": (schema.SELECTION_FILE, lambda record: record["id"].append("x")),
    "an id that is no text": (schema.SELECTION_FILE, lambda record: record["id"].__setitem__(0, 7)),
    "done at another step": (schema.RESULT_FILE, lambda record: record.update(step=7)),
    "nothing listed": (schema.RESULT_FILE, lambda record: record.update(files={})),
}


@pytest.mark.parametrize("name", WRONG)
def test_status_check_and_report_agree_on_what_was_published_wrong(study: Builder, name: str) -> None:
    """A whole seal over what no version of the sweep publishes."""
    directory, (file, change) = study(), WRONG[name]
    folder = folder_of(directory, read_study(directory), HARD)
    record = read_json(folder / file)
    change(record)
    write_json(folder / file, record)
    if file != schema.RESULT_FILE:
        write_result(folder, read_json(folder / schema.RESULT_FILE))
    found = read_study(directory)
    checked = Ledger(open_storage(str(directory))).statuses([folder.name], thorough=True)[folder.name]
    assert found.cells.loc[found.cells["cell"] == folder.name, "state"].tolist() == [schema.PARTIAL]
    assert (checked.state, checked.damage) == (schema.PARTIAL, found.problems[0])


@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "another whole file"])
@pytest.mark.parametrize("file", [schema.ROWS_FILE, schema.CELL_FILE, schema.SELECTION_FILE])
@pytest.mark.parametrize("state", [schema.FAILED, schema.PARTIAL])
def test_an_open_cell_keeps_its_state_and_damage_is_named(
    study: Builder, state: str, file: str, name: str
) -> None:
    directory = study(states={HARD: state})
    before = read_study(directory)
    folder = folder_of(directory, before, HARD)
    inflict(folder / file, DAMAGES[name])
    after = read_study(directory)
    assert list(after.cells["state"]) == list(before.cells["state"])
    points = (after.rows["cell"] == folder.name).sum()
    assert points == (0 if file == schema.ROWS_FILE else (before.rows["cell"] == folder.name).sum())
    assert [str(folder / file) in problem for problem in after.problems] == [True] * (name != "absent")


@pytest.mark.parametrize("name", [name for name in DAMAGES if name not in ("another whole file", "absent")])
def test_a_damaged_failure_is_named_and_the_cell_has_failed(study: Builder, name: str) -> None:
    directory = study(states={HARD: schema.FAILED})
    folder = folder_of(directory, read_study(directory), HARD)
    inflict(folder / schema.FAILURE_FILE, DAMAGES[name])
    after = read_study(directory)
    (problem,) = after.problems
    assert problem.startswith(f"{folder / schema.FAILURE_FILE} is damaged")
    assert after.cells.loc[after.cells["state"] == schema.FAILED, "error"].tolist() == [problem]


@pytest.mark.parametrize("file", [schema.STUDY_FILE, schema.PLAN_FILE])
@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "another whole file"])
def test_damage_to_the_study_s_own_files_is_refused_by_name(study: Builder, file: str, name: str) -> None:
    directory = study()
    inflict(directory / file, DAMAGES[name])
    with pytest.raises(AnalysisError, match=file):
        read_study(directory)


def test_rows_of_an_earlier_moment_are_not_taken_for_the_finished_cell_s(study: Builder) -> None:
    directory = study()
    folder = folder_of(directory, read_study(directory), HARD)
    rows = read_json(folder / schema.ROWS_FILE)
    rows["rows"][-1][schema.TASK_A_LOSS] += 0.01
    write_json(folder / schema.ROWS_FILE, rows)
    after = read_study(directory)
    (problem,) = after.problems
    assert problem == (
        f"{folder / schema.ROWS_FILE} is damaged: its content does not match the checksum that its record "
        "lists"
    )
    assert not (after.rows["cell"] == folder.name).any()


def test_a_folder_that_holds_another_cell_is_not_this_cell(study: Builder) -> None:
    directory = study()
    found = read_study(directory)
    folder, other = (folder_of(directory, found, label) for label in (HARD, ("random", 0.1, 0)))
    for path in other.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    after = read_study(directory)
    assert list(after.cells.loc[after.cells["cell"] == folder.name, "state"]) == [schema.PARTIAL]
    assert f"of another cell, '{other.name}'" in after.problems[0]


def test_damaged_cells_stay_in_every_count_and_in_the_page(study: Builder) -> None:
    directory = study(states={HARD: TORN_ROWS, ("random", 0.1, 1): TORN_ROWS})
    found = read_study(directory)
    summary = summarise(found, outcomes=run_outcomes(found)).set_index("strategy")
    assert list(summary["planned"]) == [3, 3, 3, 3]
    assert dict(summary["done"]) == {"random": 2, "difficulty_easy": 3, "difficulty_hard": 2, "none": 3}
    assert dict(summary["unfinished"]) == {
        "random": 1,
        "difficulty_easy": 0,
        "difficulty_hard": 1,
        "none": 0,
    }
    assert dict(summary["n_pairs"])["difficulty_hard"] == 1
    assert damage_text(found).startswith("2 files are damaged or unusable")
    assert sum("rows.json is damaged" in problem for problem in found.problems) == 2


def test_a_whole_study_is_not_said_to_be_damaged(study: Builder) -> None:
    assert damage_text(read_study(study())) == ""


def bits(content: bytes) -> Iterator[bytes]:
    """Yield `content` with each of its bits flipped."""
    for position in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        yield bytes(damaged)


def test_no_flipped_bit_and_no_cut_goes_unnoticed() -> None:
    content = seal({"rows": [1.5, None], "slots_hash": "a"})
    unseal(content)
    for damaged in [*bits(content), *(content[:length] for length in range(len(content)))]:
        with pytest.raises(DamagedError):
            unseal(damaged)


def test_a_change_that_is_published_is_no_damage(study: Builder) -> None:
    directory = study()
    folder = folder_of(directory, read_study(directory), HARD)
    rewrite(folder / schema.CELL_FILE, lambda record: record.update({"hyperparameters": {"lr": 1}}))
    assert read_study(directory).problems == ()
