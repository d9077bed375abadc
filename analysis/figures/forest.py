"""Forest plot of the primary contrasts, the headline: raw pairs, both intervals, equivalence zone, n,
verdict.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn
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
    AS_KNOWN,
    KNOWN,
    ONE_COLUMN,
    SMALLEST,
    LineStyle,
    known,
    looks,
    place_legend,
    place_title,
    plain_ticks,
    strategy_styles,
)
from analysis.findings.family import ALL_MIXES, Contrast
from analysis.findings.judgement import contrast_of
from analysis.findings.outcomes import strategy_rank
from analysis.findings.pairs import DIFFERENCE_SUFFIX
from analysis.findings.strategies_first import averaged, is_behind, mean_pairs
from analysis.findings.verdicts import DIFFERENT, UNRESOLVED
from analysis.reading.declaration import NON_INFERIORITY
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from analysis.stats.measures import MEASURES
from analysis.wording.conditioning import conditioning
from analysis.wording.conditioning import count_text as count_words
from analysis.wording.terms import mix_text, seeds_to_add_text
from trainables.ledger import schema

ROW = 0.19  # inches
HEIGHT = "height"  # of a row, in rows from the top


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
    rows, headings = placed_rows(contrasts)
    _plot_intervals(rows, ax, styles=styles)
    if pairs is not None:
        _plot_pairs(rows, pairs, ax, styles=styles)
    for mix, height in headings.items():
        heading = mix_text(mix) if mix == ALL_MIXES else f"mix {mix_text(mix)}"
        _write(ax, height, heading, place=-0.03).set(ha="right", weight="bold")
    for record in rows.to_dict("records"):
        _write(ax, record[HEIGHT], count_text(record), place=1.03)
        _write(ax, record[HEIGHT], verdict_text(record), place=1.14)
    ax.set_yticks(rows[HEIGHT], [styles[name].label for name in rows[schema.STRATEGY]])
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="", ylabel="", ylim=(rows[HEIGHT].max() + 0.6, -0.6))
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    _write(ax, -0.95, "n", place=1.03)
    _write(ax, -0.95, "verdict (seeds to add)" if has_needs(contrasts) else "verdict", place=1.14)
    return ax


def placed_rows(contrasts: pd.DataFrame) -> tuple[pd.DataFrame, dict[float, float]]:
    """Return the contrasts from top to bottom with their HEIGHT, and the height of each mix's heading above
    its own.
    """
    ranks = contrasts[schema.STRATEGY].map(strategy_rank)
    rows = contrasts.assign(rank=ranks).sort_values([schema.MIX, "rank"], kind="stable")
    mixes = sorted(set(rows[schema.MIX]))
    above = rows[schema.MIX].map({mix: position for position, mix in enumerate(mixes)})
    rows[HEIGHT] = np.arange(1.0, len(rows) + 1) + above
    firsts = rows.drop_duplicates(schema.MIX)
    tops = dict(zip(firsts[schema.MIX], firsts[HEIGHT] - 1, strict=True))
    return rows.drop(columns="rank"), tops


def _plot_intervals(rows: pd.DataFrame, ax: Axes, *, styles: Mapping[str, LineStyle]) -> None:
    """Draw each row's adjusted interval (thin), raw interval (thick) and mean, which two pairs have not."""
    shown = rows[(rows["n"] >= FEWEST_FOR_INTERVAL) | (rows["n"] == 1)]
    apart = shown[(shown["low"] != shown["low_adjusted"]) | (shown["high"] != shown["high_adjusted"])]
    thin = known(apart, low="low_adjusted", middle="difference", high="high_adjusted")
    thick = known(shown, middle="difference")
    look = looks(styles) | AS_KNOWN
    look |= {"native_scale": True, "orient": "y", "linestyle": "none", "ax": ax}
    if not thin.empty:
        bars: dict[str, Any] = {"linewidth": 0.8, "zorder": 2}
        seaborn.pointplot(thin, x=KNOWN, y=HEIGHT, **look, marker="", capsize=0.3, err_kws=bars)
    if not thick.empty:
        bars = {"linewidth": 2.4, "zorder": 2, "solid_capstyle": "butt"}
        seaborn.pointplot(
            thick, x=KNOWN, y=HEIGHT, **look, marker="o", markersize=4.5, markeredgecolor="white",
            markeredgewidth=0.5, zorder=4, err_kws=bars,
        )  # fmt: skip


