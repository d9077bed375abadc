"""What a run does on the cluster: Phase A where its artifact is missing, then the cells that are due, in stages."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sweep.cluster.agreement import Begun, agree, remarks
from sweep.cluster.driver_link import open_board
from sweep.cluster.nodes import Nodes, unused_gpus
from sweep.cluster.phase_a import run_phase_a, share_base_weights
from sweep.cluster.ray_cluster import check_capacity, check_place, connected
from sweep.cluster.trials import Trials
from sweep.design.next_stage import Due
from sweep.ledger.lease import WaitEndedError, held
from sweep.planning import study_record
from sweep.planning.plan import Plan
from sweep.session import Run
from trainables.artifact import PARTIAL
from trainables.model.base_weights import BaseWeights
from trainables.worker import Office
from trainables.worker_identity import Requirement, requirement

if TYPE_CHECKING:
    from ray import ObjectRef


def compute(run: Run, due: Due, *, address: str | None) -> str | None:
    """Execute what is due of a study on the cluster at `address`, or on a local one.

    Returns why the gate let no grid run, None where it did or there is none.
    """
    if address is None:
        check_place(address, run.study.resources)
    # In this order: Ray sets a SIGTERM handler of its own.
    with connected(address, say=run.progress.say), run.interruption.listening():
        resources, stop, say = run.study.resources, run.interruption.requested, run.progress.say
        slots = check_capacity(resources)
        slots = min(slots, resources.max_concurrent or slots)
        nodes = Nodes(resources, run.prepared.setup.source)
        with open_board(stop, nodes, say=say, timeout=resources.progress_timeout) as forwarder:
            required = _agree(run, due.plan, nodes)
            if required is None:
                return None
            forwarder.required = required
            office = Office(
                run.ledger.storage,
                term=run.lease.term,
                board=forwarder.board,
                timeout=resources.progress_timeout,
                required=required,
            )
            run = replace(run, prepared=run.prepared.computed_in(required.settled))
            weights = share_base_weights(run.study, run.prepared.setup, office)
            return _Cluster(run, weights, office, slots).execute(due)


def _agree(run: Run, plan: Plan, nodes: Nodes) -> Requirement | None:
    """Return what every worker must compute with, once each node has shown that it does; None after a stop.

    The precision is recorded before anything is computed in it. Raises WorkersRefusedError.
    """
    answers = nodes.all_answers(stop=run.interruption.requested, say=run.progress.say)
    if run.interruption.requested.is_set():
        return None
    begun = _begun(run, plan)
    required = requirement(
        on_gpu=run.study.resources.on_gpu,
        source=run.prepared.setup.source,
        attention=run.study.model.attention,
    )
    required = agree(answers, required, asked=run.study.model.dtype, begun=begun)
    for remark in [*unused_gpus(run.study.resources), *remarks(answers, required, begun=begun)]:
        run.progress.say(remark)
    study_record.record_precision(run.ledger, required.settled)
    return required


def _begun(run: Run, plan: Plan) -> Begun:
    """Return what earlier runs settled: in the artifacts, or for a Phase A that left a checkpoint."""
    if plan.tuning is not None:
        return Begun(plan.tuning.precision, plan.tuning.device)
    if any(storage.inside(PARTIAL).files() for storage in run.prepared.artifacts.values()):
        return Begun(study_record.settled_precision(run.ledger, run.prepared.fingerprint))
    return Begun()


@dataclass(frozen=True)
class _Cluster:
    """A cluster that serves one run; `slots` trials fit on it at a time."""

    run: Run
    weights: "ObjectRef[BaseWeights | None]"
    office: Office
    slots: int

    def execute(self, due: Due) -> str | None:
        """Run one stage after another, Phase A before its cells; return what the gate says if it is closed.

        Ends once nothing is due, a stop was asked for, or a cell of a stage did not end.
        """
        tried: frozenset[str] = frozenset()
        while due.halt is None and due.stage.open and not self.run.interruption.requested.is_set():
            if due.stage.phase_a_done:
                if not tried and due.plan.tuning is not None:
                    self.run.progress.say(f"computed on {due.plan.tuning.describe()}")
                self._run_cells(due.stage)
                tried |= due.stage.pending_keys
                if not self.run.staged:
                    return None
            elif not self._make_artifacts(due):
                return None
            whole = self._plan_again(before=due.plan)
            if not whole.of_keys(tried).ended:
                return None
            due = self.run.due(whole, tried=tried)
        return due.halt

    def _make_artifacts(self, due: Due) -> bool:
        """Run Phase A for every artifact that the stage lacks; return False if a stop or the storage ended it.

        Studies may share artifacts: who comes second waits, and finds them made. Leases are taken in the
        order of their places, so that no two drivers wait for each other.
        """
        run, storages = self.run, self.run.prepared.artifacts
        stop = run.interruption.requested
        missing = due.stage.artifacts.keys() - due.stage.made.keys()
        with ExitStack() as leases:
            terms = {}
            for seed in sorted(missing, key=lambda seed: storages[seed].describe()):
                waited = held(storages[seed], say=run.progress.say, on_lost=stop.set, stop=stop)
                try:
                    terms[seed] = leases.enter_context(waited).term
                except WaitEndedError:
                    return False
            return run_phase_a(
                run.study,
                run.prepared,
                weights=self.weights,
                offices={seed: replace(self.office, term=terms[seed]) for seed in sorted(terms)},
                outages=run.outages,
                progress=run.progress,
                tokens=sum(cell.tokens for cell in due.plan.cells) / self.slots,
            )

    def _plan_again(self, *, before: Plan) -> Plan:
        """Plan with what the last stage has left; say what a new Phase A changed."""
        run, plan = self.run, self.run.plan()
        new = plan.made.keys() - before.made.keys()
        for seed in sorted(new):
            run.progress.phase_a_done(seed, plan.made[seed].summary())
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
            early_stopping=run.early_stopping,
        )
        trials.run(run.study, run.prepared, plan, slots=self.slots)
