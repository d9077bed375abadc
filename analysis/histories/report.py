"""The report of training histories: their curves, where each began and ended, and what is missing."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.facet import Drawing
from analysis.figures.lettering import shown_text
from analysis.figures.style import ONE_COLUMN, legend_handle, place_legend, plain_ticks, publication_style
from analysis.histories.figure import (
    LONGEST_TITLE,
    PANEL_WIDTH,
    draw_histories,
    history_labels,
    history_styles,
    plot_histories,
    tidy_metric,
)
from analysis.histories.read import History, group_replicates
from analysis.histories.tables import ends_table, points_table, task_text
from analysis.reading.errors import NothingToShowError
from analysis.report.build import Report
from analysis.report.document import Content, Section, Shown, picture_of
from analysis.report.figure_files import Origin, save_drawing
from analysis.report.html import write_web_page
from analysis.report.markdown import write_page
from analysis.report.provenance import Facts, analysis_versions
from analysis.tables.table import write_table
from analysis.wording.conditioning import count_text
from analysis.wording.terms import signed_text
from analysis.wording.verdicts import Verdicts

MISSING = {
    "Pairing": "the order of examples is not recorded, so no difference between two files is known to be a "
    "paired one, and none is tested",
    "Intervals": "one file is one run; only files of one name are replicates, and from three on they get a "
    "band",
    "Per-example measures": "only mean losses are recorded: no forgetting by level or type, and no split of "
    "the uncertainty into seeds and examples",
    "Selections": "which examples were replayed is not recorded: no overlap, length or level of a selection",
    "Verdicts": "nothing was declared before the outcomes: no primary measure, no smallest effect, no "
    "verdict",
    "Planned against run": "there is no plan: a run that failed or was never started leaves no trace",
    "Provenance": "no digest of data, model, adapter or code, no version and no hardware is recorded",
}


MOST_LINES, MOST_VALUES = 24, 6  # of the summary, and in a line of it; the table has all of them


def write_history_report(
    histories: list[History], *, problems: list[str], directory: Path, command: str
) -> Report:
    """Write figures, tables and pages of `histories`; raises NothingToShowError where there are none."""
    if not histories:
        raise NothingToShowError("no usable history is left to report")
    groups = group_replicates(histories)
    tables = [ends_table(groups), points_table(groups)]
    files = [file for table in tables for file in write_table(table, directory=directory)]
    pictures = []
    with publication_style():
        drawings = {
            "histories": ("Losses", _losses(histories, groups)),
            "changes": ("Change since the first evaluation", _changes(groups)),
        }
        for stem, (title, drawing) in drawings.items():
            drawing = drawing.with_key()
            files += save_drawing(drawing, directory / "figures" / stem, sidecar=Origin("histories", command))
            pictures.append(picture_of(drawing, title=title, path=f"figures/{stem}"))
    section = Section(
        title="Training histories",
        facts=f"Training histories: {count_text([len(histories)], 'file')} under "
        f"{count_text([len(groups)], 'name')}, as a script wrote them.",
        counts=f"Skipped as unusable: {len(problems)}." if problems else "",
        verdicts=history_words(groups),
        pictures=pictures,
        tables=[Shown(tables[0], ""), Shown(tables[1], "", inline=False)],
        lists={
            "What these files cannot support": [f"{name}: {why}." for name, why in MISSING.items()],
            "Files that could not be used": problems,
        },
        provenance=[
            Facts("Files", [(run.path.name, _details(run)) for run in histories]),
            Facts("Versions of this analysis", analysis_versions()),
        ],
    )
    content = Content("Training histories", [section], directory)
    return Report(write_page(content), write_web_page(content), files)


def history_words(groups: Mapping[str, list[History]]) -> Verdicts:
    """Return what each file shows, and that it is no verdict."""
    lines = [f"{text}: {'; '.join(_changes_of(runs))}." for text, runs in groups.items()]
    more = len(lines) - MOST_LINES
    return Verdicts(
        "",
        "Change of each loss from the first evaluation to the last, file by file, in nats/token. A rise of a "
        "task's loss while another is trained is forgetting.",
        [*lines[:MOST_LINES], f"{more} more: see the table."] if more > 0 else lines,
        "These are descriptions, not verdicts: single runs say nothing about chance, and the files do not "
        "record what would pair them. What they cannot support is listed below.",
    )


def _changes_of(runs: list[History]) -> list[str]:
    """Return, for each loss, its change in every run of one name: 'math +0.181'."""
    changes: dict[str, list[float]] = {}
    for run in runs:
        for metric in run.losses:
            series = run.losses[metric].dropna()
            if len(series) > 1:
                changes.setdefault(str(metric), []).append(float(series.iloc[-1] - series.iloc[0]))
    texts = [f"{task_text(metric)} {_values_text(found)}" for metric, found in changes.items()]
    return texts or ["one evaluation, so no change"]


def _values_text(values: list[float]) -> str:
    if len(values) <= MOST_VALUES:
        return ", ".join(signed_text(value, digits=3) for value in values)
    ends = (signed_text(value, digits=3) for value in (min(values), max(values)))
    return f"{' to '.join(ends)} in {len(values)} files"


def _losses(histories: list[History], groups: Mapping[str, list[History]]) -> Drawing:
    caption = f"The losses of each file at every evaluation (nats/token). {_replication(groups)}"
    return Drawing(draw_histories(histories, title=None), caption, _frames(groups))


def _changes(groups: Mapping[str, list[History]]) -> Drawing:
    """Return each loss minus its first value: runs that began elsewhere can be read beside each other."""
    since = {text: [_from_start(run) for run in runs] for text, runs in groups.items()}
    frames = _frames(since)
    styles = history_styles(since)
    size = (max(ONE_COLUMN, PANEL_WIDTH * len(frames)), 2.6 + 0.1 * len(since))
    figure = Figure(figsize=size, layout="constrained")
    for ax, (metric, frame) in zip(
        figure.subplots(1, len(frames), squeeze=False)[0], frames.items(), strict=True
    ):
        plot_histories(frame, ax, styles=styles)
        ax.axhline(0, color="0.3", linestyle=":", linewidth=0.8)
        ax.set(
            xlabel="step",
            ylabel="change of loss (nats/token)",
            title=shown_text(metric, longest=LONGEST_TITLE),
        )
        plain_ticks(ax)
    labels = history_labels(since)
    place_legend(figure, [legend_handle(style) for style in styles.values()], labels, title="")
    caption = (
        "Each loss minus its first value: above 0 the task was forgotten, below it was learnt (nats/token). "
        f"Runs may differ in data, precision and length as well as in name. {_replication(groups)}"
    )
    return Drawing(figure, caption, frames)


def _from_start(run: History) -> History:
    first = run.losses.bfill().iloc[0]
    return History(run.name, run.named, run.details, run.path, run.losses - first)


def _frames(groups: Mapping[str, list[History]]) -> dict[str, pd.DataFrame]:
    metrics = dict.fromkeys(metric for runs in groups.values() for run in runs for metric in run.losses)
    return {task_text(str(metric)): tidy_metric(groups, metric=str(metric)) for metric in metrics}


def _replication(groups: Mapping[str, list[History]]) -> str:
    largest = max(len(runs) for runs in groups.values())
    if largest == 1:
        return "One run each (n = 1): no mean and no interval."
    if largest < 3:
        return f"Up to {largest} runs of one name: no interval."
    return (
        f"Up to {largest} runs of one name; bands: 95 % pointwise t interval over them, whatever differed "
        "between them."
    )


def _details(run: History) -> str:
    facts = [f"{name.replace('_', ' ')} {value}" for name, value in run.details.items()]
    return ", ".join([count_text([len(run.losses)], "evaluation"), *facts])
