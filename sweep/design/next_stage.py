"""What of a study is due: the seeds it has come to, and which of their cells run next.

Decided from the ledger alone, so that every run of the study, and `plan`, find the same.
"""

from dataclasses import dataclass

from sweep.config.study import StudyConfig
from sweep.design.gate import CLOSED, WAITS, Gate, gate_cells, judge_gate
from sweep.design.interim import look_at
from sweep.design.looks import Progression
from sweep.ledger.ledger import Ledger
from sweep.planning.plan import Plan
from trainables.ledger import schema


@dataclass(frozen=True)
class NextStage:
    """The `plan` of the seeds that are due, and the part of it, `stage`, that runs next.

    `progression` is None where the seeds are fixed, `gate` where there is none. `halt` says why nothing may
    run.
    """

    plan: Plan
    stage: Plan
    progression: Progression | None
    gate: Gate | None

    @property
    def halt(self) -> str | None:
        closed = self.gate is not None and self.gate.state == CLOSED
        return self.gate.reason if closed and self.gate and self.plan.pending else None


def find_progression(study: StudyConfig, whole: Plan, ledger: Ledger) -> tuple[Progression | None, Plan]:
    """Return how far the looks of `study` have come, and the part of its `whole` plan that they need.

    None, and all of it, where its seeds are fixed.
    """
    if not study.search.looks:
        return None, whole
    interim = look_at(study, whole, ledger)
    progression = Progression(interim.judgements)
    needed = {
        cell
        for cell, labels in interim.labels.items()
        if any(progression.needs(contrast, seed) for contrast, seed in labels)
    }
    return progression, whole.part(lambda cell: cell in needed)


def find_next_stage(
    study: StudyConfig, whole: Plan, ledger: Ledger, *, attempted: frozenset[str] = frozenset()
) -> NextStage:
    """Return what of the `whole` plan is due.

    `attempted` are the keys of cells that this run has run: one of them that failed is not run again by it.
    """
    progression, plan = find_progression(study, whole, ledger)
    gate = judge_gate(study, plan, ledger, attempted=attempted) if study.gate else None
    stage = gate_cells(study, plan) if gate is not None and gate.state == WAITS else plan
    return NextStage(plan, _without_failed(stage, attempted), progression, gate)


def _without_failed(stage: Plan, attempted: frozenset[str]) -> Plan:
    failed = {cell for cell, status in stage.planned if status.state == schema.FAILED}
    return stage.part(lambda cell: not (cell in failed and cell.spec and cell.spec.key in attempted))
