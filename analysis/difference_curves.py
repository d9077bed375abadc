"""Difference curves: a strategy's task A loss minus random's at the same seed and step, with a band of its own.

Two curves' bands that overlap are no test of their difference; this is the paired difference itself.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.bands import band
from analysis.captions import joined, left_out_sentence, mix_sentence
from analysis.conditions import conditioning
from analysis.curves import band_text
from analysis.inference import FEWEST_FOR_INTERVAL, LEVEL
from analysis.outcomes import BASELINE, strategy_rank
from analysis.style import ONE_COLUMN, LineStyle, mix_text, place_title, plain_ticks
from analysis.tidy import STATE
from analysis.view import Drawing, View
from trainables import columns

DIFFERENCE = "difference"


def curve_differences(rows: pd.DataFrame, pairs: pd.DataFrame, *, metric: str) -> pd.DataFrame:
    """Return strategy - baseline of `metric` at each shared step of each matched pair of done runs.

    Columns: strategy, mix, seed, step, difference. `rows` are evaluation points, `pairs` the findings'.
    """
    keys = [columns.MIX, columns.SEED]
    chosen = pairs[pairs["matched"].astype(bool) & (pairs[columns.STRATEGY] != columns.NO_REPLAY)]
    points = rows.loc[rows[STATE] == columns.DONE, [*columns.LABEL_COLUMNS, columns.STEP, metric]]
    own = points.merge(chosen[[columns.STRATEGY, *keys]], on=[columns.STRATEGY, *keys])
    baseline = points[points[columns.STRATEGY] == BASELINE].drop(columns=columns.STRATEGY)
    both = own.merge(baseline, on=[*keys, columns.STEP], suffixes=("", "_baseline"))
    both[DIFFERENCE] = both[metric] - both[f"{metric}_baseline"]
    return both[[*columns.LABEL_COLUMNS, columns.STEP, DIFFERENCE]]


def plot_differences(
    differences: pd.DataFrame,
    ax: Axes,
    *,
    style: LineStyle,
    level: float = LEVEL,
    simultaneous: bool = False,
) -> Axes:
    """Draw one strategy's differences at one mix: a thin line a seed, their mean, and its band from n = 3 on."""
    ax.axhline(0, color="0.2", linewidth=0.8, zorder=1)
    table = differences.pivot(index=columns.SEED, columns=columns.STEP, values=DIFFERENCE)
    table = table.dropna(axis="columns")
    if table.empty:
        return ax
    steps = table.columns.to_numpy(float)
    for values in table.to_numpy(float):
        ax.plot(steps, values, color=style.colour, linewidth=0.5, alpha=0.55)
    if len(table) < FEWEST_FOR_INTERVAL:
        return ax
    shown, _ = band(table.to_numpy(float), level=level, simultaneous=simultaneous)
    ax.plot(steps, shown.mean, color=style.colour, linewidth=1.3, zorder=3)
    low, high = shown.mean - shown.half_width, shown.mean + shown.half_width
    ax.fill_between(steps, low, high, color=style.colour, alpha=0.2, linewidth=0, zorder=1)
    return ax


def draw_difference_curves(view: View) -> Drawing:
    """Return the difference curves of one axis combination: rows are strategies, columns mixes."""
    frame = curve_differences(view.rows, view.pairs, metric=columns.TASK_A_LOSS)
    if frame.empty:
        return Drawing(None, f"Not drawn: no strategy has a finished pair with {BASELINE!r}.")
    mixes = sorted(set(frame[columns.MIX]))
    names = sorted(set(frame[columns.STRATEGY]), key=strategy_rank)
    size = (max(ONE_COLUMN, 0.7 + 1.65 * len(mixes)), max(1.9, 0.5 + 0.82 * len(names)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(names), len(mixes), sharex="col", sharey=True, squeeze=False)
    for row, name in enumerate(names):
        for column, mix in enumerate(mixes):
            ax = axes[row, column]
            part = frame[(frame[columns.STRATEGY] == name) & (frame[columns.MIX] == mix)]
            style = view.styles[name]
            plot_differences(part, ax, style=style, level=view.settings.level, simultaneous=view.simultaneous)
            plain_ticks(ax, count=4)
            if row == 0:
                ax.set_title(f"mix {mix_text(float(mix))}")
        axes[row, 0].text(
            0.03, 0.96, view.styles[name].label, transform=axes[row, 0].transAxes, va="top", fontsize=6.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.75}, zorder=5,
        )  # fmt: skip
    for ax in axes[-1]:
        ax.set_xlabel("optimiser step")
    figure.supylabel(
        f"{view.task_a} loss: strategy − {BASELINE}\n(nats/token)", fontsize=7.5, multialignment="center"
    )
    place_title(figure, view.title)
    return Drawing(figure, caption(view, frame), {"differences": frame})


def caption(view: View, frame: pd.DataFrame) -> str:
    """Return the caption of the difference curves."""
    groups = frame.groupby([columns.STRATEGY, columns.MIX])[columns.SEED]
    counts = [int(count) for count in groups.nunique()]
    bands = (
        f"Thick: the mean; band: {band_text(view, counts)} of the paired difference, not adjusted for the number of "
        "strategies and mixes. Whether bands of two forgetting curves overlap is no test of their difference."
        if max(counts) >= FEWEST_FOR_INTERVAL
        else ""
    )
    return joined(
        f"{view.study.task_a} validation loss minus that of {BASELINE} at the same seed, mix and step: above 0, more was "
        f"forgotten than with {BASELINE}. Thin: single pairs. {bands}".strip(),
        conditioning(view, n=counts),
        left_out_sentence(view),
        mix_sentence(view),
    )
