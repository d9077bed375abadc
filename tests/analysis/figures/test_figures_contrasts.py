"""The figures of pairs and contrasts: forest, slopes, A/A overlay, doses, levels, selections."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.figures.by_level import draw_levels, plot_levels
from analysis.figures.dose_response import draw_doses
from analysis.figures.facet import Drawing, Facet, facets
from analysis.figures.forest import draw_forest, plot_forest
from analysis.figures.heat_map import draw_change_against_baseline
from analysis.figures.null_overlay import draw_null_overlay, null_half_width
from analysis.figures.overlap import draw_overlaps
from analysis.figures.registry import FIGURES
from analysis.figures.selection import draw_selections, level_shares
from analysis.figures.style import publication_style
from analysis.findings.findings import find
from analysis.reading.declaration import Inference
from analysis.reading.study import read_study
from analysis.stats.measures import MEASURES
from tests.analysis.figures.test_registry import SIX, only_view, texts
from trainables.ledger import schema

Builder = Callable[..., Path]


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with publication_style():
        yield


def declared(directory: Path, *, smallest_effect: float) -> Facet:
    (facet,) = facets(find(read_study(directory), settings=Inference(smallest_effect=smallest_effect)))
    return facet


def drawn(facet: Facet, name: str) -> Figure:
    figure = FIGURES[name].draw(facet).figure
    assert figure is not None
    return figure


def test_the_forest_has_a_row_for_every_primary_contrast_and_no_other(study: Builder) -> None:
    facet = only_view(study(**SIX))
    figure = drawn(facet, "forest")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["difficulty_easy", "difficulty_hard"] * 2
    assert {"mix 10 %", "mix 20 %"} <= {text.get_text() for text in figure.axes[0].texts}


def test_the_forest_draws_both_intervals_and_every_pair(study: Builder) -> None:
    facet = only_view(study(**SIX))
    family = facet.findings.contrasts[facet.findings.contrasts["in_family"]]
    ax = drawn(facet, "forest").axes[0]
    drawn_lines = [np.asarray(line.get_xdata(), float) for line in ax.lines]
    ends = {
        (np.nanmin(line).round(9), np.nanmax(line).round(9))
        for line in drawn_lines
        if np.isfinite(line).any()
    }
    for row in family.to_dict("records"):
        assert tuple(np.round((row["low"], row["high"]), 9)) in ends
        assert tuple(np.round((row["low_adjusted"], row["high_adjusted"]), 9)) in ends
    points = sum(len(part.get_offsets()) for part in ax.collections)
    assert points == family["n"].sum() == 24


@pytest.mark.parametrize(("effect", "said"), [(0.05, "equivalent"), (1e-9, "different: worse")])
def test_the_forest_says_each_verdict_and_draws_the_zone(study: Builder, effect: float, said: str) -> None:
    facet = declared(study(**SIX, effects={"difficulty_hard": 0.01}, noise=0.5), smallest_effect=effect)
    drawing = draw_forest(facet)
    assert drawing.figure is not None
    assert said in {text.get_text() for text in drawing.figure.axes[0].texts}
    (zone,) = drawing.figure.axes[0].patches
    assert (zone.get_x(), zone.get_width()) == pytest.approx((-effect, 2 * effect))
    assert f"within ± {effect:g}" in drawing.caption
    assert "closed test" in drawing.caption


@pytest.mark.parametrize(("effect", "needs"), [(0.05, False), (1e-3, True)])
def test_the_forest_speaks_of_seeds_in_brackets_only_where_there_are_some(
    study: Builder, effect: float, needs: bool
) -> None:
    drawing = draw_forest(declared(study(**SIX, effects={}), smallest_effect=effect))
    assert drawing.figure is not None
    assert ("verdict (seeds to add)" in texts(drawing.figure)) == needs
    assert ("in brackets" in drawing.caption) == needs


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
        facet = only_view(study(mixes=mixes, strategies=("random", "difficulty_hard"), effects={}))
        drawing = draw_doses(facet)
        assert drawing.figure is not None
        assert (not drawing.data["dose_fits"].empty) == fitted == ("fitted law" in drawing.caption)
        points = sum(len(part.get_offsets()) for part in drawing.figure.axes[0].collections)
        assert points >= 2 * 3 * (len(mixes) + 1)


def test_single_seeds_of_a_dose_stand_beside_their_mean(study: Builder) -> None:
    ax = drawn(only_view(study(**SIX)), "dose_response").axes[0]
    seeds = {
        round(float(place), 6) for part in ax.findobj(PathCollection) for place in part.get_offsets()[:, 0]
    }
    means = {round(float(place), 6) for line in ax.lines for place in line.get_xdata()}
    assert len(seeds) == 2 * 3
    assert not seeds & means


def test_levels_are_rows_and_strategies_runs(study: Builder) -> None:
    facet = only_view(study(**{**SIX, "per_example": True}))
    drawing = draw_levels(facet)
    assert drawing.figure is not None
    rows = [[label.get_text() for label in ax.get_yticklabels()] for ax in drawing.figure.axes[::2]]
    members = drawing.data["levels"].query("group == 'level'").groupby("value")["examples"].first()
    assert rows[0] == [f"Level {level} ({members[f'Level {level}']})" for level in range(1, 6)]
    colours = {to_hex(line.get_color()) for line in drawing.figure.axes[0].lines}
    assert {to_hex(style.colour) for style in facet.styles.values()} < colours
    assert "exploratory" in drawing.caption
    one = drawing.data["levels"].query("group == 'level' and mix == 0.1")
    assert plot_levels(one, Figure().subplots()).get_ylim() == (4.5, -0.5)


def test_selections_and_their_overlap_are_shares(study: Builder) -> None:
    facet = only_view(study(**SIX))
    frame = facet.findings.selections
    shares = level_shares(frame[frame[schema.MIX] == 0.1], group="level")
    assert np.allclose(shares.sum(axis=1), 1)
    assert shares.loc["difficulty_hard"].idxmax() == "Level 5"
    for drawing in (draw_selections(facet), draw_overlaps(facet)):
        assert drawing.figure is not None
        assert "n = 6 seeds" in drawing.caption
    matrices = [ax for ax in draw_overlaps(facet).figure.axes if ax.images]  # type: ignore[union-attr]
    assert all(np.isfinite(ax.images[0].get_array()).sum() == 6 for ax in matrices)


def test_blocks_of_what_was_replayed_are_as_tall_as_their_strategies_are_many(study: Builder) -> None:
    states = {("difficulty_hard", 0.2, seed): schema.MISSING for seed in range(3)}
    states |= {("difficulty_easy", 0.2, seed): schema.MISSING for seed in range(3)}
    figure = drawn(only_view(study(mixes=(0.1, 0.2), states=states)), "selection")
    figure.canvas.draw()
    three, one = (figure.axes[row * 3].get_position().height for row in (0, 1))
    assert three == pytest.approx(3 * one, rel=0.05)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("draw", [draw_forest, draw_change_against_baseline, draw_null_overlay])
def test_captions_say_which_way_the_declared_measure_points(
    study: Builder, measure: str, draw: Callable[[Facet], Drawing]
) -> None:
    declared = {"config": {"inference": {"primary": measure}}}
    caption = draw(only_view(study(**SIX, answers={}, description=declared))).caption
    judgement = "worse" if MEASURES[measure].higher_is_worse else "better"
    assert f"{MEASURES[measure].label} is higher than with random ({judgement})" in caption
    assert "forgotten" not in caption


@pytest.mark.parametrize("measure", MEASURES)
def test_a_caption_about_a_measure_begins_with_its_name(study: Builder, measure: str) -> None:
    declared = {"config": {"inference": {"primary": measure}}}
    caption = draw_doses(only_view(study(**SIX, answers={}, description=declared))).caption
    label = MEASURES[measure].label
    assert caption.startswith(label[0].upper() + label[1:])
    assert ("of math" in caption.split(" against the mix")[0]) == ("task" not in label)


def test_a_forest_with_looks_shows_the_pairs_of_its_look(study: Builder) -> None:
    declared = {"config": {"search": {"looks": [4, 12]}}}
    drawing = draw_forest(only_view(study(**SIX, description=declared)))
    assert set(drawing.data["pairs"]["seed"]) == set(range(4))


@pytest.mark.parametrize(("effect", "word"), [(0.05, "worse"), (-0.05, "better")])
def test_the_forest_says_in_which_direction_a_contrast_differs(
    study: Builder, effect: float, word: str
) -> None:
    drawing = draw_forest(only_view(study(**{**SIX, "effects": {"difficulty_hard": effect}})))
    assert drawing.figure is not None
    assert f"different: {word}" in texts(drawing.figure)


@pytest.mark.parametrize(("examples", "intervals"), [(4, 0), (5, 1)])
def test_no_interval_is_drawn_over_fewer_than_five_examples(examples: int, intervals: int) -> None:
    levels = pd.DataFrame(
        {"strategy": "random", "value": 1, "examples": examples, "forgetting": [0.1, 0.2, 0.4, 0.5]}
    )
    ax = plot_levels(levels, Figure().subplots())
    assert sum(len(part.get_segments()) for part in ax.findobj(LineCollection)) == intervals
