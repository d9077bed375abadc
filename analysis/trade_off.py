"""The trade-off plane: final task A loss against final task B loss, one panel a mix."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy import stats

from analysis.captions import absent_sentence, joined, mix_sentence, percent_text
from analysis.conditions import conditions, count_text, varied
from analysis.inference import LEVEL
from analysis.measures import FINAL_A, FINAL_B
from analysis.style import (
    ONE_COLUMN,
    SMALLEST,
    TWO_COLUMNS,
    LineStyle,
    legend_handle,
    mix_text,
    place_legend,
    place_title,
    plain_ticks,
    strategy_styles,
)
from analysis.view import Drawing, View, seeds_per_mean
from trainables import columns

START = "losses before Phase B"
REACH = 0.5  # the start is drawn in place if it lies within this share of the data's span
FEWEST_FOR_ELLIPSE = 4  # at n = 3 the quantile is F(2, 1) = 199: an ellipse 14 times as wide as the points
FEWEST_FOR_MEAN = 3


class Region(NamedTuple):
    """An ellipse: its centre (2,), full axes (2,), and the angle of the first in degrees."""

    centre: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]
    angle: float


def mean_region(points: npt.NDArray[np.float64], *, level: float = LEVEL) -> Region:
    """Return Hotelling's T² region of the mean of `points` (n, 2), n >= 4 (Hotelling 1931).

    All m with n (m - mean)' S^-1 (m - mean) <= 2 (n - 1) / (n - 2) F(2, n - 2; level), S the sample
    covariance. Points on a line give an ellipse without width.
    """
    n = len(points)
    if n < FEWEST_FOR_ELLIPSE:
        raise ValueError(f"an ellipse needs {FEWEST_FOR_ELLIPSE} points or more, got {n}")
    quantile = stats.f.ppf(level, 2, n - 2)
    scale = 2 * (n - 1) / (n * (n - 2)) * quantile
    variances, directions = np.linalg.eigh(np.cov(points, rowvar=False))
    half_axes = np.sqrt(np.maximum(variances, 0) * scale)
    angle = float(np.degrees(np.arctan2(directions[1, 0], directions[0, 0])))
    return Region(points.mean(axis=0), 2 * half_axes, angle)


def plot_trade_off(
    frame: pd.DataFrame, ax: Axes, *, styles: dict[str, LineStyle] | None = None, level: float = LEVEL
) -> Axes:
    """Draw finished outcomes: small points are seeds; from n = 3 on their mean, from n = 4 on its ellipse."""
    styles = strategy_styles(frame[columns.STRATEGY]) if styles is None else styles
    for strategy, style in styles.items():
        runs = frame[frame[columns.STRATEGY] == strategy]
        points = runs[[FINAL_A, FINAL_B]].to_numpy(float)
        if not len(points):
            continue
        many = len(points) >= FEWEST_FOR_MEAN
        size, strength = (7, 0.45) if many else (18, 1.0)
        ax.scatter(
            points[:, 0],
            points[:, 1],
            s=size,
            marker=style.marker,
            color=style.colour,
            alpha=strength,
            linewidths=0,
        )
        if many:
            ax.plot(
                *points.mean(axis=0), style.marker, color=style.colour, markersize=5, markeredgecolor="white",
                markeredgewidth=0.5, zorder=3,
            )  # fmt: skip
        if len(points) >= FEWEST_FOR_ELLIPSE:
            _plot_region(mean_region(points, level=level), ax, style=style)
    return ax


def _plot_region(region: Region, ax: Axes, *, style: LineStyle) -> None:
    """Draw a region's outline, dashed as its strategy is, over a faint fill."""
    place = (float(region.centre[0]), float(region.centre[1]))
    for filled, strength in ((True, 0.1), (False, 1.0)):
        ellipse = Ellipse(place, *region.axes, angle=region.angle, fill=filled, alpha=strength)
        ellipse.set(facecolor=style.colour, linewidth=0 if filled else 0.9, zorder=2)
        if not filled:
            ellipse.set(edgecolor=style.colour, linestyle=style.dash)
        ax.add_patch(ellipse)


def within_reach(start: tuple[float, float], ax: Axes) -> bool:
    """Return whether `start` is near enough to the data in `ax` to be shown in place."""
    limits = (ax.get_xlim(), ax.get_ylim())
    return all(
        low - REACH * (high - low) <= value <= high + REACH * (high - low)
        for value, (low, high) in zip(start, limits, strict=True)
    )


def mark_start(start: tuple[float, float], ax: Axes) -> Axes:
    """Mark the losses before Phase B: a star in place, or an arrow at the edge towards them."""
    if within_reach(start, ax):
        ax.plot([start[0]], [start[1]], "*", color="0.3", markersize=6, zorder=2)
        return ax
    return point_towards(start, ax, colour="0.3", text="")


def point_towards(target: tuple[float, float], ax: Axes, *, colour: Any, text: str) -> Axes:
    """Draw an arrow at the edge of `ax` towards a place outside it, and its name."""
    ax.autoscale(enable=False)
    limits = (ax.get_xlim(), ax.get_ylim())
    place = np.array(
        [(value - low) / (high - low) for value, (low, high) in zip(target, limits, strict=True)]
    )
    direction = (place - 0.5) / np.linalg.norm(place - 0.5)
    tip = np.clip(place, 0.01, 0.99)
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4}
    ax.annotate(
        text,
        fontsize=SMALLEST,
        bbox=box if text else None,
        color=colour,
        ha="right" if direction[0] > 0 else "left",
        va="center",
        xy=tuple(tip),
        xytext=tuple(tip - 0.1 * direction),
        xycoords="axes fraction",
        arrowprops=arrow,
    )
    return ax


