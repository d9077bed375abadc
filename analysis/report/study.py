"""Draws and writes everything of one study into its folder, and returns it as a section of a report."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.figures.captions import mix_sentence
from analysis.figures.facet import EVERYTHING, Choice, Facet
from analysis.findings.findings import Findings
from analysis.findings.registered import registered
from analysis.reading.preregistration import departures
from analysis.report.document import Section, Shown
from analysis.report.figure_files import Origin
from analysis.report.figure_set import FigureSet, begin
from analysis.report.provenance import provenance
from analysis.tables.listings import TABLES
from analysis.tables.plan_matrix import plan_matrix, rates_table
from analysis.tables.run_lists import absent_cells, damage_text, facts_text, state_counts, unpaired_runs
from analysis.tables.table import write_table
from analysis.wording.conditioning import conditions
from analysis.wording.verdicts import verdicts_in_words

DATA_ONLY = ("cells", "evaluations")
FOLDED = ("secondary", "variance", "components", "sensitivity", "levels", "pairs")
REPEATED = 3  # captions that say the same; the page says it once
OVER = "Intervals are over "
OVER_SEEDS = f"{OVER}seeds, "
PLANNED = " planned cells are done"
SENTENCE_END = re.compile(r"(?<=\.) (?=[A-Z0-9])")
MOST_SHOWN_ROWS = 1_000  # a longer table is only to download

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How a study is reported: what its figures show, and the command that asked for it."""

    choice: Choice = EVERYTHING
    command: str = "analysis report"
    assumed: str = ""  # what the command set instead of the study's own declaration
    apart: bool = False  # whether figures may be drawn in a second process
    registered: Mapping[str, Any] | None = None  # the preregistration that the study is held against


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
    options.choice.check(study)
    origin = Origin(study.name, options.command)
    figures = FigureSet(findings, directory, folder, origin, options.choice)
    with begin(figures, apart=options.apart) as draw:
        progress("writing the tables")
        shown = study_tables(findings, folder=folder)
        files = [file for part in shown for file in write_table(part.table, directory=directory / folder)]
        drawn = draw(progress)
    files += [file for _, saved in drawn for file in saved]
    absent, unpaired = (
        absent_cells(study),
        [line for facet in figures.facets for line in unpaired_runs(facet.study, facet.pairs)],
    )
    captions = [*(picture.caption for picture, _ in drawn), *(part.table.caption for part in shown)]
    shared, verdicts = shared_words(figures.facets, captions), verdicts_in_words(findings)
    registration = registration_lines(findings, options.registered)
    section = Section(
        title=study.name,
        facts=facts_text(study),
        counts=f"Cells: {state_counts(study)}.",
        verdicts=verdicts,
        pictures=[replace(picture, caption=shorter(picture.caption, shared)) for picture, _ in drawn],
        tables=[
            replace(part, table=replace(part.table, caption=shorter(part.table.caption, shared)))
            for part in shown
        ],
        matrix=plan_matrix(study),
        lists={
            "Cells that are not done": absent,
            "Pairs left out": unpaired,
            "Files that could not be used": list(findings.problems),
            "Notes": unsaid(findings.notes, [verdicts.limits, *captions]),
            "Preregistration": registration,
        },
        provenance=provenance(findings),
        shared=" ".join(said_once(shared)),
        warning=" ".join(
            filter(
                None,
                [options.assumed, damage_text(study), *([] if len(registration) < 2 else registration[:1])],
            )
        ),
    )
    return Written(section, files, state_counts(study), absent, unpaired)


def registration_lines(findings: Findings, record: Mapping[str, Any] | None) -> list[str]:
    """Return whether the study is as it was registered, and in what it departs; none where nothing was."""
    if record is None:
        return []
    now = registered(findings.study, findings.judgements, settings=findings.settings)
    found = departures(record, now)
    late = f", once {record['finished_cells']} cells were finished" if record["finished_cells"] else ""
    head = f"Registered {record['date']}{late}"
    return [f"{head}, and the study departs from it:", *found] if found else [f"{head}: as registered."]


def shared_words(views: list[Facet], captions: Sequence[str]) -> list[str]:
    """Return what the page says once: what captions are conditional on, and sentences that many repeat."""
    held = list(dict.fromkeys(conditions(view) for view in views))
    mixes = list(dict.fromkeys(mix_sentence(view) for view in views))
    conditional = [f"{OVER_SEEDS}{held[0]}."] if len(held) == 1 else []
    said = [*conditional, *(mixes if len(mixes) == 1 else [])]
    counts = Counter(sentence for text in captions for sentence in set(_sentences(shorter(text, said))))
    return [*said, *(sentence for sentence, count in counts.items() if count >= REPEATED)]


def _sentences(caption: str) -> list[str]:
    return SENTENCE_END.split(caption)


def said_once(shared: Sequence[str]) -> list[str]:
    """Return what the page says for all captions: one sentence on what intervals are over, and no count of
    cells, which stands above.
    """
    kept = [sentence for sentence in shared if PLANNED not in sentence]
    general = [sentence for sentence in kept if sentence.startswith(OVER_SEEDS)]
    counted = [sentence for sentence in kept if sentence.startswith(OVER) and sentence not in general]
    if len(general) != 1 or len(counted) != 1:
        return kept
    both = f"{counted[0].removesuffix('.')}; {general[0].removeprefix(OVER_SEEDS)}"
    return [both, *(sentence for sentence in kept if sentence not in (*general, *counted))]


def unsaid(notes: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Return the notes of which the page does not say every sentence elsewhere."""
    whole = " ".join(texts)
    return [note for note in notes if any(sentence not in whole for sentence in _sentences(note))]


def shorter(caption: str, shared: list[str]) -> str:
    """Return a caption without what the page says once; the figure's own files keep it whole."""
    for sentence in shared:
        condition = sentence.removeprefix(OVER_SEEDS).removesuffix(".")
        caption = caption.replace(f"; {condition}.", ".").replace(f", {condition}.", ".")
    return " ".join(sentence for sentence in _sentences(caption) if sentence not in shared)


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
