"""The command line of analysis: parses, prints, and turns a user's errors into one block and a code."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from analysis.reading.errors import AnalysisError, NothingToShowError
from analysis.reading.safe_text import visible
from trainables.ledger.errors import RunEndedError, UserError


class Refusal(click.ClickException):
    """An error of the user's: shown as one block, without a traceback."""

    exit_code = 2


class NothingToShow(click.ClickException):
    """A fine request that there is no data for."""

    exit_code = 1


class Listed(click.ParamType[tuple[Any, ...]]):
    """Values between commas, each of one kind."""

    name = "list"

    def __init__(self, kind: Callable[[str], Any], *, of: str) -> None:
        self._kind, self._of = kind, of

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        try:
            return tuple(self._kind(part.strip()) for part in str(value).split(","))
        except ValueError:
            self.fail(f"must be {self._of} between commas, got {value!r:.100}", param, ctx)


NAMES, MIXES = Listed(str, of="names"), Listed(float, of="numbers")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Turn what a sweep has recorded into tables, figures and a report.

    \b
    Examples:
      python -m analysis report results/math-to-hotpotqa
      python -m analysis report results/math-to-hotpotqa -o paper/figures
      python -m analysis report s3://bucket/studies/math-to-hotpotqa
      python -m analysis report results/one-model results/another -o comparison
      python -m analysis report --histories 'histories/*.json' -o earlier
      python -m analysis plot 'histories/*.json' -o histories.png

    From Python: `import analysis; frame = analysis.load("results/math-to-hotpotqa")`.
    """


@main.command()
@click.argument("locations", metavar="STUDY...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Where to write.  [default: STUDY/report; report/NAME here for a study in an object store; "
    "report/comparison or report/histories here for several]",
)
@click.option("--simultaneous", is_flag=True, help="Bands that hold a whole curve, not each point by itself.")
@click.option(
    "--smallest-effect",
    type=float,
    metavar="X",
    help="A smallest effect of interest other than the declared one; the report says so.",
)
@click.option(
    "--measure",
    metavar="M",
    help="A primary measure other than the declared one, such as task_b_gain; the report says so.",
)
@click.option(
    "--strategies", metavar="A,B", type=NAMES, help="Figures of these strategies and the baseline alone."
)
@click.option("--mixes", metavar="X,Y", type=MIXES, help="Figures of these mixes alone, such as 0.05,0.1.")
@click.option("--width", type=float, metavar="INCHES", help="Figures of this width, as a paper has room for.")
@click.option(
    "--preregistration",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Hold the study against this document of `sweep plan --preregister`; the report says what departs.",
)
@click.option("--histories", is_flag=True, help="The arguments are training histories (JSON), not studies.")
def report(
    locations: tuple[str, ...],
    output: Path | None,
    simultaneous: bool,
    strategies: tuple[str, ...] | None,
    mixes: tuple[float, ...] | None,
    width: float | None,
    smallest_effect: float | None,
    measure: str | None,
    preregistration: Path | None,
    histories: bool,
) -> None:
    """Write the verdicts, figures, tables and provenance of each STUDY, a directory or s3://bucket/prefix.

    Works while the study runs: curves show every evaluation there is; final losses, differences
    and intervals rest on finished cells only, and every count says how many those are. A cell of
    which a file is damaged is not finished; the file is named. Several studies come with a comparison,
    each in a folder of its own. Start reading at OUT/report.html, or at OUT/report.md in a terminal.

    \b
    OUT/report.html            everything, in one file that asks the network for nothing
    OUT/report.md              the verdicts, figures and main tables
    OUT/figures/               each figure as PNG (300 dpi), SVG and PDF, and what it was drawn from
    OUT/{summary,contrasts,secondary,levels,pairs,cells,evaluations,rates}.{csv,parquet,md,tex}

    In CSV and Parquet a name that a spreadsheet would compute, such as =1+1, stands after a quote: '=1+1.

    \b
    Examples:
      python -m analysis report results/a results/b -o comparison      two studies in one report
      python -m analysis report results/a --strategies difficulty_hard --mixes 0.05,0.1 --width 3.3 -o paper
      python -m analysis report --histories 'histories/*.json'         what an earlier script left

    \b
    Exit codes: 0 written; 1 nothing has been evaluated yet; 2 STUDY or OUT is not usable.
    """
    from analysis.commands import Request, report_histories, report_studies
    from analysis.figures.facet import Choice

    choice = Choice(strategies or (), mixes or (), width, simultaneous)
    if histories and (choice != Choice() or smallest_effect is not None or measure is not None):
        raise Refusal(
            "--histories has no seeds to infer from: --simultaneous, --strategies, --mixes, --width, "
            "--smallest-effect and --measure need a study"
        )
    if preregistration is not None and (histories or len(locations) > 1):
        raise Refusal("--preregistration is of one study: give it with that study alone")
    request = Request(
        locations, output, choice, smallest_effect, measure, tuple(sys.argv[1:]), preregistration
    )
    with _user_errors():
        (report_histories if histories else report_studies)(request, say=_say, warn=_warn)


def _say(line: str) -> None:
    click.echo(visible(line))


def _warn(line: str) -> None:
    click.echo(visible(line), err=True)


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn what a user can mend into one block and an exit code."""
    try:
        yield
    except NothingToShowError as err:
        raise NothingToShow(visible(str(err))) from err
    except (UserError, RunEndedError) as err:
        raise Refusal(visible(str(err))) from err


@main.command()
@click.argument("files", metavar="FILES...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    type=click.Path(path_type=Path),
    help="The figure to write; its suffix (.png, .svg, .pdf) is its format.",
)
@click.option("--title", help="A title above the panels.")
def plot(files: tuple[str, ...], output: Path, title: str | None) -> None:
    """Plot training histories side by side, one panel per metric.

    FILES are JSON histories or quoted patterns (`**` goes down folders). A history is an object
    with `steps` and, parallel to it, any lists whose names end in `_loss`. `name` goes into the
    legend, or else the file's name. Histories of one name are replicates: they become a mean and,
    from three on, a 95 % t band. An unusable file is named and skipped.

    \b
    Examples:
      python -m analysis plot run_1.json run_2.json -o runs.pdf
      python -m analysis plot 'results/**/forgetting_history_*.json' -o all.png --title "MATH, then HotpotQA"

    \b
    Exit codes: 0 written; 1 no history was usable; 2 OUT is not usable.
    """
    from analysis.histories.figure import write_history_figure
    from analysis.histories.read import read_histories

    histories, problems = read_histories(files)
    for problem in problems:
        _warn(f"skipped: {problem}")
    with _user_errors():
        try:
            keys = write_history_figure(histories, path=output, title=title)
        except OSError as err:
            raise AnalysisError(f"the figure cannot be written to {output}: {err}") from err
    _say(f"{len(histories)} histories: {os.fspath(output)}")
    if keys:
        _say(keys)
