"""The ledger: a study's directory read as the record of what is planned, done and failed.

The only source of truth for what is done. Needs neither Ray nor torch.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.configuration import Study, validate_study
from trainables import columns
from trainables.publish import publish_bytes, publish_json
from trainables.results import read_result


class LedgerError(ValueError):
    """A study directory that cannot be used as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Standing:
    """Where a cell stands: one of columns.CELL_STATES, and the seconds it took once it is finished."""

    state: str
    seconds: float | None = None


@dataclass(frozen=True)
class Ledger:
    """A study directory. Every method reads it anew; those over many cells read each cell once."""

    root: Path

    def cell_folder(self, key: str) -> Path:
        return self.root / columns.CELLS_DIRECTORY / key

    def standing(self, key: str | None) -> Standing:
        """Return where a cell stands; `key` is None while it is unknown."""
        if key is None:
            return Standing(columns.MISSING)
        folder = self.cell_folder(key)
        result = read_result(folder)
        if result is not None:
            return Standing(str(result["state"]), result.get("seconds"))
        if (folder / columns.FAILURE_FILE).is_file():
            return Standing(columns.FAILED)
        return Standing(columns.PARTIAL if folder.is_dir() else columns.MISSING)

    def standings(self, keys: Iterable[str | None]) -> dict[str | None, Standing]:
        """Return where each of several cells stands, by key."""
        return {key: self.standing(key) for key in dict.fromkeys(keys)}

    def state(self, key: str | None) -> str:
        """Return the state of a cell, one of columns.CELL_STATES; `key` is None while it is unknown."""
        return self.standing(key).state

    def finished(self, key: str | None) -> bool:
        return self.state(key) in (columns.DONE, columns.DIVERGED)

    def study_record(self) -> dict[str, Any] | None:
        """Return study.json, or None where no study has been started."""
        return self._read(columns.STUDY_FILE)

    def plan(self) -> list[dict[str, Any]]:
        """Return the planned labels with their keys; empty before the first run."""
        record = self._read(columns.PLAN_FILE)
        return record["cells"] if record else []

    def planned_states(self) -> list[tuple[dict[str, Any], str]]:
        """Return every planned label's entry beside the state of its cell."""
        entries = self.plan()
        standings = self.standings(entry["key"] for entry in entries)
        return [(entry, standings[entry["key"]].state) for entry in entries]

    def counts(self) -> Counter[str]:
        """Return how many distinct runs are in each state."""
        return count_runs(self.planned_states())

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Return the evaluation points of a cell so far."""
        record = self._read(f"{columns.CELLS_DIRECTORY}/{key}/{columns.ROWS_FILE}")
        return record["rows"] if record else []

    def check_meaning(self, fingerprint: dict[str, Any]) -> None:
        """Raise LedgerError if finished cells of this study mean something else than `fingerprint`."""
        record = self.study_record()
        differences = [] if record is None else list(_differences(record["fingerprint"], fingerprint))
        if differences and any(self.finished(entry["key"]) for entry in self.plan()):
            lines = "\n".join(f"  {line}" for line in differences)
            raise LedgerError(
                f"{self.root} holds finished cells of another configuration:\n{lines}\n"
                "Undo the change, or keep both: choose another directory with --set storage=DIR"
            )

    def open(
        self, study: Study, *, fingerprint: dict[str, Any], details: dict[str, Any], precision: str
    ) -> None:
        """Record the study as it will run now; `precision` is "auto" until a worker has settled it."""
        record = {
            "schema": columns.SCHEMA_VERSION,
            "name": study.study,
            "task_a": study.task_a.name,
            "task_b": study.task_b.name,
            "axes": self.axes(study),
            "dtype": precision,
            "model": study.model.name,
            "mix_mode": study.phase_b.mix_mode,
            "config": study.model_dump(mode="json", exclude={"storage"}),
            "fingerprint": fingerprint,
            "provenance": details,
        }
        publish_json(self.root / columns.STUDY_FILE, record)

    def record_precision(self, precision: str) -> None:
        """Record what "auto" became: the precision that the Phase A artifact was computed in."""
        record = self.study_record()
        assert record is not None
        if record["dtype"] != precision:
            publish_json(self.root / columns.STUDY_FILE, record | {"dtype": precision})

    def axes(self, study: Study) -> list[str]:
        """Return the further axes that this study or an earlier run of it searched."""
        record = self.study_record()
        return sorted(set(study.search.axes) | set(record["axes"] if record else []))

    def publish_plan(self, entries: Iterable[dict[str, Any]]) -> None:
        """Record the plan, and keep the labels of cells that an earlier plan has finished."""
        planned = list(entries)
        labels: dict[str | None, list[dict[str, Any]]] = {}
        for entry in planned:
            labels.setdefault(entry["key"], []).append(entry["labels"])

        def dropped(entry: dict[str, Any]) -> bool:
            return entry["labels"] not in labels.get(entry["key"], [])

        axes = [name for name in planned[0]["labels"] if name not in columns.LABEL_COLUMNS]
        earlier = [entry for entry in self.plan() if dropped(entry) and self.finished(entry["key"])]
        kept = [entry for entry in (self._with_axes(entry, axes) for entry in earlier) if dropped(entry)]
        record = {"schema": columns.SCHEMA_VERSION, "cells": planned + kept}
        publish_json(self.root / columns.PLAN_FILE, record)

    def _with_axes(self, entry: dict[str, Any], axes: list[str]) -> dict[str, Any]:
        """Return a finished cell's entry, its label completed by axes that were searched only later."""
        values = entry["labels"]
        if not all(name in values for name in axes):
            path = self.cell_folder(entry["key"]) / columns.CELL_FILE
            values = json.loads(path.read_text())["hyperparameters"] | values
        return {"labels": {name: values[name] for name in axes} | entry["labels"], "key": entry["key"]}

    def record_failure(self, key: str, *, error: str, log: str, attempts: int) -> None:
        """Record that a cell ran out of retries; its log is kept beside it."""
        folder = self.cell_folder(key)
        publish_bytes(folder / "failure.log", log.encode())
        failure = {
            "error": error,
            "log": f"{columns.CELLS_DIRECTORY}/{key}/failure.log",
            "attempts": attempts,
        }
        publish_json(folder / columns.FAILURE_FILE, failure)

    def failure(self, key: str) -> dict[str, Any]:
        """Return what `record_failure` wrote."""
        record: dict[str, Any] = json.loads((self.cell_folder(key) / columns.FAILURE_FILE).read_text())
        return record

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.root / name
        try:
            record: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise LedgerError(f"{path} cannot be read: {error}") from error
        return record


