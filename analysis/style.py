"""How every figure looks: fonts, sizes, colours, and how it is saved. Draws nothing itself.

The palette is seaborn's colour-blind one; marker and dash repeat what colour says, for grey print.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from analysis.outcomes import BASELINE, strategy_rank
from analysis.output import publish
from trainables import columns

ONE_COLUMN = 3.5  # inches, as in most two-column journals
TWO_COLUMNS = 7.2
RASTER_DPI = 300

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
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
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "p")
DASHES = ("--", "-.", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 0.8)))


@dataclass(frozen=True)
class LineStyle:
    """What tells one line from another: colour, marker, dash, and its position among its siblings."""

    colour: Any
    marker: str
    dash: Any
    position: int


def strategy_styles(strategies: Iterable[str]) -> dict[str, LineStyle]:
    """Return a style for each strategy: the baseline black and solid, the control grey, the rest in colour."""
    ordered = sorted(set(strategies), key=strategy_rank)
    coloured = [name for name in ordered if name not in (BASELINE, columns.NO_REPLAY)]
    styles = {name: cycled_style(position) for position, name in enumerate(coloured)}
    styles[BASELINE] = LineStyle("0.1", "o", "-", len(coloured))
    styles[columns.NO_REPLAY] = LineStyle("0.55", "h", (0, (4, 2)), len(coloured) + 1)
    return {name: styles[name] for name in ordered}


def cycled_style(position: int) -> LineStyle:
    """Return the style of the `position`-th line; colours, markers and dashes cycle at different lengths."""
    return LineStyle(
        COLOURS[position % len(COLOURS)],
        MARKERS[position % len(MARKERS)],
        DASHES[position % len(DASHES)],
        position,
    )


def legend_handle(style: LineStyle) -> Line2D:
    """Return the line that stands for `style` in a legend."""
    return Line2D(
        [], [], color=style.colour, linestyle=style.dash, marker=style.marker, markersize=3.5, linewidth=1.1
    )


def strategy_text(strategy: str) -> str:
    """Return a strategy as figures and tables call it."""
    return "no replay" if strategy == columns.NO_REPLAY else strategy


def mix_text(mix: float) -> str:
    """Return a mix in percent."""
    return f"{100 * mix:g} %"


def signed_text(value: float, *, digits: int) -> str:
    """Return `value` with its sign, a real minus among them; zero has none."""
    text = f"{value:+.{digits}f}".replace("-", "\u2212")
    return text if float(f"{value:.{digits}f}") else text[1:]


def plain_ticks(ax: Axes, *, count: int = 5) -> Axes:
    """Give `ax` ticks that are read as they stand: no offset, no power of ten."""
    for axis in (ax.xaxis, ax.yaxis):
        formatter = ScalarFormatter(useOffset=False)
        formatter.set_scientific(False)
        axis.set_major_formatter(formatter)
        axis.set_major_locator(MaxNLocator(count))
    return ax


@contextmanager
def publication_style() -> Iterator[None]:
    """Apply RC for the length of a block; figures are both drawn and saved inside it."""
    with matplotlib.rc_context(RC):
        yield


def save_figure(figure: Figure, path: Path) -> Path:
    """Write `figure` in the format of `path`'s suffix, byte-identical for identical figures."""
    kind = path.suffix.removeprefix(".")
    publish(
        path,
        lambda temporary: figure.savefig(temporary, format=kind, dpi=RASTER_DPI, metadata=METADATA[kind]),
    )
    return path


def place_legend(figure: Figure, handles: list[Line2D], labels: list[str], *, title: str) -> None:
    """Put one legend below all panels, in as many columns as the figure is wide."""
    widest = max(len(label) for label in labels)
    fitting = int(figure.get_figwidth() / (0.5 + 0.06 * widest))
    rows = -(-len(labels) // max(1, fitting))
    figure.legend(
        handles,
        labels,
        title=title,
        loc="outside lower center",
        ncols=-(-len(labels) // rows),
        handlelength=3.2,
    )
