"""Several studies in one report: told apart by name, each with its own verdicts, none lost."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from analysis.cli import main
from analysis.figures.comparison import Named, draw_comparison
from analysis.findings.findings import find
from analysis.reading.study import read_study
from analysis.report.comparison import comparison_table, comparison_words, distinct_names, joint_table
from tests.analysis.studies import UNKNOWN, write_study

EFFECTS = {"difficulty_hard": 0.02}


def named(folder: Path, name: str, **options: Any) -> Named:
    options = {"seeds": range(6), "effects": EFFECTS, **options}
    return Named(name, find(read_study(write_study(folder / name, **options))))


@pytest.mark.parametrize(
    ("names", "locations", "shown"),
    [
        (["a", "b"], ["x/1", "x/2"], ["a", "b"]),
        (["a", "a"], ["x/1", "x/2/"], ["a (1)", "a (2)"]),
        (["a", "a"], ["x/1", "y/1"], ["a (1) [1]", "a (1) [2]"]),
        (["a", "a", "b"], ["s3://u/p?k=v", "s3://u/q", "c"], ["a (p)", "a (q)", "b"]),
    ],
)
def test_names_that_clash_are_told_apart(names: list[str], locations: list[str], shown: list[str]) -> None:
    assert distinct_names(names, locations) == shown


def test_the_table_keeps_every_studys_own_numbers(tmp_path: Path) -> None:
    studies = [named(tmp_path, "one"), named(tmp_path, "two", effects={}, axes={"lr": [1e-4, 2e-4]})]
    table = comparison_table(studies)
    assert len(table.rows) == len(table.frame) == sum(len(study.findings.contrasts) for study in studies)
    for study in studies:
        part = table.frame[table.frame["study"] == study.name].drop(columns="study").reset_index(drop=True)
        own = study.findings.contrasts
        pd.testing.assert_frame_equal(part[own.columns], own, check_dtype=False)
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_agreement_is_counted_over_the_shared_contrasts_alone(tmp_path: Path) -> None:
    studies = [
        named(tmp_path, "one"),
        named(tmp_path, "two", effects={}, strategies=("random", "difficulty_hard")),
    ]
    words = comparison_words(studies)
    assert words.opening.startswith("1 contrast was planned in every study; the verdict is the same in 0")
    assert [line.partition(":")[0] for line in words.lines] == ["one", "two"]
    assert "nothing here tests one study against another" in words.limits


def test_studies_of_other_tasks_are_said_to_be_not_comparable(tmp_path: Path) -> None:
    other = named(tmp_path, "two", description={"task_b": "gsm8k"})
    words = comparison_words([named(tmp_path, "one"), other])
    assert words.opening.startswith("Their contrasts are not comparable")
    assert "They differ in task B (gsm8k, hotpotqa)" in words.opening


def declaring(effect: float) -> dict[str, Any]:
    return {"config": {"inference": {"smallest_effect": effect}}}


@pytest.mark.parametrize(("effect", "shared"), [(0.01, True), (0.5, False)])
def test_panels_share_a_scale_where_the_studies_share_their_smallest_effect(
    tmp_path: Path, effect: float, shared: bool
) -> None:
    studies = [
        named(tmp_path, "one", description=declaring(0.01)),
        named(tmp_path, "two", description=declaring(effect), effects={"difficulty_hard": 0.2}),
    ]
    drawing = draw_comparison(studies)
    assert drawing.figure is not None
    first, second = (ax.get_xlim() for ax in drawing.figure.axes)
    assert (first == second) is shared
    assert ("scale of its own" in drawing.caption) is not shared
    assert ("They differ in smallest effect" in comparison_words(studies).limits) is not shared
    keys = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert keys[0] == "one pair"
    assert keys[-1] == ("± 0.01: too small to matter" if shared else "± 0.01 or ± 0.5: too small to matter")


def test_a_study_is_not_compared_with_itself(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", strategies=("random", "difficulty_hard"))
    result = CliRunner().invoke(
        main, ["report", str(study), f"{study.parent}/./study/", "-o", str(tmp_path / "out")]
    )
    assert result.exit_code == 2
    assert "the same study is given twice" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_studies_of_one_name_make_one_report_with_folders_of_their_own(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write_study(tmp_path / folder, strategies=("random", "difficulty_hard"))
    places = [str(tmp_path / name) for name in ("first", "second")]
    result = CliRunner().invoke(
        main, ["report", *places, "-o", str(tmp_path / "out")], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "study synthetic (first): 9 planned" in result.stdout
    out = tmp_path / "out"
    for folder in ("1-synthetic", "2-synthetic"):
        assert (out / folder / "contrasts.csv").is_file()
        assert (out / folder / "figures" / "forest.pdf").is_file()
    frame = pd.read_parquet(out / "comparison.parquet")
    assert set(frame["study"]) == {"synthetic (first)", "synthetic (second)"}
    page = (out / "report.html").read_text()
    assert page.count("synthetic (second)") > 3
    assert (out / "figures" / "comparison.svg").is_file()
    assert "(1-synthetic/figures/forest.png)" in (out / "report.md").read_text()


def test_a_study_that_has_nothing_yet_stops_the_comparison_with_its_name(tmp_path: Path) -> None:
    write_study(tmp_path / "full")
    states = {("random", 0.1, 0): UNKNOWN, ("none", 0.0, 0): UNKNOWN}
    write_study(tmp_path / "empty", strategies=("random",), seeds=(0,), states=states)
    places = [str(tmp_path / name) for name in ("full", "empty")]
    result = CliRunner().invoke(main, ["report", *places, "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "has no evaluation yet in any of its 2 planned cells" in result.stderr


def test_the_mean_over_studies_is_of_the_contrasts_that_several_have(tmp_path: Path) -> None:
    studies = [named(tmp_path, name, noise=noise) for name, noise in (("one", 1.0), ("two", 0.5))]
    studies.append(named(tmp_path, "three", strategies=("random", "difficulty_hard"), mixes=(0.3,)))
    table = joint_table(studies)
    assert table is not None
    assert set(table.frame["studies"]) == {2}
    assert len(table.frame) == 2
    each = [study.findings.contrasts.set_index("strategy")["difference"] for study in studies[:2]]
    for row in table.frame.to_dict("records"):
        ends = sorted(differences[row["strategy"]] for differences in each)
        assert ends[0] <= row["difference"] <= ends[1]
        assert row["low"] < ends[0] < ends[1] < row["high"], "two studies tell little of others"
    assert joint_table(studies[1:]) is None
