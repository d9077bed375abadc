"""What `run`, `resume` and `tune` do on the command line: execute a study, say how it ended, exit accordingly."""

import shlex
import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console

from sweep.cluster.signals import Interrupted, ending_at_once

if TYPE_CHECKING:
    from sweep.config.study import StudyConfig
    from sweep.driver import Outcome

EXIT_FAILED = 1


def execute(
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
    from sweep.driver import run_study

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
    message, code = _ending(outcome)
    if message:
        click.echo(message)
    elif not early_stopping:
        click.echo(f"figures: python -m analysis report {place}")
    if code:
        sys.exit(code)


def _ending(outcome: "Outcome") -> tuple[str, int]:
    """Return what to do next and the exit code; nothing and 0 where every cell has ended."""
    place = shlex.quote(outcome.storage)
    resume = f"go on with: python -m sweep resume {place}"
    if outcome.interrupted_by is not None:
        return f"interrupted; {resume}", 128 + outcome.interrupted_by
    if outcome.paused is not None:
        return f"paused: {outcome.paused}\nonce that is mended, {resume}", EXIT_FAILED
    if outcome.halted is not None:
        return (
            f"stopped at the gate: {outcome.halted}\nTo run the grid all the same: --set gate=false",
            EXIT_FAILED,
        )
    if outcome.failed:
        return f"see why with: python -m sweep status {place}", EXIT_FAILED
    if outcome.unfinished:
        return f"{outcome.unfinished} cells are not finished; {resume}", EXIT_FAILED
    return "", 0
