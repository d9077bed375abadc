"""Dose-response: the primary measure against the mix, measured points always visible, fitted law with its
band.
"""

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures.captions import (
    absent_sentence,
    joined,
    measure_axis,
    measure_heading,
    mix_sentence,
    percent_text,
    spread_sentence,
)
from analysis.figures.facet import Drawing, Entry, Facet
from analysis.figures.style import (
    AS_KNOWN,
    BAND_STRENGTH,
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
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from trainables.ledger import schema

ACROSS = "across"  # the column of a point's place: its mix in percent, shifted
MOST_TICKS = 5  # mixes that are ticks of their own
DODGE = 0.03  # of the mixes' span, between strategies in one panel, and from a mean to its single runs


def plot_doses(
    doses: pd.DataFrame,
    ax: Axes,
    *,
    fits: pd.DataFrame | None = None,
    runs: pd.DataFrame | None = None,
    styles: dict[str, LineStyle] | None = None,
) -> Axes:
    """Draw each strategy's mean against its mix in percent, with intervals from n = 3 on.

    `fits`: the fitted laws (strategy, mix, low, mean, high) as line and band. `runs`: single runs (strategy,
    mix, value) as small points. Strategies stand side by side at each mix, so that none hides another.
    """
    styles = styles or strategy_styles(doses[schema.STRATEGY])
    names = sorted(set(doses[schema.STRATEGY]), key=strategy_rank)
    shown = {name: styles[name] for name in names}
    span = 100 * float(doses[schema.MIX].max() - doses[schema.MIX].min()) or 1.0
    shifts = {name: span * DODGE * (place - (len(names) - 1) / 2) for place, name in enumerate(names)}
    if fits is not None and not fits.empty:
        _plot_laws(fits, ax, styles=shown)
    if runs is not None:
        _plot_runs(runs, ax, shifts=shifts, outwards=span * DODGE, styles=shown)
    _plot_means(doses, ax, shifts=shifts, styles=shown)
    ax.margins(x=0.06)
    ax.set(xlabel="", ylabel="")
    return ax


def _plot_laws(fits: pd.DataFrame, ax: Axes, *, styles: dict[str, LineStyle]) -> None:
    laws = known(fits.assign(**{ACROSS: 100 * fits[schema.MIX]}))
    band = {"alpha": BAND_STRENGTH, "linewidth": 0, "zorder": 1}
    look = looks(styles, dashes=True) | AS_KNOWN
    seaborn.lineplot(laws, x=ACROSS, y=KNOWN, ax=ax, **look, linewidth=1, err_kws=band)


def _plot_runs(
    runs: pd.DataFrame, ax: Axes, *, shifts: dict[str, float], outwards: float, styles: dict[str, LineStyle]
) -> None:
    """Draw single runs: small, `outwards` of their mean and its bar; strong where there are too few for a
    mean.
    """
    few = runs.groupby([schema.STRATEGY, schema.MIX])["value"].transform("size") < FEWEST_FOR_INTERVAL
    shift = runs[schema.STRATEGY].map(shifts).astype(float)
    beside = shift + np.where(few, 0.0, np.where(shift < 0, -outwards, outwards))
    points = runs.assign(**{ACROSS: 100 * runs[schema.MIX] + beside})
    look = looks(styles, markers=True) | {"x": ACROSS, "y": "value", "ax": ax, "linewidth": 0, "zorder": 5}
    for chosen, size, strength in ((points[few], 14, 1.0), (points[~few], 7, 0.7)):
        if not chosen.empty:
            seaborn.scatterplot(chosen, **look, s=size, alpha=strength)


def _plot_means(
    doses: pd.DataFrame, ax: Axes, *, shifts: dict[str, float], styles: dict[str, LineStyle]
) -> None:
    """Draw the means of 3 and more, with their intervals, and single values; two runs stay the points they
    are.
    """
    kept = doses[(doses["n"] == 1) | (doses["n"] >= FEWEST_FOR_INTERVAL)]
    if kept.empty:
        return
    means = known(kept.assign(**{ACROSS: 100 * kept[schema.MIX] + kept[schema.STRATEGY].map(shifts)}))
    bars = {"elinewidth": 0.9, "capsize": 1.8, "capthick": 0.8, "zorder": 3}
    seaborn.lineplot(
        means, x=ACROSS, y=KNOWN, ax=ax, **looks(styles, markers=True, dashes=True), **AS_KNOWN,
        err_style="bars", err_kws=bars, linewidth=0, markersize=4.2, zorder=4,
    )  # fmt: skip


def draw_doses(facet: Facet) -> Drawing:
    """Return the dose-response of one axis combination: a panel a strategy, random in each for comparison."""
    doses = facet.part(facet.findings.doses)
    measured = doses[doses["n"] > 0]
    fits, runs = facet.part(facet.findings.dose_fits), single_runs(facet)
    if measured[schema.MIX].nunique() < 2:
        return Drawing(None, "Not drawn: fewer than two mixes have a finished run.")
    names = sorted(set(measured[schema.STRATEGY]), key=strategy_rank)
    others = [name for name in names if name != facet.study.baseline] or names
    wide = 1 if len(others) == 1 else 2 if len(others) <= 4 else 3 if len(others) <= 6 else 4
    tall = -(-len(others) // wide)
    size = (ONE_COLUMN if wide <= 2 else TWO_COLUMNS, 0.35 + (2.2 if wide == 1 else 1.5) * tall)
    figure = facet.new_figure(*size)
    axes = figure.subplots(tall, wide, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, name in zip(axes, others, strict=False):
        chosen = [name, *([facet.study.baseline] if facet.study.baseline in names else [])]
        own, law, single = (frame[frame[schema.STRATEGY].isin(chosen)] for frame in (measured, fits, runs))
        ax.tick_params(labelbottom=True)
        plot_doses(own, ax, fits=law, runs=single, styles=facet.styles)
        plain_ticks(ax, count=4, axes="xy" if len(facet.mixes) > MOST_TICKS else "y")
        if len(facet.mixes) <= MOST_TICKS:
            ax.set_xticks([100 * mix for mix in sorted(set(measured[schema.MIX]))])
        ax.set_title(facet.styles[name].label)
    for ax in axes[len(others) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(others) - wide) : len(others)]:
        ax.set_xlabel("mix (%)")
    figure.supylabel(measure_axis(facet), fontsize=7.5)
    place_title(figure, facet.title)
    _place_legend(figure, facet, names, fitted=bool(fits["low"].notna().any()))
    data = {"doses": doses, "dose_fits": fits, "runs": runs}
    return Drawing(figure, caption(facet, measured, fits), data)


def single_runs(facet: Facet) -> pd.DataFrame:
    """Return every done run's primary measure: strategy, mix, seed, value; no replay belongs to each
    strategy.
    """
    done = facet.done[[*schema.LABEL_COLUMNS, facet.settings.primary]].dropna()
    runs = done.rename(columns={facet.settings.primary: "value"})
    replayed = runs[runs[schema.STRATEGY] != schema.NO_REPLAY]
    control = runs[runs[schema.STRATEGY] == schema.NO_REPLAY]
    names = sorted(set(replayed[schema.STRATEGY]) - {schema.A_ONLY}, key=strategy_rank)
    repeated = [control.assign(**{schema.STRATEGY: name}) for name in names]
    return pd.concat([replayed, *repeated], ignore_index=True)


def _place_legend(figure: Figure, facet: Facet, names: list[str], *, fitted: bool) -> None:
    handles: list[Line2D | Patch] = [legend_handle(facet.styles[name]) for name in names]
    labels = [facet.styles[name].label for name in names]
    for handle in handles:
        if not fitted and isinstance(handle, Line2D):
            handle.set_linestyle("")
    if fitted:
        handles.append(Patch(facecolor="0.3", alpha=0.15))
        labels.append(f"{percent_text(facet.settings.level)} pointwise band of the law")
    place_legend(figure, handles, labels, title="")


def caption(facet: Facet, measured: pd.DataFrame, fits: pd.DataFrame) -> str:
    """Return the caption of the dose-response."""
    counts = [int(n) for n in measured["n"]]
    laws = sorted(set(fits["law"].astype(str))) if not fits.empty else []
    band = (
        f" with its pointwise {percent_text(facet.settings.level)} band" if fits["low"].notna().any() else ""
    )
    law = (
        f"Lines: a fitted law ({', '.join(laws)}){band}; between the measured mixes it is the law's word, "
        "not the data's."
        if laws
        else ""
    )
    notes = " ".join(facet.findings.notes_on("dose_fits"))
    return joined(
        f"{measure_heading(facet)} against the mix; a mix of 0 is the run without replay, the "
        "same in every panel. Small points: single seeds; large, beside them: their "
        "mean, from 3 seeds on.",
        law or notes or "No law is fitted.",
        notes if law else "",
        spread_sentence(facet, counts, marks="Bars", kind="t"),
        absent_sentence(facet),
        mix_sentence(facet),
    )


ENTRY = Entry(50, "dose_response", "Forgetting against mix", draw_doses)
