"""Following the ledger for trackers: each cell's new rows go to each tracker, once, in a thread of its own.

A tracker that fails is said once and left; the next run gives it what it lacks.
"""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.config.study import StudyConfig
from sweep.console.progress import Progress
from sweep.console.status import merged, name_of
from sweep.ledger.ledger import Ledger
from sweep.ledger.progress_file import TRACKED, DriverFile, Tracked, read_newest
from sweep.trackers.trackers import TRACKERS, Run, Tracker, TrackerError
from trainables.ledger import schema
from trainables.ledger.forms import LedgerError
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import StorageError

EVERY_SECONDS = 5.0
LEAVE_SECONDS = 60.0  # that trackers have at the end of a run


def tracker_folder(study: StudyConfig) -> Path:
    """Return where trackers that write files do: in the study's directory, or in ./STUDY if it has none."""
    return Path(study.study) if "://" in study.storage else Path(study.storage)


@dataclass
class Follower:
    """Passes rows on while a run lasts; `steps` are those that each tracker has of each cell."""

    study: StudyConfig
    ledger: Ledger
    fencing_token: int
    progress: Progress
    steps: dict[str, dict[str, int]] = field(default_factory=dict)
    trackers: dict[str, Tracker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_following, daemon=True, name="trackers")
        if self.study.trackers:
            self._thread.start()

    def close(self) -> None:
        """Pass on what is left, and end."""
        if not self.study.trackers:
            return
        self._ending.set()
        self._thread.join(LEAVE_SECONDS)
        if self._thread.is_alive():
            self.progress.say(
                f"trackers: not done after {LEAVE_SECONDS:g} s; the next run gives them the rest"
            )

    def _keep_following(self) -> None:
        folder = tracker_folder(self.study)
        self.trackers = {name: TRACKERS[name](self.study.study, folder) for name in self.study.trackers}
        file, known = DriverFile(self.ledger.storage, TRACKED, self.fencing_token), None
        ended = False
        while not ended:
            ended = self._ending.wait(EVERY_SECONDS)
            try:
                if known is None:
                    self.steps = self._earlier()
                news = self.progress.take_news()
                self._pass_on(None if known is None or ended else news)
                if known != (known := {name: dict(steps) for name, steps in self.steps.items()}):
                    file.write(Tracked(steps=self.steps))
                    file.sweep()
            except (StorageError, LedgerError, FileNotFoundError):
                continue  # whatever is missed now is passed on at the end, or by the next run
        for name, tracker in self.trackers.items():
            try:
                tracker.close()
            except TrackerError as error:
                self.progress.say(f"tracker {name}: {error}")

    def _earlier(self) -> dict[str, dict[str, int]]:
        try:
            newest = read_newest(self.ledger.storage, TRACKED)
        except DamagedError:
            newest = None
        return dict(newest[0].steps) if newest else {}

    def _pass_on(self, keys: set[str] | None) -> None:
        """Pass on the new rows of the cells with those keys, or of all."""
        for entries, status in merged(self.ledger.planned_statuses()):
            key = entries[0]["key"]
            if key is None or status.state == schema.MISSING or (keys is not None and key not in keys):
                continue
            lacking = [name for name in self.trackers if self._lacks(name, key, status.state)]
            if not lacking:
                continue
            try:
                rows = self.ledger.rows(key, status=status)
            except DamagedError:
                continue  # `status --check` names it
            run = Run(key, name_of(entries), self._parameters(entries))
            for name in lacking:
                self._log(name, run, rows, ended=status.state in schema.FINAL_STATES)

    def _lacks(self, name: str, key: str, state: str) -> bool:
        return not (state in schema.FINAL_STATES and self.steps.get(name, {}).get(f"{key} ended"))

    def _parameters(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        study = self.study.model_dump(mode="json", include={"model", "phase_b"})
        flat = {f"phase_b.{name}": value for name, value in study["phase_b"].items()}
        labels: dict[str, Any] = entries[0]["labels"]
        return {"model": study["model"]["name"], **flat, **labels}

    def _log(self, name: str, run: Run, rows: list[dict[str, Any]], *, ended: bool) -> None:
        steps = self.steps.setdefault(name, {})
        new = [row for row in rows if row[schema.STEP] > steps.get(run.key, -1)]
        try:
            self.trackers[name].log(run, new, ended=ended)
        except TrackerError as error:
            self.progress.say(f"tracker {name}: {error}; the run goes on without it, the next one catches up")
            del self.trackers[name]
            return
        if new:
            steps[run.key] = new[-1][schema.STEP]
        if ended:
            steps[f"{run.key} ended"] = 1
