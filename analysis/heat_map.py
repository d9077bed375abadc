"""Heat map of the change in task A's final loss against the baseline, strategy by mix."""

import math
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.inference import FEWEST_FOR_INTERVAL, interval_name
from analysis.outcomes import BASELINE, MATCHED, difference_from_baseline, grouped, select, strategy_rank
from analysis.style import mix_text, signed_text
from analysis.view import Drawing, View, absent_text, conditions, count_text, mean_text, mix_sentence
from trainables import columns

PALETTE = "blend:#5a9bd4,#f7f7f7,#e8924a"  # blue to orange, light enough for dark text throughout

MEAN = "mean"
HALF_WIDTH = "half_width"
PAIRS = "n"
PLANNED = "planned"
NOTE = "note"


def compare(view: View) -> pd.DataFrame:
    """Return one row per strategy and mix: the paired change against the baseline, n, and what is absent."""
    replayed = view.cells[view.cells[columns.MIX] > 0]
    rows = []
    for label, cells in grouped(replayed, keys=[columns.STRATEGY, columns.MIX]):
        if label[columns.STRATEGY] == BASELINE:
            continue
        pairs = select(view.pairs, label)
        interval = difference_from_baseline(pairs)
        own = absent_text(cells)
        baseline = absent_text(select(replayed, {**label, columns.STRATEGY: BASELINE}))
        left_out = int((~pairs[MATCHED]).sum())
        notes = [
            own,
            f"{BASELINE}: {baseline}" if baseline else "",
            f"{left_out} unpaired" if left_out else "",
        ]
        note = "\n".join(note for note in notes if note)
        rows.append([*label.values(), *interval, len(cells), note])
    names = [columns.STRATEGY, columns.MIX, MEAN, HALF_WIDTH, PAIRS, PLANNED, NOTE]
    return pd.DataFrame(rows, columns=names)


def plot_heat_map(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the rows of `compare`: colour is the mean, the text adds half-width and n; no pair is hatched."""
    means, digits = by_strategy_and_mix(frame, values=MEAN), decimals(frame[MEAN].abs().max())
    texts = frame.assign(text=[cell_text(record, digits=digits) for record in frame.to_dict("records")])
    grid = by_strategy_and_mix(texts, values="text")
    limit = float(frame[MEAN].abs().max()) or 1.0
    seaborn.heatmap(
        means,
        ax=ax,
        vmin=-limit,
        vmax=limit,
        cmap=seaborn.color_palette(PALETTE, as_cmap=True),
        annot=grid.to_numpy(object),
        fmt="",
        annot_kws={"size": 6, "color": "0.1"},
        linewidths=1,
        cbar_kws={
            "ticks": MaxNLocator(5, steps=[1, 2, 5, 10]),
            "format": FuncFormatter(lambda value, _: signed_text(value, digits=digits)),
            "aspect": 12,
        },
    )
    hatch_absent(grid.where(means.isna(), other=None), ax)
    ax.set_xticks(np.arange(len(grid.columns)) + 0.5, [mix_text(float(mix)) for mix in grid.columns])
    ax.set_yticks(np.arange(len(grid)) + 0.5, list(grid.index), rotation=0)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.set(xlabel="mix", ylabel="")
    return ax


def by_strategy_and_mix(frame: pd.DataFrame, *, values: str) -> pd.DataFrame:
    """Return `values` with a row per strategy and a column per mix, in the order of every figure."""
    grid = frame.pivot(index=columns.STRATEGY, columns=columns.MIX, values=values)
    return grid.loc[sorted(grid.index, key=strategy_rank), sorted(grid.columns)]


def hatch_absent(texts: pd.DataFrame, ax: Axes) -> Axes:
    """Hatch the cells of the map that have a text in `texts`, and write it there."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    for (row, column), text in np.ndenumerate(texts.to_numpy(object)):
        if isinstance(text, str):
            ax.add_patch(Rectangle((column, row), 1, 1, facecolor="0.95", edgecolor="0.7", hatch="xxxx"))
            ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6, bbox=box)
    return ax


