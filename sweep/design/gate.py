"""The signal gate: whether Phase A learned and runs without replay forget, before a grid is run.

Noise of forgetting is that of the seeds and of the evaluation examples; of learning, which one adapter did,
that of the examples.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from sweep.config.study import StudyConfig
from sweep.ledger.ledger import Ledger
from sweep.planning.cells import Axes, PlannedCell
from sweep.planning.plan import Plan
from trainables.artifact import Artifact
from trainables.ledger import schema
from trainables.ledger.cell_reader import read_result
from trainables.ledger.manifest import read_listed
from trainables.ledger.sealed_json import DamagedError

Floats = npt.NDArray[np.float64]
ALPHA = 0.025  # of opening where nothing is forgotten, over all points of the further axes
SEEDS = 3  # whose runs without replay come first, or as many as there are

WAITS, OPEN, CLOSED = "waits", "open", "closed"


class Change(NamedTuple):
    """A change of the reported loss between two measurements of the same examples (nats a token).

    `noise`: what it must exceed to count, so that by chance alone one in 40 does.
    """

    value: float
    noise: float

    @property
    def rises(self) -> bool:
        """Whether the loss is higher than before, beyond noise."""
        return self.value > self.noise

    @property
    def falls(self) -> bool:
        return self.value < -self.noise

    def describe(self) -> str:
        return f"{self.value:+.4f} nats a token (noise: {self.noise:.4f})"


@dataclass(frozen=True)
class Gate:
    """Whether the grid may run: it WAITS for cells that have not ended, is OPEN or is CLOSED, and why."""

    state: str
    reason: str


def measure_change(rises: Floats, tokens: npt.NDArray[np.int64], *, points: int = 1) -> Change:
    """Return the mean change of the reported loss over n runs, and the noise it is held against.

    `rises` (n, V): nats by which each example's loss rose in each run; `tokens` (V,). The standard error is
    that over seeds and examples, crossed and random (`split_errors`), times t(n - 1) at ALPHA / `points`, the
    number of changes of which any may count; for a single run, whose seed's part nobody knows, that over
    examples times t(V - 1). Infinite for a single example.
    """
    from scipy import stats

    from analysis.findings.variance import split_errors

    errors = split_errors(rises, tokens.astype(float))
    count = len(rises)
    error = errors["se_examples"] if count == 1 else errors["se_both"]
    degrees = len(tokens) if count == 1 else count
    noise = float(stats.t.isf(ALPHA / points, degrees - 1)) * error if degrees > 1 else np.inf
    return Change(errors["difference"], noise if np.isfinite(noise) else np.inf)


def gate_cells(study: StudyConfig, plan: Plan) -> Plan:
    """Return the part of `plan` that is run before the grid: the first seeds' cells without replay."""
    first = study.search.seed[:SEEDS]
    return plan.part(
        lambda cell: any(label.strategy == schema.NO_REPLAY and label.seed in first for label in cell.labels)
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
        runs = f"{len(block.cells)} run{'s' if len(block.cells) > 1 else ''} without replay"
        return Gate(WAITS, f"Phase A learned ({learned.describe()}); next {runs}")
    changes = _forgotten(block, ledger)
    told = "; ".join(
        f"{name}: {'diverged' if change is None else change.describe()}" for name, change in changes.items()
    )
    if any(change is not None and change.rises for change in changes.values()):
        return Gate(OPEN, f"Phase A learned ({learned.describe()}), and task A is forgotten ({told})")
    return Gate(CLOSED, _unforgotten(told))


def _learned(artifact: Artifact) -> Change:
    """Return what Phase A did to task A's validation loss."""
    rise = artifact.validation_nll[0] - artifact.base_nll[0]
    return measure_change(rise[None], artifact.validation_tokens[0])


def _forgotten(block: Plan, ledger: Ledger) -> dict[str, Change | None]:
    """Return task A's mean change without replay at each point of the further axes; None where all
    diverged.
    """
    points: dict[Axes, list[tuple[PlannedCell, bool]]] = {}
    for cell, at in block.planned:
        points.setdefault(cell.labels[0].axes, []).append((cell, at.state == schema.DONE))
    found: dict[str, Change | None] = {}
    for axes, cells in points.items():
        measured = [_rise(cell, ledger) for cell, done in cells if done]
        where = "".join(f", {name} {value}" for name, value in axes)
        name = (
            f"{len(measured)} of {len(cells)} runs without replay{where}"
            if len(cells) > 1
            else cells[0][0].name
        )
        change = None
        if measured:
            change = measure_change(
                np.stack([rise for rise, _ in measured]), measured[0][1], points=len(points)
            )
        found[name] = change
    return found


def _rise(cell: PlannedCell, ledger: Ledger) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return how each of task A's examples changed over one finished cell, and their tokens.

    Raises DamagedError.
    """
    assert cell.spec is not None
    folder = ledger.cell(cell.spec.key)
    result = read_result(folder, folder.listing())
    if result is None:
        raise DamagedError(f"{folder.describe(schema.RESULT_FILE)} is missing")
    arrays = load(read_listed(folder, result, schema.LOSSES_FILE))
    nll = arrays["task_a_nll"]
    return nll[-1].astype(float) - nll[0], arrays["task_a_tokens"]


def _unlearned(change: Change) -> str:
    return (
        f"Phase A did not learn task A: its validation loss changed by {change.describe()}. There is "
        "nothing to forget yet: raise phase_a.epochs, phase_a.lr or task_a.train, or task_a.validation to "
        "see smaller changes"
    )


def _unforgotten(told: str) -> str:
    return (
        f"nothing of task A is forgotten without replay beyond noise: {told}. No strategy can help here: "
        "raise phase_b.epochs, phase_b.steps or phase_b.lr (lower it where runs diverged), or "
        "task_a.validation to see smaller changes"
    )
