"""Reports of studies on disk: one, or several compared; HTML and Markdown beside their data and figures."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

from analysis.figures.comparison import Named
from analysis.findings.findings import Findings, find
from analysis.reading.declaration import Inference
from analysis.reading.errors import NothingToShowError
from analysis.reading.study import RecordedStudy
from analysis.report.comparison import write_comparison
from analysis.report.document import Content, Section
from analysis.report.figure_set import file_name
from analysis.report.html import write_web_page
from analysis.report.markdown import write_page
from analysis.report.study import Options, Written, write_study
from trainables.ledger.storage.location import is_path

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """What was written, and what its reader must be told; one entry a study."""

    page: Path
    web_page: Path
    files: list[Path]
    studies: list[Written] = field(default_factory=list)


def report_directory(location: str | PathLike[str], *, name: str) -> Path:
    """Return where a report goes by itself: into a study's directory, or ./report/<its name> for any
    other.
    """
    if is_path(os.fspath(location)):
        return Path(location, "report")
    return Path("report", file_name(name).lstrip(".") or "study")


def write_report(
    study: RecordedStudy,
    *,
    directory: Path,
    progress: Progress,
    options: Options | None = None,
    settings: Inference | None = None,
) -> Report:
    """Write the whole report of `study`; raises NothingToShowError if no cell has been evaluated.

    `settings`: other than the study declares.
    """
    findings = _checked(study, settings=settings)
    written = write_study(
        findings, directory=directory, folder="", options=options or Options(), progress=progress
    )
    return _publish(study.name, [written.section], written.files, [written], directory=directory)


def write_joint_report(
    studies: Sequence[tuple[str, RecordedStudy, Inference | None]],
    *,
    directory: Path,
    progress: Progress,
    options: Options | None = None,
) -> Report:
    """Write one report of several studies, each under a name of its own, after a comparison of them all."""
    options = options or Options()
    named = [Named(name, _checked(study, settings=settings)) for name, study, settings in studies]
    progress("comparing the studies")
    comparison, files = write_comparison(named, directory=directory, command=options.command)
    written = []
    for position, (name, findings) in enumerate(named, start=1):
        progress(f"study {name}")
        folder = f"{position}-{file_name(findings.study.name).strip('.')[:60] or 'study'}/"
        part = write_study(findings, directory=directory, folder=folder, options=options, progress=progress)
        written.append(replace(part, section=replace(part.section, title=name)))
        files += part.files
    title = "Comparison of " + " and ".join(name for name, _ in named)
    return _publish(
        title, [comparison, *(part.section for part in written)], files, written, directory=directory
    )


def _checked(study: RecordedStudy, *, settings: Inference | None) -> Findings:
    if study.rows.empty:
        raise NothingToShowError(
            f"study {study.name!r} has no evaluation yet in any of its {len(study.cells)} planned cells; "
            "run the sweep, then ask for the report again"
        )
    return find(study, settings=settings)


def _publish(
    title: str, sections: list[Section], files: list[Path], written: list[Written], *, directory: Path
) -> Report:
    content = Content(title, sections, directory)
    return Report(write_page(content), write_web_page(content), files, written)
