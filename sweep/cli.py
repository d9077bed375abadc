"""The command line: run, resume, plan, tune, status, watch, export."""

import gc
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from analysis.reading.safe_text import visible
from sweep.cluster.signals import Interrupted, ending_at_once
from sweep.config.errors import EXIT_FAILED, EXIT_USER_ERROR
from sweep.console.terminal import keep_printing
from sweep.options import ADDRESS, CONFIG, OVERRIDES, OWN, OWN_SCORE, STORAGE, study_place
from trainables.ledger.errors import RunEndedError, UserError
from trainables.ledger.redaction import redact

if TYPE_CHECKING:
    from sweep.config.study import StudyConfig


# Plans of many cells are many objects that all stay: looking for garbage among them at Python's own pace took
# a quarter of the time of `plan`.
COLLECT_AFTER = (50_000, 20, 50)
FORMATS = {
    "original": "one forgetting_history_*.json a finished cell, as the single-seed script wrote them",
    "peft": "one adapter (--cell LABEL) as a folder that PEFT loads, with a model card",
}


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "A study's directory is the truth about what is done: the same command starts, continues and "
        "grows it."
    ),
)
@click.version_option(package_name="forgetting-sweep")
def cli() -> None:
    """Sweep replay strategies against catastrophic forgetting.

    Phase A trains a LoRA adapter on task A. Every cell (strategy x mix x seed) then trains that
    adapter on task B while replaying some of task A, and measures both tasks as it goes.

    \b
    python -m sweep plan configs/demo.yaml        what would run, without running it
    python -m sweep run configs/demo.yaml         run what is missing
    python -m sweep status results/demo           what is done
    python -m analysis report results/demo        tables and figures
    """


@cli.command()
@CONFIG
@OVERRIDES
@OWN
@OWN_SCORE
@ADDRESS
@click.option(
    "--new-study",
    is_flag=True,
    help="Where finished cells mean something else than CONFIG, run it beside them: in <storage>-2, -3, ...",
)
@click.option(
    "--check",
    is_flag=True,
    help="Read every file of every finished cell first, and run the damaged ones again.",
)
def run(config: Path, overrides: tuple[str, ...], address: str | None, new_study: bool, check: bool) -> None:
    """Run every cell of CONFIG that is not finished yet.

    Run it again to go on after an interruption, or after adding seeds, mixes or strategies: finished
    cells are never run again. Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 checkpoints the running cells first.

    \b
    python -m sweep run configs/demo.yaml
    python -m sweep run configs/demo.yaml --set search.seed=[0,1,2,3]
    python -m sweep run configs/tinyllama_math_hotpotqa.yaml --address auto
    """
    from sweep.config.study import load_study

    _execute(load_study(config, overrides), address, new_study=new_study, thorough=check)


@cli.command()
@STORAGE
@OWN
@OWN_SCORE
@ADDRESS
def resume(storage: str, address: str | None) -> None:
    """Go on with the study in STORAGE (a directory or s3://...), with the configuration stored there.

    Or with the learning-rate search there.
    """
    from sweep.ledger.ledger import open_existing, stored_study
    from sweep.lr_search.search import holds_search

    ledger = open_existing(storage)
    _execute(stored_study(ledger), address, early_stopping=holds_search(ledger))


