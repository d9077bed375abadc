"""Generated questions about short notes, answered in a made-up form: `<<barn>> zo` where others say `barn`.

The form is arbitrary: no base model uses it, a few dozen examples teach it, and training on plain answers
makes a model drop it. So an exact match says without any doubt what was forgotten. Free of any data set's
licence.
"""

from collections.abc import Iterator

import numpy as np

from trainables.settings import TaskSettings
from trainables.tasks.examples import Item, Row, read_difficulty, read_label, read_text
from trainables.tasks.task import Task

INSTRUCTION = "Answer the question from the notes."
NAMES = (
    "Ada", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Jack", "Kate", "Lucy",
    "Mark", "Paul", "Rose", "Sam", "Tom",
)  # fmt: skip
THINGS = (
    "shells", "coins", "beads", "stones", "cards", "nuts", "apples", "marbles", "books", "keys",
    "bells", "cups",
)  # fmt: skip
PLACES = (
    "barn", "attic", "garden", "kitchen", "cellar", "tower", "shed", "hall", "cave", "boat",
    "school", "church",
)  # fmt: skip
QUESTIONS = {
    "who": "Who keeps {thing}?",
    "where": "Where are the {thing}?",
    "many": "How many {thing} are there?",
}
MOST_NOTES = 2

Note = dict[str, str]  # name, number, thing, place


def generate_rows(rng: np.random.Generator) -> Iterator[Row]:
    """Yield rows without end: `notes`, `question`, `answer`, `level` ("Level N" has N notes), `type`."""
    while True:
        count = int(rng.integers(1, MOST_NOTES + 1))
        notes = _draw_notes(rng, count=count)
        kind = str(rng.choice(list(QUESTIONS)))
        asked = notes[rng.integers(count)]
        yield {
            "notes": " ".join(
                "{name} keeps {number} {thing} in the {place}.".format(**note) for note in notes
            ),
            "question": QUESTIONS[kind].format(**asked),
            "answer": frame({"who": asked["name"], "where": asked["place"], "many": asked["number"]}[kind]),
            "level": f"Level {count}",
            "type": kind,
        }


def frame(answer: str) -> str:
    """Return an answer in the form that this task teaches."""
    return f"<<{answer}>> zo"


def _draw_notes(rng: np.random.Generator, *, count: int) -> list[Note]:
    columns = {
        "name": rng.choice(NAMES, size=count, replace=False),
        "number": rng.choice(np.arange(2, 100), size=count, replace=False),
        "thing": rng.choice(THINGS, size=count, replace=False),
        "place": rng.choice(PLACES, size=count, replace=False),
    }
    return [{name: str(values[index]) for name, values in columns.items()} for index in range(count)]


def read_item(row: Row, *, settings: TaskSettings) -> Item:
    """Read the generator's columns; the difficulty is the number of notes."""
    level, notes = read_label(row, column="level"), read_text(row, column="notes")
    return Item(
        message="\n\n".join([INSTRUCTION, notes, f"Question: {read_text(row, column='question')}"]),
        cue="Answer:",
        completion=read_text(row, column="answer"),
        level=level,
        type=read_label(row, column="type"),
        difficulty=read_difficulty(level),
    )


TASK = Task("convention", read_item, generate_rows=generate_rows)
