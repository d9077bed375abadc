"""Seed slope graph: from the baseline to each strategy, one line a seed."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.captions import (
    joined,
    left_out_sentence,
    measure_axis,
    measure_heading,
    mix_sentence,
    seeds_sentence,
)
from analysis.figures.facet import Drawing, Entry, Facet
from analysis.figures.style import (
    ONE_COLUMN,
    TWO_COLUMNS,
    LineStyle,
    draw_thin_lines,
    place_legend,
    place_title,
    plain_ticks,
    share_span,
    slanted_names,
    strategy_styles,
)
from analysis.findings.outcomes import strategy_rank
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from analysis.wording.terms import mix_text
from trainables.ledger import schema

REACH = 0.3  # from a strategy's place to either end of its slopes
DOWN: Any = "-"
UP: Any = (0, (2.5, 1.2))


def plot_slopes(
    pairs: pd.DataFrame,
    ax: Axes,
    *,
    measure: str,
    styles: dict[str, LineStyle] | None = None,
    places: list[str] | None = None,
) -> Axes:
    """Draw one mix's pairs: left end the baseline's `measure`, right end the strategy's; the mean in black.

    `places`: the strategies from left to right; by default those there are.
    """
    styles = styles or strategy_styles(pairs[schema.STRATEGY])
    places = sorted(set(pairs[schema.STRATEGY]), key=strategy_rank) if places is None else places
    for place, strategy in enumerate(places):
        rows, style = pairs[pairs[schema.STRATEGY] == strategy], styles[strategy]
        ends = rows[[f"{measure}_baseline", measure]].dropna()
        across, heights = [place - REACH, place + REACH], ends.to_numpy(float)
        rises = heights[:, 1] > heights[:, 0]
        for line, chosen in ((DOWN, heights[~rises]), (UP, heights[rises])):
            draw_thin_lines(ax, across, chosen, color=style.colour, linestyle=line, linewidth=0.8, alpha=0.85)
        left, right = (np.full(len(ends), x) for x in across)
        ax.plot(
            left,
            heights[:, 0],
            "o",
            color="white",
            markeredgecolor="0.1",
            markeredgewidth=0.6,
            markersize=2.6,
        )
        ax.plot(right, heights[:, 1], style.marker, color=style.colour, markersize=3.2)
        if len(ends) >= FEWEST_FOR_INTERVAL:
            ax.plot(across, heights.mean(axis=0), color="0.1", linewidth=1.8, zorder=4)
    ax.set_xlim(-0.55, len(places) - 0.45)
    return slanted_names(ax, [styles[name].label for name in places])


def draw_slopes(facet: Facet) -> Drawing:
    """Return the slope graph of one axis combination, a panel a mix, or why there is none."""
    measure = facet.settings.primary
    pairs = facet.pairs[facet.pairs["matched"].astype(bool)]
    pairs = pairs[pairs[schema.STRATEGY] != schema.NO_REPLAY].dropna(subset=[f"{measure}_difference"])
    if pairs.empty:
        return Drawing(None, f"Not drawn: no strategy has a finished pair with {facet.study.baseline!r}.")
    mixes = sorted(set(pairs[schema.MIX]))
    places = sorted(set(pairs[schema.STRATEGY]), key=strategy_rank)
    width = min(TWO_COLUMNS, max(ONE_COLUMN, 0.7 + 0.55 * len(places)))
    names = 0.04 * max(len(facet.styles[name].label) for name in places)
    figure = Figure(figsize=(width, 0.25 + names + 1.45 * len(mixes)), layout="constrained")
    axes = figure.subplots(len(mixes), 1, squeeze=False)[:, 0]
    for ax, mix in zip(axes, mixes, strict=True):
        plot_slopes(pairs[pairs[schema.MIX] == mix], ax, measure=measure, styles=facet.styles, places=places)
        plain_ticks(ax, count=4, axes="y").set_title(f"mix {mix_text(float(mix))}")
        ax.tick_params(axis="x", labelbottom=ax is axes[-1])
    share_span(axes, axis="y", least=2 * (facet.settings.smallest_effect or 0.0))
    figure.supylabel(measure_axis(facet), fontsize=7.5, multialignment="center")
    place_title(figure, facet.title)
    _place_legend(
        figure,
        baseline=facet.study.baseline,
        mean=bool((pairs.groupby([schema.STRATEGY, schema.MIX]).size() >= FEWEST_FOR_INTERVAL).any()),
    )
    shown = pairs[[*schema.LABEL_COLUMNS, measure, f"{measure}_baseline"]]
    return Drawing(figure, caption(facet, pairs), {"pairs": shown})


def _place_legend(figure: Figure, *, baseline: str, mean: bool) -> None:
    handles = [
        Line2D([], [], linestyle="", marker="o", color="white", markeredgecolor="0.1", markersize=3),
        Line2D([], [], linestyle="", marker="s", color="0.4", markersize=3),
        Line2D([], [], color="0.4", linestyle=DOWN, linewidth=0.8),
        Line2D([], [], color="0.4", linestyle=UP, linewidth=0.8),
        Line2D([], [], color="0.1", linewidth=1.8),
    ]
    labels = [baseline, "strategy", "lower", "higher", "mean"]
    shown = len(labels) if mean else -1
    place_legend(figure, handles[:shown], labels[:shown], title="")


def caption(facet: Facet, pairs: pd.DataFrame) -> str:
    """Return the caption of the slope graph."""
    counts = [len(group) for _, group in pairs.groupby([schema.STRATEGY, schema.MIX])]
    return joined(
        f"{measure_heading(facet)} at each seed: from {facet.study.baseline} (open circle) to the strategy; "
        f"solid where the strategy's is lower, dashed where it is higher; black: the mean, from 3 pairs on. "
        "Heights differ by seed; what is compared is the slope. All panels have one scale, each shifted to "
        "its own data.",
        seeds_sentence(facet, counts),
        left_out_sentence(facet),
        mix_sentence(facet),
    )


ENTRY = Entry(70, "seed_slopes", "Every seed by itself", draw_slopes)
