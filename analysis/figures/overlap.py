"""Overlap of what two strategies replayed: a Jaccard matrix a mix."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.captions import joined, mix_sentence, seeds_sentence
from analysis.figures.facet import Drawing, Entry, Facet
from analysis.figures.style import (
    ONE_COLUMN,
    TWO_COLUMNS,
    LineStyle,
    draw_shares,
    place_title,
    slanted_names,
    strategy_styles,
)
from analysis.findings.outcomes import strategy_rank
from analysis.wording.terms import mix_text
from trainables.ledger import schema

CELL = 0.3  # inches


def plot_overlaps(
    overlaps: pd.DataFrame,
    ax: Axes,
    *,
    styles: dict[str, LineStyle] | None = None,
    names: list[str] | None = None,
) -> Axes:
    """Draw one mix's overlaps in percent below the diagonal, dark where two strategies replay the same.

    `names`: the strategies in their order; by default those there are.
    """
    names = ordered_names(overlaps) if names is None else names
    styles = styles or strategy_styles(names)
    place = {name: position for position, name in enumerate(names)}
    grid = np.full((len(names), len(names)), np.nan)
    for record in overlaps.to_dict("records"):
        ends = sorted((place[record[schema.STRATEGY]], place[record["other"]]))
        grid[ends[1], ends[0]] = record["jaccard"]
    draw_shares(pd.DataFrame(grid[1:, :-1]), ax).set_aspect("equal")
    labels = [styles[name].label for name in names]
    ax.set_yticks(np.arange(len(names) - 1) + 0.5, labels[1:], rotation=0)
    return slanted_names(ax, labels[:-1], first=0.5)


def ordered_names(overlaps: pd.DataFrame) -> list[str]:
    """Return the strategies that a frame of overlaps compares."""
    return sorted({*overlaps[schema.STRATEGY], *overlaps["other"]}, key=strategy_rank)


def draw_overlaps(facet: Facet) -> Drawing:
    """Return the overlap matrices of one axis combination, or why there are none."""
    overlaps = facet.part(facet.findings.overlaps)
    known = overlaps[overlaps["n"] > 0]
    if known.empty:
        notes = " ".join(facet.findings.notes_on("selections")) or "No two strategies share a finished seed."
        return Drawing(None, f"Not drawn. {notes}")
    mixes = sorted(set(known[schema.MIX]))
    names = ordered_names(known)
    if len(known) == 1:
        shared = 100 * float(known["jaccard"].iloc[0])
        return Drawing(
            None, f"Not drawn: the only two, {' and '.join(names)}, share {shared:.1f} % of what they replay."
        )
    longest = max(len(facet.styles[name].label) for name in names)
    side = CELL * (len(names) - 1)
    fitting = max(1, int((TWO_COLUMNS - 0.055 * longest) / (side + 0.25)))
    wide = min(len(mixes), fitting)
    tall = -(-len(mixes) // wide)
    width = max(ONE_COLUMN, 0.3 + 0.055 * longest + wide * (side + 0.25))
    figure = facet.new_figure(width, 0.15 + 0.045 * longest + tall * (side + 0.3))
    axes = figure.subplots(tall, wide, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, mix in zip(axes, mixes, strict=False):
        plot_overlaps(known[known[schema.MIX] == mix], ax, styles=facet.styles, names=names)
        ax.set_title(f"mix {mix_text(float(mix))}")
    for ax in axes[len(mixes) :]:
        ax.set_visible(False)
    place_title(figure, facet.title, "overlap of replayed examples (%)")
    return Drawing(figure, caption(facet, known), {"overlaps": overlaps})


def caption(facet: Facet, known: pd.DataFrame) -> str:
    """Return the caption of the overlap matrices, with what chance alone would give."""
    chance = known.groupby(schema.MIX)["expected"].mean().dropna()
    texts = [f"{100 * share:.1f} % at mix {mix_text(float(str(mix)))}" for mix, share in chance.items()]
    expected = (
        f"Two random draws of these sizes would share {', '.join(texts)}."
        if texts
        else (
            "The study does not say how many examples there were to choose from, so chance overlap is "
            "unknown."
        )
    )
    return joined(
        f"Jaccard overlap of the {facet.study.task_a} examples that two strategies replayed at the same "
        "seed, |A ∩ B| / |A ∪ B| in percent, mean over seeds: 100 would be the same examples; shades run "
        f"evenly from white at 0 to black at 110. {expected}",
        seeds_sentence(facet, [int(n) for n in known["n"]]),
        mix_sentence(facet),
    )


ENTRY = Entry(110, "overlap", "Overlap of what was replayed", draw_overlaps)
