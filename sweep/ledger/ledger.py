"""The ledger: a study's storage read as the record of what is planned, done and failed.

The only source of truth for what is done. Every file is checked against a checksum; what is damaged counts
as not there, and is named. Needs neither Ray nor torch.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sweep.config.study import StudyConfig, validate_study
from sweep.ledger.result_cache import keep_results, recall_results, stamp
from trainables.ledger import schema
from trainables.ledger.cell_reader import current_attempt, read_result
from trainables.ledger.forms import KEY, LedgerError, read_checked, read_own_file
from trainables.ledger.leftovers import PROBE_FILE, leftovers, sweep
from trainables.ledger.manifest import stored_name
from trainables.ledger.reading import read_each
from trainables.ledger.redaction import redact
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Listing, Storage
from trainables.ledger.storage.location import open_storage

FAILURE_LOG = "failure.log"
READERS = 16  # files read at a time: an object store answers many at once
Entry = dict[str, Any]


@dataclass(frozen=True)
class CellStatus:
    """Where a cell stands: one of schema.CELL_STATES, or STOPPED in a learning-rate search.

    `seconds` it took and the digest of the `artifact` it began from, once it is finished; `damage` names the
    file for which a finished cell does not count as finished. `attempt` is whose files count, None for those
    of early studies, which carry no attempt's name; `leftovers` are files that count no more.
    """

    state: str
    seconds: float | None = None
    artifact: str | None = None
    damage: str | None = None
    attempt: str | None = None
    leftovers: tuple[str, ...] = ()


CellStatuses = dict[str | None, CellStatus]
NOTHING = Listing()
REMEMBERED = ("state", "seconds", "artifact", "attempt")  # of a finished cell's status


@dataclass(frozen=True)
class Ledger:
    """A study's storage. Every method reads it anew; those over many cells list them once."""

    storage: Storage

    def cell(self, key: str) -> Storage:
        return self.storage.inside(f"{schema.CELLS_DIRECTORY}/{key}")

    def statuses(self, keys: Iterable[str | None], *, thorough: bool = False) -> CellStatuses:
        """Return where each of several cells stands, by key; the key None is of a cell not yet known.

        One listing of all cells, and one read of each result; where the listing tells sizes and dates, only
        of those that it shows to have changed since this machine read them. A finished cell's other files are
        read if they are dated later than its result, or `thorough`.
        """
        known, folders = list(dict.fromkeys(keys)), self._folders()
        stamps = {key: stamp(folders.get(key, NOTHING)) for key in known if key}
        place = self.storage.describe()
        remembered = recall_results(place) if any(stamps.values()) and not thorough else {}

        def look(key: str | None) -> CellStatus:
            if key is None:
                return CellStatus(schema.MISSING)
            if key in remembered and remembered[key][0] == stamps[key]:
                return CellStatus(**remembered[key][1])
            return self._status(key, folders.get(key, NOTHING), thorough=thorough)

        found = dict(zip(known, read_each(look, known, readers=READERS), strict=True))
        fresh = {
            key: (mark, {name: getattr(found[key], name) for name in REMEMBERED})
            for key, mark in stamps.items()
            if mark and found[key].state in schema.FINISHED and not found[key].leftovers
        }
        keep_results(place, remembered, fresh)
        return found

    def state(self, key: str) -> str:
        """Return the state of a cell, as its CellStatus has it."""
        return self._status(key, self.cell(key).listing()).state

    def _folders(self) -> dict[str, Listing]:
        """Return what is in the folder of each cell, by key."""
        return self.storage.listing(schema.CELLS_DIRECTORY).by_folder()

    def _status(self, key: str, found: Listing, *, thorough: bool = False) -> CellStatus:
        if not found.files and not found.links:
            return CellStatus(schema.MISSING, leftovers=tuple(sorted(found.temporary)))
        cell, damage = self.cell(key), None
        try:
            result = read_result(cell, found, thorough=thorough)
            if result is not None:
                return CellStatus(
                    result["state"],
                    result["seconds"],
                    result["artifact"],
                    attempt=result.get(schema.ATTEMPT),
                    leftovers=leftovers(found, result),
                )
        except DamagedError as error:
            damage = str(error)
        state = schema.PARTIAL
        if schema.STOPPED_FILE in found.files:
            state = schema.STOPPED
        elif schema.FAILURE_FILE in found.files and damage is None:
            state = schema.FAILED
        of_no_use = () if damage else leftovers(found, None)
        return CellStatus(state, damage=damage, attempt=current_attempt(found), leftovers=of_no_use)

    def sweep(self, statuses: CellStatuses) -> None:
        """Delete what kills and given-up attempts have left behind in cells, and in the study's own
        folder.
        """
        for key, status in statuses.items():
            if key is not None:
                sweep(self.cell(key), status.leftovers)
        for folder in (self.storage, self.storage.inside(schema.LEASES_DIRECTORY)):
            found = folder.listing(deep=False)
            sweep(folder, (*sorted(found.temporary), *(found.files.keys() & {PROBE_FILE})))

    def reopen(self, key: str) -> None:
        """Make a cell that is damaged or failed ready to run again; its checkpoints stay."""
        for name in (schema.RESULT_FILE, schema.FAILURE_FILE):
            self.cell(key).delete(name)

    def study_record(self) -> dict[str, Any] | None:
        """Return study.json, or None where no study has been started. Raises LedgerError if it is damaged."""
        return read_own_file(self.storage, schema.STUDY_FILE)

    def plan(self) -> list[Entry]:
        """Return the planned labels with their keys; empty before the first run.

        Raises LedgerError if the plan is damaged.
        """
        record = read_own_file(self.storage, schema.PLAN_FILE)
        return record["cells"] if record else []

    def planned_statuses(
        self, *, thorough: bool = False, known: CellStatuses | None = None
    ) -> list[tuple[Entry, CellStatus]]:
        """Return every planned label's entry beside the status of its cell, looked up in `known` if given."""
        entries = self.plan()
        keys = [entry["key"] for entry in entries]
        statuses = self.statuses(keys, thorough=thorough) if known is None else known
        return [(entry, statuses[entry["key"]]) for entry in entries]

    def counts(self, *, known: CellStatuses | None = None) -> Counter[str]:
        """Return how many distinct runs are in each state, as `known` if given."""
        return count_runs(self.planned_statuses(known=known))

    def rows(self, key: str, *, status: CellStatus | None = None) -> list[dict[str, Any]]:
        """Return the evaluation points of a cell so far. Raises DamagedError if they cannot be read.

        Looks where the cell stands, if `status` does not say it.
        """
        found = status or self._status(key, self.cell(key).listing())
        record = read_checked(self.cell(key), stored_name(schema.ROWS_FILE, found.attempt))
        return record["rows"] if record else []

    def write(self, name: str, record: dict[str, Any]) -> None:
        """Publish one of the study's own files."""
        self.storage.write_record(name, record)

    def record_failure(self, key: str, *, error: str, log: str, attempts: int) -> None:
        """Record that a cell ran out of retries; its log is kept beside it. Secrets are left out of both."""
        self.cell(key).write(FAILURE_LOG, redact(log).encode())
        name = f"{schema.CELLS_DIRECTORY}/{key}/{FAILURE_LOG}"
        self.cell(key).write_record(
            schema.FAILURE_FILE, {"error": redact(error), "log": name, "attempts": attempts}
        )

    def record_stop(self, key: str, *, step: int, reason: str) -> None:
        """Record that a learning-rate search gave a cell up; its worker may write nothing more."""
        self.cell(key).write_record(schema.STOPPED_FILE, {"step": step, "reason": reason})
        self.cell(key).delete(schema.CLAIM_FILE)

    def failure(self, key: str) -> dict[str, Any]:
        """Return what `record_failure` wrote. Raises DamagedError if it cannot be read."""
        record = read_checked(self.cell(key), schema.FAILURE_FILE)
        return record or {"error": "unknown", "log": "", "attempts": 0}

    def described_cells(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the key and description of every cell that has a readable one, planned or not."""
        for key, found in self._folders().items():
            if not KEY.fullmatch(key):
                continue
            try:
                attempt = self._status(key, found).attempt
                record = read_checked(self.cell(key), stored_name(schema.CELL_FILE, attempt))
            except DamagedError:
                continue
            if record is not None:
                yield key, record


def count_runs(planned: Iterable[tuple[Entry, CellStatus]]) -> Counter[str]:
    """Count distinct runs by state; a label without a key is its own run."""
    runs = {entry["key"] or json.dumps(entry["labels"]): status.state for entry, status in planned}
    return Counter(runs.values())


def open_existing(location: str) -> Ledger:
    """Return the ledger of a study that was started. Raises LedgerError where there is none."""
    ledger = Ledger(open_storage(location))
    if ledger.study_record() is None:
        raise LedgerError(f"{location} holds no study: there is no {schema.STUDY_FILE} in it")
    return ledger


def stored_study(ledger: Ledger) -> StudyConfig:
    """Return the configuration a study was last run with, at the place it is in now."""
    record = ledger.study_record()
    assert record is not None
    return validate_study(
        {**record["config"], "storage": ledger.storage.location},
        origin=ledger.storage.describe(schema.STUDY_FILE),
    )
