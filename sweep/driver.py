"""Running a study: Phase A as a Ray task, then a Tuner over the pending cells. The ledger decides.

Starts, resumes and grows a study alike: it executes what the configuration asks and the ledger lacks.
"""

from dataclasses import dataclass

from sweep.configuration import Study
from sweep.interruption import Interruption
from sweep.ledger import Ledger
from sweep.planning import Plan, make_plan, publish_plan
from sweep.preparation import Prepared, prepare
from sweep.progress import Progress
from sweep.provenance import provenance
from trainables import columns


@dataclass(frozen=True)
class Outcome:
    """How a run ended: cells by state, and the signal that interrupted it, if one did."""

    states: dict[str, int]
    interrupted_by: int | None

    @property
    def failed(self) -> int:
        return self.states.get(columns.FAILED, 0)


def run_study(study: Study, *, address: str | None, progress: Progress) -> Outcome:
    """Execute every cell of `study` that is not finished.

    Raises the errors of `prepare`, LedgerError and ClusterError before any compute is spent.
    """
    ledger = Ledger(study.storage)
    progress.say("preparing the tasks")
    prepared = prepare(study)
    progress.describe(prepared)
    ledger.check_meaning(prepared.fingerprint)
    plan = make_plan(study, prepared, ledger)
    precision = plan.artifact.tuning.precision if plan.artifact else study.model.dtype
    ledger.open(
        study, fingerprint=prepared.fingerprint, details=provenance(prepared.source), precision=precision
    )
    publish_plan(plan, study=study, ledger=ledger)
    interruption = Interruption()
    if plan.pending or not plan.phase_a_done:
        _execute(study, prepared, plan, address=address, progress=progress, interruption=interruption)
    return Outcome(dict(ledger.counts()), interruption.signal)


def _execute(
    study: Study,
    prepared: Prepared,
    plan: Plan,
    *,
    address: str | None,
    progress: Progress,
    interruption: Interruption,
) -> None:
    from sweep.cluster import check_capacity, connected
    from sweep.execution import Trials, open_board, run_phase_a, share_base_weights
    from trainables.artifact import load_artifact

    ledger = Ledger(study.storage)
    progress.say("joining the cluster" if address else "starting a local cluster")
    with connected(address), interruption.listening():  # in this order: Ray sets a SIGTERM handler of its own
        slots = check_capacity(cpus=study.resources.cpus, gpus=study.resources.gpus)
        slots = min(slots, study.resources.max_concurrent or slots)
        weights = share_base_weights(study, prepared.setup)
        with open_board(interruption.requested) as board:
            tokens = sum(cell.tokens for cell in plan.pending) / slots
            finished = run_phase_a(
                study,
                prepared,
                weights=weights,
                board=board,
                progress=progress,
                tokens=tokens,
                alone=address is None,
            )
            if not finished:
                return
            if not plan.phase_a_done:  # its losses were not known to the first plan
                plan = make_plan(study, prepared, ledger)
                publish_plan(plan, study=study, ledger=ledger)
            ledger.record_precision(load_artifact(prepared.artifact).tuning.precision)
            if plan.pending and not interruption.requested.is_set():
                trials = Trials(
                    ledger,
                    weights=weights,
                    board=board,
                    progress=progress,
                    stop_requested=interruption.requested,
                )
                trials.run(study, prepared, plan, slots=slots)
