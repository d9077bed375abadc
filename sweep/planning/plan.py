"""The plan in words and numbers: what would run, what is done, and about how long the rest takes."""

import itertools
import statistics
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from sweep.config.study import StudyConfig
from sweep.ledger.ledger import CellStatus, CellStatuses, Ledger
from sweep.planning import study_record
from sweep.planning.cells import Origin, PlannedCell, plan_cells, plan_record
from sweep.planning.inputs import Prepared, column_place, computed_columns
from sweep.planning.study_record import check_labels, searched_axes
from trainables.artifact import Artifact, load_artifact
from trainables.engine.compute_plan import ComputePlan
from trainables.ledger import schema
from trainables.ledger.forms import LedgerError
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Storage
from trainables.replay.batch_order import phase_a_stream


@dataclass(frozen=True)
class Plan:
    """The cells of a study, each beside where it stands, and the Phase A artifacts they start from.

    `artifacts` are by Phase A seed, None until made, `phase_a_steps` those of one; `phase_a_seed` tells which
    one a replicate starts from. `known` are the statuses that were looked up, also those of cells that an
    earlier plan has left. `column_costs`: how the pool's columns that are there were computed.
    """

    planned: list[tuple[PlannedCell, CellStatus]]
    artifacts: dict[int, Artifact | None]
    phase_a_steps: int
    seconds_a_cell: float | None
    phase_a_seed: Callable[[int], int]
    known: CellStatuses = field(default_factory=dict)
    column_costs: tuple[dict[str, Any], ...] = ()

    @property
    def missing_columns(self) -> dict[int, tuple[str, ...]]:
        """Return the columns that are still to be computed before all orders are known, by Phase A seed, for
        the artifacts that are there.
        """
        lacked: dict[int, dict[str, None]] = {}
        for cell in self.cells:
            seed = self.phase_a_seed(cell.seed)
            if self.artifacts[seed] is not None:
                lacked.setdefault(seed, {}).update(dict.fromkeys(cell.lacks))
        return {seed: tuple(names) for seed, names in lacked.items() if names}

    @property
    def cells(self) -> list[PlannedCell]:
        return [cell for cell, _ in self.planned]

    @property
    def phase_a_done(self) -> bool:
        return None not in self.artifacts.values()

    @property
    def made(self) -> dict[int, Artifact]:
        """Return the artifacts that are there, by Phase A seed."""
        return {seed: artifact for seed, artifact in self.artifacts.items() if artifact is not None}

    @property
    def compute_plan(self) -> ComputePlan | None:
        """Return how the study is computed, as its first artifact settled it; None before there is one."""
        return next((artifact.compute_plan for artifact in self.made.values()), None)

    @property
    def pending(self) -> list[PlannedCell]:
        """Return the cells that `run` would execute."""
        return [cell for cell, status in self.planned if status.state not in schema.FINAL_STATES]

    @property
    def finished(self) -> int:
        """Count the cells whose outcome can be known: also those that an earlier plan has left."""
        return sum(status.state in schema.FINAL_STATES for status in self.known.values())

    @property
    def open(self) -> bool:
        """Whether there is anything to run: a cell, or a Phase A that cells start from."""
        return bool(self.pending) or not self.phase_a_done

    @property
    def damaged(self) -> dict[str, str]:
        """Return what is damaged of each cell that was finished, by key."""
        return {cell.spec.key: status.damage for cell, status in self.planned if cell.spec and status.damage}

    @property
    def ended(self) -> bool:
        """Whether nothing here is left to run, failed cells not counted."""
        over = (*schema.FINAL_STATES, schema.FAILED)
        return all(status.state in over for _, status in self.planned)

    def part(self, belongs: Callable[[PlannedCell], bool]) -> "Plan":
        """Return the plan of those cells alone, and of the artifacts they start from."""
        kept = [(cell, status) for cell, status in self.planned if belongs(cell)]
        seeds = {self.phase_a_seed(cell.seed) for cell, _ in kept}
        return replace(
            self,
            planned=kept,
            artifacts={seed: artifact for seed, artifact in self.artifacts.items() if seed in seeds},
        )

    @property
    def pending_keys(self) -> frozenset[str]:
        return frozenset(cell.spec.key for cell in self.pending if cell.spec)

    def of_keys(self, keys: Collection[str]) -> "Plan":
        """Return the plan of the cells with those keys alone."""
        return self.part(lambda cell: cell.spec is not None and cell.spec.key in keys)

    def hours_left(self, concurrent: int) -> float | None:
        """Return the estimated wall hours of the pending cells, None before any cell has finished."""
        if self.seconds_a_cell is None:
            return None
        return self.seconds_a_cell * len(self.pending) / concurrent / 3600


