"""The tasks there are, and whether what is asked of one can be."""

import shlex

from trainables.ledger.members import members
from trainables.settings import TaskSettings
from trainables.tasks import built_in, custom
from trainables.tasks.scoring import SCORES
from trainables.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in members(built_in, "TASK")}
OWN_TASK = Task("own", custom.read_item)
MOST_GENERATED = 1_000_000  # examples of a generated task, which take a quarter of an hour to draw


def find_task(settings: TaskSettings) -> Task:
    """Return the task of that name, or the user's own: `check_task` has refused every other name."""
    return TASKS.get(settings.name, OWN_TASK)


def check_task(settings: TaskSettings) -> TaskSettings:
    """Return `settings`. Raises ValueError where they name no task, or ask of it what it does not have."""
    templates = {"prompt": settings.prompt, "completion": settings.completion}
    name, task = settings.name, TASKS.get(settings.name)
    if task is None:
        missing = [field for field, value in {"path": settings.path, **templates}.items() if value is None]
        if missing:
            raise ValueError(
                f"unknown task {name!r}: choose one of {', '.join(TASKS)}, "
                f"or describe a task of your own by adding {', '.join(missing)}"
            )
    else:
        own = {**templates, "difficulty": settings.difficulty}
        for field in [field for field, value in own.items() if value is not None]:
            raise ValueError(f"{field} is for a task of your own; {name!r} is built in")
        if task.generate_rows is not None:
            _check_generated(settings)
    if settings.score is not None and settings.score not in SCORES:
        if settings.score.endswith(".py"):
            raise ValueError(
                f"score: {settings.score} is code, and run only where the command line names it too: add "
                f"--score {shlex.quote(settings.score)}"
            )
        raise ValueError(
            f"score must be one of {', '.join(SCORES)}, or a Python file of yours, got "
            f"{settings.score!r:.100}"
        )
    if settings.paragraphs != "all" and "paragraphs" not in (task or OWN_TASK).options:
        takers = ", ".join(repr(each.name) for each in TASKS.values() if "paragraphs" in each.options)
        raise ValueError(f"paragraphs is for task {takers}, not {name!r}")
    return settings


def _check_generated(settings: TaskSettings) -> None:
    if settings.path is not None:
        raise ValueError(f"task {settings.name!r} is generated and takes no path")
    if settings.train + settings.validation > MOST_GENERATED:
        raise ValueError(
            f"task {settings.name!r} is generated, and makes at most {MOST_GENERATED:,} distinct examples; "
            f"train and validation ask for {settings.train + settings.validation:,}"
        )
