"""How every figure looks: fonts, sizes, colours, legends, and how it is saved. Draws no data.

The palette is seaborn's colour-blind one; marker and dash repeat what colour says, for grey print. Panels
are laid out with matplotlib and filled with seaborn's functions of an `ax`: seaborn's own grids are
pyplot's, which keeps every figure in memory.
"""

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from analysis.figures.lettering import FONT, distinct_labels, set_fonts, shown_text, text_width
from analysis.findings.outcomes import strategy_rank
from analysis.wording.terms import strategy_text
from trainables.ledger import schema
from trainables.ledger.atomic_write import publish_file

ONE_COLUMN = 3.5  # inches, as in most two-column journals
TWO_COLUMNS = 7.2
RASTER_DPI = 300
LETTER = 0.056  # inches, a letter's mean width at 7 pt
HANDLE, TIGHT_HANDLE = 0.6, 0.51  # inches of a legend's column beside its label; the least of them
LINE = 0.14  # inches from line to line of a legend
SIZE_CAPTIONED = 7.5  # points
SMALLEST = 6  # points

RC: dict[Any, Any] = {
    "font.family": FONT,
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "text.parse_math": False,  # names of strategies and runs are text, never formulas
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "forgetting-sweep",
}
METADATA: dict[str, dict[str, str | None]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}

COLOURS = [seaborn.color_palette("colorblind")[position] for position in (0, 1, 2, 4, 9, 3, 5, 6)]
MARKERS = ("s", "^", "D", "v", "X", "<", ">")
DASHES = ((3.7, 1.6), (6.4, 1.6, 1, 1.6), (5, 1), (3, 1, 1, 1, 1, 1), (1, 0.8))
LINE_WIDTH, THIN = 1.1, 0.5  # points: a mean or one of few runs, and one of many runs
BAND_STRENGTH, THIN_STRENGTH = 0.15, 0.55  # opacity


@dataclass(frozen=True)
class LineStyle:
    """What tells one line from another: colour, marker, dash, its position among its siblings, its name.

    `dash`: lengths on and off, in line widths; empty is solid.
    """

    colour: Any
    marker: str
    dash: tuple[float, ...]
    position: int
    label: str = ""


def strategy_styles(
    strategies: Iterable[str], *, baseline: str = schema.DEFAULT_BASELINE
) -> dict[str, LineStyle]:
    """Return a style for each strategy: the baseline black and solid, the controls grey, the rest in
    colour.
    """
    ordered = sorted(set(strategies), key=strategy_rank)
    plain: dict[str, tuple[str, str, tuple[float, ...]]] = {
        baseline: ("0.1", "o", ()),
        schema.AA: ("0.4", "d", (5, 1, 1, 1)),
    }
    plain[schema.NO_REPLAY] = ("0.6", "P", (1.5, 1.5))  # neither as round nor as dark as the baseline
    coloured = [name for name in ordered if name not in plain]
    labels = name_labels(ordered)
    styles = {name: cycled_style(position, label=labels[name]) for position, name in enumerate(coloured)}
    for extra, (name, (colour, marker, dash)) in enumerate(plain.items()):
        styles[name] = LineStyle(colour, marker, dash, len(coloured) + extra, labels.get(name, name))
    return {name: styles[name] for name in ordered}


def cycled_style(position: int, *, label: str = "") -> LineStyle:
    """Return the style of the `position`-th line; colours, markers and dashes cycle at different lengths."""
    return LineStyle(
        COLOURS[position % len(COLOURS)],
        MARKERS[position % len(MARKERS)],
        DASHES[position % len(DASHES)],
        position,
        label,
    )


def name_labels(strategies: Iterable[str]) -> dict[str, str]:
    """Return each strategy's name as a figure has room for it; two that would read the same are numbered."""
    return distinct_labels(strategies, shown=lambda name: shown_text(strategy_text(name)))


def looks(
    styles: Mapping[str, LineStyle],
    *,
    column: str = schema.STRATEGY,
    markers: bool = False,
    dashes: bool = False,
) -> dict[str, Any]:
    """Return what makes seaborn draw the values of `column` in these styles, with no legend of its own.

    Colours are for all of its functions, `markers` for lines and scatter plots, `dashes` for lines.
    """
    look: dict[str, Any] = {"hue": column, "hue_order": [*styles], "legend": False}
    look["palette"] = {name: style.colour for name, style in styles.items()}
    if markers or dashes:
        look |= {"style": column, "style_order": [*styles]}
        look["markers"] = {name: style.marker for name, style in styles.items()} if markers else False
    if dashes:
        look["dashes"] = {name: style.dash for name, style in styles.items()}
    return look


