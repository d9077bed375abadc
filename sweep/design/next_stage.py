"""What of a study is due: the seeds it has come to, and which of their cells run next.

Decided from the ledger alone, so that every run of the study, and `plan`, find the same.
"""

from dataclasses import dataclass

from sweep.config.study import Study
from sweep.design.gate import CLOSED, WAITS, Gate, gate_cells, judge_gate
from sweep.design.interim import judge_contrasts
from sweep.design.looks import Course, follow_looks
from sweep.ledger.ledger import Ledger
from sweep.planning.plan import Plan
from trainables.ledger import schema


@dataclass(frozen=True)
class Due:
    """The `plan` of the seeds that are due, and the part of it, `stage`, that runs next.

    `course` is None where the seeds are fixed, `gate` where there is none. `halt` says why nothing may run.
    """

    plan: Plan
    stage: Plan
    course: Course | None
    gate: Gate | None

    @property
    def halt(self) -> str | None:
        closed = self.gate is not None and self.gate.state == CLOSED
        return self.gate.reason if closed and self.gate and self.plan.pending else None


def find_course(study: Study, whole: Plan, ledger: Ledger) -> Course | None:
    """Return how far the looks of `study` have come in its `whole` plan; None where its seeds are fixed."""
    if not study.search.looks:
        return None
    return follow_looks(
        study.search.looks,
        ended=lambda count: whole.of_seeds(range(count)).ended,
        judge=lambda count: judge_contrasts(study, whole.of_seeds(range(count)).cells, ledger),
    )


def reached(study: Study, whole: Plan) -> Plan:
    """Return the plan up to the first look whose seeds have not ended; all of it where seeds are fixed."""
    for count in study.search.looks:
        plan = whole.of_seeds(range(count))
        if not plan.ended:
            return plan
    return whole


def find_due(study: Study, whole: Plan, ledger: Ledger, *, tried: frozenset[str] = frozenset()) -> Due:
    """Return what of the `whole` plan is due.

    `tried` are the keys of cells that this run has run: one of them that failed is not run again by it.
    """
    course = find_course(study, whole, ledger)
    plan = whole if course is None else whole.of_seeds(range(course.seeds))
    gate = judge_gate(study, plan, ledger, tried=tried) if study.gate else None
    stage = gate_cells(study, plan) if gate is not None and gate.state == WAITS else plan
    return Due(plan, _without_failed(stage, tried), course, gate)


def _without_failed(stage: Plan, tried: frozenset[str]) -> Plan:
    both = zip(stage.cells, stage.standings, strict=True)
    failed = {cell for cell, standing in both if standing.state == schema.FAILED}
    return stage.part(lambda cell: not (cell in failed and cell.spec and cell.spec.key in tried))
