"""The plot command: which histories are usable, which are replicates, and what is drawn."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure

from analysis.cli import main
from analysis.figures.style import publication_style, strategy_styles
from analysis.histories.figure import draw_histories
from analysis.histories.read import group_replicates, read_histories, read_history
from analysis.histories.report import MISSING, history_words
from analysis.histories.tables import ends_table
from tests.analysis.studies import write_json


def plot(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["plot", *map(str, arguments)], catch_exceptions=False)


def write_history(path: Path, **changes: Any) -> Path:
    record: dict[str, Any] = {
        "steps": [0, 10, 20],
        "math_loss": [1.0, 1.1, 1.2],
        "hotpot_loss": [1.9, 1.8, 1.7],
    }
    write_json(path, {**record, **changes})
    return path


def draw(*paths: Path) -> Figure:
    histories, problems = read_histories([str(path) for path in paths])
    assert problems == []
    return draw_histories(histories, title=None)


def bands(figure: Figure) -> int:
    return sum(isinstance(part, FillBetweenPolyCollection) for ax in figure.axes for part in ax.collections)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with publication_style():
        yield


def test_the_earlier_study_plots_in_one_call(real_histories: Path, tmp_path: Path) -> None:
    result = plot(real_histories / "*.json", "-o", tmp_path / "all.png", "--title", "MATH, then another task")
    assert result.exit_code == 0
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    assert "empty_history.json: it is empty" in result.stderr
    assert "8 histories" in result.stdout


def test_each_metric_of_the_earlier_study_has_a_panel(real_histories: Path) -> None:
    histories, problems = read_histories([str(real_histories / "*.json")])
    assert len(problems) == 1
    titles = [ax.get_title() for ax in draw_histories(histories, title=None).axes]
    assert titles == ["code loss", "math loss", "gsm8k loss", "hotpot loss"]


@pytest.mark.parametrize(
    "said", [{"name": "none 0%"}, {"name": "base", "mix_percentage": 0}, {"selection_method": "none"}]
)
def test_a_run_without_replay_looks_as_in_a_study(tmp_path: Path, said: dict[str, Any]) -> None:
    paths = [
        write_history(tmp_path / "first.json", **said),
        write_history(tmp_path / "second.json", name="b"),
    ]
    ax = draw(*paths).axes[0]
    grey = strategy_styles(["none"])["none"].colour
    assert [line.get_color() == grey for line in ax.lines] == [True, False]
    assert ax.get_ylabel() == "loss (nats/token)"


def test_the_projects_own_export_plots(tmp_path: Path) -> None:
    path = tmp_path / "forgetting_history_MATH_to_HotpotQA_random_10pct_bf16.json"
    write_history(path, name="random 10 %", selection_method="random", mix_percentage=10, seed=0)
    figure = draw(path)
    assert legend(figure) == ["random 10 %"]


BROKEN = [
    ("", "unreadable"),
    ("{", "unreadable"),
    ("[" * 100_000, "unreadable"),
    ("[1]", "JSON object"),
    ("{}", "it lacks the list steps"),
    ('{"steps": [], "math_loss": []}', "empty"),
    ('{"steps": [0, 1]}', "no list whose name ends in _loss"),
    ('{"steps": [0, 1], "math_loss": [1.0]}', "parallel to steps"),
    ('{"steps": [0, 1], "math_loss": 3}', "no list whose name ends in _loss"),
    ('{"steps": [0, 1], "math_loss": [1.0, "x"]}', "must hold numbers, got 'x'"),
    ('{"steps": [0, 1], "math_loss": [1.0, true]}', "must hold numbers"),
    ('{"steps": [1, 0], "math_loss": [1.0, 2.0]}', "must not go down"),
    ('{"steps": ["0"], "math_loss": [1.0]}', "steps must be a list of numbers"),
    (
        '{"steps": [0, 1], "math_loss": [NaN, null], "qa_loss": [Infinity, NaN]}',
        "math_loss, qa_loss hold no number",
    ),
    ('{"steps": [0], "math_loss": [1' + "0" * 400 + "]}", "too large"),
]


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_an_unusable_file_is_named_and_skipped(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    good = write_history(tmp_path / "good.json")
    histories, problems = read_histories([str(tmp_path / "*.json")])
    assert [run.path for run in histories] == [good]
    (problem,) = problems
    assert problem.startswith(str(tmp_path / "bad.json"))
    assert message in problem


def test_nothing_usable_exits_with_1_and_a_lost_pattern_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    result = plot(tmp_path / "*.json", tmp_path / "none_*.json", "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert "bad.json: unreadable" in result.stderr
    assert "none_*.json: no such file" in result.stderr
    assert not (tmp_path / "out.png").exists()


def test_a_directory_is_named_not_read(tmp_path: Path) -> None:
    histories, problems = read_histories([str(tmp_path)])
    assert histories == []
    assert problems[0].startswith(f"{tmp_path}: unreadable")


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write_history(tmp_path / "a.json")
    histories, _ = read_histories([str(path), str(tmp_path / "*.json"), str(tmp_path / "." / "a.json")])
    assert len(histories) == 1


def test_a_file_whose_name_looks_like_a_pattern_is_read(tmp_path: Path) -> None:
    path = write_history(tmp_path / "run[1].json")
    histories, problems = read_histories([str(path)])
    assert (len(histories), problems) == (1, [])


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_suffix_is_the_format_and_folders_are_made(tmp_path: Path, suffix: str) -> None:
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    target = tmp_path / "new" / f"out.{suffix}"
    assert plot(write_history(tmp_path / "a.json"), "-o", target).exit_code == 0
    assert target.read_bytes().startswith(starts[suffix])


@pytest.mark.parametrize("name", ["out.jpg", "out", "out.PNG.txt"])
def test_another_suffix_is_refused_with_the_choices(tmp_path: Path, name: str) -> None:
    result = plot(write_history(tmp_path / "a.json"), "-o", tmp_path / name)
    assert result.exit_code == 2
    assert f"one of .png, .svg, .pdf, got '{name}'" in result.stderr


@pytest.mark.parametrize(("runs", "expected"), [(1, 0), (2, 0), (3, 2)])
def test_replicates_get_a_band_from_three_on(tmp_path: Path, runs: int, expected: int) -> None:
    paths = [write_history(tmp_path / f"{seed}.json", name="random", seed=seed) for seed in range(runs)]
    figure = draw(*paths)
    assert bands(figure) == expected
    assert legend(figure) == ["random" if runs == 1 else f"random (n = {runs})"]
    title = figure.legends[0].get_title().get_text()
    assert ("95 % pointwise t interval over runs of one name" in title) == (runs == 3)


def test_a_mean_is_drawn_at_the_steps_all_replicates_have(tmp_path: Path) -> None:
    first = write_history(tmp_path / "1.json", name="x")
    second = write_history(tmp_path / "2.json", name="x", steps=[0, 15, 20], math_loss=[1.2, 1.3, 1.6])
    third = write_history(tmp_path / "3.json", name="x", math_loss=[1.1, 1.1, 1.7])
    lines = draw(first, second, third).axes[0].lines
    (mean,) = [line for line in lines if line.get_marker() != "None"]
    assert list(mean.get_xdata()) == [0, 20]
    assert list(mean.get_ydata()) == pytest.approx([1.1, 1.5])
    assert len(lines) == 4


def test_one_name_for_two_mixes_is_two_lines(tmp_path: Path) -> None:
    paths = [
        write_history(tmp_path / f"{mix}_{seed}.json", name="random", mix_percentage=mix, seed=seed)
        for mix in (5, 10)
        for seed in range(2)
    ]
    assert legend(draw(*paths)) == ["random (5 %) (n = 2)", "random (10 %) (n = 2)"]


def test_files_of_one_stem_without_a_name_are_not_replicates(tmp_path: Path) -> None:
    paths = [write_history(tmp_path / folder / "history.json") for folder in ("a", "b")]
    histories, _ = read_histories(map(str, paths))
    assert list(group_replicates(histories)) == ["a/history.json", "b/history.json"]


def test_files_sort_as_people_count_and_drop_what_all_names_begin_with(tmp_path: Path) -> None:
    for value in ("0.1", "0.05", "10", "0", "2"):
        write_history(tmp_path / f"forgetting_math_alpha_{value}.json")
    histories, _ = read_histories([str(tmp_path / "*.json")])
    assert list(group_replicates(histories)) == ["0", "0.05", "0.1", "2", "10"]


def test_names_of_the_files_own_stay_whole(tmp_path: Path) -> None:
    for name in ("run_1", "run_2"):
        write_history(tmp_path / f"{name}.json", name=name)
    histories, _ = read_histories([str(tmp_path / "*.json")])
    assert list(group_replicates(histories)) == ["run_1", "run_2"]


def test_exported_seeds_are_told_apart_by_their_files_and_no_replay_is_called_so(tmp_path: Path) -> None:
    for seed in range(3):
        write_history(
            tmp_path / f"h_none_seed{seed}.json", name="none 0%", selection_method="none", seed=seed
        )
    histories, _ = read_histories([str(tmp_path / "*.json")])
    groups = group_replicates(histories)
    assert list(groups) == ["no replay"]
    table = ends_table(groups)
    files = [row[1].text for row in table.rows if row[2].text == "math"]
    assert files == [f"h_none_seed{seed}.json" for seed in range(3)]
    assert {row[-1].text for row in table.rows} == {"no replay"}
    assert history_words(groups).lines == [
        "no replay: math +0.200, +0.200, +0.200; hotpot \u22120.200, \u22120.200, \u22120.200."
    ]


def test_nan_is_a_gap_and_not_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        '{"steps": [0, 1, 2], "math_loss": [1.0, NaN, null], "hotpot_loss": [1.0, Infinity, 2.0]}'
    )
    losses = read_history(path).losses
    assert losses.isna().sum().to_dict() == {"math_loss": 2, "hotpot_loss": 1}
    assert plot(path, "-o", tmp_path / "a.png").exit_code == 0


def test_the_last_of_equal_steps_counts(tmp_path: Path) -> None:
    path = write_history(tmp_path / "a.json", steps=[0, 20, 20])
    assert read_history(path).losses["math_loss"].tolist() == [1.0, 1.2]


def test_equal_histories_give_equal_files(tmp_path: Path) -> None:
    path = write_history(tmp_path / "a.json")
    for suffix in ("png", "svg", "pdf"):
        outputs = [tmp_path / f"{name}.{suffix}" for name in ("first", "second")]
        for output in outputs:
            plot(path, "-o", output)
        assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_a_name_that_begins_with_an_underscore_is_in_the_legend(tmp_path: Path) -> None:
    assert legend(draw(write_history(tmp_path / "a.json", name="_hidden"))) == ["_hidden"]


def report(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", "--histories", *map(str, arguments)], catch_exceptions=False)


@pytest.mark.slow
def test_the_earlier_studys_report_names_what_its_files_cannot_support(
    real_histories: Path, tmp_path: Path
) -> None:
    result = report(real_histories / "*.json", "-o", tmp_path)
    assert result.exit_code == 0
    assert "8 histories" in result.stdout
    assert "skipped" in result.stderr
    assert "empty_history.json: it is empty" in result.stderr
    for page in ("report.md", "report.html"):
        text = (tmp_path / page).read_text(encoding="utf-8")
        for missing in MISSING:
            assert f"{missing}: " in text
        assert "descriptions, not verdicts" in text
    frame = pd.read_parquet(tmp_path / "histories.parquet")
    assert set(frame["task"]) == {"code", "math", "gsm8k", "hotpot"}
    pd.testing.assert_series_equal(frame["change"], frame["last"] - frame["first"], check_names=False)


def test_the_report_of_histories_holds_every_point(tmp_path: Path) -> None:
    write_history(tmp_path / "a.json", math_loss=[1.0, None, 1.2], mix_percentage=10, selection_method="<b>")
    write_history(tmp_path / "b.json")
    assert report(tmp_path / "*.json", "-o", tmp_path / "out").exit_code == 0
    points = pd.read_csv(tmp_path / "out" / "evaluations.csv")
    assert len(points) == 2 * 2 * 3
    ends = pd.read_csv(tmp_path / "out" / "histories.csv").set_index(["history", "task"])
    assert ends.loc[("a", "math"), ["evaluations", "mix", "change"]].tolist() == pytest.approx([2, 10, 0.2])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert (tmp_path / "out" / "figures" / "changes.pdf").is_file()


def test_a_report_of_no_usable_history_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    result = report(tmp_path / "bad.json", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()