def ends(known_values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of a low end, a middle and a high end; NaN where an end is not known."""
    low, high = np.min(known_values), np.max(known_values)
    return (
        (float(low), float(high)) if len(known_values) == len(("low", "middle", "high")) else (np.nan, np.nan)
    )


KNOWN = "known"
AS_KNOWN: dict[str, Any] = {"estimator": "median", "errorbar": ends}


def known(frame: pd.DataFrame, *, low: str = "low", middle: str = "mean", high: str = "high") -> pd.DataFrame:
    """Return three rows for each of `frame`: in the column KNOWN an interval's low end, middle, high end.

    With AS_KNOWN seaborn draws just these numbers: their median, and their range as error bar or band.
    """
    parts = [frame.assign(**{KNOWN: frame[column]}) for column in (low, middle, high)]
    return pd.concat(parts, ignore_index=True).dropna(subset=KNOWN)


def legend_handle(style: LineStyle, *, line: bool = True, marker: bool = True, band: bool = False) -> Any:
    """Return what stands for `style` in a legend: a line, a marker, a band behind them, as a panel has
    them.
    """
    dash: Any = ((0, style.dash) if style.dash else "-") if line else ""
    drawn = Line2D(
        [], [], color=style.colour, linestyle=dash, marker=style.marker if marker else "", markersize=3.5,
        linewidth=LINE_WIDTH,
    )  # fmt: skip
    return (Patch(facecolor=style.colour, alpha=BAND_STRENGTH), drawn) if band else drawn


def decimals(limit: float) -> int:
    """Return the decimals that show two significant digits of `limit`, from 4 to 6."""
    if not limit or not math.isfinite(limit):
        return 4
    return min(6, max(4, 1 - math.floor(math.log10(limit))))


def plain_ticks(ax: Axes, *, count: int = 5, axes: str = "xy") -> Axes:
    """Give the `axes` of `ax` ticks that are read as they stand: no offset, no power of ten."""
    for axis in (getattr(ax, f"{name}axis") for name in axes):
        formatter = ScalarFormatter(useOffset=False)
        formatter.set_scientific(False)
        axis.set_major_formatter(formatter)
        axis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]))
    return ax


def share_span(axes: Iterable[Axes], *, axis: str, least: float = 0.0) -> None:
    """Give every panel one span along `axis`, of at least `least`, each around its own middle."""
    limits = [(ax, *getattr(ax, f"get_{axis}lim")()) for ax in axes]
    span = max(least, *(high - low for _, low, high in limits))
    for ax, low, high in limits:
        getattr(ax, f"set_{axis}lim")((low + high - span) / 2, (low + high + span) / 2)


@contextmanager
def publication_style() -> Iterator[None]:
    """Apply RC alone, whatever the user's matplotlibrc says, for the length of a block.

    Figures are both drawn and saved inside it.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def save_figure(figure: Figure, *paths: Path) -> list[Path]:
    """Write `figure` in the format of each path's suffix, byte-identical for identical figures.

    It is laid out once, as the PNG needs it, so that every format shows the same; it cannot be laid out
    again.
    """
    with publication_style():
        if set_fonts(figure):
            matplotlib.rcParams["pdf.fonttype"] = 3  # outlines, which any kind of font has
        _lay_out(figure)
        return [publish_file(path, partial(_write, figure, path.suffix.removeprefix("."))) for path in paths]


def _lay_out(figure: Figure) -> None:
    """Place everything for good: a layout engine would do it anew for each format, with a drawing for
    nothing.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        figure.set_dpi(RASTER_DPI)
        engine.execute(figure)
        figure.set_layout_engine(None)


def _write(figure: Figure, kind: str, path: Path) -> None:
    figure.savefig(path, format=kind, dpi=RASTER_DPI, metadata=METADATA[kind])


def place_legend(figure: Figure, handles: list[Any], labels: list[str], *, title: str) -> None:
    """Put one legend below all panels, in as many columns as the figure is wide, and make room for it."""
    room = figure.get_figwidth() - 0.1
    labels = [fill_label(label, width=room - HANDLE) for label in labels]
    widest = max(len(line) for label in labels for line in label.splitlines())
    drawn = max(text_width(label, points=RC["legend.fontsize"]) for label in labels)
    fitting = max(1, min(int(room / (HANDLE + LETTER * widest)), int(room / (TIGHT_HANDLE + drawn))))
    rows = -(-len(labels) // fitting)
    title = fill_lines(title, width=room)
    lines = rows * max(len(label.splitlines()) for label in labels) + len(title.splitlines())
    figure.set_figheight(figure.get_figheight() + LINE * lines + 0.1)
    figure.legend(
        handles,
        labels,
        title=title,
        loc="outside lower center",
        ncols=-(-len(labels) // rows),
        handlelength=3.2,
        columnspacing=1.2,
    )


def slanted_names(ax: Axes, names: list[str], *, first: float = 0.0) -> Axes:
    """Name the places `first`, `first` + 1, ... along the bottom of `ax`, slanted so that long names do not
    meet.
    """
    places = first + np.arange(len(names))
    ax.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor")
    ax.tick_params(axis="x", length=0)
    ax.grid(visible=False, axis="x")
    return ax


def draw_shares(shares: pd.DataFrame, ax: Axes) -> Axes:
    """Draw shares of 0 to 1 as a matrix in percent, the darker the more; nothing where one is absent.

    Shades run evenly from white at 0 to black at 1.1.
    """
    seaborn.heatmap(
        shares, ax=ax, vmin=0, vmax=1.1, cmap="Greys", cbar=False, annot=100 * shares, fmt=".0f",
        annot_kws={"fontsize": SMALLEST}, xticklabels=False, yticklabels=False,
    )  # fmt: skip
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0)
    ax.grid(visible=False)
    return ax


def place_title(figure: Figure, *lines: str) -> None:
    """Set the lines that are not empty above all panels, broken at the figure's width, and make room."""
    text = "\n".join(fill_lines(line, width=figure.get_figwidth() - 0.1) for line in lines if line)
    if text:
        figure.set_figheight(figure.get_figheight() + LINE * (1 + text.count("\n")))
        figure.suptitle(text, fontsize=SIZE_CAPTIONED)


def fill_label(text: str, *, width: float) -> str:
    """Return a legend's label, broken where it is drawn wider than `width` inches; a word may break."""
    letters = len(text)
    while letters > 1 and text_width(text, points=RC["legend.fontsize"]) > width:
        letters -= 1
        text = textwrap.fill(text.replace("\n", " "), letters, break_on_hyphens=False)
    return text


def fill_lines(text: str, *, width: float) -> str:
    """Return `text` broken into lines of at most `width` inches; its own line breaks stay."""
    letters = max(20, int(width / LETTER))
    return "\n".join(textwrap.fill(line, letters) for line in text.splitlines())
