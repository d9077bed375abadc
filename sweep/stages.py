"""What a run does on the cluster: Phase A where its artifact is missing, then the cells that are due, in
stages.
"""

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sweep.cluster.agreement import Begun, agree, remarks
from sweep.cluster.columns import run_columns
from sweep.cluster.nodes import Nodes, unused_gpus
from sweep.cluster.phase_a import run_phase_a, share_base_weights
from sweep.cluster.ray_cluster import check_capacity, check_place, connected
from sweep.cluster.supervision import open_mailbox
from sweep.cluster.trials import Trials
from sweep.design.next_stage import NextStage
from sweep.ledger.lease import WaitEndedError, held
from sweep.planning import study_record
from sweep.planning.plan import Plan
from trainables.artifact import PARTIAL
from trainables.model.base_weights import BaseWeights
from trainables.worker import DriverLink
from trainables.worker_identity import Requirement, requirement

if TYPE_CHECKING:
    from ray import ObjectRef

    from sweep.session import Session


def compute(session: "Session", due: NextStage, *, address: str | None) -> str | None:
    """Execute what is due of a study on the cluster at `address`, or on a local one.

    Returns why the gate let no grid run, None where it did or there is none.
    """
    if address is None:
        check_place(address, session.study.resources)
    # In this order: Ray sets a SIGTERM handler of its own.
    with connected(address, say=session.progress.say), session.interruption.listening():
        resources, stop, say = session.study.resources, session.interruption.requested, session.progress.say
        slots = check_capacity(resources)
        slots = min(slots, resources.max_concurrent or slots)
        nodes = Nodes(resources, session.prepared.setup.source)
        with open_mailbox(stop, nodes, say=say, timeout=resources.progress_timeout) as supervisor:
            required = _agree(session, due.plan, nodes)
            if required is None:
                return None
            supervisor.required = required
            link = DriverLink(
                session.ledger.storage,
                fencing_token=session.lease.fencing_token,
                mailbox=supervisor.mailbox,
                timeout=resources.progress_timeout,
                required=required,
            )
            session = replace(session, prepared=session.prepared.computed_in(required.settled))
            weights = share_base_weights(session.study, session.prepared, link, say=session.progress.say)
            return _Cluster(session, weights, link, slots).execute(due)


def _agree(session: "Session", plan: Plan, nodes: Nodes) -> Requirement | None:
    """Return what every worker must compute with, once each node has shown that it does; None after a stop.

    The precision is recorded before anything is computed in it. Raises WorkersRefusedError.
    """
    answers = nodes.all_answers(stop=session.interruption.requested, say=session.progress.say)
    if session.interruption.requested.is_set():
        return None
    begun = _begun(session, plan)
    required = requirement(
        on_gpu=session.study.resources.on_gpu,
        source=session.prepared.setup.source,
        attention=session.study.model.attention,
        quantization=session.study.model.quantization,
    )
    required = agree(answers, required, asked=session.study.model.dtype, begun=begun)
    for remark in [*unused_gpus(session.study.resources), *remarks(answers, required, begun=begun)]:
        session.progress.say(remark)
    study_record.record_precision(session.ledger, required.settled)
    return required


def _begun(session: "Session", plan: Plan) -> Begun:
    """Return what earlier runs settled: in the artifacts, or for a Phase A that left a checkpoint."""
    if plan.compute_plan is not None:
        return Begun(plan.compute_plan.precision, plan.compute_plan.device)
    if any(storage.inside(PARTIAL).files() for storage in session.prepared.artifacts.values()):
        return Begun(study_record.settled_precision(session.ledger, session.prepared.fingerprint))
    return Begun()


@dataclass(frozen=True)
class _Cluster:
    """A cluster that serves one run; `slots` trials fit on it at a time."""

    session: "Session"
    weights: "ObjectRef[BaseWeights | None]"
    link: DriverLink
    slots: int

    def execute(self, due: NextStage) -> str | None:
        """Run one stage after another, Phase A before its cells; return what the gate says if it is closed.

        Ends once nothing is due, a stop was asked for, or a cell of a stage did not end.
        """
        attempted: frozenset[str] = frozenset()
        while due.halt is None and due.stage.open and not self.session.interruption.requested.is_set():
            if not due.stage.phase_a_done:
                if not self._make_artifacts(due):
                    return None
            elif due.stage.missing_columns:
                if not self._make_columns(due):
                    return None
            else:
                if not attempted and due.plan.compute_plan is not None:
                    self.session.progress.say(f"computed on {due.plan.compute_plan.describe()}")
                self._run_cells(due.stage)
                attempted |= due.stage.pending_keys
                if not self.session.staged:
                    return None
            whole = self._plan_again(before=due.plan)
            if not whole.of_keys(attempted).ended:
                return None
            due = self.session.advance(whole, attempted=attempted)
        return due.halt

    def _make_artifacts(self, due: NextStage) -> bool:
        """Run Phase A for every artifact that the stage lacks; return False if a stop or the storage ended
        it.

        Studies may share artifacts: who comes second waits, and finds them made. Leases are taken in the
        order of their places, so that no two drivers wait for each other.
        """
        session = self.session
        missing = due.stage.artifacts.keys() - due.stage.made.keys()
        with ExitStack() as leases:
            links = self._held(missing, leases)
            return links is not None and run_phase_a(
                session.study,
                session.prepared,
                weights=self.weights,
                links=links,
                outages=session.outages,
                progress=session.progress,
                tokens=sum(cell.tokens for cell in due.plan.cells) / self.slots,
            )

    def _make_columns(self, due: NextStage) -> bool:
        """Compute the pool's columns that the stage lacks; return False if a stop or the storage ended it."""
        session, missing = self.session, due.stage.missing_columns
        for seed, names in missing.items():
            session.progress.say(f"computing what strategies choose by, seed {seed}: {', '.join(names)}")
        with ExitStack() as leases:
            links = self._held(missing, leases)
            return links is not None and run_columns(
                session.study,
                session.prepared,
                due.stage,
                weights=self.weights,
                links=links,
                outages=session.outages,
            )

    def _held(self, seeds: Collection[int], leases: ExitStack) -> dict[int, DriverLink] | None:
        """Return a link for each Phase A seed's artifact, whose lease is held while `leases` are; None after
        a stop.
        """
        session, storages = self.session, self.session.prepared.artifacts
        stop, tokens = session.interruption.requested, {}
        for seed in sorted(seeds, key=lambda seed: storages[seed].describe()):
            waited = held(storages[seed], say=session.progress.say, on_lost=stop.set, stop=stop)
            try:
                tokens[seed] = leases.enter_context(waited).fencing_token
            except WaitEndedError:
                return None
        return {seed: replace(self.link, fencing_token=tokens[seed]) for seed in sorted(tokens)}

    def _plan_again(self, *, before: Plan) -> Plan:
        """Plan with what the last stage has left; say what a new Phase A changed."""
        session, plan = self.session, self.session.plan()
        new = plan.made.keys() - before.made.keys()
        for seed in sorted(new):
            session.progress.phase_a_done(seed, plan.made[seed].summary())
        return plan

    def _run_cells(self, plan: Plan) -> None:
        session = self.session
        trials = Trials(
            session.ledger,
            weights=self.weights,
            link=self.link,
            lease=session.lease,
            outages=session.outages,
            progress=session.progress,
            interruption=session.interruption,
            early_stopping=session.early_stopping,
        )
        trials.run(session.study, session.prepared, plan, slots=self.slots)