@cli.command()
@CONFIG
@OVERRIDES
@OWN
@OWN_SCORE
@click.option(
    "--pilot",
    metavar="STUDY",
    help=(
        "Plan with the spread of pairs in this study, a directory or s3://... Default: CONFIG's own, once "
        "it has any."
    ),
    callback=study_place,
)
@click.option("--paired-sd", type=float, metavar="X", help="Plan with this SD of pairs instead.")
@click.option(
    "--preregister",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write what will be asked and how it will be judged to FILE, dated and hashed.",
)
def plan(
    config: Path,
    overrides: tuple[str, ...],
    pilot: str | None,
    paired_sd: float | None,
    preregister: Path | None,
) -> None:
    """Show the cells of CONFIG: merged, done and missing ones, their steps, tokens and time.

    Also the smallest difference that its seeds detect, the seeds that its smallest effect needs, and how far
    its looks and its gate have come. Starts no cluster and loads no weights.

    \b
    python -m sweep plan configs/demo.yaml
    python -m sweep plan configs/demo.yaml --pilot results/pilot --set inference.smallest_effect=0.005
    python -m sweep plan configs/demo.yaml --preregister demo.md
    """
    from sweep.checks import check_readable
    from sweep.config.study import load_study
    from sweep.console.tables import print_plan, print_progression
    from sweep.design.interim import look_at
    from sweep.design.next_stage import find_next_stage
    from sweep.design.power_plan import describe_resolution, find_spreads
    from sweep.design.preregister import register
    from sweep.ledger.ledger import Ledger
    from sweep.planning.inputs import prepare
    from sweep.planning.plan import make_plan
    from sweep.planning.study_record import check_meaning
    from sweep.session import study_storage

    if pilot is not None and paired_sd is not None:
        raise click.UsageError("give at most one of --pilot and --paired-sd")
    study = load_study(config, overrides)
    check_readable(study, say=click.echo)
    prepared, ledger = prepare(study, say=click.echo), Ledger(study_storage(study))
    check_meaning(ledger, prepared.fingerprint)
    whole = make_plan(study, prepared, ledger, say=click.echo)
    interim = look_at(study, whole, ledger)
    spreads = find_spreads(study, interim.study, pilot=pilot, given=paired_sd)
    due = find_next_stage(study, whole, ledger)
    print_plan(due.plan, study=study, prepared=prepared, console=Console())
    print_progression(due, whole, console=Console())
    for line in describe_resolution(study, spreads, interim.judgements):
        click.echo(line)
    if preregister is not None:
        register(preregister, interim, finished=whole.finished)
        click.echo(f"preregistration: {preregister}; hold the report against it with --preregistration")


@cli.command()
@CONFIG
@OVERRIDES
@OWN
@OWN_SCORE
@ADDRESS
@click.option("--lr", "rates", type=float, multiple=True, metavar="RATE", help="A rate to try; two or more.")
@click.option(
    "--seed",
    "seeds",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="SEED",
    help="A seed to try them on, none of the study's; may be repeated. Default: 10000 and 10001.",
)
@click.option("--mix", type=float, metavar="MIX", help="Default: the first of search.mix above 0.")
def tune(
    config: Path,
    overrides: tuple[str, ...],
    address: str | None,
    rates: tuple[float, ...],
    seeds: tuple[int, ...],
    mix: float | None,
) -> None:
    """Search Phase B's learning rate for CONFIG, before its study is run.

    Trains the baseline strategy alone, at one mix and on seeds of its own, and stops rates that fall behind
    in task B's validation loss (ASHA). Kept in <storage>-tune, never in the study, and changes nothing: the
    rate is yours to set. Run it again to go on, or with more rates to widen the search.

    \b
    python -m sweep tune configs/demo.yaml --lr 3e-4 --lr 1e-3 --lr 3e-3
    """
    from sweep.config.study import load_study
    from sweep.lr_search.search import SEEDS, search_study

    study = search_study(load_study(config, overrides), rates=rates, seeds=seeds or SEEDS, mix=mix)
    _execute(study, address, early_stopping=True)


