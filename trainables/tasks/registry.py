"""The tasks there are: where each one's rows come from and which reader understands them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trainables.settings import TaskSettings
from trainables.tasks import arithmetic, competition_math, custom, hotpotqa, multihop
from trainables.tasks.examples import Item, Row
from trainables.tasks.sources import HubDataset


class ReadItem(Protocol):
    def __call__(self, row: Row, *, settings: TaskSettings) -> Item: ...


class GenerateRows(Protocol):
    def __call__(self, rng: np.random.Generator) -> Iterator[Row]: ...


@dataclass(frozen=True)
class Task:
    """A reader, and a home on the hub or a generator; a task of the user's own has neither."""

    read_item: ReadItem
    hub: HubDataset | None = None
    generate_rows: GenerateRows | None = None


TASKS = {
    "math": Task(
        competition_math.read_item,
        hub=HubDataset("qwedsacf/competition_math", parts=competition_math.SUBJECTS),
    ),
    "hotpotqa": Task(hotpotqa.read_item, hub=HubDataset("hotpotqa/hotpot_qa", "distractor")),
    "arithmetic": Task(competition_math.read_item, generate_rows=arithmetic.generate_rows),
    "multihop": Task(hotpotqa.read_item, generate_rows=multihop.generate_rows),
}
OWN_TASK = Task(custom.read_item)


def find_task(settings: TaskSettings) -> Task:
    """Return the task of that name, or the user's own: the settings have refused every other name."""
    return TASKS.get(settings.name, OWN_TASK)
