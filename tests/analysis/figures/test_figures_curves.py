"""Forgetting and difference curves: lines, bands, limits and empty panels, and what the captions say of
them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from analysis.figures.curves import draw_forgetting_curves
from analysis.figures.difference_curves import curve_differences, draw_difference_curves
from analysis.figures.facet import Choice, facets
from analysis.figures.style import publication_style
from analysis.findings.findings import find
from analysis.reading.study import read_study
from tests.analysis.figures.test_registry import SIX, bands, means, only_view, texts
from tests.analysis.studies import STARTS, STRATEGIES
from trainables.ledger import schema

Builder = Callable[..., Path]


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with publication_style():
        yield


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
    (facet,) = facets(find(read_study(study(strategies=strategies))), choice=Choice(simultaneous=True))
    drawing = draw_forgetting_curves(facet)
    assert drawing.figure is not None
    for ax in drawing.figure.axes:
        low, high = ax.get_ylim()
        heights = np.concatenate([part.get_paths()[0].vertices[:, 1] for part in ax.collections])
        assert low < heights.min() < heights.max() < high
        assert all((part.get_facecolor()[:, 3] > 0).any() == filled for part in ax.collections)
    assert f"{'shaded' if filled else 'edged'}: its 95 % Bonferroni-t" in drawing.caption


def test_the_band_is_the_t_interval_of_the_done_seeds(study: Builder) -> None:
    facet = only_view(study(strategies=("random",), control=False))
    figure = draw_forgetting_curves(facet).figure
    assert figure is not None
    (band,) = figure.axes[0].collections
    ends = facet.done["final_task_a_loss"].to_numpy()
    corners = band.get_paths()[0].vertices
    heights = np.unique(corners[corners[:, 0] == corners[:, 0].max()][:, 1])
    assert np.isclose(heights.max() - heights.min(), 2 * 4.302652730 * ends.std(ddof=1) / np.sqrt(3))


def test_every_mix_has_a_column_and_the_control_is_grey_in_each(study: Builder) -> None:
    facet = only_view(study(mixes=(0.05, 0.1, 0.2)))
    figure = draw_forgetting_curves(facet).figure
    assert figure is not None
    assert len(figure.axes) == 6
    grey = to_hex(facet.styles["none"].colour)
    assert all(grey in means(ax) for ax in figure.axes)
    assert all(len(means(ax)) == 4 for ax in figure.axes)


def test_the_loss_before_phase_b_is_a_line_in_every_panel(study: Builder) -> None:
    figure = draw_forgetting_curves(only_view(study(mixes=(0.1, 0.2)))).figure
    assert figure is not None
    levels = [[line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"] for ax in figure.axes]
    assert levels == [[STARTS[0]], [STARTS[0]], [STARTS[1]], [STARTS[1]]]


def test_unfinished_runs_are_drawn_thin_and_kept_out_of_means(study: Builder) -> None:
    states = {("difficulty_hard", 0.1, seed): schema.PARTIAL for seed in range(3)}
    facet = only_view(study(states=states))
    drawing = draw_forgetting_curves(facet)
    assert drawing.figure is not None
    colour = to_hex(facet.styles["difficulty_hard"].colour)
    ax = drawing.figure.axes[0]
    assert colour not in means(ax)
    assert sum(to_hex(line.get_color()) == colour for line in ax.lines) == 3
    assert "9 of 12 planned cells are done" in drawing.caption
    assert "3 partial" in drawing.caption


def test_a_diverged_run_is_crossed_and_does_not_stretch_the_panel(study: Builder) -> None:
    states = {("difficulty_hard", 0.1, 0): schema.DIVERGED, ("difficulty_easy", 0.1, 0): schema.FAILED}
    drawing = draw_forgetting_curves(only_view(study(states=states)))
    assert drawing.figure is not None
    ax = drawing.figure.axes[0]
    assert ax.get_ylim()[1] < 1.2
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert len(crosses) == 2
    assert all(ax.get_ylim()[0] <= line.get_ydata()[0] <= ax.get_ylim()[1] for line in crosses)
    assert "1 diverged, 1 failed" in drawing.caption


def test_difference_curves_end_at_the_pairs_differences(study: Builder) -> None:
    facet = only_view(study(**SIX, shuffle=3))
    frame = curve_differences(facet.rows, facet.pairs, metric=schema.TASK_A_LOSS, baseline="random")
    last = frame.sort_values(schema.STEP).groupby(list(schema.LABEL_COLUMNS))["difference"].last()
    pairs = facet.pairs[facet.pairs[schema.STRATEGY] != schema.NO_REPLAY].set_index(
        list(schema.LABEL_COLUMNS)
    )
    expected = pairs["final_task_a_loss_difference"].sort_index()
    pd.testing.assert_series_equal(last.sort_index(), expected, check_names=False)


def test_difference_curves_leave_out_unmatched_pairs_and_say_so(study: Builder) -> None:
    drawing = draw_difference_curves(only_view(study(slots={("difficulty_hard", 0.1, 0): "other"})))
    frame = drawing.data["differences"]
    assert set(frame.loc[frame[schema.STRATEGY] == "difficulty_hard", schema.SEED]) == {1, 2}
    assert "Left out: 1 pair " in drawing.caption
    assert drawing.figure is not None
    assert bands(drawing.figure) == 1


def test_difference_curves_of_two_pairs_are_strong_and_a_panel_without_a_pair_says_so(study: Builder) -> None:
    states = {("difficulty_hard", 0.1, seed): schema.FAILED for seed in (0, 1)}
    facet = only_view(study(**{**SIX, "seeds": (0, 1)}, states=states))
    drawing = draw_difference_curves(facet)
    assert drawing.figure is not None
    drawn_lines = [[line for line in ax.lines if line.get_marker() != "None"] for ax in drawing.figure.axes]
    assert [len(lines) for lines in drawn_lines] == [2, 2, 0, 2, 2, 2]
    said = [[text.get_text() for text in ax.texts] for ax in drawing.figure.axes]
    assert said == [[], [], ["no finished pair"], [], [], []]
    assert "Of fewer than 3 pairs each is a line with markers" in drawing.caption


def test_simultaneous_bands_are_wider_and_named(study: Builder) -> None:
    findings = find(read_study(study()))
    heights, captions = [], []
    for simultaneous in (False, True):
        (facet,) = facets(findings, choice=Choice(simultaneous=simultaneous))
        drawing = draw_difference_curves(facet)
        assert drawing.figure is not None
        (band,) = (one for one in drawing.figure.axes[0].collections if isinstance(one, PolyCollection))
        heights.append(np.ptp(band.get_paths()[0].vertices[:, 1]))
        captions.append(drawing.caption)
    assert heights[1] > heights[0]
    assert "95 % pointwise t band" in captions[0]
    assert "95 % Bonferroni-t simultaneous band" in captions[1]


def test_runs_of_unequal_steps_end_together_on_the_axis_of_task_b_examples(study: Builder) -> None:
    batch = {"config": {"phase_b": {"batch_size": 8}}}
    facet = only_view(study(mixes=(0.25, 1.0), description=batch))
    rows, label = facet.by_examples(facet.rows)
    assert label == "hotpotqa examples seen"
    for mix in (0.25, 1.0):
        plain, seen = (frame.loc[frame["mix"] == mix, "step"] for frame in (facet.rows, rows))
        np.testing.assert_allclose(seen, plain * 8 / (1 + mix))
    figure = draw_forgetting_curves(facet).figure
    assert figure is not None
    assert "hotpotqa examples seen" in texts(figure)
    unknown = only_view(study(mixes=(0.25,)))
    assert unknown.by_examples(unknown.rows)[1] == "optimiser step"
