"""One cell's folder: rows, losses, checkpoints, and the result that is written last."""

from collections.abc import Callable
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
from trainables.claims import Claim, take_claim
from trainables.manifest import FileSet
from trainables.storage.base import Storage

Row = dict[str, float | int | None]


class CellStore:
    """Where one cell keeps what it has; every method leaves the folder fit to continue from.

    `term` is the driver's: a worker of an earlier driver, or one that was given up, may no longer write.
    `warn` is told of damaged files. Methods raise ClaimLostError or StorageError.
    """

    def __init__(
        self, storage: Storage, *, term: int = 0, warn: Callable[[str], None] = lambda message: None
    ) -> None:
        self.storage, self.term, self.warn = storage, term, warn
        self.files = FileSet(storage)
        self._claim: Claim | None = None

    def take(self) -> tuple[Tensors, Values] | None:
        """Claim the cell for this worker; return its newest checkpoint, None if it has none."""
        self._claim = take_claim(self.storage, term=self.term)
        self.storage.delete(columns.FAILURE_FILE)
        return load_newest_checkpoint(self.storage, warn=self.warn)

    def describe(self, description: dict[str, Any], selection: dict[str, Any]) -> None:
        """Record what the cell is, before it trains."""
        self._check_claim()
        self.files.write_record(columns.SELECTION_FILE, selection)
        self.files.write_record(columns.CELL_FILE, description)

    def record(self, rows: list[Row], losses: dict[str, np.ndarray]) -> None:
        """Publish all rows and per-example losses so far."""
        self._check_claim()
        self.files.write(columns.LOSSES_FILE, save(losses))
        self.files.write_record(columns.ROWS_FILE, {"rows": rows})

    def checkpoint(self, step: int, tensors: Tensors, values: Values) -> None:
        self._check_claim()
        save_checkpoint(self.storage, step=step, tensors=tensors, values=values)

    def keep_adapter(self, files: dict[str, bytes]) -> None:
        """Publish the final adapter's files, by name."""
        self._check_claim()
        for name, content in files.items():
            self.files.write(f"{columns.ADAPTER_DIRECTORY}/{name}", content)

    def finish(self, result: dict[str, Any]) -> None:
        """Publish the result: from here on the cell is finished and never runs again."""
        self._check_claim()
        self.storage.write_record(columns.RESULT_FILE, result | {"files": self.files.manifest})
        delete_checkpoints(self.storage)
        self.storage.delete(columns.CLAIM_FILE)

    def _check_claim(self) -> None:
        assert self._claim is not None, "a cell must be taken before anything is written"
        self._claim.check()
