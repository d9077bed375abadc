"""A study under test: its configuration, its storage, and what of it can be compared."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

import analysis
from sweep.ledger.ledger import Ledger
from trainables.artifact import MANIFEST_FILE
from trainables.engine.checkpoints import NAME
from trainables.ledger import schema
from trainables.ledger.manifest import stored_name
from trainables.ledger.sealed_json import DamagedError, checksum
from trainables.ledger.storage.base import Storage
from trainables.ledger.storage.location import open_storage
from trainables.model.lora_files import WEIGHTS_FILE

Values = dict[str, Any]
Row = tuple[Any, ...]
FINISHED = (schema.DONE, schema.DIVERGED)
EXACT = (schema.LOSSES_FILE, schema.SELECTION_FILE, f"{schema.ADAPTER_DIRECTORY}/{WEIGHTS_FILE}")


@dataclass(frozen=True)
class StudyUnderTest:
    """One study and the file its configuration is in; it is looked at from outside, through its files
    alone.
    """

    config: Path
    values: Values

    @classmethod
    def create(cls, config: Path, values: Values) -> "StudyUnderTest":
        config.write_text(yaml.safe_dump(values))
        return cls(config, values)

    @property
    def location(self) -> str:
        return str(self.values["storage"])

    @property
    def path(self) -> Path:
        return Path(self.location)

    @property
    def storage(self) -> Storage:
        return open_storage(self.location, patience=10)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.storage)

    @property
    def artifact(self) -> Path:
        """Phase A's folder, once there is one."""
        return next((self.path / schema.ARTIFACTS_DIRECTORY).iterdir())

    def moved(self, location: Path) -> "StudyUnderTest":
        """Return the same study at another place."""
        return StudyUnderTest(self.config, self.values | {"storage": str(location)})

    def described(self) -> dict[str, Values]:
        """Return the description of every cell that has begun, by key."""
        return dict(self.ledger.described_cells())

    def finished(self) -> set[str]:
        """Return the keys of the cells that never have to run again, every file of theirs read."""
        statuses = self.ledger.statuses(self.described(), thorough=True)
        return {key for key, status in statuses.items() if key and status.state in FINISHED}

    def checkpoints(self) -> list[str]:
        """Return the names of all checkpoints there are, of Phase A and of cells."""
        return [name for name in self.storage.files() if NAME.fullmatch(name.rpartition("/")[2])]

    def has_phase_a(self) -> bool:
        """Say whether Phase A's artifact is whole: between it and the first cell there is no checkpoint."""
        return any(name.endswith(MANIFEST_FILE) for name in self.storage.files(schema.ARTIFACTS_DIRECTORY))

    def rows(self) -> dict[tuple[str, int], list[Row]]:
        """Return what was measured, by cell and step: one row each, unless one was doubled."""
        found: dict[tuple[str, int], list[Row]] = {}
        for key in self.described():
            try:
                rows = self.ledger.rows(key)
            except DamagedError:
                continue
            for row in rows:
                values = tuple(row[name] for name in schema.MEASURED_COLUMNS)
                found.setdefault((key, int(row[schema.STEP])), []).append(values)
        return found

    def table(self) -> pd.DataFrame:
        """Return the final table as the analysis reads it, without what only tells the time."""
        frame = analysis.load(self.location)
        labels = [*schema.LABEL_COLUMNS, schema.STEP]
        names = [*labels, "cell", "state", *schema.MEASURED_COLUMNS[1:]]
        return frame.sort_values(labels).reset_index(drop=True)[names]

    def contents(self) -> dict[str, str]:
        """Return the digests of every cell's losses, selection and final adapter."""
        cells = self.storage.inside(schema.CELLS_DIRECTORY)
        found = {}
        for key, status in self.ledger.statuses(self.described()).items():
            assert key is not None
            for name in EXACT:
                stored = f"{key}/{stored_name(name, status.attempt)}"
                with suppress(FileNotFoundError):
                    found[f"{key}/{name}"] = checksum(cells.read(stored))
        return found

    def equals(self, reference: "StudyUnderTest", *, within: float = 0.0) -> bool:
        """Say whether the reference's cells ended here with the same tables and files, bit for bit.

        With `within`, losses in the tables may differ by so many nats, and files are not compared.
        """
        theirs, ours = reference.table(), self.table()
        ours = ours[ours["cell"].isin(set(theirs["cell"]))].reset_index(drop=True)
        if within:
            return tables_are_near(ours, theirs, within=within)
        return ours.equals(theirs) and reference.contents().items() <= self.contents().items()


def tables_are_near(ours: pd.DataFrame, theirs: pd.DataFrame, *, within: float) -> bool:
    """Say whether two tables are equal but for losses that differ by at most `within`."""
    losses = [name for name in theirs.columns.tolist() if str(name).endswith(("_loss", "_loss_per_example"))]
    if not ours.drop(columns=losses).equals(theirs.drop(columns=losses)):
        return False
    return bool(np.allclose(ours[losses], theirs[losses], rtol=0, atol=within, equal_nan=True))


def misplaced_rows(under_test: StudyUnderTest, reference: StudyUnderTest) -> int:
    """Return how many rows of the reference's cells `under_test` lacks or has twice."""
    cells = reference.described()
    ours, theirs = (
        Counter({place: len(rows) for place, rows in each.rows().items() if place[0] in cells})
        for each in (under_test, reference)
    )
    return (ours - theirs).total() + (theirs - ours).total()
