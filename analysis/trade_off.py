"""The trade-off plane: final task A loss against final task B loss, one panel a mix."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.inference import FEWEST_FOR_INTERVAL, interval_name, mean_interval
from analysis.outcomes import FINAL_A, FINAL_B
from analysis.style import (
    ONE_COLUMN,
    TWO_COLUMNS,
    LineStyle,
    legend_handle,
    mix_text,
    place_legend,
    plain_ticks,
    strategy_text,
)
from analysis.view import (
    Drawing,
    View,
    absent_sentence,
    conditions,
    count_text,
    mean_text,
    mix_sentence,
    seeds_per_mean,
)
from trainables import columns

START = "losses before Phase B"
REACH = 0.5  # the start is drawn in place if it lies within this share of the data's span


def plot_trade_off(frame: pd.DataFrame, ax: Axes, *, styles: dict[str, LineStyle]) -> Axes:
    """Draw finished outcomes: faint points are seeds, marked points means with t error bars from n = 3 on."""
    for strategy, style in styles.items():
        runs = frame[frame[columns.STRATEGY] == strategy]
        if runs.empty:
            continue
        ax.scatter(
            runs[FINAL_A],
            runs[FINAL_B],
            s=7,
            marker=style.marker,
            color=style.colour,
            alpha=0.4,
            linewidths=0,
        )
        across = mean_interval(runs[FINAL_A].to_numpy(float))
        up = mean_interval(runs[FINAL_B].to_numpy(float))
        if across.n >= FEWEST_FOR_INTERVAL:
            ax.errorbar(
                across.mean,
                up.mean,
                xerr=across.half_width,
                yerr=up.half_width,
                color=style.colour,
                elinewidth=0.8,
                capsize=1.5,
                capthick=0.8,
                zorder=2,
            )
        ax.plot(
            [across.mean], [up.mean], style.marker, color=style.colour, markersize=5, markeredgecolor="white",
            markeredgewidth=0.5, zorder=3,
        )  # fmt: skip
    return ax


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
    ax.autoscale(enable=False)
    limits = (ax.get_xlim(), ax.get_ylim())
    place = np.array([(value - low) / (high - low) for value, (low, high) in zip(start, limits, strict=True)])
    direction = (place - 0.5) / np.linalg.norm(place - 0.5)
    tip = np.clip(place, 0.01, 0.99)
    arrow = {"arrowstyle": "-|>", "color": "0.3", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
    ax.annotate(
        "", xy=tuple(tip), xytext=tuple(tip - 0.1 * direction), xycoords="axes fraction", arrowprops=arrow
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
    size = (ONE_COLUMN if wide == 1 else TWO_COLUMNS, 0.75 + (2.6 if wide < 3 else 2.1) * tall)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(tall, wide, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, mix in zip(axes, mixes, strict=False):
        plot_trade_off(view.panel(done, mix=mix), ax, styles=view.styles)
        ax.margins(0.12)
        ax.set_title(f"mix {mix_text(mix)}" if mix else "no replay")
        plain_ticks(ax, count=4).tick_params(labelbottom=True)
    starts = [(float(start[0]), float(start[1])) for start in view.starts.itertuples(index=False)]
    near = all(within_reach(start, axes[0]) for start in starts)
    for ax in axes[: len(mixes)]:
        for start in starts:
            mark_start(start, ax)
    for ax in axes[len(mixes) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(mixes) - wide) : len(mixes)]:
        ax.set_xlabel(f"final {view.study.task_a} loss (nats/token)")
    for ax in axes[::wide]:
        ax.set_ylabel(f"final {view.study.task_b} loss (nats/token)")
    _finish(figure, view, start=f"{'star: ' if near else 'arrow: towards '}{start_text(starts)}")
    return Drawing(figure, caption(view))


def start_text(starts: list[tuple[float, float]]) -> str:
    """Return the words for the losses before Phase B, with the numbers where there is one adapter."""
    return START if len(starts) > 1 else f"{START} ({starts[0][0]:.3f}, {starts[0][1]:.3f})"


def _finish(figure: Figure, view: View, *, start: str) -> None:
    handles = [legend_handle(style) for style in view.styles.values()]
    for handle in handles:
        handle.set_linestyle("")
    labels = [strategy_text(name) for name in view.styles]
    counts = seeds_per_mean(view)
    title = f"large: mean over {count_text(counts, 'seed')}" if max(counts) > 1 else "one seed each"
    if max(counts) >= FEWEST_FOR_INTERVAL:
        title += f"; bars: {interval_name('t')} over seeds"
    place_legend(figure, handles, labels, title=f"{title}\n{start}")
    if view.title:
        figure.suptitle(view.title, fontsize=7.5)


def caption(view: View) -> str:
    """Return the caption of the trade-off plane, from what varied and what is there."""
    counts = seeds_per_mean(view)
    opening = (
        f"Final {view.study.task_a} loss against final {view.study.task_b} loss, in nats per supervised token: lower "
        f"left is better at both. Small points: single seeds; large points: their mean. "
        f"{mean_text(view, counts=counts, unit='seed')}."
    )
    parts = [opening]
    if max(counts) >= FEWEST_FOR_INTERVAL:
        parts.append(f"Bars: {interval_name('t')} over seeds, of each loss by itself, {conditions(view)}.")
    if min(counts) < FEWEST_FOR_INTERVAL and max(counts) > 1:
        parts.append("No bars where n ≤ 2.")
    parts += ["Star or arrow: the losses before Phase B.", absent_sentence(view), mix_sentence(view)]
    return " ".join(parts)
