"""The report of a study on disk: data, figures, summary table, and one page that shows them."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from analysis import page
from analysis.curves import draw_forgetting_curves
from analysis.errors import NothingToShowError
from analysis.heat_map import draw_change_against_baseline
from analysis.outcomes import run_outcomes, summarise
from analysis.output import publish, publish_text
from analysis.storage import is_directory_location
from analysis.style import publication_style, save_figure
from analysis.tables import latex_table, markdown_table, summary_caption, summary_texts
from analysis.tidy import SELECTION_DIGEST, Study
from analysis.trade_off import draw_trade_off
from analysis.view import Drawing, View, conditions, views

FIGURES: dict[str, Callable[[View], Drawing]] = {
    "forgetting_curves": draw_forgetting_curves,
    "change_against_random": draw_change_against_baseline,
    "tradeoff": draw_trade_off,
}
FORMATS = ("png", "svg", "pdf")
FIGURES_DIRECTORY = "figures"
PAGE = "report.md"


@dataclass(frozen=True)
class Report:
    """What was written, and what its reader must be told."""

    page: Path
    files: list[Path]
    counts: str
    absent: list[str]
    unpaired: list[str]


def report_directory(location: str | PathLike[str], *, name: str) -> Path:
    """Return where a report goes by itself: into a study's directory, or ./report/<its name> for any other."""
    if is_directory_location(location):
        return Path(location, "report")
    return Path("report", _file_name(name).lstrip(".") or "study")


def write_report(study: Study, *, directory: Path, progress: Callable[[str], None]) -> Report:
    """Write the whole report of `study`; raises NothingToShowError if no cell has been evaluated."""
    if study.rows.empty:
        raise NothingToShowError(
            f"study {study.name!r} has no evaluation yet in any of its {len(study.cells)} planned cells; "
            "run the sweep, then ask for the report again"
        )
    all_views = list(views(study))
    progress("writing the tables")
    files = write_data(study, directory=directory)
    widest = max(all_views, key=lambda view: len(view.starts))
    table = write_summary(study, directory=directory, given=conditions(widest))
    files += [directory / f"summary.{suffix}" for suffix in ("csv", "md", "tex")]
    sections = []
    with publication_style():
        for name, stem, view in planned_figures(all_views):
            progress(f"drawing {stem}")
            drawing = FIGURES[name](view)
            files += save_formats(drawing, stem=directory / FIGURES_DIRECTORY / stem)
            source = f"{FIGURES_DIRECTORY}/{stem}"
            sections.append(page.figure_section(drawing, name=name, title=view.title, source=source))
    absent = page.absent_cells(study)
    unpaired = [line for view in all_views for line in page.unpaired_runs(view)]
    parts = [page.heading(study), *sections, page.table_section(table)]
    parts += [page.notes(study, absent=absent, unpaired=unpaired), page.file_list(files, directory=directory)]
    written = publish_text(directory / PAGE, "\n\n".join(part.strip() for part in parts if part) + "\n")
    return Report(written, files, page.state_counts(study), absent, unpaired)


def write_data(study: Study, *, directory: Path) -> list[Path]:
    """Write the planned cells and the evaluation points, as CSV and, for programs, as Parquet."""
    cells = study.cells.drop(columns=SELECTION_DIGEST)
    return [
        publish(directory / "cells.csv", lambda path: cells.to_csv(path, index=False)),
        publish(directory / "evaluations.csv", lambda path: study.rows.to_csv(path, index=False)),
        publish(directory / "evaluations.parquet", lambda path: study.rows.to_parquet(path, index=False)),
    ]


def write_summary(study: Study, *, directory: Path, given: str) -> str:
    """Write summary.csv, .md and .tex; return the Markdown."""
    summary = summarise(study, outcomes=run_outcomes(study))
    publish(directory / "summary.csv", lambda path: summary.to_csv(path, index=False))
    header, rows = summary_texts(summary, axes=study.axes, tasks=(study.task_a, study.task_b))
    caption = summary_caption(given=given)
    markdown = f"{markdown_table(header, rows)}\n{caption}\n"
    publish_text(directory / "summary.md", markdown)
    publish_text(directory / "summary.tex", latex_table(header, rows, caption=caption, label="tab:summary"))
    return markdown


def planned_figures(all_views: list[View]) -> Iterator[tuple[str, str, View]]:
    """Yield every figure's kind, file stem and view; the stem names the view's axis values."""
    taken: set[str] = set()
    for name in FIGURES:
        for view in all_views:
            suffix = "".join(f"-{axis}_{value}" for axis, value in view.combination.items())
            stem = name + _file_name(suffix)
            while stem in taken:
                stem += "_"
            taken.add(stem)
            yield name, stem, view


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", text)


def save_formats(drawing: Drawing, *, stem: Path) -> list[Path]:
    """Save a drawing in every format; nothing where there is no figure."""
    if drawing.figure is None:
        return []
    return [save_figure(drawing.figure, stem.with_name(f"{stem.name}.{suffix}")) for suffix in FORMATS]
