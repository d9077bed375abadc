"""What a task is: a reader of rows, and where the rows come from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trainables.settings import TaskSettings
from trainables.tasks.examples import Item, Row
from trainables.tasks.sources import HubDataset


class ReadItem(Protocol):
    def __call__(self, row: Row, *, settings: TaskSettings) -> Item: ...


class GenerateRows(Protocol):
    def __call__(self, rng: np.random.Generator) -> Iterator[Row]: ...


@dataclass(frozen=True)
class Task:
    """A reader, and a home on the hub or a generator; a task of the user's own has neither.

    `options` names the fields of TaskSettings that only some tasks have and this one does. `score`: of
    `scoring.SCORES`, how generated answers are judged.
    """

    name: str
    read_item: ReadItem
    hub: HubDataset | None = None
    generate_rows: GenerateRows | None = None
    options: tuple[str, ...] = ()
    score: str = "text"
