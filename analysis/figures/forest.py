"""Forest plot of the primary contrasts, the headline: raw pairs, both intervals, equivalence zone, n,
verdict.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures.captions import (
    absent_text,
    direction_text,
    joined,
    left_out_sentence,
    measure_axis,
    measure_text,
    mix_sentence,
    percent_text,
)
from analysis.figures.facet import Drawing, Entry, Facet
from analysis.figures.forest_legend import ZONE, forest_keys
from analysis.figures.style import (
    ONE_COLUMN,
    SMALLEST,
    LineStyle,
    place_legend,
    place_title,
    plain_ticks,
    strategy_styles,
)
from analysis.findings.adjustment import adjusted_level
from analysis.findings.outcomes import strategy_rank
from analysis.findings.verdicts import UNRESOLVED
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from analysis.wording.conditioning import conditioning
from analysis.wording.conditioning import count_text as count_words
from analysis.wording.terms import mix_text
from trainables.ledger import schema

ROW = 0.19  # inches


def plot_forest(
    contrasts: pd.DataFrame,
    ax: Axes,
    *,
    pairs: pd.DataFrame | None = None,
    smallest_effect: float | None = None,
    styles: dict[str, LineStyle] | None = None,
) -> Axes:
    """Draw a row for each of `contrasts`, by mix: mean, raw interval (thick), adjusted interval (thin), n,
    verdict.

    `pairs`: the raw differences behind them, as small points. The zone is ± `smallest_effect`.
    """
    styles = styles or strategy_styles(contrasts[schema.STRATEGY])
    if smallest_effect is not None:
        ax.axvspan(-smallest_effect, smallest_effect, color=ZONE, linewidth=0, zorder=0)
    ax.axvline(0, color="0.2", linewidth=0.8, zorder=1)
    heights, names, position = [], [], 0
    for mix, rows in contrasts.groupby(schema.MIX):
        heading = _write(ax, position, f"mix {mix_text(float(str(mix)))}", place=-0.03)
        heading.set(ha="right", weight="bold")
        for record in sorted(rows.to_dict("records"), key=lambda row: strategy_rank(row[schema.STRATEGY])):
            position += 1
            style = styles[record[schema.STRATEGY]]
            _plot_row(record, ax, height=position, style=style)
            _plot_pairs(pairs, record, ax, height=position, style=style)
            heights.append(position)
            names.append(style.label)
        position += 1
    ax.set_yticks(heights, names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(position - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    _write(ax, -0.95, "n", place=1.03)
    _write(ax, -0.95, "verdict (seeds)" if has_needs(contrasts) else "verdict", place=1.14)
    return ax


def _plot_row(record: dict[Any, Any], ax: Axes, *, height: float, style: LineStyle) -> None:
    mean = record["difference"]
    thin, thick = (
        (record["low_adjusted"], record["high_adjusted"]),
        (record["low"], record["high"]),
    )
    for (low, high), width, marker in ((thin, 0.8, "|"), (thick, 2.4, "")):
        if math.isfinite(low):
            ax.plot(
                [low, high], [height] * 2, color=style.colour, linewidth=width, marker=marker, markersize=4
            )
    if record["n"] >= FEWEST_FOR_INTERVAL or record["n"] == 1:
        ax.plot(
            [mean], [height], style.marker, color=style.colour, markersize=4.5, markeredgecolor="white",
            markeredgewidth=0.5, zorder=4,
        )  # fmt: skip
    _write(ax, height, count_text(record), place=1.03)
    _write(ax, height, verdict_text(record), place=1.14)


def _plot_pairs(
    pairs: pd.DataFrame | None, record: dict[Any, Any], ax: Axes, *, height: float, style: LineStyle
) -> None:
    """Draw the raw differences of one contrast below its interval; where n = 2 they are all there is."""
    if pairs is None or record["n"] < 2:
        return
    values = raw_differences(pairs, record).to_numpy(float)
    few = record["n"] < FEWEST_FOR_INTERVAL
    ax.scatter(
        values,
        np.full(len(values), height if few else height + 0.3),
        s=12 if few else 5,
        marker=style.marker,
        color=style.colour,
        alpha=1 if few else 0.6,
        linewidths=0,
        zorder=3,
    )


def raw_differences(pairs: pd.DataFrame, record: dict[Any, Any]) -> pd.Series:
    """Return the differences of the matched pairs behind one contrast."""
    chosen = (pairs[schema.STRATEGY] == record[schema.STRATEGY]) & (pairs[schema.MIX] == record[schema.MIX])
    matched = pairs["matched"].astype(bool)
    differences: pd.Series = pairs.loc[chosen & matched, f"{record['measure']}_difference"].dropna()
    return differences


def count_text(record: dict[Any, Any]) -> str:
    """Return '6', or '5/6' where a planned pair is absent."""
    n, planned = int(record["n"]), int(record["n_planned"])
    return f"{n}" if n == planned else f"{n}/{planned}"


def verdict_text(record: dict[Any, Any]) -> str:
    """Return a contrast's verdict, and what an unresolved one would need."""
    if record["n"] < FEWEST_FOR_INTERVAL:
        return "no pair" if record["n"] == 0 else "too few"
    needed = record["seeds_needed"]
    if record["verdict"] != UNRESOLVED or math.isnan(needed):
        return str(record["verdict"])
    return f"{UNRESOLVED} (> 10 000)" if math.isinf(needed) else f"{UNRESOLVED} ({needed:.0f})"


