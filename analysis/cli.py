"""The command line of analysis: parses, prints, and turns a user's errors into one block and a code."""

import os
from pathlib import Path

import click

from analysis.errors import AnalysisError, NothingToShowError

MOST_LISTED = 20


class Refusal(click.ClickException):
    """An error of the user's: shown as one block, without a traceback."""

    exit_code = 2


class NothingToShow(click.ClickException):
    """A fine request that there is no data for."""

    exit_code = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Turn what a sweep has recorded into tables, figures and a report.

    \b
    Examples:
      python -m analysis report results/math-to-hotpotqa
      python -m analysis report results/math-to-hotpotqa -o paper/figures
      python -m analysis report s3://bucket/studies/math-to-hotpotqa
      python -m analysis plot 'histories/*.json' -o histories.png

    From Python: `import analysis; frame = analysis.load("results/math-to-hotpotqa")`.
    """


@main.command()
@click.argument("location", metavar="STUDY")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Where to write.  [default: STUDY/report, or report/NAME here for a study in an object store]",
)
def report(location: str, output: Path | None) -> None:
    """Write the tables, figures and report of STUDY, a directory or s3://bucket/prefix.

    Works while the study runs: curves show every evaluation there is; final losses, differences
    and intervals rest on finished cells only, and every count says how many those are. A cell of
    which a file is damaged is not finished; the file is named. Start reading at OUT/report.md.

    \b
    OUT/report.md              the figures and the table with their captions
    OUT/figures/               each figure as PNG (300 dpi), SVG and PDF
    OUT/summary.{csv,md,tex}   one row per strategy and mix (LaTeX needs booktabs and array)
    OUT/evaluations.{csv,parquet}, OUT/cells.csv   the data behind them

    \b
    Exit codes: 0 written; 1 nothing has been evaluated yet; 2 STUDY or OUT is not usable.
    """
    from analysis.report import report_directory, write_report
    from analysis.tidy import read_study

    try:
        study = read_study(location)
    except AnalysisError as err:
        raise Refusal(str(err)) from err
    for problem in study.problems:
        click.echo(f"warning: {problem}", err=True)
    target = output or report_directory(location, name=study.name)
    try:
        written = write_report(
            study, directory=target, progress=lambda step: click.echo(f"{step} ...", err=True)
        )
    except NothingToShowError as err:
        raise NothingToShow(str(err)) from err
    except AnalysisError as err:
        raise Refusal(str(err)) from err
    except OSError as err:
        raise Refusal(f"the report cannot be written to {target}: {err}") from err
    click.echo(f"study {study.name}: {written.counts}")
    _echo_list("not done", written.absent)
    _echo_list("pairs left out", written.unpaired)
    click.echo(f"report: {written.page} ({len(written.files)} files beside it)")


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
    from analysis.histories import read_histories
    from analysis.history_plot import write_history_figure

    histories, problems = read_histories(files)
    for problem in problems:
        click.echo(f"skipped: {problem}", err=True)
    try:
        write_history_figure(histories, path=output, title=title)
    except NothingToShowError as err:
        raise NothingToShow(str(err)) from err
    except AnalysisError as err:
        raise Refusal(str(err)) from err
    except OSError as err:
        raise Refusal(f"the figure cannot be written to {output}: {err}") from err
    click.echo(f"{len(histories)} histories: {os.fspath(output)}")


def _echo_list(title: str, lines: list[str]) -> None:
    """Print a titled list, cut where the report has the rest."""
    if not lines:
        return
    click.echo(f"{title}:")
    for line in lines[:MOST_LISTED]:
        click.echo(f"  {line}")
    if len(lines) > MOST_LISTED:
        click.echo(f"  ... and {len(lines) - MOST_LISTED} more, listed in the report")
