"""Draws and writes everything of one study into its folder, and returns it as a section of a report."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.figures import FIGURES
from analysis.findings import Findings
from analysis.plan_matrix import plan_matrix, rates_table
from analysis.provenance import provenance
from analysis.result_tables import TABLES
from analysis.run_lists import absent_cells, damage_text, facts_text, state_counts, unpaired_runs
from analysis.sections import Section, Shown, picture_of
from analysis.sidecar import Origin, save_drawing
from analysis.style import publication_style
from analysis.tables import write_table
from analysis.view import View, views
from analysis.words import verdicts_in_words

FIGURES_DIRECTORY = "figures"
DATA_ONLY = ("cells", "evaluations")
FOLDED = ("secondary", "levels", "pairs")
MOST_SHOWN_ROWS = 1_000  # a longer table is only to download

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How a study is reported: bands for whole curves at once, and the command that asked for it."""

    simultaneous: bool = False
    command: str = "analysis report"
    assumed: str = ""  # what the command set instead of the study's own declaration


@dataclass(frozen=True)
class Written:
    """A study's section, its files, and what its reader must be told."""

    section: Section
    files: list[Path]
    counts: str
    absent: list[str]
    unpaired: list[str]


def write_study(
    findings: Findings, *, directory: Path, folder: str, options: Options, progress: Progress
) -> Written:
    """Write the tables and figures of a study to directory/folder; `folder` is empty or ends in a slash."""
    study = findings.study
    target = directory / folder
    progress("writing the tables")
    shown = study_tables(findings, folder=folder)
    files = [file for part in shown for file in write_table(part.table, directory=target)]
    all_views = list(views(findings, simultaneous=options.simultaneous))
    pictures = []
    origin = Origin(study.name, options.command)
    with publication_style():
        for name, stem, view in planned_figures(all_views):
            progress(f"drawing {stem}")
            drawing = FIGURES[name].draw(view).with_key()
            files += save_drawing(drawing, target / FIGURES_DIRECTORY / stem, sidecar=origin)
            title = FIGURES[name].title + (f" ({view.title})" if view.title else "")
            pictures.append(picture_of(drawing, title=title, path=f"{folder}{FIGURES_DIRECTORY}/{stem}"))
    absent, unpaired = absent_cells(study), [line for view in all_views for line in unpaired_runs(view)]
    section = Section(
        title=study.name,
        facts=facts_text(study),
        counts=f"Cells: {state_counts(study)}.",
        verdicts=verdicts_in_words(findings),
        pictures=pictures,
        tables=shown,
        matrix=plan_matrix(study),
        lists={
            "Cells that are not done": absent,
            "Pairs left out": unpaired,
            "Files that could not be used": list(findings.problems),
            "Notes": list(findings.notes),
        },
        provenance=provenance(findings),
        warning=" ".join(filter(None, [options.assumed, damage_text(study)])),
    )
    return Written(section, files, state_counts(study), absent, unpaired)


def study_tables(findings: Findings, *, folder: str) -> list[Shown]:
    """Return the tables of a study in reading order, those too long for a page as data alone."""
    made = {name: make(findings) for name, make in TABLES.items()}
    made = {name: table for name, table in made.items() if table is not None}
    made |= {"rates": rates_table(findings.study)}
    return [
        Shown(
            table,
            folder,
            inline=name not in DATA_ONLY and table.printable and len(table.rows) <= MOST_SHOWN_ROWS,
            folded=name in FOLDED,
        )
        for name, table in made.items()
        if table is not None
    ]


def planned_figures(all_views: list[View]) -> Iterator[tuple[str, str, View]]:
    """Yield every figure's kind, file stem and view; the stem names the view's axis values."""
    taken: set[str] = set()
    for name in FIGURES:
        for view in all_views:
            suffix = "".join(f"-{axis}_{value}" for axis, value in view.combination.items())
            stem = name + file_name(suffix)[:80]
            while stem in taken:
                stem += "_"
            taken.add(stem)
            yield name, stem, view


def file_name(text: str) -> str:
    """Return `text` as a part of a file's name: nothing that leads out of a folder, or runs."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", text)
