"""Rows in the form of MATH (Hendrycks et al. 2021): a problem and its worked solution."""

import re

from trainables.settings import TaskSettings
from trainables.tasks.examples import Item, Row, find_column, read_difficulty, read_label, read_text
from trainables.tasks.sources import HubDataset
from trainables.tasks.task import Task

INSTRUCTION = "Solve the following math problem. Show your work and give the final answer."
# The names that published copies give each column, the original's first.
COLUMNS = {
    "problem": ("problem", "question"),
    "level": ("level",),
    "type": ("type", "subject"),
    "solution": ("solution",),
}
SUBJECTS = frozenset(
    {
        "algebra",
        "counting_and_probability",
        "geometry",
        "intermediate_algebra",
        "number_theory",
        "prealgebra",
        "precalculus",
    }
)  # the folders that copies of it are cut into


def read_item(row: Row, *, settings: TaskSettings) -> Item:
    """Read `problem`, `level`, `type` and `solution`; the difficulty is the number in "Level N", which
    copies also write as N."""
    names = {column: find_column(row, column=column, names=names) for column, names in COLUMNS.items()}
    level = read_label(row, column=names["level"])
    if level is not None and re.fullmatch(r"\s*[0-9](\.0)?\s*", level):
        level = f"Level {int(float(level))}"
    return Item(
        message=f"{INSTRUCTION}\n\nProblem: {read_text(row, column=names['problem']).strip()}",
        cue="Solution:",
        completion=read_text(row, column=names["solution"]).strip(),
        level=level,
        type=read_label(row, column=names["type"]),
        difficulty=read_difficulty(level),
    )


TASK = Task(
    "math", read_item, hub=HubDataset("qwedsacf/competition_math", parts=SUBJECTS), score="mathematics"
)
