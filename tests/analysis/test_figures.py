"""The figures of a study: what is drawn, what is left out, and what the captions say."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.curves import draw_forgetting_curves
from analysis.figures import FIGURES
from analysis.findings import find
from analysis.heat_map import draw_change_against_baseline
from analysis.style import (
    publication_style,
)
from analysis.tidy import read_study
from analysis.trade_off import draw_trade_off
from analysis.view import View, views
from tests.analysis.studies import STARTS, STRATEGIES
from trainables import columns

Builder = Callable[..., Path]


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with publication_style():
        yield


def only_view(directory: Path) -> View:
    (view,) = views(find(read_study(directory)))
    return view


def bands(figure: Figure) -> int:
    return sum(isinstance(part, FillBetweenPolyCollection) for ax in figure.axes for part in ax.collections)


def means(ax: Axes) -> list[str]:
    """Return the colours of the thick lines with markers: one a mean."""
    return [to_hex(line.get_color()) for line in ax.lines if line.get_marker() not in ("None", "", "x")]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def thin_lines(ax: Axes) -> int:
    return sum(line.get_linewidth() == 0.5 for line in ax.lines)


@pytest.mark.parametrize(("seeds", "expected"), [(1, 0), (2, 0), (3, 2 * 4)])
def test_a_band_is_drawn_from_three_seeds_on(study: Builder, seeds: int, expected: int) -> None:
    drawing = draw_forgetting_curves(only_view(study(seeds=range(seeds))))
    assert drawing.figure is not None
    assert bands(drawing.figure) == expected
    assert ("band" in texts(drawing.figure)) == (seeds == 3)
    assert ("95 % pointwise t band" in drawing.caption) == (seeds == 3)


@pytest.mark.parametrize(("seeds", "thin"), [(2, 0), (3, 3 * 4), (4, 0)])
def test_thin_lines_are_the_seeds_of_a_mean_where_they_can_be_told_apart(
    study: Builder, seeds: int, thin: int
) -> None:
    drawing = draw_forgetting_curves(only_view(study(seeds=range(seeds))))
    assert drawing.figure is not None
    assert thin_lines(drawing.figure.axes[0]) == thin
    assert len(means(drawing.figure.axes[0])) == 4 * (2 if seeds == 2 else 1)
    assert ("Thin: single seeds." in drawing.caption) == (thin > 0)
    assert ("Single seeds are left out of panels with more than 12" in drawing.caption) == (seeds == 4)
    assert ("Of fewer than 3 finished seeds each is a line with markers" in drawing.caption) == (seeds == 2)


@pytest.mark.parametrize(("strategies", "filled"), [((), True), (STRATEGIES[:3], False)])
def test_simultaneous_bands_lie_within_the_panel_and_many_are_edges(
    study: Builder, strategies: tuple[str, ...], filled: bool
) -> None:
    (view,) = views(find(read_study(study(strategies=strategies))), simultaneous=True)
    drawing = draw_forgetting_curves(view)
    assert drawing.figure is not None
    for ax in drawing.figure.axes:
        low, high = ax.get_ylim()
        heights = np.concatenate([part.get_paths()[0].vertices[:, 1] for part in ax.collections])
        assert low < heights.min() < heights.max() < high
        assert all((part.get_facecolor()[:, 3] > 0).any() == filled for part in ax.collections)
    assert f"{'shaded' if filled else 'edged'}: its 95 % Bonferroni-t" in drawing.caption


def test_the_band_is_the_t_interval_of_the_done_seeds(study: Builder) -> None:
    view = only_view(study(strategies=("random",), control=False))
    figure = draw_forgetting_curves(view).figure
    assert figure is not None
    (band,) = figure.axes[0].collections
    ends = view.done["final_task_a_loss"].to_numpy()
    corners = band.get_paths()[0].vertices
    heights = np.unique(corners[corners[:, 0] == corners[:, 0].max()][:, 1])
    assert np.isclose(heights.max() - heights.min(), 2 * 4.302652730 * ends.std(ddof=1) / np.sqrt(3))


def test_every_mix_has_a_column_and_the_control_is_grey_in_each(study: Builder) -> None:
    view = only_view(study(mixes=(0.05, 0.1, 0.2)))
    figure = draw_forgetting_curves(view).figure
    assert figure is not None
    assert len(figure.axes) == 6
    grey = to_hex(view.styles["none"].colour)
    assert all(grey in means(ax) for ax in figure.axes)
    assert all(len(means(ax)) == 4 for ax in figure.axes)


def test_the_loss_before_phase_b_is_a_line_in_every_panel(study: Builder) -> None:
    figure = draw_forgetting_curves(only_view(study(mixes=(0.1, 0.2)))).figure
    assert figure is not None
    levels = [[line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"] for ax in figure.axes]
    assert levels == [[STARTS[0]], [STARTS[0]], [STARTS[1]], [STARTS[1]]]


def test_unfinished_runs_are_drawn_thin_and_kept_out_of_means(study: Builder) -> None:
    states = {("difficulty_hard", 0.1, seed): columns.PARTIAL for seed in range(3)}
    view = only_view(study(states=states))
    drawing = draw_forgetting_curves(view)
    assert drawing.figure is not None
    colour = to_hex(view.styles["difficulty_hard"].colour)
    ax = drawing.figure.axes[0]
    assert colour not in means(ax)
    assert sum(to_hex(line.get_color()) == colour for line in ax.lines) == 3
    assert "9 of 12 planned cells are done" in drawing.caption
    assert "3 partial" in drawing.caption


def test_a_diverged_run_is_crossed_and_does_not_stretch_the_panel(study: Builder) -> None:
    states = {("difficulty_hard", 0.1, 0): columns.DIVERGED, ("difficulty_easy", 0.1, 0): columns.FAILED}
    drawing = draw_forgetting_curves(only_view(study(states=states)))
    assert drawing.figure is not None
    ax = drawing.figure.axes[0]
    assert ax.get_ylim()[1] < 1.2
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert len(crosses) == 2
    assert all(ax.get_ylim()[0] <= line.get_ydata()[0] <= ax.get_ylim()[1] for line in crosses)
    assert "1 diverged, 1 failed" in drawing.caption


def test_only_evaluations_and_no_finished_run_still_give_curves(study: Builder) -> None:
    states = {(s, m, seed): columns.PARTIAL for s, m in [("random", 0.1), ("none", 0.0)] for seed in range(3)}
    view = only_view(study(strategies=("random",), states=states))
    drawing = draw_forgetting_curves(view)
    assert drawing.figure is not None
    assert bands(drawing.figure) == 0
    assert "Mean" not in drawing.caption
    assert draw_trade_off(view).figure is None


def test_a_study_of_the_control_alone_has_one_panel(study: Builder) -> None:
    view = only_view(study(strategies=()))
    drawing = draw_forgetting_curves(view)
    assert drawing.figure is not None
    assert [ax.get_title() for ax in drawing.figure.axes] == ["no replay", ""]
    assert draw_change_against_baseline(view).figure is None


def test_captions_name_what_varied_between_seeds(study: Builder) -> None:
    fixed = draw_forgetting_curves(only_view(study())).caption
    assert "over 3 seeds (order, dropout, selection by random)" in fixed
    assert "conditional on one Phase A adapter, data pool and model" in fixed
    no_dropout = {"config": {"model": {"lora": {"dropout": 0}}}}
    varied = draw_forgetting_curves(
        only_view(study(adapters=True, strategies=("random",), description=no_dropout))
    ).caption
    assert "over 3 seeds (selection, order, Phase A adapter)" in varied
    assert "conditional on data pool and model" in varied


@pytest.mark.parametrize("name", FIGURES)
def test_each_axis_value_has_a_figure_of_its_own_rows(study: Builder, name: str) -> None:
    options = {"strategies": (*STRATEGIES[:3], "random_aa"), "per_example": True}
    found = list(views(find(read_study(study(axes={"lr": [2e-5, 7e-5]}, **options)))))
    assert [view.title for view in found] == ["lr = 2e-05", "lr = 7e-05"]
    assert all(len(view.cells) == 15 and view.rows["lr"].nunique() == 1 for view in found)
    drawn = [FIGURES[name].draw(view) for view in found]
    assert all(view.title in texts(drawing.figure) for view, drawing in zip(found, drawn, strict=True))


def test_names_are_shown_as_text_not_as_formulas(study: Builder) -> None:
    strategies = ("random", "_", r"$\broken{$", r"\input{x}", "<script>")
    view = only_view(study(strategies=strategies))
    for name in ("forest", "forgetting_curves", "change_against_random", "tradeoff"):
        figure = FIGURES[name].draw(view).figure
        assert figure is not None
        figure.canvas.draw()
        assert all(strategy in texts(figure) for strategy in strategies[1:])


@pytest.mark.parametrize(("mode", "words"), [("add", "added to them"), ("substitute", "in place of them")])
def test_captions_say_what_the_mix_means_also_where_it_is_searched(
    study: Builder, mode: str, words: str
) -> None:
    assert words in draw_trade_off(only_view(study(description={"mix_mode": mode}))).caption
    (view,) = views(find(read_study(study(axes={"mix_mode": [mode]}, description={"mix_mode": "add"}))))
    assert words in draw_trade_off(view).caption
