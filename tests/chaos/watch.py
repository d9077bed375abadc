"""Counting, from outside, what a study computed more than once: the journal against the ledger."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.outcome import Outcome
from tests.chaos.study_under_test import Row, StudyUnderTest, misplaced_rows
from trainables.ledger import schema

AdapterRun = tuple[str, str]  # the digest of a training stream, and the learning rate


@dataclass(frozen=True)
class Journal:
    """What `site/sitecustomize.py` writes: one line for each optimiser step, from every process."""

    path: Path

    def mark(self) -> int:
        """Return the place where the journal ends now."""
        return self.path.stat().st_size if self.path.exists() else 0

    def lines(self, *, since: int = 0) -> list[list[str]]:
        """Return the lines after a mark, each cut into words."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(since)
            return [line.split() for line in file.read().decode().splitlines()]

    def steps(self, *, since: int = 0) -> list[tuple[AdapterRun, int]]:
        """Return the steps taken after a mark, in order."""
        lines = self.lines(since=since)
        return [((line[1], line[2]), int(line[3])) for line in lines if line[0] == "step"]


@dataclass
class Watch:
    """Follows one study through its faults. Everything the journal gains meanwhile must be this study's.

    `before` are the steps that were taken in a study of which this one is a copy.
    """

    under_test: StudyUnderTest
    journal: Journal
    before: Sequence[tuple[AdapterRun, int]] = ()
    injections: int = 0
    bound: int = 0
    finished: dict[str, int] = field(
        default_factory=dict
    )  # the journal's mark when a cell was first seen done
    seen: dict[tuple[str, int], Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = self.journal.mark()

    @property
    def most_at_work(self) -> int:
        """The workers that may have steps to lose where the study is now: Phase A has one."""
        return int(self.under_test.values["resources"]["max_concurrent"]) if self._phase_a_done() else 1

    @property
    def interval(self) -> int:
        """The steps that one worker's kill may cost where the study is now."""
        phase, name = ("phase_b", "eval_every") if self._phase_a_done() else ("phase_a", "checkpoint_every")
        return int(self.under_test.values[phase][name])

    def _phase_a_done(self) -> bool:
        names = self.under_test.storage.files(schema.ARTIFACTS_DIRECTORY)
        return any(name.endswith("/manifest.json") for name in names)

    def injected(self, *, workers: int) -> None:
        """Take note of a fault that has just hit `workers` workers, and of what the study had by then."""
        self.injections += 1
        self.bound += min(workers, self.most_at_work) * self.interval
        self.look()

    def look(self) -> None:
        """Take note of the rows and finished cells that there are, none of which may be lost or repeated."""
        for place, rows in self.under_test.rows().items():
            self.seen.setdefault(place, rows[0])
        done = self.under_test.finished() - self.finished.keys()
        self.finished |= dict.fromkeys(done, self.journal.mark())

    def steps(self) -> int:
        """Return how many steps the study has taken since the watch began."""
        return len(self.journal.steps(since=self.began))

    def count(self, word: str) -> int:
        """Return how many lines of a kind the journal has gained since the watch began."""
        return sum(line[0] == word for line in self.journal.lines(since=self.began))

    def worker(self) -> int:
        """Return the process that took the last step."""
        return int(self._last_step()[-1])

    def raylet(self) -> int:
        """Return the raylet of the node on which the last step was taken."""
        return int(self._last_step()[-2])

    def _last_step(self) -> list[str]:
        return [line for line in self.journal.lines(since=self.began) if line[0] == "step"][-1]

    def recomputed(self) -> int:
        """Return how many steps were taken again."""
        counts = Counter([*self.before, *self.journal.steps(since=self.began)])
        return counts.total() - len(counts)

    def repeated(self) -> int:
        """Return how many cells took a step after they had been seen finished."""
        described = self.under_test.described()
        again = 0
        for key, mark in self.finished.items():
            record = described[key]
            run = (record["order_hash"], repr(record["hyperparameters"]["lr"]))
            again += any(run == taken for taken, _ in self.journal.steps(since=mark))
        return again

    def outcome(self, reference: StudyUnderTest, *, note: str = "", within: float = 0.0) -> Outcome:
        """Compare the study, now at its end, with an undisturbed one: bit for bit, or within some nats."""
        rows = self.under_test.rows()
        changed = sum(rows.get(place) != [row] for place, row in self.seen.items())
        return Outcome(
            injections=self.injections,
            cells_lost=len(reference.finished() - self.under_test.finished()),
            cells_repeated=self.repeated(),
            rows_lost_or_doubled=max(changed, misplaced_rows(self.under_test, reference)),
            steps_recomputed=self.recomputed(),
            bound=self.bound,
            tables_equal=self.under_test.equals(reference, within=within),
            note=note,
        )
