"""The plan in words and numbers: what would run, what is done, and about how long the rest takes."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from sweep import recording
from sweep.cells import PlannedCell, plan_cells, plan_record
from sweep.configuration import Study
from sweep.ledger import Ledger, LedgerError, Standing
from sweep.preparation import Prepared
from trainables import columns
from trainables.artifact import Artifact, load_artifact
from trainables.replay import phase_a_stream
from trainables.seals import DamagedError


@dataclass(frozen=True)
class Plan:
    """The cells of a study beside where they stand; `artifact` is Phase A's once it is there."""

    cells: list[PlannedCell]
    standings: list[Standing]
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
        both = zip(self.cells, self.standings, strict=True)
        return [cell for cell, standing in both if standing.state not in finished]

    @property
    def damaged(self) -> dict[str, str]:
        """Return what is damaged of each cell that was finished, by key."""
        both = zip(self.cells, self.standings, strict=True)
        return {cell.spec.key: standing.damage for cell, standing in both if cell.spec and standing.damage}

    def hours_left(self, concurrent: int) -> float | None:
        """Return the estimated wall hours of the pending cells, None before any cell has finished."""
        if self.seconds_a_cell is None:
            return None
        return self.seconds_a_cell * len(self.pending) / concurrent / 3600


def make_plan(study: Study, prepared: Prepared, ledger: Ledger, *, say: Callable[[str], None]) -> Plan:
    """Compare the configuration with the ledger; `say` is told of a damaged artifact, which counts as absent.

    Raises ValueError where a strategy cannot be served, LedgerError where finished cells began from
    another adapter than the artifact's.
    """
    artifact = _read_artifact(prepared, say)
    pool_losses = artifact.pool_losses if artifact else None
    key = prepared.artifact.prefix.rpartition("/")[2]
    cells = plan_cells(study, prepared, artifact_key=key, pool_losses=pool_losses)
    keys = [cell.spec.key if cell.spec else None for cell in cells]
    found = ledger.standings([*keys, *(entry["key"] for entry in ledger.plan())])
    standings = [found[key] for key in keys]
    if artifact is not None:
        _check_origin(artifact, standings, ledger)
    done = [each for each in found.values() if each.state == columns.DONE]
    seconds = [each.seconds for each in done if each.seconds is not None]
    average = statistics.mean(seconds) if seconds else None
    return Plan(cells, standings, artifact, _phase_a_steps(study, prepared), average)


def _read_artifact(prepared: Prepared, say: Callable[[str], None]) -> Artifact | None:
    try:
        return load_artifact(prepared.artifact)
    except DamagedError as error:
        say(f"{error}: Phase A is trained again")
        return None


def _check_origin(artifact: Artifact, standings: list[Standing], ledger: Ledger) -> None:
    if any(standing.artifact not in (None, artifact.content) for standing in standings):
        raise LedgerError(
            f"{ledger.storage.describe()}: finished cells began from another Phase A adapter than the one that is "
            "there now. It was trained again or replaced, and its numbers differ (other hardware?): bring the old "
            "one back, or start anew with --new-study"
        )


def publish_plan(
    plan: Plan, *, study: Study, ledger: Ledger, say: Callable[[str], None] = lambda message: None
) -> None:
    """Record the plan in the ledger; `say` is told of labels of an earlier one that are left out."""
    axes = recording.searched_axes(ledger, study)
    recording.publish_plan(ledger, plan_record(plan.cells, study=study, axes=axes), say=say)


def _phase_a_steps(study: Study, prepared: Prepared) -> int:
    if study.phase_a.adapter:
        return 0
    return phase_a_stream(len(prepared.task_a.train), seed=study.phase_a.seed, training=study.phase_a).steps
