"""A task of the user's own: prompt and completion are templates over the columns of a file."""

import string

from trainables.settings import TaskSettings
from trainables.tasks.examples import Item, Row, TaskError, read_difficulty, read_label, read_text


def read_item(row: Row, *, settings: TaskSettings) -> Item:
    """Fill the task's templates; `difficulty` names the level's column, `type` is read where it exists."""
    level = read_label(row, column=settings.difficulty) if settings.difficulty is not None else None
    return Item(
        message=fill(settings.prompt, row=row, field="prompt"),
        cue=None,
        completion=fill(settings.completion, row=row, field="completion"),
        level=level,
        type=read_label(row, column="type") if "type" in row else None,
        difficulty=read_difficulty(level),
    )


def fill(template: str | None, *, row: Row, field: str) -> str:
    """Return the template with every `{column}` replaced by the row's text, braces in it untouched."""
    assert template is not None, "TaskSettings requires both templates of a task that is not built in"
    parts = string.Formatter().parse(template)
    filled = "".join(
        literal + (read_text(row, column=column) if column is not None else "")
        for literal, column, _, _ in parts
    )
    if not filled.strip():
        raise TaskError(f"{field} {template!r} is empty once filled")
    return filled
