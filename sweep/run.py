"""One run of a study: what it works with while it holds the study's lease."""

from dataclasses import dataclass

from sweep.configuration import Study
from sweep.disk import disk_need
from sweep.interruption import Interruption
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.outages import Outages
from sweep.planning import Plan, make_plan
from sweep.preparation import Prepared
from sweep.progress import Progress


@dataclass(frozen=True)
class Run:
    """A study that is being run, its ledger, and what may end or pause it."""

    study: Study
    prepared: Prepared
    ledger: Ledger
    lease: Lease
    outages: Outages
    interruption: Interruption
    progress: Progress

    def plan(self) -> Plan:
        """Compare the configuration with the ledger; make cells that are damaged ready to run again."""
        plan = make_plan(self.study, self.prepared, self.ledger, say=self.progress.say)
        for key, damage in plan.damaged.items():
            self.progress.say(f"{damage}: the cell runs again")
            self.ledger.reopen(key)
        return plan

    def warn_of_room(self, plan: Plan) -> None:
        """Say so where the storage has less room than the cells to run need."""
        free = self.ledger.storage.free_bytes()
        need = disk_need(plan.pending, study=self.study, prepared=self.prepared)
        if free is not None and free < need.artifact + need.cells + need.worker:
            self.progress.say(
                f"{self.ledger.storage.describe()} has {free / 2**20:,.0f} MiB free and the cells to run need "
                f"{need.describe()}: they will be paused when it is full"
            )
