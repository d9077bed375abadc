"""How much room a study takes on its storage."""

from dataclasses import dataclass

from sweep.config.study import StudyConfig
from sweep.planning.cells import PlannedCell
from sweep.planning.inputs import Prepared
from trainables.ledger.schema import KEPT_CHECKPOINTS

FLOAT32, FLOAT64 = 4, 8  # bytes
MOMENTS = 2  # of AdamW, beside the adapter itself
ROW_BYTES = 700  # of one evaluation point as JSON
EXAMPLE_BYTES = 100  # of one replayed example in a selection


@dataclass(frozen=True)
class DiskNeed:
    """Bytes: of Phase A's artifacts, of all finished cells, and of a worker's checkpoints while it trains."""

    artifact: int
    cells: int
    worker: int

    def describe(self) -> str:
        kept = (self.artifact + self.cells) / 2**20
        return f"about {kept:,.0f} MiB, and {self.worker / 2**20:,.1f} MiB for each cell that is training"


def disk_need(cells: list[PlannedCell], *, study: StudyConfig, prepared: Prepared) -> DiskNeed:
    """Return the room that these cells take, and Phase A."""
    adapter = prepared.adapter_parameters * FLOAT32
    validation = len(prepared.task_a.validation) + len(prepared.task_b.validation)
    measured = [_points(cell, study) * (validation * FLOAT64 + ROW_BYTES) for cell in cells]
    replayed = [cell.spec.mix * len(prepared.task_b.train) if cell.spec else 0 for cell in cells]
    kept = [points + int(count * EXAMPLE_BYTES) for points, count in zip(measured, replayed, strict=True)]
    if study.phase_b.keep_adapters:
        kept = [size + adapter for size in kept]
    pool = 2 * len(prepared.task_a.train) * FLOAT64
    checkpoint = (1 + MOMENTS) * adapter + max(measured, default=0)
    return DiskNeed(
        artifact=len(prepared.artifacts) * (adapter + pool + 3 * validation * FLOAT64),
        cells=sum(kept),
        worker=(KEPT_CHECKPOINTS + 1) * checkpoint,  # the newest is written before the oldest is deleted
    )


def _points(cell: PlannedCell, study: StudyConfig) -> int:
    every = cell.spec.training.eval_every if cell.spec else study.phase_b.eval_every
    return 2 + cell.steps // every
