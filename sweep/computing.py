"""What a run does on the cluster: Phase A where its artifact is missing, then the pending cells."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sweep import recording
from sweep.board import open_board
from sweep.cluster import check_capacity, connected
from sweep.execution import Trials, run_phase_a, share_base_weights
from sweep.lease import held
from sweep.planning import Plan, publish_plan
from sweep.run import Run
from trainables.base_weights import BaseWeights
from trainables.tune_entry import Office

if TYPE_CHECKING:
    from ray import ObjectRef


def compute(run: Run, plan: Plan, *, address: str | None) -> None:
    """Execute what is pending on the cluster at `address`, or on a local one."""
    run.progress.say("joining the cluster" if address else "starting a local cluster")
    # In this order: Ray sets a SIGTERM handler of its own.
    with connected(address), run.interruption.listening():
        slots = check_capacity(run.study.resources)
        slots = min(slots, run.study.resources.max_concurrent or slots)
        weights = share_base_weights(run.study, run.prepared.setup)
        with open_board(run.interruption.requested, say=run.progress.say) as board:
            office = Office(
                run.ledger.storage,
                term=run.lease.term,
                board=board,
                timeout=run.study.resources.progress_timeout,
            )
            _Cluster(run, weights, office, slots).execute(plan)


@dataclass(frozen=True)
class _Cluster:
    """A cluster that serves one run; `slots` trials fit on it at a time."""

    run: Run
    weights: "ObjectRef[BaseWeights | None]"
    office: Office
    slots: int

    def execute(self, plan: Plan) -> None:
        if plan.artifact is None:
            if not self._make_artifact(plan):
                return
            plan = self._plan_again()
        assert plan.artifact is not None
        self.run.progress.say(f"computed on {plan.artifact.tuning.describe()}")
        if plan.pending and not self.run.interruption.requested.is_set():
            self._run_cells(plan)

    def _make_artifact(self, plan: Plan) -> bool:
        """Run Phase A. Studies may share artifacts: who comes second waits, and finds it made."""
        run = self.run
        stop = run.interruption.requested.set
        with held(run.prepared.artifact, say=run.progress.say, on_lost=stop) as lease:
            return run_phase_a(
                run.study,
                run.prepared,
                weights=self.weights,
                office=replace(self.office, term=lease.term),
                outages=run.outages,
                progress=run.progress,
                tokens=sum(cell.tokens for cell in plan.cells) / self.slots,
            )

    def _plan_again(self) -> Plan:
        """Plan with Phase A's losses, which the first plan did not know."""
        run, plan = self.run, self.run.plan()
        publish_plan(plan, study=run.study, ledger=run.ledger, say=run.progress.say)
        assert plan.artifact is not None
        run.progress.phase_a_done(plan.artifact.summary())
        recording.record_precision(run.ledger, plan.artifact.tuning.precision)
        return plan

    def _run_cells(self, plan: Plan) -> None:
        run = self.run
        trials = Trials(
            run.ledger,
            weights=self.weights,
            office=self.office,
            lease=run.lease,
            outages=run.outages,
            progress=run.progress,
            interruption=run.interruption,
        )
        trials.run(run.study, run.prepared, plan, slots=self.slots)
