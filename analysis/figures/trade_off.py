"""The trade-off plane: final task A loss against final task B loss, one panel a mix."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy import stats

from analysis.figures.captions import absent_sentence, joined, mix_sentence, percent_text
from analysis.figures.facet import Drawing, Entry, Facet, seeds_per_mean
from analysis.figures.layout import point_towards
from analysis.figures.style import (
    ONE_COLUMN,
    TWO_COLUMNS,
    LineStyle,
    legend_handle,
    looks,
    place_legend,
    place_title,
    plain_ticks,
    share_span,
    strategy_styles,
)
from analysis.findings.outcomes import strategy_rank
from analysis.stats.intervals import LEVEL
from analysis.stats.measures import FINAL_A, FINAL_B, MEASURES, NATS
from analysis.wording.conditioning import conditions, count_text, varied
from analysis.wording.terms import mix_text
from trainables.ledger import schema

START = "before Phase B"
REACH = 0.5  # the start is drawn in place if it lies within this share of the data's span
FEWEST_FOR_ELLIPSE = 4  # at n = 3 the quantile is F(2, 1) = 199: an ellipse 14 times as wide as the points
FEWEST_FOR_MEAN = 3


Place = tuple[float, float]  # task A's loss, task B's
Far = dict[str, tuple[Place, Any]]  # a name, and the place and colour of what lies far outside


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
    styles = strategy_styles(frame[schema.STRATEGY]) if styles is None else styles
    seeds = frame.groupby(schema.STRATEGY)[FINAL_A].transform("size")
    look = looks(styles, markers=True) | {"x": FINAL_A, "y": FINAL_B, "ax": ax}
    few, many = frame[seeds < FEWEST_FOR_MEAN], frame[seeds >= FEWEST_FOR_MEAN]
    if not few.empty:
        seaborn.scatterplot(few, **look, s=18, linewidth=0)
    if not many.empty:
        means = many.groupby(schema.STRATEGY, as_index=False)[[FINAL_A, FINAL_B]].mean()
        seaborn.scatterplot(many, **look, s=7, alpha=0.45, linewidth=0)
        seaborn.scatterplot(means, **look, s=25, edgecolor="white", linewidth=0.5, zorder=3)
    for name, runs in frame[seeds >= FEWEST_FOR_ELLIPSE].groupby(schema.STRATEGY):
        region = mean_region(runs[[FINAL_A, FINAL_B]].to_numpy(float), level=level)
        _plot_region(region, ax, style=styles[str(name)])
    ax.set(xlabel="", ylabel="")
    return ax


def _plot_region(region: Region, ax: Axes, *, style: LineStyle) -> None:
    """Draw a region's outline, dashed as its strategy is; fills of six of them would make one heap."""
    place = (float(region.centre[0]), float(region.centre[1]))
    ellipse = Ellipse(place, *region.axes, angle=region.angle, fill=False, zorder=2)
    ellipse.set(edgecolor=style.colour, linestyle=(0, style.dash) if style.dash else "-", linewidth=0.9)
    ax.add_patch(ellipse)


def within_reach(place: Place, ax: Axes) -> bool:
    """Return whether `place` is near enough to the data in `ax` to be shown in place."""
    limits = (ax.get_xlim(), ax.get_ylim())
    return all(
        low - REACH * (high - low) <= value <= high + REACH * (high - low)
        for value, (low, high) in zip(place, limits, strict=True)
    )


