"""Forgetting curves: both validation losses against the step, one column of panels a mix."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.captions import absent_sentence, joined, mix_sentence, percent_text
from analysis.figures.facet import Drawing, Entry, Facet, seeds_per_mean
from analysis.figures.style import (
    AS_KNOWN,
    BAND_STRENGTH,
    KNOWN,
    LINE_WIDTH,
    ONE_COLUMN,
    THIN,
    THIN_STRENGTH,
    LineStyle,
    known,
    legend_handle,
    looks,
    place_legend,
    place_title,
    plain_ticks,
    strategy_styles,
)
from analysis.reading.study import STATE
from analysis.stats.bands import band
from analysis.stats.intervals import FEWEST_FOR_INTERVAL, LEVEL, interval_name
from analysis.wording.conditioning import conditioning, count_text
from analysis.wording.terms import mix_text
from trainables.ledger import schema

MARKED_POINTS = 6
MOST_LINES = 12  # finished single runs in a panel; of more, only the means are drawn
MOST_FILLS = 2  # simultaneous bands in a panel; of more, only the edges are drawn
START = "before Phase B"
STOPPED = (schema.DIVERGED, schema.FAILED)


def plot_curves(
    frame: pd.DataFrame,
    ax: Axes,
    *,
    metric: str,
    styles: Mapping[str, LineStyle] | None = None,
    level: float = LEVEL,
    simultaneous: bool = False,
) -> Axes:
    """Draw one panel from tidy rows: each strategy's mean over its done seeds, and thin lines, one a seed.

    A strategy with fewer than 3 done seeds has no mean: those are drawn as strong lines. Of more than
    MOST_LINES done runs in the panel the thin lines are left out.
    """
    styles = strategy_styles(frame[schema.STRATEGY]) if styles is None else styles
    done = frame[frame[STATE] == schema.DONE]
    plot_runs(frame.drop(done.index), ax, metric=metric, styles=styles)
    edged = simultaneous and len(styles) > MOST_FILLS
    bands = mean_curves(done, metric=metric, level=level, simultaneous=simultaneous)
    return plot_replicates(
        done, ax, metric=metric, styles=styles, means=bands, edged=edged, thin=not is_crowded(frame)
    )


def mean_curves(
    runs: pd.DataFrame,
    *,
    metric: str,
    level: float = LEVEL,
    simultaneous: bool = False,
    by: str = schema.STRATEGY,
    replicate: str = schema.SEED,
) -> pd.DataFrame:
    """Return the mean and the band over the replicates of each group with 3 and more, where all have a point.

    Columns: `by`, step, low, mean, high; NaN where a band says nothing.
    """
    parts = []
    for name, own in runs.groupby(by, sort=False):
        table = own.pivot(index=replicate, columns=schema.STEP, values=metric).dropna(axis="columns")
        if len(table) < FEWEST_FOR_INTERVAL:
            continue
        shown, _ = band(table.to_numpy(float), level=level, simultaneous=simultaneous)
        ends = {
            "low": shown.mean - shown.half_width,
            "mean": shown.mean,
            "high": shown.mean + shown.half_width,
        }
        parts.append(pd.DataFrame({by: name, schema.STEP: table.columns.to_numpy(float), **ends}))
    columns = [by, schema.STEP, "low", "mean", "high"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def plot_replicates(
    runs: pd.DataFrame,
    ax: Axes,
    *,
    metric: str,
    styles: Mapping[str, LineStyle],
    means: pd.DataFrame,
    by: str = schema.STRATEGY,
    replicate: str = schema.SEED,
    thin: bool = True,
    edged: bool = False,
) -> Axes:
    """Draw `means`, as `mean_curves` gives them, and `runs`: strong where their group has none, else `thin`.

    A band that is `edged` is its two edges.
    """
    averaged = runs[by].isin(set(means[by]))
    plot_runs(runs[~averaged], ax, metric=metric, styles=styles, by=by, replicate=replicate, strong=True)
    if thin:
        plot_runs(runs[averaged], ax, metric=metric, styles=styles, by=by, replicate=replicate)
    if means.empty:
        return ax
    earlier = len(ax.collections)
    look = looks(styles, column=by, markers=True, dashes=True)
    seaborn.lineplot(
        known(means), x=schema.STEP, y=KNOWN, ax=ax, **look, **AS_KNOWN, **_strong(means, by=by),
        err_kws={"alpha": BAND_STRENGTH, "linewidth": 0, "zorder": 1},
    )  # fmt: skip
    for area in ax.collections[earlier:] if edged else []:
        area.set(edgecolor=area.get_facecolor(), facecolor="none", linewidth=0.6, alpha=0.9)
    return ax


def plot_runs(
    runs: pd.DataFrame,
    ax: Axes,
    *,
    metric: str,
    styles: Mapping[str, LineStyle],
    by: str = schema.STRATEGY,
    replicate: str = schema.SEED,
    strong: bool = False,
) -> Axes:
    """Draw a line for each run: thin, or `strong` and with markers."""
    if runs.empty:
        return ax
    look = looks(styles, column=by, markers=strong, dashes=True)
    weight = _strong(runs, by=by) if strong else {"linewidth": THIN, "alpha": THIN_STRENGTH, "zorder": 2}
    seaborn.lineplot(runs, x=schema.STEP, y=metric, units=replicate, estimator=None, ax=ax, **look, **weight)
    return ax


def _strong(points: pd.DataFrame, *, by: str) -> dict[str, Any]:
    """Return the weight of a mean, or of a run of few, with markers at some of the steps."""
    steps = int(points.groupby(by)[schema.STEP].nunique().max())
    every = max(1, steps // MARKED_POINTS)
    return {"linewidth": LINE_WIDTH, "markersize": 4, "markeredgewidth": 0, "markevery": every, "zorder": 3}


def is_crowded(frame: pd.DataFrame) -> bool:
    """Return whether a panel of the rows `frame` has more done runs than can be told apart."""
    done = frame[frame[STATE] == schema.DONE]
    return len(done[[*schema.LABEL_COLUMNS]].drop_duplicates()) > MOST_LINES


def is_edged(facet: Facet) -> bool:
    """Return whether a panel has more simultaneous bands than may be filled."""
    return facet.simultaneous and len(facet.styles) > MOST_FILLS


def mark_stopped(frame: pd.DataFrame, ax: Axes, *, metric: str, styles: dict[str, LineStyle]) -> Axes:
    """Cross the last finite point of each diverged or failed run, at the panel's edge if it lies beyond."""
    low, high = ax.get_ylim()
    stopped = frame[frame[STATE].isin(STOPPED) & np.isfinite(frame[metric])]
    for _, run in stopped.groupby([schema.STRATEGY, schema.SEED]):
        last = run.iloc[-1]
        height = float(np.clip(last[metric], low, high))
        colour = styles[str(last[schema.STRATEGY])].colour
        ax.plot([last[schema.STEP]], [height], "x", color=colour, markersize=5, clip_on=False, zorder=4)
    return ax


