"""The plan in words and numbers: what would run, what is done, and about how long the rest takes."""

import statistics
from dataclasses import dataclass

from sweep.cells import PlannedCell, plan_cells, plan_record
from sweep.configuration import Study
from sweep.ledger import Ledger
from sweep.preparation import Prepared
from trainables import columns
from trainables.artifact import Artifact, artifact_exists, load_artifact
from trainables.replay import phase_a_stream


@dataclass(frozen=True)
class Plan:
    """The cells of a study beside their states; `artifact` is Phase A's once it is there."""

    cells: list[PlannedCell]
    states: list[str]
    artifact: Artifact | None
    phase_a_steps: int
    seconds_a_cell: float | None

    @property
    def phase_a_done(self) -> bool:
        return self.artifact is not None

    @property
    def pending(self) -> list[PlannedCell]:
        """Return the cells that `run` would execute."""
        finished = (columns.DONE, columns.DIVERGED)
        return [cell for cell, state in zip(self.cells, self.states, strict=True) if state not in finished]

    def hours_left(self, concurrent: int) -> float | None:
        """Return the estimated wall hours of the pending cells, None before any cell has finished."""
        if self.seconds_a_cell is None:
            return None
        return self.seconds_a_cell * len(self.pending) / concurrent / 3600


def make_plan(study: Study, prepared: Prepared, ledger: Ledger) -> Plan:
    """Compare the configuration with the ledger. Raises ValueError where a strategy cannot be served."""
    artifact = load_artifact(prepared.artifact) if artifact_exists(prepared.artifact) else None
    pool_losses = artifact.pool_losses if artifact else None
    cells = plan_cells(study, prepared, artifact_key=prepared.artifact.name, pool_losses=pool_losses)
    keys = [cell.spec.key if cell.spec else None for cell in cells]
    standings = ledger.standings([*keys, *(entry["key"] for entry in ledger.plan())])
    states = [standings[key].state for key in keys]
    done = [each for each in standings.values() if each.state == columns.DONE]
    seconds = [each.seconds for each in done if each.seconds is not None]
    average = statistics.mean(seconds) if seconds else None
    return Plan(cells, states, artifact, _phase_a_steps(study, prepared), average)


def publish_plan(plan: Plan, *, study: Study, ledger: Ledger) -> None:
    """Record the plan in the ledger."""
    ledger.publish_plan(plan_record(plan.cells, study=study, axes=ledger.axes(study)))


def _phase_a_steps(study: Study, prepared: Prepared) -> int:
    if study.phase_a.adapter:
        return 0
    return phase_a_stream(len(prepared.task_a.train), seed=study.phase_a.seed, training=study.phase_a).steps