def has_needs(contrasts: pd.DataFrame) -> bool:
    """Return whether some verdict comes with the seeds that would resolve it."""
    return any("(" in verdict_text(record) for record in contrasts.to_dict("records"))


def _write(ax: Axes, height: float, text: str, *, place: float) -> Text:
    return ax.text(place, height, text, transform=ax.get_yaxis_transform(), va="center", fontsize=SMALLEST)


def draw_forest(facet: Facet) -> Drawing:
    """Return the forest plot of one axis combination's primary contrasts, or why there is none."""
    contrasts = facet.part(facet.findings.contrasts)
    family = contrasts[contrasts["in_family"].astype(bool)]
    if facet.study.baseline not in set(facet.cells[schema.STRATEGY]):
        return Drawing(
            None, f"Not drawn: the study has no strategy {facet.study.baseline!r} to compare with."
        )
    if family.empty:
        return Drawing(
            None, f"Not drawn: the study has no strategy to compare with {facet.study.baseline!r}."
        )
    if not family["n"].any():
        return Drawing(
            None,
            f"Not drawn yet: no strategy has a finished seed that {facet.study.baseline!r} has finished too.",
        )
    settings = facet.settings
    figure = Figure(
        figsize=(ONE_COLUMN, 0.75 + ROW * (len(family) + family[schema.MIX].nunique())), layout="constrained"
    )
    ax = figure.subplots()
    pairs = judged_pairs(facet, family)
    plot_forest(family, ax, pairs=pairs, smallest_effect=settings.smallest_effect, styles=facet.styles)
    plain_ticks(ax, count=4, axes="x")
    ax.set_xlabel(measure_axis(facet, difference=True))
    place_title(figure, facet.title)
    _place_legend(figure, facet, family)
    used = pairs[pairs[schema.STRATEGY].isin(family[schema.STRATEGY])]
    return Drawing(figure, caption(facet, family), {"contrasts": family, "pairs": used})


def judged_pairs(facet: Facet, family: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs that the contrasts are judged on: with looks, those of the newest look's seeds."""
    looks = facet.settings.looks
    if not looks:
        return facet.pairs
    taken = family["look"].iloc[0]
    return facet.pairs[facet.pairs[schema.SEED] < (looks[0] if math.isnan(taken) else taken)]


def levels(facet: Facet) -> tuple[float, float]:
    """Return the level of the raw interval, and that of each interval of the whole family."""
    size = int(facet.findings.contrasts["in_family"].sum())
    return facet.settings.level, adjusted_level(facet.settings, contrasts=size)


def _place_legend(figure: Figure, facet: Facet, family: pd.DataFrame) -> None:
    raw, adjusted = levels(facet)
    effect, intervals = facet.settings.smallest_effect, bool(family["low"].notna().any())
    keys = forest_keys(
        raw=f"mean, {percent_text(raw)} t" if intervals else "",
        adjusted=f"adjusted, {percent_text(adjusted)} t" if intervals else "",
        zone="" if effect is None else f"± {effect:g}: too small to matter",
    )
    place_legend(figure, list(keys.values()), list(keys), title="")


def caption(facet: Facet, family: pd.DataFrame) -> str:
    """Return the caption of the forest plot, from what varied and what is there."""
    raw, adjusted = levels(facet)
    size = int(facet.findings.contrasts["in_family"].sum())
    sentences = [
        f"Paired difference from {facet.study.baseline} in {measure_text(facet)} at the same seed and mix: "
        f"right of 0, {direction_text(facet)}. Small points: the pairs."
    ]
    if family["low"].notna().any():
        sentences.append(
            f"Thick: mean and {percent_text(raw)} paired t interval; thin: the interval at "
            f"{percent_text(adjusted)}, adjusted for "
            f"{count_words([size], 'primary contrast')}{looks_text(facet)}."
        )
        sentences.append(verdict_sentence(facet, needs=has_needs(family)))
    if family["low"].notna().any() and not facet.settings.looks and size > 1:
        sentences.append("Holm may decide where the thin interval still holds 0.")
    sentences.append(conditioning(facet, n=[int(n) for n in family["n"] if n > 0]))
    absent = absent_text(facet.cells)
    sentences.append(f"Planned cells that are not done: {absent}; their pairs are absent." if absent else "")
    return joined(*sentences, left_out_sentence(facet), mix_sentence(facet))


def looks_text(facet: Facet) -> str:
    """Return the words for the looks of a sequential study; none where there is one look."""
    looks = len(facet.settings.looks)
    return f" at {looks} looks" if looks else ""


def verdict_sentence(facet: Facet, *, needs: bool) -> str:
    """Return what the verdicts mean under these settings."""
    effect, alpha = facet.settings.smallest_effect, facet.settings.alpha
    method = "Bonferroni over looks and contrasts" if facet.settings.looks else "Holm"
    zone = (
        "No smallest effect of interest was declared, so none can be equivalent"
        if effect is None
        else f"equivalent: within ± {effect:g} by two one-sided tests"
    )
    brackets = ", in brackets the seeds that would resolve it if spread and difference stay" if needs else ""
    return (
        f"Verdicts at {alpha:.3g} after {method}: different from {facet.study.baseline}; {zone}; else "
        f"{UNRESOLVED}{brackets}."
    )


ENTRY = Entry(10, "forest", "Primary contrasts", draw_forest)
