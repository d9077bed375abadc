"""A/A null overlay: the spread of `random` against itself, under the effects that were observed."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import stats

from analysis.figures.captions import (
    direction_text,
    joined,
    left_out_sentence,
    measure_axis,
    measure_text,
    mix_sentence,
    percent_text,
)
from analysis.figures.facet import Drawing, Entry, Facet
from analysis.figures.style import (
    ONE_COLUMN,
    TWO_COLUMNS,
    LineStyle,
    looks,
    place_legend,
    place_title,
    plain_ticks,
    slanted_names,
    strategy_styles,
)
from analysis.findings.outcomes import strategy_rank
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, LEVEL
from analysis.wording.conditioning import conditioning
from analysis.wording.terms import mix_text
from trainables.ledger import schema

NULL = "0.86"
ACROSS = "across"  # the column of a point's place from left to right
PLACE = 0.25  # inches a strategy takes
SPREAD = 0.3  # of a strategy's place, the width its points take


def null_half_width(differences: npt.NDArray[np.float64], *, level: float) -> float:
    """Return the half-width, around 0, of the interval that a mean of n null differences (n,) falls into.

    t(n, (1+level)/2) sqrt(mean(d^2) / n): under A/A the true mean is 0 by design, so all n differences
    estimate the variance. NaN where n < 3.
    """
    n = len(differences)
    if n < FEWEST_FOR_INTERVAL:
        return float("nan")
    quantile = stats.t.ppf((1 + level) / 2, df=n)
    return float(quantile * np.sqrt(np.mean(differences**2) / n))


def plot_null_overlay(
    differences: pd.DataFrame,
    ax: Axes,
    *,
    level: float = LEVEL,
    styles: dict[str, LineStyle] | None = None,
    places: list[str] | None = None,
) -> Axes:
    """Draw one mix's pairs (columns strategy, seed, difference) over the A/A control's spread.

    `places`: the strategies from left to right; by default those there are, the control first.
    """
    styles = styles or strategy_styles(differences[schema.STRATEGY])
    null = differences.loc[differences[schema.STRATEGY] == schema.AA, "difference"].to_numpy(float)
    half_width = null_half_width(null, level=level)
    if np.isfinite(half_width):
        ax.axhspan(-half_width, half_width, color=NULL, linewidth=0, zorder=0)
    ax.axhline(0, color="0.2", linewidth=0.8, zorder=1)
    places = control_first(differences) if places is None else places
    points = spread_out(differences, places=places)
    look = looks({name: styles[name] for name in places}) | {"x": ACROSS, "y": "difference", "ax": ax}
    seaborn.scatterplot(points, **look, s=9, alpha=0.75, linewidth=0)
    pairs = points.groupby(schema.STRATEGY)["difference"]
    means = pairs.agg(["mean", "size"]).query(f"size >= {FEWEST_FOR_INTERVAL}")
    across = np.array([places.index(name) for name in means.index], float)
    colours = [styles[name].colour for name in means.index]
    left, right = across - SPREAD - 0.1, across + SPREAD + 0.1
    ax.hlines(means["mean"], left, right, colors=colours, linewidth=1.8, zorder=3)
    ax.set(xlim=(-0.6, len(places) - 0.4), xlabel="", ylabel="")
    return slanted_names(ax, [styles[name].label for name in places])


def spread_out(differences: pd.DataFrame, *, places: list[str]) -> pd.DataFrame:
    """Return the differences with their place ACROSS: their strategy's, and around it in the order of their
    seeds.
    """
    ordered = differences.sort_values(schema.SEED)
    strategy = ordered.groupby(schema.STRATEGY)["difference"]
    last = strategy.transform("size") - 1
    centred = (strategy.cumcount() - last / 2) / last.clip(lower=1)
    place = ordered[schema.STRATEGY].map(places.index)
    return ordered.assign(**{ACROSS: place + 2 * SPREAD * centred})


def control_first(differences: pd.DataFrame) -> list[str]:
    """Return the strategies of a frame, the A/A control first."""
    names = set(differences[schema.STRATEGY])
    return sorted(names, key=lambda name: (name != schema.AA, strategy_rank(name)))


def draw_null_overlay(facet: Facet) -> Drawing:
    """Return the A/A overlay of one axis combination, a panel a mix, or why there is none."""
    pairs = facet.pairs[facet.pairs["matched"].astype(bool)]
    pairs = pairs[pairs[schema.STRATEGY] != schema.NO_REPLAY]
    measured = f"{facet.settings.primary}_difference"
    shown = pairs[[*schema.LABEL_COLUMNS, measured]].rename(columns={measured: "difference"}).dropna()
    null = shown[shown[schema.STRATEGY] == schema.AA]
    if schema.AA not in set(facet.cells[schema.STRATEGY]):
        return Drawing(
            None,
            f"Not drawn: the study has no strategy {schema.AA!r}, {facet.study.baseline} with another "
            "selection.",
        )
    if null.empty:
        return Drawing(
            None, f"Not drawn yet: no finished pair of {schema.AA!r} and {facet.study.baseline!r}."
        )
    mixes = [mix for mix in facet.mixes if mix in set(shown[schema.MIX])]
    places = control_first(shown)
    panel = 0.55 + PLACE * len(places)
    wide = max(1, min(len(mixes), int(TWO_COLUMNS / panel)))
    tall = -(-len(mixes) // wide)
    names = 0.04 * max(len(facet.styles[name].label) for name in places)
    size = (max(ONE_COLUMN, wide * panel), (1.6 + names) * tall)
    figure = facet.new_figure(*size)
    axes = figure.subplots(tall, wide, sharey=True, squeeze=False)
    for ax, mix in zip(axes.ravel(), mixes, strict=False):
        part = shown[shown[schema.MIX] == mix]
        plot_null_overlay(part, ax, level=facet.settings.level, styles=facet.styles, places=places)
        plain_ticks(ax, axes="y").set_title(f"mix {mix_text(mix)}")
    for ax in axes.ravel()[len(mixes) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel(measure_axis(facet, difference=True))
    place_title(figure, facet.title)
    _place_legend(figure, facet, null)
    return Drawing(figure, caption(facet, shown, null), {"pairs": shown})


def _place_legend(figure: Figure, facet: Facet, null: pd.DataFrame) -> None:
    handles: list[Patch | Line2D] = [Line2D([], [], color="0.3", marker="o", markersize=3, linestyle="")]
    labels = ["one pair"]
    if null.groupby(schema.MIX).size().max() >= FEWEST_FOR_INTERVAL:
        handles += [Line2D([], [], color="0.3", linewidth=1.8), Patch(facecolor=NULL)]
        labels += ["mean", f"A/A: {percent_text(facet.settings.level)} of such means"]
    place_legend(figure, handles, labels, title="")


def caption(facet: Facet, shown: pd.DataFrame, null: pd.DataFrame) -> str:
    """Return the caption of the overlay."""
    counts = [len(group) for _, group in shown.groupby([schema.STRATEGY, schema.MIX])]
    enough = null.groupby(schema.MIX).size().max() >= FEWEST_FOR_INTERVAL
    band = (
        f"Grey: where {percent_text(facet.settings.level)} of means of as many A/A pairs would fall if "
        "nothing but chance were at work (t around 0, from the A/A pairs of the same mix)."
        if enough
        else "No null spread is drawn: fewer than 3 A/A pairs at each mix."
    )
    return joined(
        f"Paired differences from {facet.study.baseline} in {measure_text(facet)} (above 0, "
        f"{direction_text(facet)}), a point a seed, bars their means from 3 pairs on. {schema.AA} is "
        f"{facet.study.baseline} again with another selection stream: its differences are what no effect "
        f"looks like. {band}",
        "The grey zone is a picture of the noise; the test is the primary contrasts'." if enough else "",
        conditioning(facet, n=counts),
        left_out_sentence(facet),
        mix_sentence(facet),
    )


ENTRY = Entry(80, "null_overlay", "A/A check", draw_null_overlay)