def _plot_pairs(
    rows: pd.DataFrame, pairs: pd.DataFrame, ax: Axes, *, styles: Mapping[str, LineStyle]
) -> None:
    """Draw the raw differences of each row below its interval; where n = 2 they are all there is."""
    for few, chosen in rows[rows["n"] > 1].groupby(rows["n"] < FEWEST_FOR_INTERVAL):
        values = {record[HEIGHT]: raw_differences(pairs, record) for record in chosen.to_dict("records")}
        points = pd.concat(values, names=[HEIGHT]).rename(KNOWN).reset_index(level=HEIGHT)
        points = points.merge(chosen[[HEIGHT, schema.STRATEGY]], on=HEIGHT)
        points[HEIGHT] += 0.0 if few else 0.3
        size, strength = (12, 1.0) if few else (5, 0.6)
        seaborn.scatterplot(
            points, x=KNOWN, y=HEIGHT, ax=ax, **looks(styles), s=size, alpha=strength, linewidth=0, zorder=3
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
    if record["in_family"] and math.isnan(record["look"]):
        return "not judged yet"
    if is_behind(record):
        return "not judged"
    needed = seeds_to_add_text(record["seeds_to_add_low"], record["seeds_to_add_high"])
    if record["verdict"] == DIFFERENT:
        return f"{DIFFERENT}: {MEASURES[record['measure']].judgement(record['difference'])}"
    return f"{record['verdict']} (+{needed})" if needed else str(record["verdict"])


def has_needs(contrasts: pd.DataFrame) -> bool:
    """Return whether some verdict comes with the seeds that would resolve it."""
    return any("(" in verdict_text(record) for record in contrasts.to_dict("records"))


def _write(ax: Axes, height: float, text: str, *, place: float) -> Text:
    return ax.text(place, height, text, transform=ax.get_yaxis_transform(), va="center", fontsize=SMALLEST)


def draw_forest(facet: Facet) -> Drawing:
    """Return the forest plot of one axis combination's primary contrasts, or why there is none."""
    contrasts = facet.part(facet.findings.contrasts)
    over_all = facet.part(facet.findings.over_all)
    family = contrasts[contrasts["in_family"].astype(bool)]
    family = family if over_all.empty else pd.concat([family, over_all], ignore_index=True)
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
    figure = facet.new_figure(ONE_COLUMN, 0.75 + ROW * (len(family) + family[schema.MIX].nunique()))
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
    """Return the pairs that each contrast of `family` is judged on: those of its newest look's seeds."""
    seeds = {contrast: each.look.seeds for contrast, each in facet.findings.judgements.items()}
    axes = facet.findings.study.axes
    kept = [
        label[schema.SEED] in seeds.get(contrast_of(label, axes=axes), (label[schema.SEED],))
        for label in facet.pairs.to_dict("records")
    ]
    judged = facet.pairs[np.array(kept, dtype=bool)]
    wholes = [contrast for contrast in facet.findings.judgements if contrast.mix == ALL_MIXES]
    means = [_mean_pairs(facet, whole) for whole in wholes if whole.strategy in set(family[schema.STRATEGY])]
    return pd.concat([judged, *means], ignore_index=True)


def _mean_pairs(facet: Facet, whole: Contrast) -> pd.DataFrame:
    """Return the pairs behind a strategy's mean over its mixes, of its look's seeds."""
    judgements, axes = facet.findings.judgements, facet.findings.study.axes
    own = set(averaged(judgements, whole))
    labels = facet.pairs.to_dict("records")
    seeds = judgements[whole].look.seeds
    kept = [contrast_of(each, axes=axes) in own and each[schema.SEED] in seeds for each in labels]
    column, weights = facet.settings.primary + DIFFERENCE_SUFFIX, facet.settings.weights
    return mean_pairs(facet.pairs[np.array(kept, dtype=bool)], column=column, axes=axes, weights=weights)


def levels_text(family: pd.DataFrame, column: str) -> str:
    """Return the level, or the lowest and highest, of the intervals of `family`."""
    present = sorted({round(100 * level, 2) for level in family[column]})
    ends = [f"{level:g}" for level in (present[0], present[-1])]
    return f"{ends[0]} %" if ends[0] == ends[1] else f"{ends[0]}–{ends[1]} %"


def _place_legend(figure: Figure, facet: Facet, family: pd.DataFrame) -> None:
    raw, adjusted = (levels_text(family, name) for name in ("interval_level", "adjusted_level"))
    effect, intervals = facet.settings.smallest_effect, bool(family["low"].notna().any())
    keys = forest_keys(
        raw=f"mean, {raw} t" if intervals else "",
        adjusted=f"adjusted, {adjusted} t" if intervals and adjusted != raw else "",
        zone="" if effect is None else f"± {effect:g}: too small to matter",
    )
    place_legend(figure, list(keys.values()), list(keys), title="")


def caption(facet: Facet, family: pd.DataFrame) -> str:
    """Return the caption of the forest plot, from what varied and what is there."""
    raw, adjusted = (levels_text(family, name) for name in ("interval_level", "adjusted_level"))
    size = int(facet.findings.contrasts["in_family"].sum())
    sentences = [
        f"Paired difference from {facet.study.baseline} in {measure_text(facet)} at the same seed and mix: "
        f"right of 0, {direction_text(facet)}. Small points: the pairs."
    ]
    if family["low"].notna().any():
        together = count_words([size], "primary contrast")
        thin = f"; thin: at {adjusted}, so that those of all {together} hold together" if size > 1 else ""
        sentences.append(
            f"Thick: mean and paired t interval at {raw}, which holds at "
            f"{percent_text(facet.settings.level)} whenever the study is ended or grown{thin}."
        )
        sentences.append(verdict_sentence(facet, needs=has_needs(family)))
    if (family[schema.MIX] == ALL_MIXES).any():
        sentences.append("All mixes: each strategy's weighted mean over them, which is judged first.")
    sentences.append(conditioning(facet, n=[int(n) for n in family["n"] if n > 0]))
    absent = absent_text(facet.cells)
    sentences.append(f"Planned cells that are not done: {absent}; their pairs are absent." if absent else "")
    return joined(*sentences, left_out_sentence(facet), mix_sentence(facet))


def verdict_sentence(facet: Facet, *, needs: bool) -> str:
    """Return what the verdicts mean under these settings."""
    effect, alpha = facet.settings.smallest_effect, facet.settings.alpha
    zone = (
        "no smallest effect was declared, so none can be equivalent"
        if effect is None
        else f"not worse: by less than {effect:g}, one-sided test"
        if facet.settings.question == NON_INFERIORITY
        else f"equivalent: within ± {effect:g} by two one-sided tests"
    )
    brackets = ", in brackets the seeds to add" if needs else ""
    return (
        f"Verdicts by the closed test at {alpha:.3g} over all looks, not by the intervals: different; "
        f"{zone}; else {UNRESOLVED}{brackets}."
    )


ENTRY = Entry(10, "forest", "Primary contrasts", draw_forest)
