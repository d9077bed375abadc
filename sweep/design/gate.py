"""The signal gate: whether Phase A learned and a run without replay forgets, before a grid is run.

Noise is that of the evaluation examples: the standard error of a paired change of the reported loss.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from sweep.config.study import StudyConfig
from sweep.ledger.ledger import Ledger
from sweep.planning.cells import PlannedCell
from sweep.planning.plan import Plan
from trainables.artifact import Artifact
from trainables.ledger import schema
from trainables.ledger.cell_reader import read_result
from trainables.ledger.manifest import read_listed
from trainables.ledger.sealed_json import DamagedError

Floats = npt.NDArray[np.float64]
STANDARD_ERRORS = 2.0  # that a change must exceed to count: about 95 %, two-sided

WAITS, OPEN, CLOSED = "waits", "open", "closed"


class Change(NamedTuple):
    """A change of the reported loss between two measurements of the same examples (nats a token)."""

    value: float
    error: float

    @property
    def rises(self) -> bool:
        """Whether the loss is higher than before, beyond noise."""
        return self.value > STANDARD_ERRORS * self.error

    @property
    def falls(self) -> bool:
        return self.value < -STANDARD_ERRORS * self.error

    def describe(self) -> str:
        return f"{self.value:+.4f} ± {self.error:.4f} nats a token"


@dataclass(frozen=True)
class Gate:
    """Whether the grid may run: it WAITS for cells that have not ended, is OPEN or is CLOSED, and why."""

    state: str
    reason: str


def measure_change(before: Floats, after: Floats, tokens: npt.NDArray[np.int64]) -> Change:
    """Return R = sum_i d_i / sum_i t_i of the summed nll's changes d (n,), and its standard error.

    The error is the ratio estimator's, examples drawn from a large population (Cochran 1977, 6.4):
    sqrt(n / (n - 1) * sum_i (d_i - R t_i)^2) / sum_i t_i. Infinite for a single example.
    """
    changes, total = after - before, tokens.sum()
    ratio = float(changes.sum() / total)
    count = len(changes)
    if count < 2:
        return Change(ratio, np.inf)
    squares = float(np.sum((changes - ratio * tokens) ** 2))
    return Change(ratio, float(np.sqrt(count / (count - 1) * squares) / total))


def gate_cells(study: StudyConfig, plan: Plan) -> Plan:
    """Return the part of `plan` that is run before the grid: the first seed's cells without replay."""
    first = study.search.seed[0]
    return plan.part(
        lambda cell: any(label.strategy == schema.NO_REPLAY and label.seed == first for label in cell.labels)
    )


def judge_gate(
    study: StudyConfig, plan: Plan, ledger: Ledger, *, attempted: frozenset[str] = frozenset()
) -> Gate:
    """Return where the gate of `study` stands, from what the ledger has; nothing is computed anew.

    `attempted` are the keys of cells that this run has run: one of them that failed is not run again.
    """
    artifact = plan.artifacts[study.phase_a.seed_of(study.search.seed[0])]
    if artifact is None:
        return Gate(WAITS, "Phase A comes first, then a run without replay")
    learned = _learned(artifact)
    if not learned.falls:
        return Gate(CLOSED, _unlearned(learned))
    block = gate_cells(study, plan)
    failed = [
        cell
        for cell, at in block.planned
        if at.state == schema.FAILED and cell.spec and cell.spec.key in attempted
    ]
    if failed:
        return Gate(CLOSED, f"{failed[0].name} failed, so forgetting cannot be measured")
    if block.pending:
        return Gate(WAITS, f"Phase A learned ({learned.describe()}); next a run without replay")
    changes = {cell: _forgotten(cell, ledger) for cell, at in block.planned if at.state == schema.DONE}
    told = "; ".join(
        f"{cell.name}: {changes[cell].describe() if cell in changes else 'diverged'}"
        for cell, _ in block.planned
    )
    if any(change.rises for change in changes.values()):
        return Gate(OPEN, f"Phase A learned ({learned.describe()}), and task A is forgotten ({told})")
    return Gate(CLOSED, _unforgotten(told))


def _learned(artifact: Artifact) -> Change:
    """Return what Phase A did to task A's validation loss."""
    return measure_change(artifact.base_nll[0], artifact.validation_nll[0], artifact.validation_tokens[0])


def _forgotten(cell: PlannedCell, ledger: Ledger) -> Change:
    """Return task A's change over one finished cell. Raises DamagedError."""
    assert cell.spec is not None
    folder = ledger.cell(cell.spec.key)
    result = read_result(folder, folder.listing())
    if result is None:
        raise DamagedError(f"{folder.describe(schema.RESULT_FILE)} is missing")
    arrays = load(read_listed(folder, result, schema.LOSSES_FILE))
    nll = arrays["task_a_nll"]
    return measure_change(nll[0], nll[-1], arrays["task_a_tokens"])


def _unlearned(change: Change) -> str:
    return (
        f"Phase A did not learn task A: its validation loss changed by {change.describe()}, and "
        f"{STANDARD_ERRORS:g} standard errors count as noise. There is nothing to forget yet: raise "
        "phase_a.epochs, phase_a.lr or task_a.train, or task_a.validation to see smaller changes"
    )


def _unforgotten(told: str) -> str:
    return (
        f"nothing of task A is forgotten without replay beyond noise ({STANDARD_ERRORS:g} standard errors): "
        f"{told}. No strategy can help here: raise phase_b.epochs, phase_b.steps or phase_b.lr (lower it "
        "where runs diverged), or task_a.validation to see smaller changes"
    )