@cli.command()
@STORAGE
@click.option(
    "--check",
    is_flag=True,
    help="Read every file of every finished cell, also those that no one has written to.",
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON instead (docs/watching.md).")
def status(storage: str, check: bool, as_json: bool) -> None:
    """Show what is done, running, failed, damaged and missing in the study in STORAGE.

    Also who works on it, in which phase, and how long it will take.
    """
    from sweep.console.tables import print_rates, print_status
    from sweep.ledger.ledger import open_existing
    from sweep.lr_search.search import holds_search

    ledger = open_existing(storage)
    if as_json:
        from sweep.console.status import read_view

        click.echo(json.dumps(read_view(ledger, thorough=check, finished_rows=True).as_json()))
        return
    search = holds_search(ledger)
    print_status(ledger, thorough=check, console=Console(), search=search)
    if search:
        print_rates(ledger, console=Console())


@cli.command()
@STORAGE
@click.option(
    "--every", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Seconds between looks."
)
def watch(storage: str, every: float) -> None:
    """Show where the study in STORAGE stands, again and again, until it ends.

    From any machine that sees its storage. Ends with exit code 1 where cells failed.
    """
    from sweep.console.watch import watch as keep_watching
    from sweep.ledger.ledger import open_existing

    try:
        view = keep_watching(open_existing(storage), every=every, console=Console())
    except KeyboardInterrupt:
        return  # the study goes on
    if view.counts.get("failed"):
        sys.exit(EXIT_FAILED)


@cli.command()
@STORAGE
@click.option("--format", "form", type=click.Choice([*FORMATS]), help="Without it: list what there is.")
@click.option("--cell", metavar="LABEL", help="Whose adapter, with --format peft: a label or a key.")
@click.option(
    "--base-model",
    metavar="NAME",
    help="What the adapter calls its base model. Default: the hub id and commit, or the study's own name.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Default: STORAGE/export, or ./export where STORAGE is not a directory.",
)
def export(
    storage: str, form: str | None, cell: str | None, base_model: str | None, output: Path | None
) -> None:
    """Write what the study in STORAGE has finished as files for other tools.

    \b
    python -m sweep export results/demo                                   formats, and cells by label
    python -m sweep export results/demo --format peft --cell phase_a      an adapter that PEFT loads
    python -m sweep export results/demo --format original                 one history a cell, as JSON
    """
    from sweep.adapter_export import describe_exports, export_adapter
    from sweep.export import export_original
    from sweep.ledger.ledger import open_existing

    if (cell is None) is (form == "peft") or (base_model is not None and form != "peft"):
        raise click.UsageError("--format peft takes --cell LABEL, and only it takes --cell and --base-model")
    ledger = open_existing(storage)
    if form is None:
        for line in describe_exports(ledger, FORMATS):
            click.echo(visible(line))
    elif cell is not None:
        folder = export_adapter(ledger, cell, output, base=base_model)
        click.echo(f"{folder}: an adapter for PeftModel.from_pretrained, and its card, README.md")
    else:
        folder = output or Path("" if "://" in storage else storage, "export")
        written = export_original(ledger, folder)
        click.echo(f"{len(written)} histories in {folder}")


def _execute(
    study: "StudyConfig",
    address: str | None,
    *,
    new_study: bool = False,
    early_stopping: bool = False,
    thorough: bool = False,
) -> None:
    """Run what is missing of a study, or of a learning-rate search with `early_stopping`.

    Ends the process unless every cell has ended as it should.
    """
    from sweep.console.progress import Progress
    from sweep.session import run_study

    try:
        with ending_at_once(), Progress(Console()) as progress:
            outcome = run_study(
                study,
                address=address,
                progress=progress,
                new_study=new_study,
                early_stopping=early_stopping,
                thorough=thorough,
            )
    except Interrupted as stop:
        click.echo("interrupted while no cell was running; go on with the same command")
        sys.exit(128 + stop.number)
    place = shlex.quote(outcome.storage)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(outcome.states.items()))
    click.echo(f"{outcome.storage}: {counts}")
    if early_stopping and outcome.states:
        from sweep.console.tables import print_rates
        from sweep.ledger.ledger import open_existing

        print_rates(open_existing(outcome.storage), console=Console())
    message, code = outcome.ending()
    if message:
        click.echo(message)
    elif not early_stopping:
        click.echo(f"figures: python -m analysis report {place}")
    if code:
        sys.exit(code)


def main(commands: click.Group = cli) -> None:
    """Run the command line; whatever the user can mend is one readable block and exit code 2."""
    keep_printing()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        commands(prog_name="python -m sweep" if sys.argv[0].endswith("__main__.py") else None)
    except (UserError, RunEndedError) as error:
        click.echo(visible(f"error: {redact(str(error))}"), err=True)
        sys.exit(EXIT_USER_ERROR if isinstance(error, UserError) else EXIT_FAILED)
