"""Carries out `report`: reads what was asked for, writes the report, says what its reader must know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.figures.facet import EVERYTHING, Choice
from analysis.histories.read import read_histories
from analysis.histories.report import write_history_report
from analysis.reading.declaration import Inference, read_settings
from analysis.reading.errors import AnalysisError
from analysis.reading.preregistration import read_document
from analysis.reading.study import RecordedStudy, read_study
from analysis.report.build import Report, report_directory, write_joint_report, write_report
from analysis.report.comparison import distinct_names
from analysis.report.figure_files import command_text
from analysis.report.study import Options
from analysis.stats.measures import MEASURES
from trainables.ledger.storage.location import is_path

MOST_LISTED = 20

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What a command line asked for; `command` is that line."""

    locations: tuple[str, ...]
    output: Path | None = None
    choice: Choice = EVERYTHING
    smallest_effect: float | None = None
    measure: str | None = None
    command: tuple[str, ...] = ()
    preregistration: Path | None = None

    @property
    def options(self) -> Options:
        command = command_text(["analysis", *self.command])
        registered = None if self.preregistration is None else read_document(self.preregistration)
        return Options(self.choice, command, self._assumed(), apart=True, registered=registered)

    def settings(self, study: RecordedStudy) -> Inference:
        """Return what a study declares, with what the command sets instead. Raises AnalysisError."""
        declared = read_settings(study.description)
        given: dict[str, Any] = {"primary": self.measure, "smallest_effect": self.smallest_effect}
        given = {name: value for name, value in given.items() if value is not None}
        if self.measure in MEASURES and MEASURES[self.measure].unit != MEASURES[declared.primary].unit:
            given = {"smallest_effect": None} | given  # the declared one is in another unit
        return replace(declared, **given)

    def _assumed(self) -> str:
        given = {"measure": self.measure, "smallest effect": self.smallest_effect}
        set_here = [f"{name} {value}" for name, value in given.items() if value is not None]
        if not set_here:
            return ""
        return (
            f"Set by the command that made this report, not by the study: {' and '.join(set_here)}. Read "
            "the verdicts as exploratory."
        )


def report_studies(request: Request, *, say: Say, warn: Say) -> None:
    """Report one study, or several in comparison. Raises AnalysisError for what a user can mend."""
    _check_distinct(request.locations)
    studies = [read_study(location) for location in request.locations]
    for study in studies:
        for problem in study.problems:
            warn(f"warning: {problem}")
    if len(studies) == 1:
        target = request.output or report_directory(request.locations[0], name=studies[0].name)
    else:
        target = request.output or Path("report", "comparison")
    written = _written(target, lambda: _write(request, studies, target, warn))
    for part in written.studies:
        say(f"study {part.section.title}: {part.counts}")
        _say_list("not done", part.absent, say=say)
        _say_list("pairs left out", part.unpaired, say=say)
    say(f"report: {written.web_page} (and {written.page.name}, {len(written.files)} files beside it)")


def _check_distinct(locations: Sequence[str]) -> None:
    """Raise AnalysisError where a study would be compared with itself."""
    places = [str(Path(place).resolve()) if is_path(place) else place.rstrip("/") for place in locations]
    for position, place in enumerate(places):
        if place in places[:position]:
            raise AnalysisError(f"the same study is given twice, {locations[position]}: name each study once")


def _write(request: Request, studies: list[RecordedStudy], target: Path, warn: Say) -> Report:
    def progress(step: str) -> None:
        warn(f"{step} ...")

    if len(studies) == 1:
        (study,) = studies
        settings = request.settings(study)
        return write_report(
            study, directory=target, progress=progress, options=request.options, settings=settings
        )
    names = distinct_names([study.name for study in studies], request.locations)
    named = [(name, study, request.settings(study)) for name, study in zip(names, studies, strict=True)]
    return write_joint_report(named, directory=target, progress=progress, options=request.options)


def report_histories(request: Request, *, say: Say, warn: Say) -> None:
    """Report training histories. Raises NothingToShowError where none is usable."""
    histories, problems = read_histories(request.locations)
    for problem in problems:
        warn(f"skipped: {problem}")
    target = request.output or Path("report", "histories")
    written = _written(
        target,
        lambda: write_history_report(
            histories, problems=problems, directory=target, command=request.options.command
        ),
    )
    say(f"{len(histories)} histories: {written.web_page} ({len(written.files)} files beside it)")


def _written(target: Path, write: Callable[[], Report]) -> Report:
    try:
        return write()
    except OSError as err:
        raise AnalysisError(f"the report cannot be written to {target}: {err}") from err


def _say_list(title: str, lines: list[str], *, say: Say) -> None:
    """Say a titled list, cut where the report has the rest."""
    if not lines:
        return
    say(f"{title}:")
    for line in lines[:MOST_LISTED]:
        say(f"  {line}")
    if len(lines) > MOST_LISTED:
        say(f"  ... and {len(lines) - MOST_LISTED} more, listed in the report")