def panel_limits(rows: pd.DataFrame, axes: Iterable[Axes], *, metric: str) -> tuple[float, float] | None:
    """Return limits around the bands in `axes` and every run but the diverged, which would flatten the
    others.
    """
    calm = rows.loc[(rows[STATE] != schema.DIVERGED) | (rows[schema.STEP] == 0), metric].dropna()
    bands = [
        np.asarray(path.vertices, float)[:, 1]
        for ax in axes
        for part in ax.collections
        for path in part.get_paths()
    ]
    heights = np.concatenate([calm.to_numpy(float), *bands])
    if not len(heights):
        return None
    margin = 0.06 * np.ptp(heights) or 0.01
    return float(heights.min() - margin), float(heights.max() + margin)


def draw_forgetting_curves(facet: Facet) -> Drawing:
    """Return the curves of one axis combination: rows are the two losses, columns the mixes."""
    if facet.rows.empty:
        return Drawing(None, "No cell has been evaluated yet.")
    mixes = facet.mixes
    rows, across = facet.by_examples(facet.rows)
    metrics = {schema.TASK_A_LOSS: facet.task_a, schema.TASK_B_LOSS: facet.task_b}
    figure = facet.new_figure(max(ONE_COLUMN, 0.4 + 1.7 * len(mixes)), 3.5)
    axes = figure.subplots(2, len(mixes), sharex="col", sharey="row", squeeze=False)
    for column, mix in enumerate(mixes):
        for row, metric in enumerate(metrics):
            _plot_panel(facet, rows, axes[row, column], mix=mix, metric=metric)
        axes[1, column].set_xlabel(across)
        axes[0, column].set_title(f"mix {mix_text(mix)}" if mix else "no replay")
    for place, (metric, task) in enumerate(metrics.items()):
        limits = panel_limits(facet.rows, axes[place], metric=metric)
        if limits is not None:
            axes[place, 0].set_ylim(*limits)
        for ax, mix in zip(axes[place], mixes, strict=True):
            mark_stopped(facet.panel(rows, mix=mix), ax, metric=metric, styles=facet.styles)
        axes[place, 0].set_ylabel(f"{task} loss\n(nats/token)")
    _finish(figure, facet)
    points = facet.rows[[*schema.LABEL_COLUMNS, STATE, schema.STEP, *metrics]]
    return Drawing(figure, caption(facet), {"evaluations": points})


