"""What counts as a finished cell: one table of folders, on which worker, driver and report agree."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.reading.study import read_study
from sweep.ledger.ledger import Ledger
from tests.analysis.studies import read_json, write_json, write_study
from trainables.ledger import schema
from trainables.ledger.cell_reader import is_finished
from trainables.ledger.storage.location import open_storage

ATTEMPT, EARLIER = "000002-0f3a9c2e", "000001-9c2e0f3a"
FINISHED, OPEN = True, False


def result(folder: Path, **changes: Any) -> None:
    path = folder / schema.RESULT_FILE
    write_json(path, {**read_json(path), **changes})


def nothing(folder: Path) -> None:
    """Leave the folder as early studies have it: files without an attempt's name."""


CONTENT = [name for name in schema.CONTENT_FILES if name != schema.ANSWERS_FILE]  # where none are generated


def of_an_attempt(folder: Path) -> None:
    for name in CONTENT:
        (folder / name).rename(folder / f"{ATTEMPT}-{name}")
    result(folder, attempt=ATTEMPT)


def beside_an_earlier_attempts_files(folder: Path) -> None:
    of_an_attempt(folder)
    for name in CONTENT:
        (folder / f"{EARLIER}-{name}").write_bytes(b"late")


def under_another_attempts_name(folder: Path) -> None:
    of_an_attempt(folder)
    (folder / f"{ATTEMPT}-{schema.ROWS_FILE}").rename(folder / f"{EARLIER}-{schema.ROWS_FILE}")


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def with_file(name: str) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / name, {"error": "x", "log": None, "attempts": 1})


def changed(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: result(folder, **changes)


def unsealed(folder: Path) -> None:
    record = read_json(folder / schema.RESULT_FILE)
    (folder / schema.RESULT_FILE).write_text(json.dumps(record))


def torn(folder: Path) -> None:
    content = (folder / schema.RESULT_FILE).read_bytes()
    (folder / schema.RESULT_FILE).write_bytes(content[:-9])


def link(name: str) -> Callable[[Path], None]:
    def replace_by_link(folder: Path) -> None:
        elsewhere = folder.parent.parent / "elsewhere"
        (folder / name).rename(elsewhere)
        (folder / name).symlink_to(elsewhere)

    return replace_by_link


def link_to_nowhere(folder: Path) -> None:
    (folder / "note").symlink_to("/nowhere")


def a_folder_instead(folder: Path) -> None:
    (folder / schema.LOSSES_FILE).unlink()
    (folder / schema.LOSSES_FILE).mkdir()


FOLDERS: dict[str, tuple[Callable[[Path], None], bool]] = {
    "whole, as early studies are": (nothing, FINISHED),
    "whole, under an attempt's name": (of_an_attempt, FINISHED),
    "beside late files of an earlier attempt": (beside_an_earlier_attempts_files, FINISHED),
    "beside a late failure": (with_file(schema.FAILURE_FILE), FINISHED),
    "beside a claim": (with_file(schema.CLAIM_FILE), FINISHED),
    "beside a temporary file": (lambda folder: (folder / ".writing-x").touch(), FINISHED),
    "result missing": (without(schema.RESULT_FILE), OPEN),
    "result torn": (torn, OPEN),
    "result empty": (lambda folder: (folder / schema.RESULT_FILE).write_bytes(b""), OPEN),
    "result not sealed": (unsealed, OPEN),
    "state unknown": (changed(state="finished"), OPEN),
    "no list of files": (changed(files=None), OPEN),
    "a path for an attempt": (changed(attempt="../../x"), OPEN),
    "an attempt that wrote nothing": (changed(attempt=ATTEMPT), OPEN),
    "rows missing": (without(schema.ROWS_FILE), OPEN),
    "losses missing": (without(schema.LOSSES_FILE), OPEN),
    "a folder instead of losses": (a_folder_instead, OPEN),
    "rows under another attempt's name": (under_another_attempts_name, OPEN),
    "folder is a link": (link(""), OPEN),
    "result is a link": (link(schema.RESULT_FILE), OPEN),
    "losses are a link": (link(schema.LOSSES_FILE), OPEN),
    "a link that leads nowhere": (link_to_nowhere, OPEN),
}


@pytest.mark.parametrize(("change", "finished"), FOLDERS.values(), ids=FOLDERS)
def test_worker_driver_and_report_agree_on_what_is_finished(
    tmp_path: Path, change: Callable[[Path], None], finished: bool
) -> None:
    root = write_study(tmp_path / "study", strategies=["random"], seeds=[0], control=False, per_example=True)
    (folder,) = (root / schema.CELLS_DIRECTORY).iterdir()
    change(folder)
    ledger = Ledger(open_storage(str(root)))
    status = ledger.statuses([folder.name])[folder.name]
    found = read_study(root)
    told = {
        "worker": is_finished(ledger.cell(folder.name)),
        "driver": status.state == schema.DONE,
        "report": set(found.cells["state"]) == {schema.DONE},
    }
    assert set(told.values()) == {finished}, told
    assert finished or (schema.RESULT_FILE not in os.listdir(folder)) or (status.damage and found.problems)


def test_a_linked_cell_is_refused_by_a_run_and_what_it_points_at_is_left_alone(tmp_path: Path) -> None:
    root = write_study(tmp_path / "study", strategies=["random"], seeds=[0], control=False)
    (folder,) = (root / schema.CELLS_DIRECTORY).iterdir()
    link("")(folder)
    before = sorted(os.listdir(root / "elsewhere"))
    ledger = Ledger(open_storage(str(root)))
    with pytest.raises(RuntimeError, match="follows no symbolic link inside it: put the folder itself there"):
        ledger.reopen(folder.name)
    assert sorted(os.listdir(root / "elsewhere")) == before


def test_an_unfinished_cell_is_read_as_its_newest_attempt_with_rows_has_it(tmp_path: Path) -> None:
    root = write_study(
        tmp_path / "study",
        strategies=["random"],
        seeds=[0],
        control=False,
        states={("random", 0.1, 0): schema.PARTIAL},
    )
    (folder,) = (root / schema.CELLS_DIRECTORY).iterdir()
    rows = read_json(folder / schema.ROWS_FILE)["rows"]
    newest = "000003-00000000"
    for attempt, count in (("", 2), (EARLIER, 3), (ATTEMPT, 4)):
        prefix = attempt and f"{attempt}-"
        for name in (schema.CELL_FILE, schema.SELECTION_FILE):
            if prefix:
                shutil.copyfile(folder / name, folder / f"{prefix}{name}")
        write_json(folder / f"{prefix}{schema.ROWS_FILE}", {"rows": rows[:count]})
    (folder / f"{newest}-{schema.CELL_FILE}").write_bytes(b"just begun")
    ledger = Ledger(open_storage(str(root)))
    assert len(ledger.rows(folder.name)) == 4
    assert len(read_study(root).rows) == 4
    status = ledger.statuses([folder.name])[folder.name]
    assert {name[:6] for name in status.leftovers} == {"rows.j", "cell.j", "select", "000001"}
    ledger.sweep({folder.name: status})
    assert len(ledger.rows(folder.name)) == 4
