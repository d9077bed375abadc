"""Forgetting of task A by its examples' level and type, each strategy's mean over seeds."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.captions import absent_sentence, joined, mix_sentence, spread_sentence
from analysis.figures.facet import Drawing, Entry, Facet
from analysis.figures.lettering import shown_text
from analysis.figures.style import (
    ONE_COLUMN,
    TWO_COLUMNS,
    LineStyle,
    legend_handle,
    place_legend,
    place_title,
    plain_ticks,
    strategy_styles,
)
from analysis.findings.outcomes import strategy_rank
from analysis.stats.intervals import LEVEL, mean_interval
from analysis.wording.terms import mix_text
from trainables.ledger import schema

GROUPS = ("level", "type")
LANE = 0.085  # inches a strategy takes within a value's row
BELOW = 0.42  # of a lane, from the interval to its single seeds
MOST_VALUES = 16
FEWEST_EXAMPLES = 5  # an interval over the seeds of so few would pass for one over examples


def plot_levels(
    levels: pd.DataFrame,
    ax: Axes,
    *,
    level: float = LEVEL,
    styles: dict[str, LineStyle] | None = None,
    values: list[object] | None = None,
) -> Axes:
    """Draw one mix and group: a row a value, in it a lane a strategy with seeds, mean and interval (n >=
    3).
    """
    styles = styles or strategy_styles(levels[schema.STRATEGY])
    names = sorted(set(levels[schema.STRATEGY]), key=strategy_rank)
    values = ordered_values(levels) if values is None else values
    ax.axvline(0, color="0.2", linewidth=0.8, zorder=1)
    for row, value in enumerate(values):
        if row % 2:
            ax.axhspan(row - 0.5, row + 0.5, color="0.965", linewidth=0, zorder=0)
        for lane, name in enumerate(names):
            height = row - 0.4 + 0.8 * (lane + 0.35) / len(names)
            chosen = levels[(levels["value"] == value) & (levels[schema.STRATEGY] == name)]
            few = len(chosen) > 0 and chosen["examples"].iloc[0] < FEWEST_EXAMPLES
            _plot_lane(
                chosen["forgetting"].dropna().to_numpy(float),
                ax,
                heights=(height, height + BELOW * 0.8 / len(names)),
                style=styles[name],
                level=None if few else level,
            )
    sizes = levels.groupby("value")["examples"].first()
    ax.set_yticks(
        range(len(values)),
        [
            f"{shown_text(str(value), longest=22, ending=False)} ({sizes.get(value, 0):.0f})"
            for value in values
        ],
    )
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    return ax


def _plot_lane(
    found: np.ndarray, ax: Axes, *, heights: tuple[float, float], style: LineStyle, level: float | None
) -> None:
    """Draw a strategy's mean and interval at the first of `heights`, its single seeds below at the second.

    No interval where there is no `level`.
    """
    if not len(found):
        return
    height, below = heights
    interval = mean_interval(found, level=level or LEVEL)
    if len(found) > 1:
        ax.scatter(
            found,
            np.full(len(found), below if len(found) > 2 else height),
            s=2.5 if len(found) > 2 else 7,
            marker=style.marker,
            color=style.colour,
            alpha=0.6 if len(found) > 2 else 1,
            linewidths=0,
        )
    if level is not None and np.isfinite(interval.half_width):
        ends = [interval.mean - interval.half_width, interval.mean + interval.half_width]
        ax.plot(ends, [height] * 2, color=style.colour, linewidth=1.1)
    if len(found) == 2:
        return
    ax.plot(
        [interval.mean], [height], style.marker, color=style.colour, markersize=3.2, markeredgecolor="white",
        markeredgewidth=0.4, zorder=4,
    )  # fmt: skip


def ordered_values(levels: pd.DataFrame) -> list[object]:
    """Return the group's values: numbers by size, then texts by letter."""
    found = levels["value"].unique().tolist()
    return sorted(
        found,
        key=lambda value: (isinstance(value, str), value if not isinstance(value, str) else 0, str(value)),
    )


def draw_levels(facet: Facet) -> Drawing:
    """Return the forgetting by group of one axis combination: columns are mixes, rows level and type."""
    levels = facet.part(facet.findings.levels)
    if levels.empty:
        notes = " ".join(facet.findings.notes_on("levels"))
        return Drawing(None, f"Not drawn. {notes}".strip())
    groups = {name: levels[levels["group"] == name] for name in GROUPS if (levels["group"] == name).any()}
    values = {name: ordered_values(frame)[:MOST_VALUES] for name, frame in groups.items()}
    mixes = facet.mixes
    lanes = levels[schema.STRATEGY].nunique()
    heights = [len(found) * max(0.17, LANE * lanes + 0.04) for found in values.values()]
    width = ONE_COLUMN if len(mixes) == 1 else TWO_COLUMNS
    figure = Figure(figsize=(width, 0.4 + sum(heights) + 0.35 * len(heights)), layout="constrained")
    axes = figure.subplots(
        len(groups), len(mixes), sharex=True, sharey="row", squeeze=False, height_ratios=heights
    )
    for row, (name, frame) in enumerate(groups.items()):
        for column, mix in enumerate(mixes):
            ax, part = axes[row, column], facet.panel(frame, mix=mix)
            plot_levels(part, ax, level=facet.settings.level, styles=facet.styles, values=values[name])
            plain_ticks(ax, count=4, axes="x")
            if row == 0:
                ax.set_title(f"mix {mix_text(mix)}" if mix else "no replay")
        axes[row, 0].set_ylabel(name)
    axes[-1, len(mixes) // 2].set_xlabel(f"rise of {facet.task_a} loss\n(nats/token)")
    place_title(figure, facet.title)
    names = sorted(set(levels[schema.STRATEGY]), key=strategy_rank)
    handles = [legend_handle(facet.styles[name]) for name in names]
    for handle in handles:
        handle.set_linestyle("-")
    place_legend(figure, handles, [facet.styles[name].label for name in names], title="")
    cut = [name for name, frame in groups.items() if frame["value"].nunique() > MOST_VALUES]
    return Drawing(figure, caption(facet, levels, cut=cut), {"levels": levels})


def caption(facet: Facet, levels: pd.DataFrame, *, cut: list[str]) -> str:
    """Return the caption of the forgetting by group."""
    keys = [schema.STRATEGY, schema.MIX, "group", "value"]
    counts = sorted({len(group) for _, group in levels.groupby(keys)})
    sizes = levels.groupby(["group", "value"])["examples"].max()
    smallest, largest = int(sizes.min()), int(sizes.max())
    return joined(
        f"Rise of {facet.study.task_a} validation loss from before Phase B to its end by its examples' "
        f"{' and '.join(GROUPS)}, weighted by supervised tokens: right of 0, forgotten. In brackets: how "
        f"many validation examples ({smallest} to {largest}), the same ones in every run. Small points: "
        "single seeds; large: their mean, from 3 seeds on.",
        f"Shown are the first {MOST_VALUES} values of {' and '.join(cut)}." if cut else "",
        spread_sentence(facet, counts, marks="Bars", kind="t"),
        f"None over fewer than {FEWEST_EXAMPLES} examples."
        if smallest < FEWEST_EXAMPLES and max(counts) > 2
        else "",
        "They are not adjusted for the number of groups: exploratory." if max(counts) > 2 else "",
        absent_sentence(facet),
        mix_sentence(facet),
    )


ENTRY = Entry(90, "levels", "Forgetting by level and type", draw_levels)