def draw_trade_off(view: View) -> Drawing:
    """Return the trade-off planes of one axis combination, or why there are none."""
    done = view.done
    if done.empty:
        return Drawing(None, "Not drawn yet: no cell is done.")
    mixes = view.mixes
    wide = min(len(mixes), 3 if len(mixes) != 4 else 2)
    tall = -(-len(mixes) // wide)
    size = (ONE_COLUMN if wide == 1 else TWO_COLUMNS, 0.25 + (2.6 if wide < 3 else 2.1) * tall)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(tall, wide, squeeze=False).ravel()
    starts = [(float(start[0]), float(start[1])) for start in view.starts.itertuples(index=False)]
    near = True
    for ax, mix in zip(axes, mixes, strict=False):
        near &= _draw_panel(view, ax, mix=mix, starts=starts)
    for ax in axes[len(mixes) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(mixes) - wide) : len(mixes)]:
        ax.set_xlabel(f"final {view.task_a} loss (nats/token)")
    for ax in axes[::wide]:
        ax.set_ylabel(f"final {view.task_b} loss\n(nats/token)")
    _finish(figure, view, start=f"{'star: ' if near else 'arrow: towards '}{start_text(starts)}")
    return Drawing(figure, caption(view), {"outcomes": done[[*columns.LABEL_COLUMNS, FINAL_A, FINAL_B]]})


def _draw_panel(view: View, ax: Axes, *, mix: float, starts: list[tuple[float, float]]) -> bool:
    """Draw one mix; return whether all losses before Phase B are in place there.

    Runs without replay are drawn where they do not squeeze the others, else an arrow points to them.
    """
    runs = view.panel(view.done, mix=mix)
    control = runs[runs[columns.STRATEGY] == columns.NO_REPLAY]
    replayed = runs.drop(control.index)
    first = control if replayed.empty else replayed
    plot_trade_off(first, ax, styles=view.styles, level=view.settings.level)
    ax.margins(0.12)
    if not control.empty and not replayed.empty:
        style = view.styles[columns.NO_REPLAY]
        place = control[[FINAL_A, FINAL_B]].mean()
        if within_reach((float(place[FINAL_A]), float(place[FINAL_B])), ax):
            plot_trade_off(control, ax, styles={columns.NO_REPLAY: style}, level=view.settings.level)
        else:
            point_towards(
                (float(place[FINAL_A]), float(place[FINAL_B])), ax, colour=style.colour, text=style.label
            )
    ax.set_title(f"mix {mix_text(mix)}" if mix else "no replay")
    plain_ticks(ax, count=4)
    near = all(within_reach(start, ax) for start in starts)
    for start in starts:
        mark_start(start, ax)
    return near


def start_text(starts: list[tuple[float, float]]) -> str:
    """Return the words for the losses before Phase B, with the numbers where there is one adapter."""
    return START if len(starts) > 1 else f"{START} ({starts[0][0]:.3f}, {starts[0][1]:.3f})"


def _finish(figure: Figure, view: View, *, start: str) -> None:
    counts = seeds_per_mean(view)
    handles = [legend_handle(style) for style in view.styles.values()]
    if max(counts) < FEWEST_FOR_ELLIPSE:
        for handle in handles:
            handle.set_linestyle("")
    if max(counts) < FEWEST_FOR_MEAN:
        title = f"{count_text(counts, 'seed')} each"
    else:
        title = f"small: one seed; large: mean over {count_text(counts, 'seed')}"
    if max(counts) >= FEWEST_FOR_ELLIPSE:
        title += f"; ellipse: {percent_text(view.settings.level)} of the mean"
    place_title(figure, view.title)
    place_legend(figure, handles, [style.label for style in view.styles.values()], title=f"{title}\n{start}")


def caption(view: View) -> str:
    """Return the caption of the trade-off plane, from what varied and what is there."""
    counts = seeds_per_mean(view)
    given = conditions(view)
    if max(counts) >= FEWEST_FOR_ELLIPSE:
        few = f", none where n < {FEWEST_FOR_ELLIPSE}" if min(counts) < FEWEST_FOR_ELLIPSE else ""
        spread = (
            f"Ellipses: {percent_text(view.settings.level)} regions of the mean of both losses (Hotelling's T²) over "
            f"{count_text(counts, 'seed')} ({varied(view)}){few}; {given}. They are not paired by seed: whether two of them "
            "overlap is no test."
        )
    else:
        spread = f"No ellipse below {FEWEST_FOR_ELLIPSE} seeds, here {count_text(counts, 'seed')}; {given}."
    return joined(
        f"Final {view.study.task_a} loss against final {view.study.task_b} loss, in nats per supervised token: lower left is "
        "better at both. Small points: single seeds; large points: their mean, from 3 seeds on.",
        spread,
        "Star or arrow: the losses before Phase B; an arrow with a name points to runs far outside. Panels differ in range.",
        absent_sentence(view),
        mix_sentence(view),
    )
