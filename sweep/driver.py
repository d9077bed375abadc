"""Running a study: Phase A as a Ray task, then a Tuner over the pending cells. The ledger decides.

Starts, resumes and grows a study alike: it executes what the configuration asks and the ledger lacks.
"""

import itertools
from dataclasses import dataclass, replace

from sweep import recording
from sweep.configuration import Study
from sweep.disk import disk_need
from sweep.interruption import Interruption
from sweep.lease import Lease, held
from sweep.ledger import Ledger
from sweep.outages import Outages
from sweep.planning import Plan, make_plan, publish_plan
from sweep.preparation import Prepared, prepare
from sweep.progress import Progress
from sweep.provenance import provenance
from trainables import columns
from trainables.storage.base import PATIENCE, Storage
from trainables.storage.locations import open_storage


@dataclass(frozen=True)
class Outcome:
    """How a run ended: where the study is, its cells by state, and what kept it from its end, if anything."""

    storage: str
    states: dict[str, int]
    interrupted_by: int | None
    paused: str | None

    @property
    def failed(self) -> int:
        return self.states.get(columns.FAILED, 0)

    @property
    def unfinished(self) -> int:
        """Count the cells that nothing kept from their end but that have not reached it."""
        return self.states.get(columns.PARTIAL, 0) + self.states.get(columns.MISSING, 0)


def run_study(study: Study, *, address: str | None, progress: Progress, new_study: bool = False) -> Outcome:
    """Execute every cell of `study` that is not finished; wait first while another driver is at it.

    With `new_study` a configuration that the storage's finished cells do not fit is run beside it.
    Raises the errors of `prepare`, LedgerError and ClusterError before any compute is spent; LeaseLostError
    where another driver took the study over; StorageError where the storage cannot be used.
    """
    if study.model.trust_remote_code:
        progress.say(f"trust_remote_code is on: code from {study.model.name} runs here and on every worker")
    progress.say("preparing the tasks")
    prepared = prepare(study)
    if new_study:
        study = _place_apart(study, prepared)
        prepared = prepare(study)
    progress.describe(prepared)
    storage = study_storage(study).make()
    prepared = replace(prepared, artifact=prepared.artifact.make())
    interruption = Interruption()
    with held(storage, say=progress.say, on_lost=interruption.requested.set) as lease:
        ledger = Ledger(storage)
        outages = Outages(storage, study.resources.storage_patience, interruption.requested, progress.say)
        run = _Run(study, prepared, ledger, lease, outages, interruption, progress)
        run.execute(address)
        lease.check()
        return Outcome(study.storage, dict(ledger.counts()), interruption.signal, outages.unresolved)


def study_storage(study: Study) -> Storage:
    """Return where the study is kept; an operation that fails is tried again, at most for PATIENCE."""
    return open_storage(study.storage, patience=min(PATIENCE, study.resources.storage_patience))


def _place_apart(study: Study, prepared: Prepared) -> Study:
    """Return the study at the first place, from its own on, whose finished cells it does not contradict."""
    for attempt in itertools.count(1):
        beside = study.storage if attempt == 1 else recording.place_beside(study.storage, attempt=attempt)
        try:
            recording.check_meaning(Ledger(open_storage(beside)), prepared.fingerprint)
        except recording.OtherStudyError:
            continue
        return study.model_copy(update={"storage": beside})
    raise AssertionError("itertools.count ended")


@dataclass(frozen=True)
class _Run:
    """One run of a study whose lease is held."""

    study: Study
    prepared: Prepared
    ledger: Ledger
    lease: Lease
    outages: Outages
    interruption: Interruption
    progress: Progress

    def execute(self, address: str | None) -> None:
        """Compare the configuration with the ledger and run what is missing."""
        recording.mend(self.ledger, say=self.progress.say)
        recording.check_meaning(self.ledger, self.prepared.fingerprint)
        plan = self._plan()
        recording.open_study(
            self.ledger,
            self.study,
            fingerprint=self.prepared.fingerprint,
            details=provenance(self.prepared.source),
            precision=plan.artifact.tuning.precision if plan.artifact else self.study.model.dtype,
        )
        publish_plan(plan, study=self.study, ledger=self.ledger)
        if plan.pending or not plan.phase_a_done:
            self._warn_of_room(plan)
            self._compute(plan, address)

    def _plan(self) -> Plan:
        """Plan, and make cells that are damaged or failed ready to run again."""
        plan = make_plan(self.study, self.prepared, self.ledger, say=self.progress.say)
        for key, damage in plan.damaged.items():
            self.progress.say(f"{damage}: the cell runs again")
            self.ledger.reopen(key)
        return plan

    def _warn_of_room(self, plan: Plan) -> None:
        free = self.ledger.storage.free_bytes()
        need = disk_need(plan.pending, study=self.study, prepared=self.prepared)
        if free is not None and free < need.artifact + need.cells + need.worker:
            self.progress.say(
                f"{self.ledger.storage.describe()} has {free / 2**20:,.0f} MiB free and the cells to run need "
                f"{need.describe()}: they will be paused when it is full"
            )

    def _compute(self, plan: Plan, address: str | None) -> None:
        from sweep.board import open_board
        from sweep.cluster import check_capacity, connected
        from sweep.execution import Trials, run_phase_a, share_base_weights
        from trainables.tune_entry import Office

        study, progress, requested = self.study, self.progress, self.interruption.requested
        progress.say("joining the cluster" if address else "starting a local cluster")
        # In this order: Ray sets a SIGTERM handler of its own.
        with connected(address), self.interruption.listening():
            slots = check_capacity(study.resources)
            slots = min(slots, study.resources.max_concurrent or slots)
            weights = share_base_weights(study, self.prepared.setup)
            with open_board(requested, say=progress.say) as board:
                office = Office(
                    self.ledger.storage,
                    term=self.lease.term,
                    board=board,
                    timeout=study.resources.progress_timeout,
                )
                if plan.artifact is None:
                    # Studies may share artifacts: whoever comes second waits, and finds it made.
                    with held(self.prepared.artifact, say=progress.say, on_lost=requested.set) as lease:
                        finished = run_phase_a(
                            study,
                            self.prepared,
                            weights=weights,
                            office=replace(office, term=lease.term),
                            outages=self.outages,
                            progress=progress,
                            tokens=sum(cell.tokens for cell in plan.cells) / slots,
                        )
                    if not finished:
                        return
                    plan = self._plan()  # Phase A's losses were not known to the first one
                    publish_plan(plan, study=study, ledger=self.ledger)
                    assert plan.artifact is not None
                    progress.phase_a_done(plan.artifact.summary())
                    recording.record_precision(self.ledger, plan.artifact.tuning.precision)
                assert plan.artifact is not None
                progress.say(f"computed on {plan.artifact.tuning.describe()}")
                if plan.pending and not requested.is_set():
                    trials = Trials(
                        self.ledger,
                        weights=weights,
                        office=office,
                        lease=self.lease,
                        outages=self.outages,
                        progress=progress,
                        interruption=self.interruption,
                    )
                    trials.run(study, self.prepared, plan, slots=slots)
