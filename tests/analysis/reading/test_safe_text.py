"""Names and messages do nothing to a terminal or a spreadsheet, and only regular files are read."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from analysis.cli import main
from analysis.histories.read import read_histories
from analysis.reading.errors import AnalysisError
from analysis.reading.safe_text import CONTROLS, cell_text, spreadsheet_frame, visible
from analysis.reading.study import read_study
from analysis.tables.table import Column, Entry, Table, write_table
from trainables.ledger import schema
from trainables.ledger.atomic_write import publish_text
from trainables.ledger.regular_file import read_regular

FORMULAS = ["=cmd|' /C calc'!A0", "+1+cmd|x!A", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "x;=1+1"]
STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝")


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_of_a_table_is_a_formula_to_a_spreadsheet(text: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({text: [text, "plain"], "change": [-0.5, 0.25]})
    table = Table("t", "t", [Column("a")], [[Entry(text)]], "", frame)
    write_table(table, directory=tmp_path)
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    stored = pq.read_table(tmp_path / "t.parquet").to_pandas()
    for found in (rows[0][0], rows[1][0], stored.columns[0], stored.iloc[0, 0]):
        assert not found.startswith(STARTS)
        assert ";=" not in found
    assert rows[2] == ["plain", "0.25"]
    assert stored["change"].tolist() == [-0.5, 0.25]


@pytest.mark.parametrize("text", ["-0.5", "+1e-3", "difficulty_hard", "a-b", "最难", "it's", "", "a\nb"])
def test_numbers_and_plain_names_go_into_a_spreadsheet_as_they_are(text: str) -> None:
    assert cell_text(text) == text


def test_a_frame_without_such_text_is_the_same_frame() -> None:
    frame = pd.DataFrame({"a": ["x", None], "b": [1, 2], "c": [True, False], "d": [{"k": 1}, [2]]})
    pd.testing.assert_frame_equal(spreadsheet_frame(frame), frame)


def test_control_characters_are_spelled_out_and_letters_of_any_script_are_not() -> None:
    assert visible("a\x1b[31m\x9b2J\x07\r\u202eb\ud83d") == r"a\x1b[31m\x9b2J\x07\x0d\u202eb\ud83d"
    assert visible("最难 क्षमा عربي 🔥\n\tZürich") == "最难 क्षमा عربي 🔥\n\tZürich"


def test_no_control_character_of_a_study_reaches_the_terminal_or_a_table(
    study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.report.figure_set.FIGURES", {})
    name = "evil\x1b]0;owned\x07\x9b31m\u202e"
    folder = study(strategies=("random", name), states={(name, 0.1, 0): "failed"}, description={"name": name})
    said = CliRunner().invoke(main, ["report", str(folder), "-o", str(tmp_path / "out")])
    assert said.exit_code == 0, said.output
    assert r"evil\x1b]0;owned" in said.output
    refused = CliRunner().invoke(main, ["report", str(tmp_path / "no\x1b[31m")])
    assert refused.exit_code == 2
    texts = [said.output, refused.output]
    texts += [
        path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix in (".csv", ".md", ".tex")
    ]
    assert [CONTROLS.findall(text) for text in texts] == [[]] * len(texts)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_who_may_read_a_file_is_what_the_umask_says(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        path = publish_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_only_a_regular_file_of_a_possible_size_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "link.json").symlink_to(publish_text(tmp_path / "plain.json", "{}"))
    for name in ("pipe.json", "zero.json", "huge.json", "."):
        with pytest.raises(OSError, match=r"no regular file|larger than"):
            read_regular(tmp_path / name)
    assert read_regular(tmp_path / "link.json") == b"{}"


@pytest.mark.parametrize("name", [schema.STUDY_FILE, schema.PLAN_FILE, schema.RATES_FILE])
def test_a_pipe_in_place_of_a_record_is_named_and_not_waited_for(
    name: str, study: Callable[..., Path]
) -> None:
    folder = study()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(AnalysisError, match="no regular file|is a learning-rate search"):
        read_study(folder)


def test_a_pipe_in_place_of_a_cells_file_is_damage_of_that_cell(study: Callable[..., Path]) -> None:
    folder = study()
    rows = next((folder / schema.CELLS_DIRECTORY).iterdir()) / schema.ROWS_FILE
    rows.unlink()
    os.mkfifo(rows)
    assert any("no regular file" in problem for problem in read_study(folder).problems)


def test_a_pipe_among_histories_is_skipped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    histories, problems = read_histories([str(tmp_path / "*.json")])
    assert histories == []
    assert "no regular file" in problems[0]
