"""The command line of the benchmarks: one subcommand a module, imported when it is asked for."""

import importlib
import sys
from dataclasses import dataclass

import click

EXIT_USER_ERROR = 2


@dataclass(frozen=True)
class Entry:
    """Where a subcommand is, by the name of its click command in the module, and its one line of help."""

    module: str
    command: str
    help: str


COMMANDS = {
    "study": Entry("benchmarks.study", "study", "A whole study: ours against HF Trainer, two ways."),
    "step": Entry("benchmarks.step", "step", "Training and evaluation: tokens/s, and the share of the peak."),
    "profile": Entry(
        "benchmarks.profile_step", "profile_step", "The operations a training step spends its time in."
    ),
    "roofline": Entry("benchmarks.roofline", "roofline", "What a step would cost on a GPU that is not here."),
    "startup": Entry("benchmarks.startup", "startup", "Time to the first step, and the workers' memory."),
    "overhead": Entry("benchmarks.overhead", "overhead", "What the sweep costs beside training."),
    "busy": Entry("benchmarks.busy", "busy", "Whether 16 workers are kept busy by short cells."),
    "error-rates": Entry(
        "benchmarks.error_rates",
        "error_rates",
        "What verdicts risk and cost, by simulation.",
    ),
    "verdict-cost": Entry(
        "benchmarks.verdict_cost",
        "verdict_cost",
        "How many runs a verdict takes.",
    ),
    "gpu-check": Entry("benchmarks.gpu_check", "gpu_check", "Whether the GPU path is right, and how fast."),
}


class LazyGroup(click.Group):
    """Lists COMMANDS without importing them, so that one's missing dependency is no other's trouble."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        entry = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(entry.module), entry.command)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
def cli() -> None:
    """Measure this project on this machine; results go to benchmarks/results."""


def main() -> None:
    """Run the command line; what the user can mend is one readable block and exit code 2."""
    try:
        cli(prog_name="python -m benchmarks")
    except ValueError as error:
        if not type(error).__module__.startswith(("sweep.", "trainables.")):
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
