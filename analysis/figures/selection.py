"""What each strategy replayed: the shares of levels and types, and the lengths of the examples."""

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes

from analysis.figures.captions import joined, mix_sentence, seeds_sentence
from analysis.figures.facet import Drawing, Entry, Facet
from analysis.figures.lettering import shown_text
from analysis.figures.style import (
    SMALLEST,
    TWO_COLUMNS,
    LineStyle,
    draw_shares,
    looks,
    place_title,
    plain_ticks,
    slanted_names,
    strategy_styles,
)
from analysis.findings.outcomes import strategy_rank
from analysis.wording.terms import mix_text
from trainables.ledger import schema

ROW = 0.17  # inches
MOST_VALUES = 9
LONGEST_VALUE = 22  # letters of a level's or type's name
OTHERS = "(others)"
PERCENTILE_BARS = {90: 0.8, 50: 3.0}  # points that bars of the middle so many percent are thick


def level_shares(selections: pd.DataFrame, *, group: str) -> pd.DataFrame:
    """Return each strategy's shares of a group's values, a row a strategy: the mean of its seeds' shares.

    The values beyond the MOST_VALUES most frequent are one column.
    """
    values = selections[group].astype(object)
    values = values.where(values.notna(), "(none)").map(str)
    kept = values.value_counts().index[:MOST_VALUES]
    values = values.where(values.isin(kept), OTHERS)
    counts = selections.assign(value=values).groupby([schema.STRATEGY, schema.SEED])["value"]
    shares = counts.value_counts(normalize=True).unstack(fill_value=0)
    means = shares.groupby(level=schema.STRATEGY).mean()
    means = means[sorted(means.columns, key=lambda value: (value == OTHERS, value))]
    return means.loc[sorted(means.index, key=strategy_rank)]


def plot_shares(
    selections: pd.DataFrame, ax: Axes, *, group: str, styles: dict[str, LineStyle] | None = None
) -> Axes:
    """Draw one mix's shares of `group` in percent, a row a strategy, darker where more was replayed."""
    styles = styles or strategy_styles(selections[schema.STRATEGY])
    shares = level_shares(selections, group=group)
    draw_shares(shares, ax)
    ax.set_yticks(np.arange(len(shares)) + 0.5, [styles[name].label for name in shares.index], rotation=0)
    names = [shown_text(str(value), longest=LONGEST_VALUE, ending=False) for value in shares.columns]
    return slanted_names(ax, names, first=0.5)


def plot_lengths(selections: pd.DataFrame, ax: Axes, *, styles: dict[str, LineStyle] | None = None) -> Axes:
    """Draw one mix's example lengths: median, middle half (thick) and middle nine tenths (thin) a
    strategy, and the tokens of one selection.
    """
    styles = styles or strategy_styles(selections[schema.STRATEGY])
    names = sorted(set(selections[schema.STRATEGY]), key=strategy_rank)
    look = looks({name: styles[name] for name in names})
    look |= {"estimator": "median", "x": "tokens", "y": schema.STRATEGY, "order": names, "ax": ax}
    for share, width in PERCENTILE_BARS.items():
        seaborn.pointplot(
            selections, **look, errorbar=("pi", share), err_kws={"linewidth": width, "zorder": 2}, zorder=4,
            linestyle="none", marker="o", markersize=4, markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
    own = selections.groupby(schema.STRATEGY)
    totals = own["tokens"].sum() / own[schema.SEED].nunique()
    for row, name in enumerate(names):
        text = f"{totals[name]:,.0f}"
        ax.text(1.02, row, text, transform=ax.get_yaxis_transform(), va="center", fontsize=SMALLEST)
    ax.set(xlim=(0, None), ylim=(len(names) - 0.5, -0.5), xlabel="", ylabel="")
    ax.set_yticks(range(len(names)), [])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    return ax


def draw_selections(facet: Facet) -> Drawing:
    """Return what was replayed at each mix of one axis combination, or why it is not known."""
    selections = facet.part(facet.findings.selections)
    if selections.empty:
        return Drawing(None, f"Not drawn. {' '.join(facet.findings.notes_on('selections'))}".strip())
    sizes = selections.groupby(schema.MIX)[schema.STRATEGY].nunique()
    mixes = sizes.index.tolist()
    groups = [group for group in ("level", "type") if selections[group].notna().any()]
    ratios = [*(min(MOST_VALUES + 1, selections[group].nunique()) + 1 for group in groups), 5]
    height = 0.95 + ROW * int(sizes.sum()) + 0.3 * len(mixes)
    figure = facet.new_figure(TWO_COLUMNS, height)
    axes = figure.subplots(
        len(mixes), len(ratios), squeeze=False, width_ratios=ratios, height_ratios=sizes.tolist()
    )
    for row, mix in enumerate(mixes):
        part = selections[selections[schema.MIX] == mix]
        for ax, group in zip(axes[row], groups, strict=False):
            plot_shares(part, ax, group=group, styles=facet.styles).set_title(group)
            ax.tick_params(labelbottom=row == len(mixes) - 1, labelleft=ax is axes[row, 0])
        lengths = plot_lengths(part, axes[row, -1], styles=facet.styles)
        plain_ticks(lengths, count=4, axes="x").set_title("length (tokens)   ")
        lengths.text(1.02, 1.0, "total", transform=lengths.transAxes, va="bottom", fontsize=SMALLEST)
        axes[row, 0].set_ylabel(f"mix {mix_text(float(mix))}")
    place_title(figure, facet.title)
    counts = selections.groupby([schema.STRATEGY, schema.MIX])[schema.SEED].nunique()
    return Drawing(figure, caption(facet, counts.tolist()), {"selections": selections})


def caption(facet: Facet, counts: list[int]) -> str:
    """Return the caption of what was replayed."""
    return joined(
        f"What each strategy replayed of {facet.study.task_a}: shares of levels and types in percent of the "
        f"examples, mean over seeds (beyond the {MOST_VALUES} most frequent values, one column), and "
        "lengths: median, middle half (thick), middle 90 % (thin), and the tokens of one selection.",
        seeds_sentence(facet, counts),
        mix_sentence(facet),
    )


ENTRY = Entry(100, "selection", "What was replayed", draw_selections)
