"""Difference curves: a strategy's task A loss minus the baseline's at the same seed and step, and a band."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.captions import joined, left_out_sentence, mix_sentence
from analysis.figures.curves import band_text, mean_curves, plot_replicates
from analysis.figures.facet import Drawing, Entry, Facet
from analysis.figures.style import ONE_COLUMN, SMALLEST, LineStyle, place_title, plain_ticks
from analysis.findings.outcomes import strategy_rank
from analysis.reading.study import STATE
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, LEVEL
from analysis.wording.conditioning import conditioning
from analysis.wording.terms import mix_text
from trainables.ledger import schema

DIFFERENCE = "difference"


def curve_differences(rows: pd.DataFrame, pairs: pd.DataFrame, *, metric: str, baseline: str) -> pd.DataFrame:
    """Return strategy - baseline of `metric` at each shared step of each matched pair of done runs.

    Columns: strategy, mix, seed, step, difference. `rows` are evaluation points, `pairs` the findings'.
    """
    keys = [schema.MIX, schema.SEED]
    chosen = pairs[pairs["matched"].astype(bool) & (pairs[schema.STRATEGY] != schema.NO_REPLAY)]
    points = rows.loc[rows[STATE] == schema.DONE, [*schema.LABEL_COLUMNS, schema.STEP, metric]]
    own = points.merge(chosen[[schema.STRATEGY, *keys]], on=[schema.STRATEGY, *keys])
    partners = points[points[schema.STRATEGY] == baseline].drop(columns=schema.STRATEGY)
    both = own.merge(partners, on=[*keys, schema.STEP], suffixes=("", "_baseline"))
    both[DIFFERENCE] = both[metric] - both[f"{metric}_baseline"]
    return both[[*schema.LABEL_COLUMNS, schema.STEP, DIFFERENCE]]


def plot_differences(
    differences: pd.DataFrame,
    ax: Axes,
    *,
    styles: Mapping[str, LineStyle],
    level: float = LEVEL,
    simultaneous: bool = False,
) -> Axes:
    """Draw strategies' differences at one mix: from n = 3 on a thin line a seed, their mean and its band.

    One or two are drawn as strong lines.
    """
    ax.axhline(0, color="0.2", linewidth=0.8, zorder=1)
    means = mean_curves(differences, metric=DIFFERENCE, level=level, simultaneous=simultaneous)
    return plot_replicates(differences, ax, metric=DIFFERENCE, styles=styles, means=means)


def draw_difference_curves(facet: Facet) -> Drawing:
    """Return the difference curves of one axis combination: rows are strategies, columns mixes."""
    rows, across = facet.by_examples(facet.rows)
    frame = curve_differences(rows, facet.pairs, metric=schema.TASK_A_LOSS, baseline=facet.study.baseline)
    if frame.empty:
        return Drawing(None, f"Not drawn: no strategy has a finished pair with {facet.study.baseline!r}.")
    mixes = sorted(set(frame[schema.MIX]))
    names = sorted(set(frame[schema.STRATEGY]), key=strategy_rank)
    size = (max(ONE_COLUMN, 0.7 + 1.65 * len(mixes)), max(1.9, 0.6 + 0.95 * len(names)))
    figure = facet.new_figure(*size)
    axes = figure.subplots(len(names), len(mixes), sharex="col", sharey=True, squeeze=False)
    for (row, column), ax in np.ndenumerate(axes):
        chosen = (frame[schema.STRATEGY] == names[row]) & (frame[schema.MIX] == mixes[column])
        style, level = replace(facet.styles[names[row]], dash=()), facet.settings.level
        own = {names[row]: style}
        plot_differences(frame[chosen], ax, styles=own, level=level, simultaneous=facet.simultaneous)
        if not chosen.any():
            ax.text(0.5, 0.75, "no finished pair", transform=ax.transAxes, ha="center", fontsize=SMALLEST)
        plain_ticks(ax, count=4)
        if column == 0:
            ax.set_title(style.label, loc="left", fontsize=7)
        if row == 0:
            ax.set_title(f"mix {mix_text(float(mixes[column]))}\n")  # above the strategy's name
    for ax in axes[-1]:
        ax.set_xlabel(across)
    figure.supylabel(
        f"{facet.task_a} loss: strategy − {facet.study.baseline}\n(nats/token)",
        fontsize=7.5,
        multialignment="center",
    )
    place_title(figure, facet.title)
    return Drawing(figure, caption(facet, frame), {"differences": frame})


def caption(facet: Facet, frame: pd.DataFrame) -> str:
    """Return the caption of the difference curves."""
    groups = frame.groupby([schema.STRATEGY, schema.MIX])[schema.SEED]
    counts = [int(count) for count in groups.nunique()]
    means = [count for count in counts if count >= FEWEST_FOR_INTERVAL]
    thick = (
        f"Thick: the mean; thin: single pairs; shaded: the {band_text(facet, counts)} of the paired "
        "difference, not adjusted for the number of strategies and mixes. Whether bands of two forgetting "
        "curves overlap is no test of their difference."
        if means
        else ""
    )
    return joined(
        f"Validation loss of {facet.study.task_a} minus that of {facet.study.baseline} at the same seed, mix "
        f"and step: above 0, more was forgotten than with {facet.study.baseline}.",
        thick,
        "Of fewer than 3 pairs each is a line with markers." if len(means) < len(counts) else "",
        conditioning(facet, n=counts),
        left_out_sentence(facet),
        mix_sentence(facet),
    )


ENTRY = Entry(30, "difference_curves", "Difference from the baseline during Phase B", draw_difference_curves)