def make_plan(
    study: StudyConfig,
    prepared: Prepared,
    ledger: Ledger,
    *,
    say: Callable[[str], None],
    thorough: bool = False,
) -> Plan:
    """Compare the configuration with the ledger; `say` is told of a damaged artifact, which counts as absent.

    `thorough` reads every file of finished cells.
    Raises ValueError where a strategy cannot be served, LedgerError where finished cells began from
    another adapter than the artifact's, OtherStudyError where they have a planned label and are other runs.
    """
    artifacts = {seed: _read_artifact(storage, say) for seed, storage in prepared.artifacts.items()}
    origins = {seed: _origin(seed, artifacts[seed], study, prepared, say) for seed in artifacts}
    cells = plan_cells(study, prepared, origins=origins)
    keys = [cell.spec.key if cell.spec else None for cell in cells]
    recorded = ledger.plan()
    found = ledger.statuses([*keys, *(entry["key"] for entry in recorded)], thorough=thorough)
    planned = [(cell, found[cell.spec.key if cell.spec else None]) for cell in cells]
    planned_now = plan_record(cells, study=study, axes=searched_axes(ledger, study))
    check_labels(ledger, recorded, planned=planned_now, known=found)
    for cell, status in planned:
        _check_origin(artifacts[study.phase_a.seed_of(cell.seed)], status, ledger)
    done = [each for each in found.values() if each.state == schema.DONE]
    seconds = [each.seconds for each in done if each.seconds is not None]
    average = statistics.mean(seconds) if seconds else None
    steps = _phase_a_steps(study, prepared)
    costs = tuple(cost for origin in origins.values() for cost in origin.costs)
    return Plan(planned, artifacts, steps, average, study.phase_a.seed_of, found, costs)


def _read_artifact(storage: Storage, say: Callable[[str], None]) -> Artifact | None:
    try:
        return load_artifact(storage)
    except DamagedError as error:
        say(f"{error}: Phase A is trained again")
        return None


def _origin(
    seed: int,
    artifact: Artifact | None,
    study: StudyConfig,
    prepared: Prepared,
    say: Callable[[str], None],
) -> Origin:
    key = prepared.artifacts[seed].prefix.rpartition("/")[2]
    wanted = dict.fromkeys(itertools.chain.from_iterable(computed_columns(study).values()))
    if artifact is None or not wanted:
        return Origin(key, None if artifact is None else artifact.pool_losses)
    found = column_place(study, prepared, seed, artifact).present(wanted)
    for damage in found.damage:
        say(f"{damage}: the column is computed again")
    costs = tuple({"phase_a_seed": seed, **each} for each in found.costs)
    return Origin(key, artifact.pool_losses, found.values, costs)


def _check_origin(artifact: Artifact | None, status: CellStatus, ledger: Ledger) -> None:
    if artifact is not None and status.artifact not in (None, artifact.content):
        raise LedgerError(
            f"{ledger.storage.describe()}: finished cells began from another Phase A adapter than the one "
            "that is there now. It was trained again or replaced, and its numbers differ (other hardware?): "
            "bring the old one back, or start anew with --new-study"
        )


def publish_plan(
    plan: Plan, *, study: StudyConfig, ledger: Ledger, say: Callable[[str], None] = lambda message: None
) -> None:
    """Record the plan in the ledger; `say` is told of labels of an earlier one that are left out."""
    axes = searched_axes(ledger, study)
    entries = plan_record(plan.cells, study=study, axes=axes)
    study_record.publish_plan(ledger, entries, known=plan.known or None, say=say)
    study_record.write_costs(ledger, plan.column_costs, strategies=computed_columns(study))


def _phase_a_steps(study: StudyConfig, prepared: Prepared) -> int:
    if study.phase_a.adapter:
        return 0
    return phase_a_stream(len(prepared.task_a.train), seed=study.phase_a.seed, training=study.phase_a).steps