def draw_trade_off(facet: Facet) -> Drawing:
    """Return the trade-off planes of one axis combination, or why there are none."""
    done = shown_runs(facet)
    if done.empty:
        return Drawing(None, "Not drawn yet: no cell is done.")
    mixes = facet.mixes
    wide = min(len(mixes), 3 if len(mixes) != 4 else 2)
    tall = -(-len(mixes) // wide)
    size = (ONE_COLUMN if wide == 1 else TWO_COLUMNS, 0.25 + (2.6 if wide < 3 else 2.1) * tall)
    figure = facet.new_figure(*size)
    axes = figure.subplots(tall, wide, squeeze=False).ravel()
    panels = dict(zip(mixes, axes, strict=False))
    for ax in axes[len(mixes) :]:
        ax.set_visible(False)
    away = _draw_panels(facet, panels, done=done)
    for ax in axes[max(0, len(mixes) - wide) : len(mixes)]:
        ax.set_xlabel(f"final {facet.task_a} loss (nats/token)")
    for ax in axes[::wide]:
        ax.set_ylabel(f"final {facet.task_b} loss\n(nats/token)")
    _finish(figure, facet, away=away, drawn=done)
    return Drawing(figure, caption(facet), {"outcomes": done[[*schema.LABEL_COLUMNS, FINAL_A, FINAL_B]]})


def shown_runs(facet: Facet) -> pd.DataFrame:
    """Return the finished runs that are drawn: not those of the A/A control, which repeat random's."""
    done = facet.done
    return done[done[schema.STRATEGY] != schema.AA]


def _draw_panels(facet: Facet, panels: dict[float, Axes], *, done: pd.DataFrame) -> list[Far]:
    """Draw `done` on one scale; return what lies far outside of each panel."""
    far = {mix: _draw_panel(facet, ax, runs=facet.panel(done, mix=mix)) for mix, ax in panels.items()}
    effect = facet.settings.smallest_effect if MEASURES[facet.settings.primary].unit == NATS else None
    for axis in "xy":
        share_span(panels.values(), axis=axis, least=2 * (effect or 0.0))
    for mix, ax in panels.items():
        ax.set_title(f"mix {mix_text(mix)}" if mix else "no replay")
        taken: list[tuple[int, int]] = []
        for name, (place, colour) in far[mix].items():
            corner = point_towards(place, ax, text=name, colour=colour, data=_ink(ax), taken=taken)
            taken.append(corner)
        plain_ticks(ax, count=4)
    return [*far.values()]


def _draw_panel(facet: Facet, ax: Axes, *, runs: pd.DataFrame) -> Far:
    """Draw one mix's runs, and what would not squeeze them: the runs without replay, the start; return the
    rest.
    """
    control = runs[runs[schema.STRATEGY] == schema.NO_REPLAY]
    replayed = runs.drop(control.index)
    first = control if replayed.empty else replayed
    plot_trade_off(first, ax, styles=facet.styles, level=facet.settings.level)
    ax.margins(0.12)
    far: Far = {}
    if len(first) < len(runs):
        centre, style = mean_place(control), facet.styles[schema.NO_REPLAY]
        if within_reach(centre, ax):
            plot_trade_off(control, ax, styles=facet.styles, level=facet.settings.level)
        else:
            far[style.label] = (centre, style.colour)
    starts = facet.starts.set_axis([FINAL_A, FINAL_B], axis="columns")
    if within_reach(mean_place(starts), ax):
        ax.plot(starts[FINAL_A], starts[FINAL_B], "*", color="0.3", markersize=6, linestyle="", zorder=2)
    else:
        far[START] = (mean_place(starts), "0.3")
    return far


def mean_place(runs: pd.DataFrame) -> Place:
    """Return the means of both losses."""
    return float(runs[FINAL_A].mean()), float(runs[FINAL_B].mean())


def _ink(ax: Axes) -> npt.NDArray[np.float64]:
    """Return the places (n, 2) of what is drawn in `ax`: points, means and the outlines of ellipses."""
    drawn = [np.asarray(points.get_offsets(), float) for points in ax.collections]
    drawn += [np.asarray(line.get_xydata(), float) for line in ax.lines]
    outlines = [patch.get_verts() for patch in ax.patches]
    return np.concatenate([*drawn, *(ax.transData.inverted().transform(outline) for outline in outlines)])


def _finish(figure: Figure, facet: Facet, *, away: list[Far], drawn: pd.DataFrame) -> None:
    """Place the title, and a legend of the strategies that stand in some panel."""
    counts = seeds_per_mean(facet)
    absent = set.intersection(*(set(far) for far in away))
    styles = [facet.styles[name] for name in sorted(set(drawn[schema.STRATEGY]), key=strategy_rank)]
    styles = [style for style in styles if style.label not in absent]
    handles = [legend_handle(style, line=max(counts) >= FEWEST_FOR_ELLIPSE) for style in styles]
    if max(counts) < FEWEST_FOR_MEAN:
        title = f"{count_text(counts, 'seed')} each"
    else:
        title = f"small: one seed; large: mean over {count_text(counts, 'seed')}"
    if max(counts) >= FEWEST_FOR_ELLIPSE:
        title += f"; ellipse: {percent_text(facet.settings.level)} of the mean"
    place_title(figure, facet.title)
    start = start_text(
        facet, mark="star, or an arrow towards it" if any(START in far for far in away) else "star"
    )
    place_legend(figure, handles, [style.label for style in styles], title=f"{title}\n{start}")


def start_text(facet: Facet, *, mark: str) -> str:
    """Return what marks the losses before Phase B, with the numbers where there is one adapter."""
    words = f"{START} ({mark})"
    if len(facet.starts) > 1:
        return words
    before_a, before_b = facet.starts.to_numpy(float)[0]
    return f"{words}: {before_a:.3f}, {before_b:.3f}"


def caption(facet: Facet) -> str:
    """Return the caption of the trade-off plane, from what varied and what is there."""
    counts = seeds_per_mean(facet)
    given = conditions(facet)
    if max(counts) >= FEWEST_FOR_ELLIPSE:
        few = f", none where n < {FEWEST_FOR_ELLIPSE}" if min(counts) < FEWEST_FOR_ELLIPSE else ""
        spread = (
            f"Ellipses: {percent_text(facet.settings.level)} regions of the mean of both losses (Hotelling's "
            f"T²) over {count_text(counts, 'seed')} ({varied(facet)}){few}; {given}. They are not paired by "
            "seed: whether two of them overlap is no test."
        )
    else:
        spread = f"No ellipse below {FEWEST_FOR_ELLIPSE} seeds, here {count_text(counts, 'seed')}; {given}."
    return joined(
        f"Final {facet.study.task_a} loss against final {facet.study.task_b} loss, in nats per supervised "
        "token: lower left is better at both. Small points: single seeds; large points: their mean, from 3 "
        "seeds on.",
        spread,
        "Star: the losses before Phase B; an arrow in a corner points to what lies far outside. Panels have "
        "one scale, each shifted to its own data.",
        f"{schema.AA}, which is {facet.study.baseline} again, is left out."
        if schema.AA in set(facet.done[schema.STRATEGY])
        else "",
        absent_sentence(facet),
        mix_sentence(facet),
    )


ENTRY = Entry(60, "tradeoff", "Trade-off of both tasks", draw_trade_off)
