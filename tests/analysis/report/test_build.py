"""The report command from end to end: what it writes, says and returns."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

import analysis
from analysis.cli import main
from analysis.commands import Request
from analysis.reading.study import read_study
from tests.analysis.studies import TORN_RESULT, UNKNOWN
from trainables.ledger import schema

Builder = Callable[..., Path]
HARD = ("difficulty_hard", 0.1, 0)
SUFFIXES = ("csv", "parquet", "md", "tex")


def report(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)], catch_exceptions=False)


TABLE_STEMS = ("summary", "contrasts", "sensitivity", "secondary", "pairs", "cells", "evaluations", "rates")


def written_files(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_report_holds_every_table_figure_and_format(study: Builder) -> None:
    directory = study(per_example=True)
    result = report(directory)
    assert result.exit_code == 0
    written = written_files(directory / "report")
    tables = {f"{stem}.{suffix}" for stem in (*TABLE_STEMS, "levels", "variance") for suffix in SUFFIXES}
    assert tables | {"report.md", "report.html"} == {name for name in written if "/" not in name}
    figures = {name.rpartition(".")[0] for name in written if "/" in name}
    assert {f"figures/{name}" for name in ("forest", "forgetting_curves", "levels")} <= figures
    assert {f"{stem}.{suffix}" for stem in figures for suffix in ("png", "svg", "pdf", "json")} == written - {
        name for name in written if "/" not in name
    }
    assert str(directory / "report" / "report.html") in result.stdout
    page = (directory / "report" / "report.md").read_text()
    assert all(f"({figure}.png)" in page for figure in figures)
    assert page.count("95 % ") >= 4
    frame = pd.read_parquet(directory / "report" / "evaluations.parquet")
    pd.testing.assert_frame_equal(frame, analysis.load(directory))


@pytest.mark.slow
def test_the_tables_of_a_report_are_the_findings(study: Builder) -> None:
    directory = study()
    report(directory)
    found = analysis.find(directory)
    for stem, frame in (
        ("contrasts", found.contrasts),
        ("pairs", found.pairs),
        ("secondary", found.secondary),
    ):
        pd.testing.assert_frame_equal(pd.read_parquet(directory / "report" / f"{stem}.parquet"), frame)


@pytest.mark.slow
def test_a_report_of_equal_studies_is_equal_byte_for_byte(study: Builder, tmp_path: Path) -> None:
    options = {"axes": {"lr": [7e-5]}, "strategies": ("random", "difficulty_hard")}
    first, second = tmp_path / "first" / "out", tmp_path / "second" / "out"
    report(study(**options), "-o", first)
    report(study(**options, shuffle=1), "-o", second)
    names = written_files(first)
    assert written_files(second) == names
    assert {"report.html", "report.md", "contrasts.csv"} < names
    assert [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()] == []


@pytest.mark.slow
def test_an_unfinished_study_is_reported_with_what_is_absent(study: Builder) -> None:
    states = {
        HARD: schema.FAILED,
        ("difficulty_easy", 0.1, 1): schema.DIVERGED,
        ("random", 0.1, 2): TORN_RESULT,
        ("none", 0.0, 0): UNKNOWN,
    }
    directory = study(states=states, slots={("difficulty_easy", 0.1, 0): "other"})
    result = report(directory)
    assert result.exit_code == 0
    assert "12 planned: 8 done, 1 diverged, 1 failed, 2 unfinished" in result.stdout
    assert "failed: difficulty_hard, mix 10 %, seed 0: CUDA out of memory (log: logs/a.txt)" in result.stdout
    assert "1 missing: see the matrix" in result.stdout
    assert "result.json is damaged: it is cut off" in result.stderr
    assert "pairs left out:\n  difficulty_easy, mix 10 %, seed 0" in result.stdout
    page = (directory / "report" / "report.md").read_text()
    assert "## Cells that are not done" in page
    assert "## Pairs left out" in page
    assert "## Files that could not be used" in page


@pytest.mark.slow
def test_hostile_names_stay_text_and_stay_inside_the_report(study: Builder, tmp_path: Path) -> None:
    name = r"../../<script>\input{x}_%"
    directory = study(strategies=("random", name), axes={"../axis": ["../../value"]}, seeds=(0, 1))
    outside = set(tmp_path.rglob("*"))
    assert report(directory, "-o", tmp_path / "out").exit_code == 0
    assert {
        path for path in set(tmp_path.rglob("*")) - outside if tmp_path / "out" not in (path, *path.parents)
    } == set()
    assert {path.suffix for path in (tmp_path / "out" / "figures").iterdir()} == {
        ".png",
        ".svg",
        ".pdf",
        ".json",
    }
    page, latex = ((tmp_path / "out" / file).read_text() for file in ("report.md", "summary.tex"))
    assert "<script" not in page
    assert r"\input" not in latex
    assert r"\textbackslash{}input\{x\}\_\%" in latex


def test_a_study_without_evaluations_exits_with_1_and_says_so(study: Builder) -> None:
    labels = [(s, m, seed) for s, m in (("random", 0.1), ("none", 0.0)) for seed in range(3)]
    directory = study(strategies=("random",), states=dict.fromkeys(labels, UNKNOWN))
    result = report(directory)
    assert result.exit_code == 1
    assert "no evaluation yet in any of its 6 planned cells" in result.stderr
    assert not (directory / "report").exists()


def test_a_directory_that_is_no_study_exits_with_2_and_one_block(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("study: a")
    for place, why in (
        (".", "has no study.json"),
        ("nowhere", "has no study.json"),
        ("study.yaml", "is a file"),
    ):
        directory = tmp_path / place
        result = report(directory)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"Error: {directory} is not a study directory: it {why}")
        assert "Traceback" not in result.output


def test_an_output_that_cannot_be_written_exits_with_2(study: Builder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = report(study(), "-o", tmp_path / "file")
    assert result.exit_code == 2
    assert f"cannot be written to {tmp_path / 'file'}" in result.stderr
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("command", [[], ["report"], ["plot"]])
def test_help_shows_an_example_or_what_comes_out(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert "python -m analysis" in result.output or "OUT/report.html" in result.output


@pytest.mark.slow
def test_what_the_command_sets_is_used_and_said_to_be_set_by_it(study: Builder, tmp_path: Path) -> None:
    result = report(study(), "-o", tmp_path / "out", "--measure", "task_b_gain", "--smallest-effect", "0.5")
    assert result.exit_code == 0
    contrasts = pd.read_parquet(tmp_path / "out" / "contrasts.parquet")
    assert set(contrasts["measure"]) == {"task_b_gain"}
    assert (contrasts["verdict"] == "equivalent").all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert (
        "Set by the command that made this report, not by the study: measure task_b_gain and smallest effect "
        "0.5" in page
    )


@pytest.mark.slow
def test_bands_for_whole_curves_are_drawn_on_request_and_named(study: Builder, tmp_path: Path) -> None:
    directory = study()
    for name, options, word in (("plain", [], "pointwise"), ("whole", ["--simultaneous"], "simultaneous")):
        report(directory, "-o", tmp_path / name, *options)
        record = json.loads((tmp_path / name / "figures" / "difference_curves.json").read_text())
        assert word in record["caption"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--measure", "accuracy"], "primary must be a measure, got 'accuracy'; choose one of forgetting"),
        (["--smallest-effect", "-1"], "smallest_effect must be above 0"),
        (["--histories", "--simultaneous"], "--histories has no seeds to infer from"),
    ],
)
def test_options_that_cannot_be_are_refused_with_the_choices(
    study: Builder, options: list[str], message: str
) -> None:
    result = report(study(), *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_measure_in_another_unit_does_without_the_declared_smallest_effect(study: Builder) -> None:
    declared = {"config": {"inference": {"smallest_effect": 0.002}}}
    recorded = read_study(study(description=declared))
    same, other = (
        Request(("there",), measure=name).settings(recorded) for name in ("task_b_gain", "retention")
    )
    assert (same.smallest_effect, other.smallest_effect) == (0.002, None)
    assert (
        Request(("there",), measure="retention", smallest_effect=0.1).settings(recorded).smallest_effect
        == 0.1
    )
