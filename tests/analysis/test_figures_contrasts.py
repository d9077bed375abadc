"""The figures of pairs and contrasts: forest, differences, slopes, A/A overlay, doses, levels, selections."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.difference_curves import curve_differences, draw_difference_curves
from analysis.dose_plot import draw_doses
from analysis.figures import FIGURES
from analysis.findings import find
from analysis.forest import draw_forest, plot_forest
from analysis.heat_map import draw_change_against_baseline
from analysis.level_plot import draw_levels, plot_levels
from analysis.measures import MEASURES
from analysis.null_overlay import draw_null_overlay, null_half_width
from analysis.overlap_plot import draw_overlaps
from analysis.selection_plot import draw_selections, level_shares
from analysis.settings import Inference
from analysis.slopes import draw_slopes
from analysis.style import publication_style
from analysis.tidy import read_study
from analysis.view import Drawing, View, views
from tests.analysis.studies import STRATEGIES
from tests.analysis.test_figures import bands, only_view, texts
from trainables import columns

Builder = Callable[..., Path]
SIX = {"strategies": (*STRATEGIES[:3], "random_aa"), "mixes": (0.1, 0.2), "seeds": range(6)}


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with publication_style():
        yield


def declared(directory: Path, *, smallest_effect: float) -> View:
    (view,) = views(find(read_study(directory), settings=Inference(smallest_effect=smallest_effect)))
    return view


def drawn(view: View, name: str) -> Figure:
    figure = FIGURES[name].draw(view).figure
    assert figure is not None
    return figure


def test_the_forest_has_a_row_for_every_primary_contrast_and_no_other(study: Builder) -> None:
    view = only_view(study(**SIX))
    figure = drawn(view, "forest")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["difficulty_easy", "difficulty_hard"] * 2
    assert {"mix 10 %", "mix 20 %"} <= {text.get_text() for text in figure.axes[0].texts}


def test_the_forest_draws_both_intervals_and_every_pair(study: Builder) -> None:
    view = only_view(study(**SIX))
    family = view.findings.contrasts[view.findings.contrasts["in_family"]]
    ax = drawn(view, "forest").axes[0]
    ends = {tuple(np.round(line.get_xdata(), 9)) for line in ax.lines}
    for row in family.to_dict("records"):
        assert tuple(np.round((row["low"], row["high"]), 9)) in ends
        assert tuple(np.round((row["low_adjusted"], row["high_adjusted"]), 9)) in ends
    points = sum(len(part.get_offsets()) for part in ax.collections)
    assert points == family["n"].sum() == 24


@pytest.mark.parametrize(("effect", "said"), [(0.05, "equivalent"), (1e-9, "different")])
def test_the_forest_says_each_verdict_and_draws_the_zone(study: Builder, effect: float, said: str) -> None:
    view = declared(study(**SIX, effects={"difficulty_hard": 0.01}, noise=0.5), smallest_effect=effect)
    drawing = draw_forest(view)
    assert drawing.figure is not None
    assert said in {text.get_text() for text in drawing.figure.axes[0].texts}
    (zone,) = drawing.figure.axes[0].patches
    assert (zone.get_x(), zone.get_width()) == pytest.approx((-effect, 2 * effect))
    assert f"within ± {effect:g}" in drawing.caption
    assert "Holm" in drawing.caption


def test_the_forest_of_two_seeds_is_points_and_promises_no_interval(study: Builder) -> None:
    drawing = draw_forest(only_view(study(seeds=(0, 1))))
    assert drawing.figure is not None
    assert {len(line.get_xdata()) for line in drawing.figure.axes[0].lines} == {2}  # the line at 0 alone
    assert len(drawing.figure.axes[0].lines) == 1
    assert "too few" in texts(drawing.figure)
    assert "No interval: 2 seeds" in drawing.caption
    assert "95 %" not in drawing.caption + texts(drawing.figure)


def test_a_forest_can_be_drawn_from_a_frame_alone(study: Builder) -> None:
    contrasts = only_view(study()).findings.contrasts
    ax = Figure().subplots()
    assert plot_forest(contrasts[contrasts["in_family"]], ax) is ax
    assert len(ax.get_yticks()) == 2


def test_difference_curves_end_at_the_pairs_differences(study: Builder) -> None:
    view = only_view(study(**SIX, shuffle=3))
    frame = curve_differences(view.rows, view.pairs, metric=columns.TASK_A_LOSS)
    last = frame.sort_values(columns.STEP).groupby(list(columns.LABEL_COLUMNS))["difference"].last()
    pairs = view.pairs[view.pairs[columns.STRATEGY] != columns.NO_REPLAY].set_index(
        list(columns.LABEL_COLUMNS)
    )
    expected = pairs["final_task_a_loss_difference"].sort_index()
    pd.testing.assert_series_equal(last.sort_index(), expected, check_names=False)


def test_difference_curves_leave_out_unmatched_pairs_and_say_so(study: Builder) -> None:
    drawing = draw_difference_curves(only_view(study(slots={("difficulty_hard", 0.1, 0): "other"})))
    frame = drawing.data["differences"]
    assert set(frame.loc[frame[columns.STRATEGY] == "difficulty_hard", columns.SEED]) == {1, 2}
    assert "Left out: 1 pair " in drawing.caption
    assert drawing.figure is not None
    assert bands(drawing.figure) == 1


def test_difference_curves_of_two_pairs_are_strong_and_a_panel_without_a_pair_says_so(study: Builder) -> None:
    states = {("difficulty_hard", 0.1, seed): columns.FAILED for seed in (0, 1)}
    view = only_view(study(**{**SIX, "seeds": (0, 1)}, states=states))
    drawing = draw_difference_curves(view)
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
        (view,) = views(findings, simultaneous=simultaneous)
        drawing = draw_difference_curves(view)
        assert drawing.figure is not None
        (band,) = drawing.figure.axes[0].collections
        heights.append(np.ptp(band.get_paths()[0].vertices[:, 1]))
        captions.append(drawing.caption)
    assert heights[1] > heights[0]
    assert "95 % pointwise t band" in captions[0]
    assert "95 % Bonferroni-t simultaneous band" in captions[1]


def test_slopes_join_each_seed_to_its_baseline(study: Builder) -> None:
    view = only_view(study(strategies=("random", "difficulty_hard")))
    ax = drawn(view, "seed_slopes").axes[0]
    joined = {tuple(line.get_ydata()) for line in ax.lines if len(line.get_ydata()) == 2}
    pairs = view.pairs[view.pairs[columns.STRATEGY] == "difficulty_hard"]
    assert set(zip(pairs["forgetting_baseline"], pairs["forgetting"], strict=True)) < joined
    assert draw_slopes(only_view(study(strategies=("random",)))).figure is None


def test_the_null_spread_holds_means_of_null_differences_at_its_level() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(4000, 6))
    inside = [
        abs(new.mean()) < null_half_width(null, level=0.95)
        for null, new in zip(pairs[::2], pairs[1::2], strict=True)
    ]
    assert 0.935 <= np.mean(inside) <= 0.965


def test_the_null_overlay_has_the_spread_from_three_pairs_on_and_says_why_not(study: Builder) -> None:
    for seeds, expected in ((2, 0), (6, 2)):
        drawing = draw_null_overlay(only_view(study(**{**SIX, "seeds": range(seeds)})))
        assert drawing.figure is not None
        assert sum(len(ax.patches) for ax in drawing.figure.axes) == expected
        assert ("Grey: where 95 %" in drawing.caption) == (expected > 0)
    assert "no strategy 'random_aa'" in draw_null_overlay(only_view(study())).caption


def test_doses_show_measured_points_and_a_law_from_four_mixes_on(study: Builder) -> None:
    for mixes, fitted in (((0.1,), False), ((0.05, 0.1, 0.2), True)):
        view = only_view(study(mixes=mixes, strategies=("random", "difficulty_hard"), effects={}))
        drawing = draw_doses(view)
        assert drawing.figure is not None
        assert (not drawing.data["dose_fits"].empty) == fitted == ("fitted law" in drawing.caption)
        points = sum(len(part.get_offsets()) for part in drawing.figure.axes[0].collections)
        assert points >= 2 * 3 * (len(mixes) + 1)


def test_single_runs_stand_beside_their_mean_and_hide_behind_nothing(study: Builder) -> None:
    view = only_view(study(mixes=(0.1, 0.2), seeds=range(4)))
    figure = draw_doses(view).figure
    assert figure is not None
    for ax in (ax for ax in figure.axes if ax.get_visible()):
        means = {float(x) for line in ax.lines if line.get_marker() != "None" for x in line.get_xdata()}
        runs = {float(x) for points in ax.collections for x in np.asarray(points.get_offsets())[:, 0]}
        span = 100 * (0.2 - 0.0)
        assert min(abs(run - mean) for run in runs for mean in means) > 0.015 * span


def test_levels_are_rows_and_strategies_lanes(study: Builder) -> None:
    view = only_view(study(**{**SIX, "per_example": True}))
    drawing = draw_levels(view)
    assert drawing.figure is not None
    rows = [[label.get_text() for label in ax.get_yticklabels()] for ax in drawing.figure.axes[::2]]
    members = drawing.data["levels"].query("group == 'level'").groupby("value")["examples"].first()
    assert rows[0] == [f"Level {level} ({members[f'Level {level}']})" for level in range(1, 6)]
    colours = {to_hex(line.get_color()) for line in drawing.figure.axes[0].lines}
    assert {to_hex(style.colour) for style in view.styles.values()} < colours
    assert "exploratory" in drawing.caption
    one = drawing.data["levels"].query("group == 'level' and mix == 0.1")
    assert plot_levels(one, Figure().subplots()).get_ylim() == (4.5, -0.5)


def test_selections_and_their_overlap_are_shares(study: Builder) -> None:
    view = only_view(study(**SIX))
    frame = view.findings.selections
    shares = level_shares(frame[frame[columns.MIX] == 0.1], group="level")
    assert np.allclose(shares.sum(axis=1), 1)
    assert shares.loc["difficulty_hard"].idxmax() == "Level 5"
    for drawing in (draw_selections(view), draw_overlaps(view)):
        assert drawing.figure is not None
        assert "n = 6 seeds" in drawing.caption
    matrices = [ax for ax in draw_overlaps(view).figure.axes if ax.images]  # type: ignore[union-attr]
    assert all(np.isfinite(ax.images[0].get_array()).sum() == 6 for ax in matrices)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("seeds", [1, 2, 3, 6])
def test_every_figure_says_n_and_what_it_is_conditional_on(study: Builder, name: str, seeds: int) -> None:
    options = {**SIX, "mixes": (0.05, 0.1, 0.2), "seeds": range(seeds), "per_example": True}
    drawing = FIGURES[name].draw(only_view(study(**options)))
    assert drawing.figure is not None
    assert "conditional on one Phase A adapter, data pool and model" in drawing.caption
    assert ("One seed" in drawing.caption) or (f"{seeds} seed" in drawing.caption)
    assert drawing.data
    if seeds < 3:
        assert "95 %" not in drawing.caption


@pytest.mark.parametrize("name", FIGURES)
def test_a_study_where_all_diverged_has_captions_that_say_why(study: Builder, name: str) -> None:
    states = {(s, m, seed): columns.DIVERGED for s in STRATEGIES[:3] for m in (0.1,) for seed in range(3)}
    states |= {("none", 0.0, seed): columns.DIVERGED for seed in range(3)}
    drawing = FIGURES[name].draw(only_view(study(states=states)))
    assert (drawing.figure is not None) == (name == "forgetting_curves")
    assert "diverged" in drawing.caption if drawing.figure else "Not drawn" in drawing.caption


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_of_a_figure_is_smaller_than_six_points(study: Builder, name: str) -> None:
    from matplotlib.text import Text

    figure = drawn(only_view(study(**SIX, per_example=True)), name)
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("draw", [draw_forest, draw_change_against_baseline, draw_null_overlay])
def test_captions_say_which_way_the_declared_measure_points(
    study: Builder, measure: str, draw: Callable[[View], Drawing]
) -> None:
    declared = {"config": {"inference": {"primary": measure}}}
    caption = draw(only_view(study(**SIX, description=declared))).caption
    judgement = "worse" if MEASURES[measure].higher_is_worse else "better"
    assert f"{MEASURES[measure].label} is higher than with random ({judgement})" in caption
    assert "forgotten" not in caption


def test_a_forest_with_looks_shows_the_pairs_of_its_look(study: Builder) -> None:
    declared = {"config": {"search": {"looks": [4, 12]}}}
    drawing = draw_forest(only_view(study(**SIX, description=declared)))
    assert set(drawing.data["pairs"]["seed"]) == set(range(4))
