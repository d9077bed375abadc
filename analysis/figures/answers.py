"""Answers that are right: exact match at the end of Phase B, by mix and strategy, beside where it began."""

import math

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures.captions import absent_sentence, joined, mix_sentence, spread_sentence
from analysis.figures.facet import Drawing, Entry, Facet, seeds_per_mean
from analysis.figures.style import ONE_COLUMN, LineStyle, looks, place_legend, place_title, strategy_styles
from analysis.findings.outcomes import strategy_rank
from analysis.stats.intervals import mean_interval
from analysis.stats.measures import ACCURACY_A, ACCURACY_B
from analysis.wording.terms import mix_text
from trainables.ledger import schema

GAP = 0.6  # of a bar, between mixes
SPREAD = 0.7  # of a bar, over which its seeds' points lie side by side
DASHED = (0, (4, 2))
PANELS = {ACCURACY_A: schema.TASK_A_EXACT_MATCH, ACCURACY_B: schema.TASK_B_EXACT_MATCH}


def plot_answers(
    runs: pd.DataFrame,
    ax: Axes,
    *,
    start: float = math.nan,
    level: float = 0.95,
    styles: dict[str, LineStyle] | None = None,
) -> Axes:
    """Draw a bar a mix and strategy: the mean over seeds, with its t interval from three on, and each seed.

    `runs`: strategy, mix, seed and `share` of right answers in [0, 1]. `start`: the share before Phase B, a
    dashed line.
    """
    styles = styles or strategy_styles(runs[schema.STRATEGY])
    shown = {name: styles[name] for name in sorted(set(runs[schema.STRATEGY]), key=strategy_rank)}
    placed, ticks = place_runs(runs)
    bars = placed.assign(percent=100 * placed["share"])

    def interval(values: pd.Series) -> tuple[float, float]:
        found = mean_interval(values.to_numpy(float), level=level)
        return found.mean - found.half_width, found.mean + found.half_width

    look = looks(shown) | {"x": "at", "y": "percent", "ax": ax}
    whiskers = {"linewidth": 0.9, "color": "0.2"}
    bar = {"width": 0.8, "alpha": 0.55, "dodge": False, "native_scale": True}
    seaborn.barplot(bars, **look, **bar, errorbar=interval, err_kws=whiskers)
    points = look | {"x": "beside"}
    seaborn.scatterplot(bars, **points, s=9, linewidth=0.3, edgecolor="white", zorder=5)
    ax.grid(visible=False, axis="x")
    if not math.isnan(start):
        ax.axhline(100 * start, color="0.2", linewidth=0.9, linestyle=DASHED, zorder=1)
    ax.set(xlabel="mix", ylabel="", ylim=(-3, 104))
    ax.set_xticks([*ticks.values()], [mix_text(mix) for mix in ticks])
    return ax


def place_runs(runs: pd.DataFrame) -> tuple[pd.DataFrame, dict[float, float]]:
    """Return `runs` with where each stands, and the middle of each mix: a mix's strategies are side by side.

    `at`: the place of its mix and strategy. `beside`: its own there, beside those of the other seeds.
    """
    places: dict[tuple[float, str], float] = {}
    ticks: dict[float, float] = {}
    free = 0.0
    for mix in sorted({float(each) for each in runs[schema.MIX]}):
        names = sorted(set(runs.loc[runs[schema.MIX] == mix, schema.STRATEGY]), key=strategy_rank)
        places |= {(mix, name): free + number for number, name in enumerate(names)}
        ticks[mix] = free + (len(names) - 1) / 2
        free += len(names) + GAP
    at = np.array([places[label] for label in zip(runs[schema.MIX], runs[schema.STRATEGY], strict=True)])
    order = runs.groupby([schema.MIX, schema.STRATEGY])[schema.SEED].rank()
    return runs.assign(at=at, beside=at + SPREAD * (order / (order.max() + 1) - 0.5)), ticks


def draw_answers(facet: Facet) -> Drawing:
    """Return the share of right answers of one axis combination: a panel a task that was answered."""
    asked = [measure for measure, column in PANELS.items() if column in facet.rows]
    if not asked:
        return Drawing(None, "Not drawn: no answers were generated (evaluation.generate).")
    done = facet.done
    frames = {
        measure: done[[*schema.LABEL_COLUMNS, measure]].rename(columns={measure: "share"}).dropna()
        for measure in asked
    }
    if all(frame.empty for frame in frames.values()):
        return Drawing(None, "Not drawn: no run is finished.")
    starts = {measure: _start(facet, PANELS[measure]) for measure in asked}
    figure = facet.new_figure(ONE_COLUMN if len(asked) == 1 else 1.5 * ONE_COLUMN, 2.2)
    axes = figure.subplots(1, len(asked), sharey=True, squeeze=False).ravel()
    for ax, (measure, frame) in zip(axes, frames.items(), strict=True):
        ax.set_title(facet.task_a if measure == ACCURACY_A else facet.task_b)
        if not frame.empty:
            plot_answers(frame, ax, start=starts[measure], level=facet.settings.level, styles=facet.styles)
    axes[0].set_ylabel("right answers (%)")
    place_title(figure, facet.title)
    _place_legend(figure, facet, frames)
    return Drawing(figure, caption(facet, starts), {"answers": pd.concat(frames, names=["measure"])})


def _start(facet: Facet, column: str) -> float:
    """Return the mean share before Phase B, over the Phase A adapters that the runs begin from."""
    first = facet.rows[facet.rows[schema.STEP] == 0].drop_duplicates([schema.SEED])
    return float(first[column].mean())


def _place_legend(figure: Figure, facet: Facet, frames: dict[str, pd.DataFrame]) -> None:
    present = set().union(*(frame[schema.STRATEGY] for frame in frames.values()))
    names = sorted(present, key=strategy_rank)
    handles: list[Patch | Line2D] = [Patch(facecolor=facet.styles[name].colour, alpha=0.55) for name in names]
    handles.append(Line2D([], [], color="0.2", linewidth=0.9, linestyle=DASHED))
    place_legend(figure, handles, [*(facet.styles[name].label for name in names), "before Phase B"], title="")


def caption(facet: Facet, starts: dict[str, float]) -> str:
    """Return the caption of the answers."""
    began = " and ".join(
        f"{100 * share:.3g} % of {facet.study.task_a if measure == ACCURACY_A else facet.study.task_b}"
        for measure, share in starts.items()
        if not math.isnan(share)
    )
    return joined(
        "Greedy answers to validation prompts that match their reference exactly, at the end of Phase B. "
        "Bars: means; points: single seeds.",
        f"Before Phase B {began} were right (dashed)." if began else "",
        spread_sentence(facet, seeds_per_mean(facet), marks="Whiskers", kind="t"),
        absent_sentence(facet),
        mix_sentence(facet),
    )


ENTRY = Entry(15, "answers", "Answers that are right", draw_answers)