def cell_text(record: dict[Any, Any], *, digits: int) -> str:
    """Return what one cell says: the mean, its half-width where there is one, n, and what is absent."""
    mean, half_width, n, planned = (record[name] for name in (MEAN, HALF_WIDTH, PAIRS, PLANNED))
    spread = "" if math.isnan(half_width) else f" ± {half_width:.{digits}f}"
    value = "" if n == 0 else f"{signed_text(mean, digits=digits)}{spread}"
    count = "no pair" if n == 0 else f"n = {n}" if n == planned else f"n = {n} of {planned}"
    return "\n".join(line for line in (value, count, record[NOTE]) if line)


def decimals(limit: float) -> int:
    """Return the decimals that show two significant digits of `limit`, from 4 to 6."""
    return int(np.clip(1 - math.floor(math.log10(limit)), 4, 6)) if limit else 4


def draw_change_against_baseline(view: View) -> Drawing:
    """Return the heat map of one axis combination, or why there is none."""
    strategies = set(view.cells[columns.STRATEGY])
    if BASELINE not in strategies:
        return Drawing(None, f"Not drawn: the study has no strategy {BASELINE!r} to compare with.")
    frame = compare(view)
    if frame.empty:
        return Drawing(None, f"Not drawn: the study has no strategy besides {BASELINE!r}.")
    if frame[MEAN].isna().all():
        return Drawing(
            None, f"Not drawn yet: no strategy has a finished seed that {BASELINE!r} has finished too."
        )
    rows, mixes = frame[columns.STRATEGY].nunique(), frame[columns.MIX].nunique()
    longest = max(len(name) for name in frame[columns.STRATEGY])
    tallest = 0.34 + 0.11 * max(note.count("\n") + 1 if note else 0 for note in frame[NOTE])
    size = (1.4 + 0.06 * longest + 1.15 * mixes, 1.1 + tallest * rows)
    figure = Figure(figsize=size, layout="constrained")
    plot_heat_map(frame, figure.subplots())
    figure.axes[-1].set_ylabel("nats/token")
    change = f"change in final {view.study.task_a} loss against {BASELINE}"
    shown = (
        f"mean ± {interval_name('paired t')} over seeds" if frame[HALF_WIDTH].notna().any() else "mean, n ≤ 2"
    )
    figure.suptitle("\n".join(part for part in (view.title, change, shown) if part), fontsize=7.5)
    return Drawing(figure, caption(view, frame))


def caption(view: View, frame: pd.DataFrame) -> str:
    """Return the caption of the heat map, from what varied and what is there."""
    counts = [int(n) for n in frame[PAIRS] if n > 0]
    opening = (
        f"Change in final {view.study.task_a} loss against {BASELINE} at the same seed and mix, in nats per "
        f"supervised token: above 0, more was forgotten than with {BASELINE}. "
        f"{mean_text(view, counts=counts, unit='pair')}."
    )
    parts = [opening]
    if max(counts) >= FEWEST_FOR_INTERVAL:
        parts.append(
            f"± is the half-width of the {interval_name('paired t')} over seeds, {conditions(view)}, "
            "not adjusted for the number of comparisons."
        )
    if min(counts) < FEWEST_FOR_INTERVAL and max(counts) > 1:
        parts.append("No half-width where n ≤ 2.")
    if frame[MEAN].isna().any():
        parts.append("Hatched: no pair of finished seeds.")
    left_out = int((~view.pairs[MATCHED]).sum())
    if left_out:
        parts.append(
            f"Left out: {count_text([left_out], 'pair')} whose runs are not known to have seen the same "
            f"{view.study.task_b} examples at the same steps."
        )
    parts.append(mix_sentence(view))
    return " ".join(parts)
