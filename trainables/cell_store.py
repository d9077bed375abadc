"""One cell's directory: rows, losses, checkpoints, and the result that is written last."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from trainables import columns
from trainables.checkpoints import (
    Tensors,
    Values,
    delete_checkpoints,
    load_newest_checkpoint,
    save_checkpoint,
)
from trainables.publish import publish_bytes, publish_directory, publish_json
from trainables.results import read_result

Row = dict[str, float | int | None]


@dataclass(frozen=True)
class CellStore:
    """Where one cell keeps what it has; every method leaves the directory fit to continue from."""

    folder: Path

    def describe(self, description: dict[str, Any], selection: dict[str, Any]) -> None:
        """Record what the cell is, before it trains."""
        publish_json(self.folder / columns.SELECTION_FILE, selection)
        publish_json(self.folder / columns.CELL_FILE, description)

    def record(self, rows: list[Row], losses: dict[str, np.ndarray]) -> None:
        """Publish all rows and per-example losses so far."""
        publish_bytes(self.folder / columns.LOSSES_FILE, save(losses))
        publish_json(self.folder / columns.ROWS_FILE, {"rows": rows})

    def checkpoint(self, step: int, tensors: Tensors, values: Values) -> None:
        save_checkpoint(self.folder, step=step, tensors=tensors, values=values)

    def newest_checkpoint(self) -> tuple[Tensors, Values] | None:
        return load_newest_checkpoint(self.folder)

    @contextmanager
    def adapter_directory(self) -> Iterator[Path]:
        """Yield the empty directory that becomes the final adapter's."""
        with publish_directory(self.folder / columns.ADAPTER_DIRECTORY) as folder:
            yield folder

    def finish(self, result: dict[str, Any]) -> None:
        """Publish the result: from here on the cell is finished and never runs again."""
        publish_json(self.folder / columns.RESULT_FILE, result)
        (self.folder / columns.FAILURE_FILE).unlink(missing_ok=True)
        delete_checkpoints(self.folder)

    def result(self) -> dict[str, Any] | None:
        """Return the result of a finished cell, None for any other."""
        return read_result(self.folder)
