"""Heat map of the primary contrasts: strategy by mix, centred on random; unresolved hatched, lost pairs
crossed.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.captions import (
    direction_text,
    joined,
    left_out_sentence,
    measure_text,
    mix_sentence,
    spread_sentence,
)
from analysis.figures.facet import Drawing, Entry, Facet
from analysis.figures.forest import raw_differences
from analysis.figures.style import SMALLEST, LineStyle, decimals, place_legend, place_title, strategy_styles
from analysis.findings.outcomes import strategy_rank
from analysis.findings.verdicts import UNRESOLVED, verdict_text
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from analysis.stats.measures import MEASURES
from analysis.wording.terms import mix_text, signed_text
from trainables.ledger import schema

BETTER, NEITHER, WORSE = "#5a9bd4", "#f7f7f7", "#e8924a"  # light enough for dark text throughout
SHADES = 255  # odd: one of them is 0's
HATCH = "////"
TWO = 2  # pairs: points, and no mean of them
CELL_WIDTH, LINE_HEIGHT = 1.05, 0.105  # inches

ABSENT = {
    "n_left_out": "unpaired",
    "n_undefined": "undefined",
    "n_diverged": "diverged",
    "n_failed": "failed",
    "n_unfinished": "unfinished",
}


def palette(contrasts: pd.DataFrame, *, limit: float, smallest_effect: float | None) -> ListedColormap:
    """Return the colours from -`limit` to `limit`: orange is worse, whichever way that lies.

    What is too small to matter has the colour of neither.
    """
    worse = {MEASURES[name].higher_is_worse for name in contrasts["measure"]}
    low, high = (WORSE, BETTER) if worse == {False} else (BETTER, WORSE)
    blend = seaborn.blend_palette([low, NEITHER, high], as_cmap=True)
    values = np.linspace(-1, 1, SHADES)
    beyond = np.abs(values) * limit > (smallest_effect or 0.0)
    return ListedColormap(blend(0.5 + values / 2 * beyond))


def plot_heat_map(
    contrasts: pd.DataFrame,
    ax: Axes,
    *,
    pairs: pd.DataFrame | None = None,
    smallest_effect: float | None = None,
    styles: dict[str, LineStyle] | None = None,
) -> Axes:
    """Draw `contrasts`: colour is the difference, the text adds half-width, n and verdict.

    Pale and hatched: unresolved, or too few pairs to say. Crossed: no pair, as runs were lost. Two pairs have
    no colour: they are written as they are, if `pairs` are given. Colours begin at `smallest_effect`.
    """
    styles = styles or strategy_styles(contrasts[schema.STRATEGY])
    largest = float(contrasts["difference"].abs().max())
    digits, limit = decimals(largest), max(largest, smallest_effect or 0.0) or 1.0
    means = by_strategy_and_mix(contrasts.assign(colour=coloured(contrasts)), values="colour")
    seaborn.heatmap(
        means,
        ax=ax,
        vmin=-limit,
        vmax=limit,
        cmap=palette(contrasts, limit=limit, smallest_effect=smallest_effect),
        linewidths=1,
        xticklabels=False,
        yticklabels=False,
        cbar_kws={
            "ticks": MaxNLocator(5, steps=[1, 2, 5, 10]),
            "format": FuncFormatter(lambda value, _: signed_text(value, digits=digits)),
            "aspect": 12,
        },
    )
    records = contrasts.to_dict("records")
    for record in records:
        row = means.index.get_loc(record[schema.STRATEGY])
        column = means.columns.get_loc(record[schema.MIX])
        mark_cell(record, ax, place=(float(str(column)), float(str(row))))
        _write(cell_text(record, digits=digits, pairs=pairs), ax, place=(float(str(column)), float(str(row))))
    ax.set_xticks(np.arange(len(means.columns)) + 0.5, [mix_text(float(mix)) for mix in means.columns])
    ax.set_yticks(np.arange(len(means)) + 0.5, [styles[name].label for name in means.index], rotation=0)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.set(xlabel="mix", ylabel="")
    return ax


def coloured(contrasts: pd.DataFrame) -> pd.Series:
    """Return the differences that a colour may stand for: a value, or a mean of 3 and more; 0 for the
    rest.
    """
    shown: pd.Series = contrasts["difference"].where(contrasts["n"] != TWO, 0.0)
    return shown


def by_strategy_and_mix(frame: pd.DataFrame, *, values: str) -> pd.DataFrame:
    """Return `values` with a row per strategy and a column per mix, in the order of every figure."""
    grid = frame.pivot(index=schema.STRATEGY, columns=schema.MIX, values=values)
    return grid.loc[sorted(grid.index, key=strategy_rank), sorted(grid.columns)]


def mark_cell(record: dict[Any, Any], ax: Axes, *, place: tuple[float, float]) -> Axes:
    """Pale and hatch an unresolved cell; grey one that has no pair, and cross it where runs were lost."""
    column, row = place
    if record["n"] == 0:
        ax.add_patch(Rectangle(place, 1, 1, facecolor="0.96", edgecolor="0.6", linewidth=0.6))
        if is_lost(record):
            ax.plot([column, column + 1], [row, row + 1], color="0.6", linewidth=0.8)
            ax.plot([column, column + 1], [row + 1, row], color="0.6", linewidth=0.8)
    elif is_open(record):
        ax.add_patch(Rectangle(place, 1, 1, facecolor="white", alpha=0.6, linewidth=0))
        ax.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="0.62", hatch=HATCH, linewidth=0))
    return ax


def is_open(record: dict[Any, Any]) -> bool:
    """Return whether a contrast has pairs and no answer."""
    return bool(record["n"] > 0 and record["verdict"] == UNRESOLVED)


def is_lost(record: dict[Any, Any]) -> bool:
    """Return whether a contrast has no pair because runs diverged or failed."""
    return bool(record["n"] == 0 and record["n_diverged"] + record["n_failed"] > 0)


def _write(text: str, ax: Axes, *, place: tuple[float, float]) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.8}
    ax.text(
        place[0] + 0.5,
        place[1] + 0.5,
        text,
        ha="center",
        va="center",
        fontsize=SMALLEST,
        color="0.05",
        bbox=box,
    )  # fmt: skip


def cell_text(record: dict[Any, Any], *, digits: int, pairs: pd.DataFrame | None = None) -> str:
    """Return what one cell says: the difference, its half-width, n, the verdict, and what is absent."""
    n, planned = int(record["n"]), int(record["n_planned"])
    half_width = (record["high"] - record["low"]) / 2
    spread = "" if math.isnan(half_width) else f" ± {half_width:.{digits}f}"
    value = "" if n == 0 else f"{signed_text(record['difference'], digits=digits)}{spread}"
    if n == TWO:
        both = [] if pairs is None else raw_differences(pairs, record).tolist()
        value = "\n".join(signed_text(one, digits=digits) for one in both)
    count = "no pair" if n == 0 else f"n = {n}" if n == planned else f"n = {n} of {planned}"
    verdict = verdict_text(record["verdict"], in_family=record["in_family"])
    verdict = verdict if n >= FEWEST_FOR_INTERVAL else ""
    absent = [f"{int(record[name])} {word}" for name, word in ABSENT.items() if record[name]]
    return "\n".join(line for line in (value, count, verdict, *absent) if line)


def draw_change_against_baseline(facet: Facet) -> Drawing:
    """Return the heat map of one axis combination, or why there is none."""
    if facet.study.baseline not in set(facet.cells[schema.STRATEGY]):
        return Drawing(
            None, f"Not drawn: the study has no strategy {facet.study.baseline!r} to compare with."
        )
    contrasts = facet.part(facet.findings.contrasts)
    frame = contrasts[contrasts[schema.STRATEGY] != schema.NO_REPLAY]
    if frame.empty:
        return Drawing(None, f"Not drawn: the study has no strategy besides {facet.study.baseline!r}.")
    if not frame["n"].any():
        return Drawing(
            None,
            f"Not drawn yet: no strategy has a finished seed that {facet.study.baseline!r} has finished too.",
        )
    rows, mixes = frame[schema.STRATEGY].nunique(), frame[schema.MIX].nunique()
    if rows == mixes == 1:
        return Drawing(None, "Not drawn: of a single contrast the forest shows all.")
    longest = max(len(facet.styles[name].label) for name in frame[schema.STRATEGY])
    lines = max(
        cell_text(record, digits=4, pairs=facet.pairs).count("\n") + 1 for record in frame.to_dict("records")
    )
    size = (0.95 + 0.055 * longest + CELL_WIDTH * mixes, 0.75 + (0.1 + LINE_HEIGHT * lines) * rows)
    figure = facet.new_figure(*size)
    effect = facet.settings.smallest_effect
    plot_heat_map(frame, figure.subplots(), pairs=facet.pairs, smallest_effect=effect, styles=facet.styles)
    figure.axes[-1].set_ylabel(MEASURES[facet.settings.primary].unit)
    place_title(figure, facet.title, f"{measure_text(facet)}: strategy − {facet.study.baseline}")
    _place_legend(figure, frame)
    return Drawing(figure, caption(facet, frame), {"contrasts": frame})


def _place_legend(figure: Figure, frame: pd.DataFrame) -> None:
    """Explain the hatching and the crosses, where there are any."""
    records = frame.to_dict("records")
    handles: dict[str, Any] = {}
    if any(is_open(record) for record in records):
        handles["unresolved, or too few pairs"] = Patch(facecolor="white", edgecolor="0.62", hatch=HATCH)
    if any(is_lost(record) for record in records):
        handles["no pair: diverged or failed"] = Line2D([], [], color="0.6", marker="x", linestyle="")
    if handles:
        place_legend(figure, list(handles.values()), list(handles), title="")


def caption(facet: Facet, frame: pd.DataFrame) -> str:
    """Return the caption of the heat map, from what varied and what is there."""
    counts = [int(n) for n in frame["n"] if n > 0]
    records = frame.to_dict("records")
    crossed = (
        "Crossed: no finished pair, as runs diverged or failed."
        if any(is_lost(record) for record in records)
        else ""
    )
    resolved = (
        "Pale and hatched: unresolved, or fewer than 3 pairs."
        if any(is_open(record) for record in records)
        else ""
    )
    if max(counts) >= FEWEST_FOR_INTERVAL:
        resolved += (
            " Verdicts are those of the primary contrasts, adjusted for the whole family; the "
            "half-widths are not."
        )
    if TWO in counts:
        resolved += " Of 2 pairs, both are written."
    control = (
        f"{schema.AA} is {facet.study.baseline} again and stands outside that family."
        if schema.AA in set(frame[schema.STRATEGY])
        else ""
    )
    colour = "orange" if MEASURES[facet.settings.primary].higher_is_worse else "blue"
    effect = facet.settings.smallest_effect
    pale = "" if effect is None else f" Without colour: a difference below {effect:g}, too small to matter."
    return joined(
        f"Paired difference from {facet.study.baseline} in {measure_text(facet)} "
        f"({MEASURES[facet.settings.primary].unit}) at the same seed "
        f"and mix: above 0 ({colour}), {direction_text(facet)}.{pale}",
        spread_sentence(facet, counts, marks="±", kind="paired t"),
        resolved.strip(),
        crossed,
        control,
        left_out_sentence(facet),
        mix_sentence(facet),
    )


ENTRY = Entry(
    40, "change_against_baseline", "Strategy by mix, against the baseline", draw_change_against_baseline
)
