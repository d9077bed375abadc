"""What the commands take: a configuration or a study's place, overrides, a cluster, and code of the user's.

Says before anything is read what a place or file is that a command cannot take.
"""

import shlex
from pathlib import Path

import click

from trainables.ledger.storage.location import LocationError, check_location


def study_place(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return where a study is. Raises LocationError for a file, and says which directory a configuration
    names.
    """
    if value is None:
        return None
    place = check_location(value)
    if "://" not in place and Path(place).is_file():
        declared = ""
        if Path(place).suffix in (".yaml", ".yml"):
            from sweep.config.study import load_study

            declared = f": {load_study(Path(place)).storage}"
        raise LocationError(f"{value} is a file; give the directory that the study is kept in{declared}")
    return place


def _study_file(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    """Return a configuration's path. Raises LocationError for a directory, and says what takes one."""
    if value.is_dir():
        raise LocationError(
            f"{value} is a directory; give the study's file, or, to go on with a study that is kept there: "
            f"python -m sweep resume {shlex.quote(str(value))}"
        )
    return value


CONFIG = click.argument("config", type=click.Path(exists=True, path_type=Path), callback=_study_file)
STORAGE = click.argument("storage", callback=study_place)
OVERRIDES = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Override one field of the configuration; may be repeated. Example: --set search.seed=[0,1,2]",
)
ADDRESS = click.option(
    "--address",
    envvar="RAY_ADDRESS",
    show_envvar=True,
    callback=lambda context, parameter, value: None if value == "local" else value,
    help=(
        "Join the Ray cluster at this address ('auto' on one of its nodes). Default: a local one, as with "
        "'local'."
    ),
)


def _load_own(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """Run a file of own strategies. Raises OwnStrategiesError."""
    if value is not None:
        from trainables.replay.own import load_own

        load_own(value)


OWN = click.option(
    "--strategies",
    type=click.Path(path_type=Path),
    metavar="FILE",
    expose_value=False,
    callback=_load_own,
    help="Run this Python file, which the configuration names as `strategies`, for strategies of your own.",
)


def _load_own_score(context: click.Context, parameter: click.Parameter, value: tuple[Path, ...]) -> None:
    """Run files of own scores. Raises OwnScoreError."""
    for path in value:
        from trainables.tasks.own_score import load_own_score

        load_own_score(path)


OWN_SCORE = click.option(
    "--score",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    expose_value=False,
    callback=_load_own_score,
    help="Run this Python file, which the configuration names as a task's `score`; may be repeated.",
)