def count_runs(planned: Iterable[tuple[dict[str, Any], str]]) -> Counter[str]:
    """Count distinct runs by state; a label without a key is its own run."""
    runs = {entry["key"] or json.dumps(entry["labels"]): state for entry, state in planned}
    return Counter(runs.values())


def open_existing(root: Path) -> Ledger:
    """Return the ledger of a study that was started. Raises LedgerError where there is none."""
    ledger = Ledger(root.expanduser().absolute())
    if ledger.study_record() is None:
        raise LedgerError(f"{root} holds no study: there is no {columns.STUDY_FILE} in it")
    return ledger


def stored_study(ledger: Ledger) -> Study:
    """Return the configuration a study was last run with, at the directory it is in now."""
    record = ledger.study_record()
    assert record is not None
    return validate_study(
        {**record["config"], "storage": str(ledger.root)}, origin=str(ledger.root / columns.STUDY_FILE)
    )


def _differences(old: dict[str, Any], new: dict[str, Any]) -> Iterable[str]:
    """Yield one line for each field of two fingerprints that differs."""
    for section in sorted(old.keys() | new.keys()):
        before, after = old.get(section, {}), new.get(section, {})
        searched = before.keys() ^ after.keys() if section == "phase_b" else set()  # part of the key instead
        for field in sorted((before.keys() | after.keys()) - searched):
            if before.get(field) != after.get(field):
                yield f"{section}.{field}: finished with {before.get(field)!r}, now {after.get(field)!r}"
