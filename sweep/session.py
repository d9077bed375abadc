"""One run of a study: what it works with while it holds the study's lease."""

from dataclasses import dataclass

from sweep.cluster.signals import Interruption
from sweep.config.study import StudyConfig
from sweep.console.progress import Progress
from sweep.design.next_stage import NextStage, find_next_stage, reached
from sweep.ledger.lease import Lease
from sweep.ledger.ledger import Ledger
from sweep.ledger.outages import Outages
from sweep.planning import study_record
from sweep.planning.disk import disk_need
from sweep.planning.inputs import Prepared
from sweep.planning.plan import Plan, make_plan, publish_plan
from trainables.artifact import sweep_artifact


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

    def due(self, whole: Plan, *, attempted: frozenset[str] = frozenset()) -> NextStage:
        """Find what of the `whole` plan is due, publish its plan, and say what the looks and the gate say.

        A look is judged by what the published plan lists.
        """
        current = reached(self.study, whole)
        self._publish(current)
        due = find_next_stage(self.study, whole, self.ledger, attempted=attempted)
        if len(due.plan.cells) != len(current.cells):
            self._publish(due.plan)
        self.progress.progression(due)
        return due

    def _publish(self, plan: Plan) -> None:
        publish_plan(plan, study=self.study, ledger=self.ledger, say=self.progress.say)

    @property
    def staged(self) -> bool:
        """Whether what runs next depends on how cells end."""
        return bool(self.study.search.looks) or self.study.gate

    def warn_of_changed_looks(self, whole: Plan) -> None:
        """Say so where looks were changed after one was taken: the rate of error is no longer the declared one."""
        before = study_record.changed_looks(self.ledger, self.study)
        if before and whole.of_seeds(range(before[0])).ended:
            now = list(self.study.search.looks) or "fixed seeds"
            self.progress.say(
                f"the looks were {before} when one was taken, and are {now} now: the rate of false findings is no "
                "longer the one declared. The study records the change and its report tells of it"
            )

    def warn_of_room(self, plan: Plan) -> None:
        """Say so where the storage has less room than the cells to run need."""
        free = self.ledger.storage.free_bytes()
        need = disk_need(plan.pending, study=self.study, prepared=self.prepared)
        if free is not None and free < need.artifact + need.cells + need.worker:
            self.progress.say(
                f"{self.ledger.storage.describe()} has {free / 2**20:,.0f} MiB free and the cells to run need "
                f"{need.describe()}: they will be paused when it is full"
            )
