"""Forgetting of task A by its examples' level and type, each strategy's mean over seeds."""

from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn
from matplotlib.axes import Axes

from analysis.figures.captions import absent_sentence, joined, mix_sentence, spread_sentence
from analysis.figures.facet import Drawing, Entry, Facet
from analysis.figures.lettering import shown_text
from analysis.figures.style import (
    ONE_COLUMN,
    TWO_COLUMNS,
    LineStyle,
    legend_handle,
    looks,
    place_legend,
    place_title,
    plain_ticks,
    strategy_styles,
)
from analysis.findings.outcomes import strategy_rank
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, LEVEL, mean_interval
from analysis.wording.terms import mix_text
from trainables.ledger import schema

GROUPS = ("level", "type")
TWO = 2  # seeds: points, and no mean of them
THICKNESS = 0.085  # inches of a lane
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
    for row in range(1, len(values), 2):
        ax.axhspan(row - 0.5, row + 0.5, color="0.965", linewidth=0, zorder=0)
    ax.axvline(0, color="0.2", linewidth=0.8, zorder=1)
    _plot_lanes(in_lanes(levels, names=names, values=values), ax, level=level, styles=styles)
    sizes = levels.groupby("value")["examples"].first()
    labels = [shown_text(str(value), longest=22, ending=False) for value in values]
    texts = [f"{label} ({sizes.get(value, 0):.0f})" for value, label in zip(values, labels, strict=True)]
    ax.set_yticks(range(len(values)), texts)
    ax.set(ylim=(len(values) - 0.5, -0.5), xlabel="", ylabel="")
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    return ax


def in_lanes(levels: pd.DataFrame, *, names: list[str], values: list[object]) -> pd.DataFrame:
    """Return the known rises of `values`, each with its `lane`, in rows from the top, how far `below` it
    single seeds stand, and `n`, how many there are in it.
    """
    rises = levels[levels["value"].isin(values)].dropna(subset="forgetting")
    rows = rises["value"].map(values.index)
    lanes = (rises[schema.STRATEGY].map(names.index) + 0.35) / len(names)
    seeds = rises.groupby([schema.STRATEGY, "value"])["forgetting"].transform("size")
    return rises.assign(lane=rows - 0.4 + 0.8 * lanes, n=seeds, below=BELOW * 0.8 / len(names))


def _plot_lanes(rises: pd.DataFrame, ax: Axes, *, level: float, styles: dict[str, LineStyle]) -> None:
    """Draw each lane's mean, with its interval where it is over enough examples, its single seeds below.

    Two seeds have no mean and stand in their lane.
    """
    many, pairs = rises["n"] >= FEWEST_FOR_INTERVAL, rises["n"] == TWO
    below = rises.assign(lane=rises["lane"] + rises["below"])
    look = looks(styles, markers=True) | {"x": "forgetting", "y": "lane", "ax": ax, "linewidth": 0}
    for points, size, strength in ((below[many], 2.5, 0.6), (rises[pairs], 7, 1.0)):
        if not points.empty:
            seaborn.scatterplot(points, **look, s=size, alpha=strength)
    averaged = rises[many & (rises["examples"] >= FEWEST_EXAMPLES)]
    bare = rises[~pairs].drop(averaged.index)
    for found, errorbar in ((averaged, partial(t_ends, level=level)), (bare, None)):
        if not found.empty:
            seaborn.lineplot(
                found, x="forgetting", y="lane", orient="y", errorbar=errorbar, err_style="bars", ax=ax,
                **looks(styles, markers=True, dashes=True), err_kws={"elinewidth": 1.1}, linewidth=0,
                markersize=3.2, markeredgewidth=0.4, zorder=4,
            )  # fmt: skip


def t_ends(found: npt.ArrayLike, *, level: float) -> tuple[float, float]:
    """Return the ends of the t interval of the mean of `found` (n,): seaborn's `errorbar`."""
    interval = mean_interval(np.asarray(found, float), level=level)
    return interval.mean - interval.half_width, interval.mean + interval.half_width


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
    heights = [len(found) * max(0.17, THICKNESS * lanes + 0.04) for found in values.values()]
    width = ONE_COLUMN if len(mixes) == 1 else TWO_COLUMNS
    figure = facet.new_figure(width, 0.4 + sum(heights) + 0.35 * len(heights))
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