def _plot_panel(facet: Facet, rows: pd.DataFrame, ax: Axes, *, mix: float, metric: str) -> None:
    frame, level = facet.panel(rows, mix=mix), facet.settings.level
    plot_curves(frame, ax, metric=metric, styles=facet.styles, level=level, simultaneous=facet.simultaneous)
    for start in facet.starts[metric]:
        ax.axhline(start, color="0.3", linestyle=":", linewidth=0.8, zorder=0)
    plain_ticks(ax, count=4)


def _finish(figure: Figure, facet: Facet) -> None:
    counts = seeds_per_mean(facet)
    banded = bool(counts) and max(counts) >= FEWEST_FOR_INTERVAL and not is_edged(facet)
    handles = [legend_handle(style, band=banded) for style in facet.styles.values()]
    labels = [style.label for style in facet.styles.values()]
    handles.append(Line2D([], [], color="0.3", linestyle=":", linewidth=0.8))
    labels.append(START)
    if facet.cells[STATE].isin(STOPPED).any():
        handles.append(Line2D([], [], color="0.3", marker="x", linestyle="", markersize=4.5))
        labels.append("diverged or failed")
    kind = band_text(facet, counts) if counts else ""
    place_title(figure, facet.title)
    place_legend(figure, handles, labels, title=legend_title(counts, unit="seed", band=kind))


def band_text(facet: Facet, counts: Iterable[int]) -> str:
    """Return the kind and level of the facet's bands over `counts` replicates: '95 % pointwise t band'."""
    points = np.linspace([0.0, 0.0], [1.0, 2.0], max(max(counts), FEWEST_FOR_INTERVAL))
    _, kind = band(points, level=facet.settings.level, simultaneous=facet.simultaneous)
    return f"{percent_text(facet.settings.level)} {kind} band"


def legend_title(counts: list[int], *, unit: str, band: str = interval_name("pointwise t")) -> str:
    """Return what thick lines and bands are, with n; no word of a mean or a band where there is none."""
    if not counts:
        return f"thin: one {unit} each (none finished)"
    if max(counts) < FEWEST_FOR_INTERVAL:
        return f"{count_text(counts, unit)} each, every one a line"
    return f"thick: mean over {count_text(counts, unit)}; band: {band} over {unit}s"


def caption(facet: Facet) -> str:
    """Return the caption of the forgetting curves, from what varied and what is there."""
    counts = seeds_per_mean(facet)
    ignored = (facet.cells[STATE] == schema.DIVERGED).any()
    return joined(
        f"Validation loss of {facet.study.task_a} (top) and {facet.study.task_b} (bottom) during Phase B, "
        "in nats per supervised token. Dotted: the loss before Phase B.",
        _lines_sentence(facet, counts),
        conditioning(facet, n=counts),
        absent_sentence(facet),
        "Limits ignore diverged runs, whose curves may leave the panel." if ignored else "",
        mix_sentence(facet),
    )


def _lines_sentence(facet: Facet, counts: list[int]) -> str:
    """Return what thick lines, thin lines and bands are, of those that there are."""
    means = [count for count in counts if count >= FEWEST_FOR_INTERVAL]
    unfinished = "unfinished runs" if (facet.rows[STATE] != schema.DONE).any() else ""
    crowded = any(is_crowded(facet.panel(facet.rows, mix=mix)) for mix in facet.mixes)
    singles = "" if crowded or not means else "single seeds"
    thin = " and ".join(words for words in (singles, unfinished) if words)
    drawn = "edged" if is_edged(facet) else "shaded"
    return joined(
        f"Thick: the mean; {drawn}: its {band_text(facet, counts)}, which says where that one mean lies and "
        "is no test of a difference."
        if means
        else "",
        "Of fewer than 3 finished seeds each is a line with markers." if len(means) < len(counts) else "",
        f"Thin: {thin}." if thin else "",
        f"Single seeds are left out of panels with more than {MOST_LINES}." if crowded and means else "",
    )


ENTRY = Entry(20, "forgetting_curves", "Forgetting curves", draw_forgetting_curves)
