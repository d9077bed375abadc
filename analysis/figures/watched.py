"""What else was lost: the loss of each watched corpus at the end of Phase B, beside the base model's."""

import math

import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.answers import DASHED, place_runs
from analysis.figures.captions import absent_sentence, joined, mix_sentence, spread_sentence
from analysis.figures.facet import Drawing, Entry, Facet, seeds_per_mean
from analysis.figures.lettering import shown_text
from analysis.figures.style import (
    AS_KNOWN,
    KNOWN,
    ONE_COLUMN,
    TWO_COLUMNS,
    LineStyle,
    known,
    legend_handle,
    looks,
    place_legend,
    place_title,
    plain_ticks,
    strategy_styles,
)
from analysis.findings.outcomes import strategy_rank
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, mean_interval
from analysis.wording.terms import mix_text
from trainables.ledger import schema

DOTTED = (0, (1, 1.5))
LONGEST_CORPUS = 24  # letters of its name above a panel


def plot_watched(
    runs: pd.DataFrame,
    ax: Axes,
    *,
    base: float = math.nan,
    start: float = math.nan,
    level: float = 0.95,
    styles: dict[str, LineStyle] | None = None,
) -> Axes:
    """Draw a corpus's loss at the end: each seed, and from three on the mean with its t interval.

    `runs`: strategy, mix, seed and `end` in nats a token. `base`, `start`: the base model's loss, dotted, and
    that before Phase B, dashed.
    """
    styles = styles or strategy_styles(runs[schema.STRATEGY])
    shown = {name: styles[name] for name in sorted(set(runs[schema.STRATEGY]), key=strategy_rank)}
    placed, ticks = place_runs(runs)
    look = looks(shown, markers=True) | {"ax": ax}
    seaborn.scatterplot(placed, x="beside", y="end", **look, s=10, linewidth=0, alpha=0.7)
    means = _means(placed, level=level)
    if not means.empty:
        bars = {"elinewidth": 0.9, "capsize": 1.8, "capthick": 0.8, "zorder": 3}
        seaborn.lineplot(
            known(means), x="at", y=KNOWN, **look, **AS_KNOWN, err_style="bars", err_kws=bars, linewidth=0,
            markersize=4.2, zorder=4,
        )  # fmt: skip
    for value, dash in ((base, DOTTED), (start, DASHED)):
        if not math.isnan(value):
            ax.axhline(value, color="0.2", linewidth=0.9, linestyle=dash, zorder=1)
    ax.grid(visible=False, axis="x")
    ax.set(xlabel="mix", ylabel="")
    ax.set_xticks([*ticks.values()], [mix_text(mix) for mix in ticks])
    return ax


def _means(runs: pd.DataFrame, *, level: float) -> pd.DataFrame:
    """Return strategy, at, low, mean, high of every place with three seeds or more."""
    rows = []
    for (strategy, at), group in runs.groupby([schema.STRATEGY, "at"], sort=False):
        if len(group) >= FEWEST_FOR_INTERVAL:
            found = mean_interval(group["end"].to_numpy(float), level=level)
            low, high = found.mean - found.half_width, found.mean + found.half_width
            rows.append((strategy, at, low, found.mean, high))
    return pd.DataFrame(rows, columns=[schema.STRATEGY, "at", "low", "mean", "high"])


def draw_watched(facet: Facet) -> Drawing:
    """Return the watched corpora of one axis combination: a panel a corpus."""
    runs = facet.part(facet.findings.watched_runs)
    if runs.empty:
        declared = "no corpus is watched (evaluation.watch)" if facet.findings.watched_runs.empty else ""
        return Drawing(None, f"Not drawn: {declared or 'no run is finished'}.")
    names = list(dict.fromkeys(runs["corpus"]))
    wide = min(3, len(names))
    tall = -(-len(names) // wide)
    figure = facet.new_figure(ONE_COLUMN if wide == 1 else TWO_COLUMNS, 2.0 * tall)
    axes = figure.subplots(tall, wide, squeeze=False).ravel()
    for ax, name in zip(axes, names, strict=False):
        own = runs[runs["corpus"] == name]
        base, start = (float(own[column].mean()) for column in ("base", "start"))
        plot_watched(own, ax, base=base, start=start, level=facet.settings.level, styles=facet.styles)
        ax.set_title(shown_text(name, longest=LONGEST_CORPUS))
        plain_ticks(ax, count=5, axes="y")
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    figure.supylabel("loss at the end (nats/token)", fontsize=7.5)
    place_title(figure, facet.title)
    _place_legend(figure, facet, runs)
    return Drawing(figure, caption(facet), {"watched": facet.part(facet.findings.watched), "runs": runs})


def _place_legend(figure: Figure, facet: Facet, runs: pd.DataFrame) -> None:
    names = sorted(set(runs[schema.STRATEGY]), key=strategy_rank)
    handles = [legend_handle(facet.styles[name], line=False) for name in names]
    for dash in (DASHED, DOTTED):
        handles.append(Line2D([], [], color="0.2", linewidth=0.9, linestyle=dash))
    labels = [*(facet.styles[name].label for name in names), "before Phase B", "base model"]
    place_legend(figure, handles, labels, title="")


def caption(facet: Facet) -> str:
    """Return the caption of the watched corpora."""
    return joined(
        "Loss of corpora that nothing was trained on, at the end of Phase B: above the dashed line it rose "
        "there. Small points: single seeds; large: their mean, from 3 seeds on.",
        spread_sentence(facet, seeds_per_mean(facet), marks="Bars", kind="t"),
        absent_sentence(facet),
        mix_sentence(facet),
    )


ENTRY = Entry(65, "watched", "What else was lost", draw_watched)
