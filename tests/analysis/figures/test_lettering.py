"""Figures are drawn in our style whatever the user's is, and names in any script can be read."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from analysis.figures import lettering
from analysis.figures.lettering import distinct_labels, key_sentence, set_fonts, shown_text, text_width
from analysis.figures.style import RC, place_legend, publication_style, save_figure

HOSTILE: list[dict[Any, Any]] = [
    {"text.usetex": True}
    | {
        "axes.facecolor": "black",
        "figure.facecolor": "black",
        "savefig.facecolor": "black",
        "text.color": "w",
    }
    | {"savefig.bbox": "tight", "savefig.transparent": True, "savefig.dpi": 30, "figure.dpi": 31}
    | {
        "font.family": "monospace",
        "font.weight": "bold",
        "mathtext.fontset": "cm",
        "axes.unicode_minus": False,
    }
    | {"axes.prop_cycle": matplotlib.cycler(color="r"), "path.simplify": False, "path.sketch": (1, 100, 2)}
    | {"svg.fonttype": "none", "pdf.fonttype": 3, "pdf.compression": 0, "figure.autolayout": True}
    | {"axes.formatter.use_locale": True, "axes.xmargin": 0.3, "lines.antialiased": False, "xtick.top": True},
]


def saved(folder: Path) -> list[bytes]:
    """Return one figure's files; it is drawn from scratch."""
    with publication_style():
        figure = Figure(figsize=(3, 2), layout="constrained")
        ax = figure.subplots()
        ax.plot([-1, 0.5, 1], [-1, 2, 1], label="a$b_c")
        ax.set_title("a title")
        place_legend(figure, ax.get_lines(), ["a$b_c"], title="names")
    return [
        path.read_bytes()
        for path in save_figure(figure, folder / "a.png", folder / "a.svg", folder / "a.pdf")
    ]


def test_nothing_of_a_users_style_changes_a_figure(tmp_path: Path) -> None:
    plain = saved(tmp_path)
    for settings in HOSTILE:
        with matplotlib.rc_context(settings):
            before = dict(matplotlib.rcParams)
            assert saved(tmp_path) == plain, settings
            assert dict(matplotlib.rcParams) == before


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_KEYS", {})


@pytest.mark.usefixtures("keys")
def test_names_without_a_font_are_keys_that_the_caption_explains(tmp_path: Path) -> None:
    names = ["最难的例子", "随机回放", "क्षमा", "loss 🔥", "Größe_β", "العربية"]
    labels = distinct_labels(names, shown=shown_text)
    assert list(labels.values()) == ["name A", "name B", "name C", "name D", "Größe_β", "العربية"]
    assert shown_text(names[0]) == "name A"
    figure = Figure()
    figure.text(0, 0, "name A and name C")
    assert key_sentence(figure).endswith(": name A is 最难的例子, name C is क्षमा.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, tmp_path / "a.png")


@pytest.fixture
def font(tmp_path: Path) -> Iterator[str]:
    """A font of two ideographs, installed for the length of a test."""
    names, pen = [".notdef", "zui", "nan"], TTGlyphPen(None)
    for move, point in ((pen.moveTo, (0, 0)), (pen.lineTo, (0, 900)), (pen.lineTo, (900, 0))):
        move(point)
    pen.closePath()
    build = FontBuilder(1000, isTTF=True)
    build.setupGlyphOrder(names)
    build.setupCharacterMap({ord("最"): "zui", ord("难"): "nan"})
    glyph = pen.glyph()
    build.setupGlyf(dict.fromkeys(names, glyph))
    build.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    build.setupHorizontalHeader(ascent=900, descent=-100)
    build.setupNameTable({"familyName": "Two Ideographs", "styleName": "Regular"})
    build.setupOS2()
    build.setupPost()
    build.save(tmp_path / "two.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "two.ttf")
    lettering._family.cache_clear()
    yield "Two Ideographs"
    fontManager.ttflist = before
    lettering._family.cache_clear()


@pytest.mark.usefixtures("keys")
def test_a_name_is_drawn_with_an_installed_font_that_has_its_letters(font: str, tmp_path: Path) -> None:
    assert shown_text("最难") == "最难"
    assert text_width("最难", points=7) == pytest.approx(2 * 7 / 72, abs=0.02)
    figure = Figure()
    text = figure.text(0.1, 0.1, "hard 最难")
    assert set_fonts(figure)
    assert text.get_fontfamily() == [RC["font.family"], font]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, *(tmp_path / f"a.{kind}" for kind in ("png", "svg", "pdf")))


@pytest.mark.parametrize("name", ["W" * 100, "wide " * 20, "a_long_name_" * 8])
def test_a_long_name_stays_inside_the_figure(name: str) -> None:
    with publication_style():
        figure = Figure(figsize=(3.5, 2), layout="constrained")
        (line,) = figure.subplots().plot([0, 1])
        place_legend(figure, [line] * 3, [name, "b", name[:30]], title="")
        figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y0 >= 0
    assert "".join(figure.legends[0].texts[0].get_text().split()) == "".join(name.split())
