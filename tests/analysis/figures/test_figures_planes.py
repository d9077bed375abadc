"""The heat map and the trade-off plane: what is drawn, hatched, crossed, and what the captions say."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Ellipse

from analysis.figures.facet import Facet
from analysis.figures.heat_map import BETTER, WORSE, draw_change_against_baseline
from analysis.figures.layout import free_corner
from analysis.figures.overlap import draw_overlaps
from analysis.figures.style import publication_style, strategy_styles
from analysis.figures.trade_off import draw_trade_off, mean_region
from analysis.findings.verdicts import UNRESOLVED
from analysis.stats.measures import MEASURES
from analysis.wording.terms import signed_text
from tests.analysis.figures.test_registry import only_view, texts
from tests.analysis.studies import STARTS, STRATEGIES
from trainables.ledger import schema

Builder = Callable[..., Path]


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with publication_style():
        yield


def family(facet: Facet) -> pd.DataFrame:
    rows = facet.findings.contrasts
    return rows[rows["in_family"]]


def pair_values(facet: Facet, strategy: str) -> list[float]:
    return facet.pairs.loc[facet.pairs["strategy"] == strategy, "forgetting_difference"].tolist()


def test_the_heat_map_shows_mean_half_width_n_and_verdict(study: Builder) -> None:
    facet = only_view(study(mixes=(0.1, 0.2)))
    figure = draw_change_against_baseline(facet).figure
    assert figure is not None
    shown = texts(figure)
    for record in family(facet).to_dict("records"):
        mean, half_width = signed_text(record["difference"], digits=4), record["high"] - record["difference"]
        assert f"{mean} ± {half_width:.4f}\nn = 3\n{record['verdict']}" in shown


def test_the_heat_map_crosses_what_has_no_pair_and_hatches_what_is_unresolved(study: Builder) -> None:
    states = {("difficulty_hard", 0.1, seed): schema.FAILED for seed in range(3)}
    states |= {("difficulty_easy", 0.2, 0): schema.DIVERGED}
    facet = only_view(study(mixes=(0.1, 0.2), states=states))
    drawing = draw_change_against_baseline(facet)
    assert drawing.figure is not None
    assert "unresolved, or too few pairs" in texts(drawing.figure)
    assert "no pair: diverged or failed" in texts(drawing.figure)
    hatched = [patch for patch in drawing.figure.axes[0].patches if patch.get_hatch()]
    rows = family(facet)
    assert len(hatched) == ((rows["n"] > 0) & (rows["verdict"] == UNRESOLVED)).sum() >= 1
    assert len(drawing.figure.axes[0].lines) == 2
    assert "no pair\n3 failed" in texts(drawing.figure)
    assert "n = 2 of 3\n1 diverged" in texts(drawing.figure)
    assert "Crossed: no finished pair, as runs diverged or failed" in drawing.caption


def test_of_two_pairs_the_heat_map_writes_both_and_colours_neither(study: Builder) -> None:
    facet = only_view(study(seeds=(0, 1), strategies=("random", "difficulty_hard", "difficulty_easy")))
    figure = draw_change_against_baseline(facet).figure
    assert figure is not None
    both = [signed_text(value, digits=4) for value in pair_values(facet, "difficulty_hard")]
    assert "\n".join([*both, "n = 2"]) in texts(figure)
    assert np.all(np.ma.filled(figure.axes[0].collections[0].get_array(), 1.0) == 0)


def test_of_a_single_contrast_there_is_no_heat_map_and_of_a_single_pair_no_overlap(study: Builder) -> None:
    facet = only_view(study(strategies=("random", "difficulty_hard"), seeds=range(4)))
    drawing = draw_change_against_baseline(facet)
    assert (drawing.figure, drawing.caption.split(":")[0]) == (None, "Not drawn")
    shared = draw_overlaps(facet)
    assert shared.figure is None
    assert "% of what they replay" in shared.caption


@pytest.mark.parametrize("effect", [None, 0.5])
def test_the_heat_map_is_centred_at_zero_and_reaches_what_matters(
    study: Builder, effect: float | None
) -> None:
    described = {"config": {"inference": {"smallest_effect": effect} if effect else {}}}
    facet = only_view(study(strategies=STRATEGIES, description=described))
    figure = draw_change_against_baseline(facet).figure
    assert figure is not None
    low, high = figure.axes[0].collections[0].get_clim()
    assert low == -high
    assert high == (effect or family(facet)["difference"].abs().max())


def test_the_heat_map_says_which_row_is_a_control_and_explains_only_what_is_there(study: Builder) -> None:
    described = {"config": {"inference": {"smallest_effect": 0.5}}}
    drawing = draw_change_against_baseline(
        only_view(study(strategies=("random", "difficulty_hard", "random_aa"), description=described))
    )
    assert drawing.figure is not None
    assert "n = 3\ncontrol: equivalent" in texts(drawing.figure)
    assert not drawing.figure.legends
    assert "atched" not in drawing.caption


def test_without_the_baseline_the_heat_map_says_so(study: Builder) -> None:
    drawing = draw_change_against_baseline(only_view(study(strategies=("difficulty_hard",))))
    assert drawing.figure is None
    assert "no strategy 'random'" in drawing.caption


def test_unpaired_runs_are_counted_in_the_heat_map(study: Builder) -> None:
    drawing = draw_change_against_baseline(only_view(study(slots={("difficulty_hard", 0.1, 0): "other"})))
    assert drawing.figure is not None
    assert "1 unpaired" in texts(drawing.figure)
    assert "Left out: 1 pair " in drawing.caption


@pytest.mark.parametrize(("seeds", "ellipses"), [(2, 0), (3, 0), (4, 3)])
def test_the_trade_off_has_ellipses_from_four_seeds_on(study: Builder, seeds: int, ellipses: int) -> None:
    drawing = draw_trade_off(only_view(study(seeds=range(seeds), control=False)))
    assert drawing.figure is not None
    outlines = drawing.figure.findobj(Ellipse)
    assert len(outlines) == ellipses
    assert not any(outline.get_fill() for outline in outlines)
    assert ("Hotelling" in drawing.caption) == (seeds == 4)


def test_the_ellipse_holds_the_true_mean_at_its_level() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([[1.0, 0.0], [0.8, 0.3]])
    hits = 0
    for _ in range(2000):
        region = mean_region(rng.normal(size=(5, 2)) @ spread.T)
        turn = np.radians(region.angle)
        along = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ -region.centre
        hits += bool(np.sum((2 * along / region.axes) ** 2) <= 1)
    assert 0.935 <= hits / 2000 <= 0.965


def test_runs_without_replay_do_not_squeeze_the_trade_off(study: Builder) -> None:
    facet = only_view(study(mixes=(0.2,), effects={}))
    figure = draw_trade_off(facet).figure
    assert figure is not None
    control = facet.done.loc[facet.done["strategy"] == "none", "final_task_a_loss"].min()
    assert figure.axes[0].get_xlim()[1] < control
    assert [text.get_text() for text in figure.axes[0].texts] == ["", "no replay", "", "before Phase B"]


def test_the_trade_off_keeps_its_data_readable_when_the_start_is_far_off(study: Builder) -> None:
    figure = draw_trade_off(only_view(study())).figure
    assert figure is not None
    assert figure.axes[0].get_ylim()[1] < STARTS[1]
    assert "before Phase B (star, or an arrow towards it): 1.014, 1.909" in texts(figure)


def test_names_in_the_trade_off_stand_where_no_run_is(study: Builder) -> None:
    facet = only_view(study(mixes=(0.05, 0.1, 0.2), seeds=range(6), strategies=STRATEGIES))
    figure = draw_trade_off(facet).figure
    assert figure is not None
    figure.canvas.draw()
    for ax, mix in zip(figure.axes, facet.mixes, strict=True):
        runs = facet.done[facet.done["mix"] == mix]
        places = ax.transData.transform(runs[["final_task_a_loss", "final_task_b_loss"]])
        names = [text.get_window_extent() for text in ax.texts if text.get_text()]
        assert names
        assert not any(name.count_contains(places) for name in names)


def test_panels_of_the_trade_off_have_one_scale_and_no_control(study: Builder) -> None:
    described = {"config": {"inference": {"smallest_effect": 0.05}}}
    facet = only_view(study(mixes=(0.1, 0.2), strategies=("random", "random_aa"), description=described))
    drawing = draw_trade_off(facet)
    assert drawing.figure is not None
    spans = [ax.get_xlim()[1] - ax.get_xlim()[0] for ax in drawing.figure.axes]
    assert spans == pytest.approx([0.1, 0.1])
    assert "random_aa" not in set(drawing.data["outcomes"]["strategy"])
    assert "random_aa, which is random again, is left out" in drawing.caption


@pytest.mark.parametrize(("taken", "corner"), [([], (1, 1)), ([(1, 1)], (1, 0))])
def test_of_the_free_corners_the_one_towards_the_target_is_taken(
    taken: list[tuple[int, int]], corner: tuple[int, int]
) -> None:
    places = np.array([[0.1, 0.95], [0.5, 0.5]])
    assert free_corner(places, direction=np.array([0.9, 0.1]), taken=taken) == corner


@pytest.mark.parametrize("measure", ["forgetting", "task_b_gain"])
def test_orange_is_worse_than_the_baseline_whichever_way_the_measure_points(
    study: Builder, measure: str
) -> None:
    described = {"config": {"inference": {"primary": measure}}}
    drawing = draw_change_against_baseline(only_view(study(strategies=STRATEGIES, description=described)))
    assert drawing.figure is not None
    low, high = (to_hex(drawing.figure.axes[0].collections[0].get_cmap()(end)) for end in (0.0, 1.0))
    worse = MEASURES[measure].higher_is_worse
    assert (low, high) == ((BETTER, WORSE) if worse else (WORSE, BETTER))
    assert ("above 0 (orange)" in drawing.caption) == worse


def test_no_replay_and_the_baseline_differ_in_shape_dash_and_lightness() -> None:
    styles = strategy_styles(["random", schema.NO_REPLAY, *STRATEGIES])
    baseline, none = styles["random"], styles[schema.NO_REPLAY]
    assert baseline.marker != none.marker
    assert baseline.dash != none.dash
    assert float(none.colour) - float(baseline.colour) > 0.4
    assert [style.marker for style in styles.values()].count(none.marker) == 1
