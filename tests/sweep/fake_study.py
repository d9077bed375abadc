"""A study that never trained: its plan is real, its cells are written as a test wants them to have ended."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from sweep.config.study import StudyConfig, validate_study
from sweep.design.next_stage import NextStage, find_next_stage
from sweep.ledger.ledger import Ledger
from sweep.planning import study_record
from sweep.planning.cells import Label, PlannedCell
from sweep.planning.inputs import Prepared, prepare
from sweep.planning.plan import Plan, make_plan, publish_plan
from trainables.ledger import schema
from trainables.ledger.manifest import FileSet
from trainables.ledger.storage.location import open_storage

TOKENS = np.array([10, 20, 5, 15])
BEFORE = np.array([30.0, 50.0, 12.0, 40.0])  # summed nll of task A's validation examples, base model
LEARNT = BEFORE - 0.8 * TOKENS - np.array([0.5, -0.5, 0.25, -0.25])


class FakeStudy:
    """A study, its ledger, and a Phase A artifact that is there once `phase_a` was called."""

    def __init__(self, values: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
        self.study: StudyConfig = validate_study(values, origin="test")
        self.prepared: Prepared = prepare(self.study)
        self.ledger = Ledger(open_storage(self.study.storage))
        self.ledger.storage.make()
        self._artifact: Any = None
        patch.setattr("sweep.planning.plan.load_artifact", lambda storage: self._artifact)

    def declare(self, **changes: Any) -> None:
        """Change the configuration."""
        values = {**self.study.model_dump(mode="json"), **changes}
        self.study = validate_study(values, origin="test")

    def phase_a(self, after: np.ndarray = LEARNT) -> None:
        """Let Phase A have ended with these losses of task A's validation examples."""
        pool = np.random.default_rng(0).random(len(self.prepared.task_a.train))
        self._artifact = SimpleNamespace(
            pool_losses=pool,
            content="c",
            base_nll=(BEFORE, BEFORE),
            validation_nll=(after, BEFORE),
            validation_tokens=(TOKENS, TOKENS),
            compute_plan=SimpleNamespace(precision="fp32", describe=lambda: "nothing"),
        )

    def whole(self) -> Plan:
        return make_plan(self.study, self.prepared, self.ledger, say=pytest.fail)

    def open(self) -> None:
        """Record the study and its whole plan, as a run does."""
        study_record.open_study(
            self.ledger,
            self.study,
            fingerprint=self.prepared.fingerprint,
            details={},
            precision="fp32",
            finished=self.whole().finished,
        )
        publish_plan(self.whole(), study=self.study, ledger=self.ledger)

    def due(self, *, attempted: frozenset[str] = frozenset()) -> NextStage:
        return find_next_stage(self.study, self.whole(), self.ledger, attempted=attempted)

    def end(
        self,
        forgets: Callable[[Label], float],
        *,
        which: Callable[[Label], bool] = lambda label: True,
        state: str = schema.DONE,
    ) -> None:
        """Let the cells of which a label is chosen end in `state`, each example's loss risen by `forgets` a
        token.
        """
        self.open()
        for cell in self.whole().cells:
            if which(cell.labels[0]):
                self._end(cell, forgets(cell.labels[0]), state)

    def _end(self, cell: PlannedCell, rise: float, state: str) -> None:
        assert cell.spec is not None
        storage = self.ledger.cell(cell.spec.key)
        if state == schema.FAILED:
            self.ledger.record_failure(cell.spec.key, error="broken", log="", attempts=1)
            return
        storage.delete(schema.FAILURE_FILE)
        files, after = FileSet(storage), LEARNT + rise * TOKENS
        label = cell.labels[0]
        described = {
            "slots_hash": f"{label.seed} {label.mix}",
            "hyperparameters": {"lr": self.study.phase_b.lr},
            "key": cell.spec.key,
        }
        files.write_record(schema.CELL_FILE, label.record() | described)
        files.write_record(
            schema.SELECTION_FILE, {"index": [], "id": [], "level": [], "type": [], "tokens": []}
        )
        losses = {"steps": np.array([0, 8]), "task_a_nll": np.stack([LEARNT, after]), "task_a_tokens": TOKENS}
        files.write(schema.LOSSES_FILE, save(losses | {"task_b_nll": np.stack([BEFORE, BEFORE])}))
        totals = [nll.sum() / TOKENS.sum() for nll in (LEARNT, after)]
        files.write_record(schema.ROWS_FILE, {"rows": [_row(0, totals[0]), _row(8, totals[1])]})
        result = {"state": state, "step": 8, "total_steps": 8, "seconds": 1.0, "artifact": "c"}
        storage.write_record(schema.RESULT_FILE, result | {"files": files.manifest})

    @property
    def root(self) -> Path:
        return Path(self.study.storage)


def _row(step: int, loss: float) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(schema.ROW_COLUMNS, 0)
    return row | {schema.STEP: step, schema.TASK_A_LOSS: float(loss), schema.TASK_B_LOSS: 1.0}
