"""A session: one driver at work on a study. What the configuration asks is compared with the ledger, which
decides.

Starts, resumes and grows a study alike: it executes what the configuration asks and the ledger lacks.
"""

import itertools
import shlex
from dataclasses import dataclass, replace

from sweep.checks import check_before_compute, check_study
from sweep.cluster.signals import Interruption
from sweep.config.errors import EXIT_FAILED
from sweep.config.study import StudyConfig
from sweep.console.progress import Progress
from sweep.console.publishing import published
from sweep.design.next_stage import NextStage, find_next_stage
from sweep.ledger.lease import Lease, held
from sweep.ledger.ledger import CellStatuses, Ledger
from sweep.ledger.outages import Outages
from sweep.ledger.provenance import provenance
from sweep.lr_search.outcomes import write_outcomes
from sweep.lr_search.search import check_kind, open_search
from sweep.planning import study_record
from sweep.planning.disk import disk_need
from sweep.planning.inputs import Prepared, prepare
from sweep.planning.plan import Plan, make_plan, publish_plan
from trainables.artifact import sweep_artifact
from trainables.cache.code_identity import NUMERICS
from trainables.ledger import schema
from trainables.ledger.errors import RunEndedError
from trainables.ledger.storage.base import PATIENCE, Storage, StoragePausedError
from trainables.ledger.storage.location import open_storage
from trainables.replay.own import texts


@dataclass(frozen=True)
class Outcome:
    """How a run ended: where the study is, its cells by state, and what kept it from its end, if anything.

    `halted`: why the gate let no grid run.
    """

    storage: str
    states: dict[str, int]
    interrupted_by: int | None
    paused: str | None
    halted: str | None = None

    @property
    def failed(self) -> int:
        return self.states.get(schema.FAILED, 0)

    @property
    def unfinished(self) -> int:
        """Count the cells that nothing kept from their end but that have not reached it."""
        return self.states.get(schema.PARTIAL, 0) + self.states.get(schema.MISSING, 0)

    def ending(self) -> tuple[str, int]:
        """Return what to do next and the exit code; nothing and 0 where every cell has ended."""
        place = shlex.quote(self.storage)
        resume = f"go on with: python -m sweep resume {place}"
        if self.interrupted_by is not None:
            return f"interrupted; {resume}", 128 + self.interrupted_by
        if self.paused is not None:
            return f"paused: {self.paused}\nonce that is mended, {resume}", EXIT_FAILED
        if self.halted is not None:
            return (
                f"stopped at the gate: {self.halted}\nTo run the grid all the same: --set gate=false",
                EXIT_FAILED,
            )
        if self.failed:
            return f"see why with: python -m sweep status {place}", EXIT_FAILED
        if self.unfinished:
            return f"{self.unfinished} cells are not finished; {resume}", EXIT_FAILED
        return "", 0


@dataclass(frozen=True)
class Session:
    """A study that is being run, its ledger, and what may end or pause it.

    `early_stopping`: it is a learning-rate search.
    """

    study: StudyConfig
    prepared: Prepared
    ledger: Ledger
    lease: Lease
    outages: Outages
    interruption: Interruption
    progress: Progress
    early_stopping: bool = False

    def plan(self, *, thorough: bool = False) -> Plan:
        """Compare the whole configuration with the ledger; make damaged cells ready to run again.

        `thorough` reads every file of finished cells.
        """
        plan = make_plan(self.study, self.prepared, self.ledger, say=self.progress.say, thorough=thorough)
        for key, damage in plan.damaged.items():
            self.progress.say(f"{damage}: the cell runs again")
            self.ledger.reopen(key)
        return plan

    def sweep(self, plan: Plan) -> None:
        """Delete what earlier runs that were killed have left behind."""
        self.ledger.sweep(plan.known)
        for seed in plan.made:
            sweep_artifact(self.prepared.artifacts[seed])

    def advance(self, whole: Plan, *, attempted: frozenset[str] = frozenset()) -> NextStage:
        """Publish what of the `whole` plan runs next, say what the looks and the gate say, and return it."""
        stage = find_next_stage(self.study, whole, self.ledger, attempted=attempted)
        publish_plan(stage.plan, study=self.study, ledger=self.ledger, say=self.progress.say)
        self.progress.progression(stage)
        return stage

    @property
    def staged(self) -> bool:
        """Whether what runs next depends on how cells end."""
        return bool(self.study.search.looks) or self.study.gate

    def warn_of_changed_looks(self, whole: Plan) -> None:
        """Say so where looks were changed after outcomes could be known: those that were declared stay."""
        before = study_record.changed_looks(self.ledger, self.study)
        if before and len(whole.pending) < len(whole.cells):
            self.progress.say(
                f"the looks {before} were declared before outcomes and stay; seeds after them are judged as "
                "those of a study that is grown (docs/statistics.md)"
            )

    def warn_of_room(self, plan: Plan) -> None:
        """Say so where the storage has less room than the cells to run need."""
        free = self.ledger.storage.free_bytes()
        need = disk_need(plan.pending, study=self.study, prepared=self.prepared)
        if free is not None and free < need.artifact + need.cells + need.worker:
            self.progress.say(
                f"{self.ledger.storage.describe()} has {free / 2**20:,.0f} MiB free and the cells to run "
                f"need {need.describe()}: they will be paused when it is full"
            )


