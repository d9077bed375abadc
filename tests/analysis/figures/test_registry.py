"""What holds of every figure of a study: axes, names, sizes, and what the captions say."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures.curves import draw_forgetting_curves
from analysis.figures.facet import Choice, Facet, facets
from analysis.figures.heat_map import draw_change_against_baseline
from analysis.figures.registry import FIGURES
from analysis.figures.style import publication_style
from analysis.figures.trade_off import draw_trade_off
from analysis.findings.findings import find
from analysis.reading.errors import AnalysisError
from analysis.reading.study import read_study
from tests.analysis.studies import STRATEGIES, write_study
from trainables.ledger import schema

Builder = Callable[..., Path]
SIX: dict[str, Any] = {"strategies": (*STRATEGIES[:3], "random_aa"), "mixes": (0.1, 0.2), "seeds": range(6)}
MEASURED: dict[str, Any] = {"per_example": True, "answers": {"random": 0.8}, "watched": ("wikitext",)}


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with publication_style():
        yield


def only_view(directory: Path) -> Facet:
    (facet,) = facets(find(read_study(directory)))
    return facet


def bands(figure: Figure) -> int:
    return sum(isinstance(part, FillBetweenPolyCollection) for ax in figure.axes for part in ax.collections)


def means(ax: Axes) -> list[str]:
    """Return the colours of the thick lines with markers: one a mean."""
    return [to_hex(line.get_color()) for line in ax.lines if line.get_marker() not in ("None", "", "x")]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_only_evaluations_and_no_finished_run_still_give_curves(study: Builder) -> None:
    states = {(s, m, seed): schema.PARTIAL for s, m in [("random", 0.1), ("none", 0.0)] for seed in range(3)}
    facet = only_view(study(strategies=("random",), states=states))
    drawing = draw_forgetting_curves(facet)
    assert drawing.figure is not None
    assert bands(drawing.figure) == 0
    assert "Mean" not in drawing.caption
    assert draw_trade_off(facet).figure is None


def test_a_study_of_the_control_alone_has_one_panel(study: Builder) -> None:
    facet = only_view(study(strategies=()))
    drawing = draw_forgetting_curves(facet)
    assert drawing.figure is not None
    assert [ax.get_title() for ax in drawing.figure.axes] == ["no replay", ""]
    assert draw_change_against_baseline(facet).figure is None


def test_captions_name_what_varied_between_seeds(study: Builder) -> None:
    fixed = draw_forgetting_curves(only_view(study())).caption
    assert "over 3 seeds (order, dropout, selection by random)" in fixed
    assert "conditional on one Phase A adapter, the validation examples, data pool and model" in fixed
    no_dropout = {"config": {"model": {"lora": {"dropout": 0}}}}
    varied = draw_forgetting_curves(
        only_view(study(adapters=True, strategies=("random",), description=no_dropout))
    ).caption
    assert "over 3 seeds (selection, order, Phase A adapter)" in varied
    assert "conditional on the validation examples, data pool and model" in varied


@pytest.fixture(scope="module")
def two_rates(tmp_path_factory: pytest.TempPathFactory) -> list[Facet]:
    options: dict[str, Any] = {"strategies": (*STRATEGIES[:3], "random_aa"), **MEASURED}
    directory = write_study(tmp_path_factory.mktemp("rates"), axes={"lr": [2e-5, 7e-5]}, **options)
    return list(facets(find(read_study(directory))))


@pytest.mark.parametrize("name", FIGURES)
def test_each_axis_value_has_a_figure_of_its_own_rows(two_rates: list[Facet], name: str) -> None:
    found = two_rates
    assert [facet.title for facet in found] == ["lr = 2e-05", "lr = 7e-05"]
    assert all(len(facet.cells) == 15 and facet.rows["lr"].nunique() == 1 for facet in found)
    drawn = [FIGURES[name].draw(facet) for facet in found]
    assert all(facet.title in texts(drawing.figure) for facet, drawing in zip(found, drawn, strict=True))


def test_names_are_shown_as_text_not_as_formulas(study: Builder) -> None:
    strategies = ("random", "_", r"$\broken{$", r"\input{x}", "<script>")
    facet = only_view(study(strategies=strategies))
    for name in ("forest", "forgetting_curves", "change_against_baseline", "tradeoff"):
        figure = FIGURES[name].draw(facet).figure
        assert figure is not None
        figure.canvas.draw()
        assert all(strategy in texts(figure) for strategy in strategies[1:])


@pytest.mark.parametrize(("mode", "words"), [("add", "added to them"), ("substitute", "in place of them")])
def test_captions_say_what_the_mix_means_also_where_it_is_searched(
    study: Builder, mode: str, words: str
) -> None:
    assert words in draw_trade_off(only_view(study(description={"mix_mode": mode}))).caption
    (facet,) = facets(find(read_study(study(axes={"mix_mode": [mode]}, description={"mix_mode": "add"}))))
    assert words in draw_trade_off(facet).caption


@pytest.fixture(scope="module", params=[1, 2, 3, 6])
def of_seeds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Facet, int]:
    options = {**SIX, "mixes": (0.05, 0.1, 0.2), "seeds": range(request.param), **MEASURED}
    return only_view(write_study(tmp_path_factory.mktemp("seeds"), **options)), request.param


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_n_and_what_it_is_conditional_on(of_seeds: tuple[Facet, int], name: str) -> None:
    facet, seeds = of_seeds
    drawing = FIGURES[name].draw(facet)
    assert drawing.figure is not None
    assert (
        "conditional on one Phase A adapter, the validation examples, data pool and model" in drawing.caption
    )
    assert ("One seed" in drawing.caption) or (f"{seeds} seed" in drawing.caption)
    assert drawing.data
    if seeds < 3:
        assert "95 %" not in drawing.caption


@pytest.fixture(scope="module")
def all_diverged(tmp_path_factory: pytest.TempPathFactory) -> Facet:
    states = {(s, m, seed): schema.DIVERGED for s in STRATEGIES[:3] for m in (0.1,) for seed in range(3)}
    states |= {("none", 0.0, seed): schema.DIVERGED for seed in range(3)}
    return only_view(write_study(tmp_path_factory.mktemp("diverged"), states=states))


@pytest.mark.parametrize("name", FIGURES)
def test_a_study_where_all_diverged_has_captions_that_say_why(all_diverged: Facet, name: str) -> None:
    drawing = FIGURES[name].draw(all_diverged)
    assert (drawing.figure is not None) == (name == "forgetting_curves")
    assert "diverged" in drawing.caption if drawing.figure else "Not drawn" in drawing.caption


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Facet:
    return only_view(write_study(tmp_path_factory.mktemp("six"), **SIX, **MEASURED))


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_of_a_figure_is_smaller_than_six_points(six: Facet, name: str) -> None:
    figure = FIGURES[name].draw(six).figure
    assert figure is not None
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6


def test_a_choice_of_strategies_and_mixes_is_shown_alone_in_their_own_colours(six: Facet) -> None:
    choice = Choice(strategies=("difficulty_hard",), mixes=(0.1,), width=3.3)
    (facet,) = facets(six.findings, choice=choice)
    for name, entry in FIGURES.items():
        drawing = entry.draw(facet)
        for key, frame in drawing.data.items():
            assert {*frame.get(schema.STRATEGY, [])} <= {"difficulty_hard", "random"}, (name, key)
            assert {*frame.get(schema.MIX, [])} <= {0.0, 0.1}, (name, key)
        if drawing.figure is not None:
            assert drawing.figure.get_figwidth() == 3.3
            assert "difficulty_easy" not in texts(drawing.figure)
    assert facet.styles["difficulty_hard"] == six.styles["difficulty_hard"]
    assert choice.describe() == "Shown are, of the strategies difficulty_hard and of the mixes 10 % alone."
    assert facet.findings is six.findings, "verdicts are of the whole family"


@pytest.mark.parametrize(
    ("choice", "rule"),
    [
        (Choice(strategies=("best",)), "no strategy 'best'; choose from difficulty_easy"),
        (Choice(mixes=(0.3,)), "no mix 0.3; choose from 0.0, 0.1, 0.2"),
        (Choice(width=1.0), "--width must be 2.5 to 20"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_can(six: Facet, choice: Choice, rule: str) -> None:
    with pytest.raises(AnalysisError, match=rule):
        choice.check(six.study)
