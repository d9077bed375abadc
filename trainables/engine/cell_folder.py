"""One cell's folder: rows, losses, checkpoints, and the result that is written last."""

from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import save

from trainables.engine.checkpoints import Tensors, Values, load_newest_checkpoint, save_checkpoint
from trainables.ledger import schema
from trainables.ledger.cell_reader import is_finished
from trainables.ledger.fencing import Claim, ClaimLostError, take_claim
from trainables.ledger.leftovers import leftovers_beside, sweep
from trainables.ledger.manifest import FileSet
from trainables.ledger.storage.base import Storage

Row = dict[str, float | int | None]


class CellStore:
    """Where one cell keeps what it has; every method leaves the folder fit to continue from.

    `fencing_token` is the driver's: a worker of an earlier driver, or one that was given up, may no longer
    write. `warn` is told of damaged files. Methods raise ClaimLostError or StorageError.
    """

    def __init__(
        self, storage: Storage, *, fencing_token: int = 0, warn: Callable[[str], None] = lambda message: None
    ) -> None:
        self.storage, self.fencing_token, self.warn = storage, fencing_token, warn
        self._claim: Claim | None = None
        self._files: FileSet | None = None

    def take(self) -> tuple[Tensors, Values] | None:
        """Claim the cell for this worker; return its newest checkpoint, None if it has none."""
        self._claim = take_claim(self.storage, fencing_token=self.fencing_token)
        if schema.RESULT_FILE in self._claim.found and is_finished(self.storage):
            self.storage.delete(schema.CLAIM_FILE)
            raise ClaimLostError(f"{self.storage.describe()} was finished by another worker")
        self._files = FileSet(self.storage, self._claim.attempt)
        self.storage.delete(schema.FAILURE_FILE)
        return load_newest_checkpoint(self._claim, warn=self.warn)

    def describe(self, description: dict[str, Any], selection: dict[str, Any]) -> None:
        """Record what the cell is, before it trains."""
        files = self._claimed()[1]
        files.write_record(schema.SELECTION_FILE, selection)
        files.write_record(schema.CELL_FILE, description)

    def record(self, rows: list[Row], losses: dict[str, np.ndarray]) -> None:
        """Publish all rows and per-example losses so far."""
        files = self._claimed()[1]
        files.write(schema.LOSSES_FILE, save(losses))
        files.write_record(schema.ROWS_FILE, {"rows": rows})

    def record_answers(self, points: list[dict[str, Any]]) -> None:
        """Publish what was generated so far: a record an evaluation point, with its step."""
        self._claimed()[1].write_record(schema.ANSWERS_FILE, {"points": points})

    def checkpoint(self, step: int, tensors: Tensors, values: Values) -> None:
        save_checkpoint(self._claimed()[0], step=step, tensors=tensors, values=values)

    def keep_adapter(self, files: dict[str, bytes]) -> None:
        """Publish the final adapter's files, by name."""
        written = self._claimed()[1]
        for name, content in files.items():
            written.write(f"{schema.ADAPTER_DIRECTORY}/{name}", content)

    def finish(self, result: dict[str, Any]) -> None:
        """Publish the result: from here on the cell is finished and never runs again.

        Raises ClaimLostError where another attempt has published its own: that one stands.
        """
        files = self._claimed()[1]
        if not files.create_record(schema.RESULT_FILE, result):
            raise ClaimLostError(f"{self.storage.describe(schema.RESULT_FILE)} is there already")
        sweep(self.storage, leftovers_beside(files.record, self.storage.listing()))

    def _claimed(self) -> tuple[Claim, FileSet]:
        """Return what to write with, once it is certain that this worker still may."""
        assert self._claim is not None, "a cell must be taken before anything is written"
        assert self._files is not None
        self._claim.check()
        return self._claim, self._files
