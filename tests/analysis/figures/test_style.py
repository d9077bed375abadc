"""How figures look: names, signs, ticks, and what tells one strategy from another."""

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.figures.lettering import shown_text
from analysis.figures.style import cycled_style, decimals, plain_ticks, strategy_styles
from analysis.wording.terms import signed_text
from tests.analysis.studies import STRATEGIES


@pytest.mark.parametrize("values", [(1.000001, 1.000002), (0.00001, 0.00002), (1e6, 1.0001e6)])
def test_numbers_on_axes_are_read_as_they_stand(values: tuple[float, float]) -> None:
    figure = Figure()
    ax = figure.subplots()
    ax.plot(values, values)
    plain_ticks(ax)
    figure.canvas.draw()
    for axis in (ax.xaxis, ax.yaxis):
        assert axis.get_offset_text().get_text() == ""
        shown = [float(label.get_text()) for label in axis.get_ticklabels()]
        assert shown == pytest.approx(axis.get_ticklocs())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain_name", "plain_name"),
        ("two\n\nlines\x00\x1b", "two lines"),
        ("\u202e\ud800", "(no name)"),
        ("", "(no name)"),
        ("a" * 20 + "b" * 20, "a" * 17 + "…" + "b" * 8),
    ],
)
def test_names_are_shown_in_letters_that_the_font_has(text: str, shown: str) -> None:
    assert shown_text(text) == shown


def test_words_are_cut_at_their_end_not_in_their_middle() -> None:
    assert shown_text("Counting & Probability", longest=16, ending=False) == "Counting & Prob…"


def test_long_names_that_end_alike_are_told_apart() -> None:
    names = ["x" * 20 + str(number) + "y" * 20 for number in range(3)]
    styles = strategy_styles(names)
    assert len({style.label for style in styles.values()}) == 3


def test_styles_differ_in_more_than_colour() -> None:
    found = strategy_styles(["none", *STRATEGIES]).values()
    assert len({style.marker for style in found}) == len({str(style.dash) for style in found}) == 6
    assert len({to_hex(style.colour) for style in found}) == 6
    many = [cycled_style(position) for position in range(40)]
    assert len({(to_hex(style.colour), style.marker, str(style.dash)) for style in many}) == 40


@pytest.mark.parametrize(("limit", "digits"), [(0.3, 4), (0.004, 4), (0.0004, 5), (1e-9, 6), (0.0, 4)])
def test_decimals_show_small_changes(limit: float, digits: int) -> None:
    assert decimals(limit) == digits


@pytest.mark.parametrize(("value", "text"), [(0.00412, "+0.0041"), (-0.00412, "−0.0041"), (-1e-9, "0.0000")])
def test_signs_are_true_minus_signs_and_zero_has_none(value: float, text: str) -> None:
    assert signed_text(value, digits=4) == text
