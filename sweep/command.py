"""The one command, `forgetting-sweep` and `python -m sweep`: sweep's commands and those of analysis.

Loads neither torch nor Ray: each command loads what it needs.
"""

import click

from analysis.cli import main as analysis
from sweep.cli import cli
from sweep.cli import main as run

COMMANDS = click.CommandCollection(
    name="forgetting-sweep",
    sources=[cli, analysis],
    params=cli.params,
    help=cli.help,
    epilog=cli.epilog,
    context_settings=cli.context_settings,
)


def main() -> None:
    """Run the command line."""
    run(COMMANDS)