def run_study(
    study: StudyConfig,
    *,
    address: str | None,
    progress: Progress,
    new_study: bool = False,
    early_stopping: bool = False,
    thorough: bool = False,
) -> Outcome:
    """Execute every cell of `study` that is not finished; wait first while another driver is at it.

    `thorough` reads every file of finished cells first: the damaged ones run again. With `new_study` a
    configuration that the storage's finished cells do not fit is run beside it. With `early_stopping` it is a
    learning-rate search, of which the rates that fall behind are stopped. Raises the errors of `prepare`,
    LocationError, LedgerError and ClusterError before any compute is spent, and leaves no trace in the
    storage then; LeaseLostError where another driver took the study over; StorageError where the storage
    cannot be used.
    """
    if study.model.trust_remote_code:
        progress.say(f"trust_remote_code is on: code from {study.model.name} runs here and on every worker")
    check_before_compute(study, address=address, say=progress.say)
    progress.say("preparing the tasks")
    prepared = prepare(study, say=progress.say)
    if new_study:
        study = _place_apart(study, prepared)
        prepared = prepare(study, say=progress.say)
    progress.describe(prepared)
    storage = study_storage(study)
    check_study(Ledger(storage), prepared.fingerprint, early_stopping=early_stopping)
    storage = storage.make()
    prepared = replace(prepared, artifacts={seed: each.make() for seed, each in prepared.artifacts.items()})
    interruption = Interruption()
    ledger = Ledger(storage)
    with (
        held(storage, say=progress.say, on_lost=interruption.requested.set) as lease,
        published(study, ledger, fencing_token=lease.fencing_token, progress=progress) as notifier,
    ):
        outages = Outages(study.resources.storage_patience, interruption.requested, progress.say)
        session = Session(study, prepared, ledger, lease, outages, interruption, progress, early_stopping)
        try:
            halted, known = _execute(session, address, thorough=thorough)
            lease.check()
            if early_stopping:
                write_outcomes(ledger)
            states = dict(ledger.counts(known=known))
            outcome = Outcome(study.storage, states, interruption.signal, outages.unresolved, halted)
        except StoragePausedError as error:
            outcome = Outcome(study.storage, {}, interruption.signal, outages.unresolved or str(error))
        except RunEndedError as error:
            notifier.tell("failure", str(error))
            raise
        message, code = outcome.ending()
        notifier.tell("end", message or "every cell has ended", states=outcome.states, code=code)
        return outcome


def study_storage(study: StudyConfig) -> Storage:
    """Return where the study is kept; an operation that fails is tried again, at most for PATIENCE."""
    return open_storage(study.storage, patience=min(PATIENCE, study.resources.storage_patience))


def _place_apart(study: StudyConfig, prepared: Prepared) -> StudyConfig:
    """Return the study at the first place, from its own on, whose finished cells it does not contradict."""
    for attempt in itertools.count(1):
        beside = study.storage if attempt == 1 else study_record.place_beside(study.storage, suffix=attempt)
        try:
            study_record.check_meaning(Ledger(open_storage(beside)), prepared.fingerprint)
        except study_record.OtherStudyError:
            continue
        return study.model_copy(update={"storage": beside})
    raise AssertionError("itertools.count ended")


def _execute(
    session: Session, address: str | None, *, thorough: bool
) -> tuple[str | None, CellStatuses | None]:
    """Compare the configuration with the ledger and run what is due.

    Returns why the gate let no grid run, and where the cells stand if nothing has changed that since.
    """
    check_kind(session.ledger, early_stopping=session.early_stopping)
    study_record.mend(session.ledger, say=session.progress.say)
    study_record.check_meaning(session.ledger, session.prepared.fingerprint)
    plan = session.plan(thorough=thorough)
    session.sweep(plan)
    session.warn_of_changed_looks(plan)
    details = provenance(session.prepared.source) | {"tasks": session.prepared.task_records()}
    own = session.study.strategies
    if own is not None:
        details["strategies"] = {"path": str(own), "source": texts[own]}
    if len(plan.pending) < len(plan.cells) and study_record.is_of_other_code(session.ledger, details):
        session.progress.say(
            f"the study was last run by other code of the same numerics ({NUMERICS}): finished cells stay, "
            "and `status --check` tells which code each is from"
        )
    if session.early_stopping:
        open_search(session.ledger, session.study, steps=plan.cells[0].steps)
    study_record.open_study(
        session.ledger,
        session.study,
        fingerprint=session.prepared.fingerprint,
        details=details,
        precision=_precision(session, plan),
        finished=plan.finished,
        known=plan.known or None,
    )
    study_record.write_validation(session.ledger, session.prepared)
    due = session.advance(plan)
    if due.halt or not due.stage.open:
        return due.halt, plan.known
    from sweep.stages import compute  # imports Ray and torch, which a finished study needs not

    session.warn_of_room(due.plan)
    return compute(session, due, address=address), None


def _precision(session: Session, plan: Plan) -> str:
    """Return the precision that the study is computed in; "auto" until its workers have agreed on one."""
    if plan.compute_plan is not None:
        return plan.compute_plan.precision
    return (
        study_record.settled_precision(session.ledger, session.prepared.fingerprint)
        or session.study.model.dtype
    )
