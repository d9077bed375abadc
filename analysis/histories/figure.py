"""Draws training histories: one panel a metric, side by side; replicates as a mean with a t band."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.curves import legend_title, mean_curves, plot_replicates
from analysis.figures.lettering import distinct_labels, key_sentence, shown_text
from analysis.figures.style import (
    ONE_COLUMN,
    LineStyle,
    cycled_style,
    fill_lines,
    legend_handle,
    place_legend,
    plain_ticks,
    publication_style,
    save_figure,
    strategy_styles,
)
from analysis.histories.read import LOSS_SUFFIX, History, group_replicates
from analysis.reading.errors import AnalysisError, NothingToShowError
from analysis.wording.terms import strategy_text
from trainables.ledger import schema

FORMATS = (".png", ".svg", ".pdf")
TEXT, RUN, LOSS = "text", "run", "loss"  # columns; the step is the ledger's
PANEL_WIDTH = 2.8
LONGEST_HISTORY = 100  # letters of a name in the legend, over several lines; the table has it whole
LONGEST_TITLE = 32


def tidy_metric(groups: Mapping[str, list[History]], *, metric: str) -> pd.DataFrame:
    """Return one metric of all histories: legend text, `run`, `step`, `loss`, one row per point."""
    parts = [
        pd.DataFrame(
            {TEXT: text, RUN: number, schema.STEP: run.losses.index, LOSS: run.losses[metric].to_numpy()}
        )
        for text, runs in groups.items()
        for number, run in enumerate(runs)
        if metric in run.losses
    ]
    return pd.concat(parts, ignore_index=True)


def plot_histories(frame: pd.DataFrame, ax: Axes, *, styles: Mapping[str, LineStyle]) -> Axes:
    """Draw the rows of `tidy_metric`: three replicates and more as thin lines, with their mean at the steps
    they share.
    """
    means = mean_curves(frame, metric=LOSS, by=TEXT, replicate=RUN)
    return plot_replicates(frame, ax, metric=LOSS, styles=styles, means=means, by=TEXT, replicate=RUN)


def history_styles(groups: Mapping[str, list[History]]) -> dict[str, LineStyle]:
    """Return a style for each legend text; the one group that replayed nothing looks as it does in a
    study.
    """
    control = [text for text, runs in groups.items() if all(map(_without_replay, runs))]
    styles = {text: cycled_style(position) for position, text in enumerate(groups)}
    if len(control) == 1:
        styles[control[0]] = strategy_styles([schema.NO_REPLAY])[schema.NO_REPLAY]
    return styles


def history_labels(groups: Mapping[str, list[History]]) -> list[str]:
    """Return what the legend calls each group: its name, shortened where it is very long, and its runs."""
    names = distinct_labels(groups, shown=partial(shown_text, longest=LONGEST_HISTORY))
    return [
        f"{names[text]} (n = {len(runs)})" if len(runs) > 1 else names[text] for text, runs in groups.items()
    ]


def _without_replay(run: History) -> bool:
    """Return whether a history says that nothing was replayed: by its name, its selection or its mix."""
    return (
        run.name == strategy_text(schema.NO_REPLAY)
        or run.details.get("selection_method") == schema.NO_REPLAY
        or run.details.get("mix_percentage") == 0
    )


def draw_histories(histories: list[History], *, title: str | None) -> Figure:
    """Return a figure with a panel for each metric found, in order of appearance, and one legend."""
    groups = group_replicates(histories)
    styles = history_styles(groups)
    metrics = list(dict.fromkeys(metric for run in histories for metric in run.losses.columns))
    figure = Figure(
        figsize=(max(ONE_COLUMN, PANEL_WIDTH * len(metrics)), 2.6 + 0.1 * len(groups)), layout="constrained"
    )
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(axes, metrics, strict=True):
        plot_histories(tidy_metric(groups, metric=metric), ax, styles=styles)
        ax.set(
            xlabel="step",
            ylabel="loss (nats/token)",
            title=shown_text(metric.removesuffix(LOSS_SUFFIX).replace("_", " "), longest=LONGEST_TITLE)
            + " loss",
        )
        plain_ticks(ax)
    sizes = {text: len(runs) for text, runs in groups.items()}
    replicated = [size for size in sizes.values() if size > 1]
    explanation = legend_title(replicated, unit="run") + " of one name" if replicated else ""
    place_legend(
        figure, [legend_handle(style) for style in styles.values()], history_labels(groups), title=explanation
    )
    if title:
        shown = shown_text(title, longest=LONGEST_HISTORY, ending=False)
        figure.suptitle(fill_lines(shown, width=figure.get_figwidth() - 0.5), fontsize=9)
    return figure


def write_history_figure(histories: list[History], *, path: Path, title: str | None) -> str:
    """Draw `histories` into `path` and return what its keys stand for; raises AnalysisError for a suffix not
    in FORMATS or without histories.
    """
    if path.suffix not in FORMATS:
        raise AnalysisError(
            f"the suffix of the output must be one of {', '.join(FORMATS)}, got {path.name!r}"
        )
    if not histories:
        raise NothingToShowError("no usable history is left to plot")
    with publication_style():
        figure = draw_histories(histories, title=title)
        save_figure(figure, path)
    return key_sentence(figure)
