"""The pool's computed columns as files: a folder each inside their Phase A artifact's, whose record is
created last.

Reading them needs neither torch nor PEFT.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from safetensors.numpy import load, save

from trainables.artifact import Artifact
from trainables.cache.code_identity import NUMERICS
from trainables.ledger.digests import digest_json
from trainables.ledger.fencing import Claim, take_claim
from trainables.ledger.manifest import FileSet, Record, read_listed
from trainables.ledger.schema import COLUMN_FILE, COLUMNS_DIRECTORY, VALUES_FILE
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Storage
from trainables.replay.pool import COLUMNS, Array

VALUES = "values"  # the array's name in its file
KEY_LENGTH = 16  # hex digits
HOW = ("column", "seconds", "cpus", "gpus", "computed_on")


@dataclass(frozen=True)
class ColumnPlace:
    """Where an artifact's columns are. What a column depends on beside the artifact gives its folder a name.

    `task_b` is the digest of task B's data; `training`: what of Phase B's settings, and which Phase A seed,
    the column `forgotten` is of.
    """

    storage: Storage
    artifact: Artifact
    task_b: str
    training: Mapping[str, Any]

    def of(self, name: str) -> Storage:
        """Return the folder of one computed column."""
        assert COLUMNS[name].origin == "computed", f"{name} is not computed"
        meaning: dict[str, Any] = {"artifact": self.artifact.content, "numerics": NUMERICS}
        if name.startswith("task_b") or name == "forgotten":
            meaning["task_b"] = self.task_b
        if name == "forgotten":
            meaning["training"] = self.training
        key = digest_json(meaning)[:KEY_LENGTH]
        return self.storage.inside(f"{COLUMNS_DIRECTORY}/{name}-{key}")

    def read(self, name: str) -> tuple[Array, Record] | None:
        """Return a column and how it was computed, None where it is not yet. Raises DamagedError naming the
        file.
        """
        place = self.of(name)
        record = place.read_record(COLUMN_FILE)
        if record is None:
            return None
        try:
            how = {each: record[each] for each in HOW}
            return load(read_listed(place, record, VALUES_FILE))[VALUES], how
        except (KeyError, TypeError) as error:  # whole, but written by another version
            raise DamagedError(f"{place.describe(COLUMN_FILE)} lacks {error}") from error

    def is_whole(self, name: str) -> bool:
        """Say whether a column is there as it was written."""
        try:
            return self.read(name) is not None
        except DamagedError:
            return False

    def claim(self, name: str, *, fencing_token: int) -> Claim | None:
        """Take over a column's folder before it is computed; None where it is whole by then. Raises
        ClaimLostError where a later driver has it.
        """
        if self.is_whole(name):
            return None
        claim = take_claim(self.of(name), fencing_token=fencing_token)
        return None if self.is_whole(name) else claim  # ended by the attempt before, meanwhile

    def write(self, name: str, values: Array, *, how: Mapping[str, Any], claim: Claim) -> None:
        """Publish a column with `how` it was computed, unless another attempt has: that one's stays. Raises
        ClaimLostError.
        """
        place = self.of(name)
        files = FileSet(place, claim.attempt)
        files.write(VALUES_FILE, save({VALUES: values}))
        claim.check()
        if not self.is_whole(name):
            place.delete(COLUMN_FILE)  # that of a damaged one
            files.create_record(COLUMN_FILE, {"column": name, **how})

    def present(self, names: Iterable[str]) -> "FoundColumns":
        """Return those of the columns that are there."""
        found = FoundColumns({}, [], [])
        for name in names:
            try:
                column = self.read(name)
            except DamagedError as error:
                found.damage.append(str(error))
                continue
            if column is not None:
                found.values[name] = column[0]
                found.costs.append(dict(column[1]))
        return found


class FoundColumns(NamedTuple):
    """Columns by name, how each was computed (HOW), and what is wrong with damaged ones."""

    values: dict[str, Array]
    costs: list[dict[str, Any]]
    damage: list[str]
