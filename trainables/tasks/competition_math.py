"""Rows in the form of MATH (Hendrycks et al. 2021): a problem and its worked solution."""

from trainables.settings import TaskSettings
from trainables.tasks.records import Item, Row, read_difficulty, read_label, read_text

INSTRUCTION = "Solve the following math problem. Show your work and give the final answer."


def read_item(row: Row, *, settings: TaskSettings) -> Item:
    """Read `problem`, `level`, `type` and `solution`; the difficulty is the number in "Level N"."""
    level = read_label(row, column="level")
    return Item(
        message=f"{INSTRUCTION}\n\nProblem: {read_text(row, column='problem').strip()}",
        cue="Solution:",
        completion=read_text(row, column="solution").strip(),
        level=level,
        type=read_label(row, column="type"),
        difficulty=read_difficulty(level),
    )
