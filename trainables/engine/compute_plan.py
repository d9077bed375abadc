"""How a model is computed on one kind of device: what was settled, and the cache of what was measured.

Imports nothing heavy; `measuring` fills it in.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trainables.cache.machine import keep, recall
from trainables.ledger.digests import digest_json
from trainables.settings import Precision

VERSION = 3  # part of the cache's key: raise it when what is measured changes
Work = Literal["training", "evaluation"]


@dataclass(frozen=True)
class ComputePlan:
    """How a model is computed on one kind of device.

    `tokens` of a microbatch, per kind of work; `checkpointing` recomputes layers in the backward pass;
    `compiled` layers from Phase A's last evaluations on; `cells` that train fastest in one process.
    """

    device: str
    precision: Precision
    attention: str
    tokens: dict[Work, int]
    checkpointing: bool
    compiled: bool = False
    cells: int = 1

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self) -> str:
        """Return one line for plans and logs."""
        recomputed = ", layers recomputed" if self.checkpointing else ""
        compiled = ", compiled" if self.compiled else ""
        return (
            f"{self.device}, {self.precision}, {self.attention} attention, {self.tokens['training']:,} "
            f"tokens a microbatch ({self.tokens['evaluation']:,} in evaluation){recomputed}{compiled}"
        )


def cached(key: dict[str, Any], measure: Callable[[], ComputePlan]) -> ComputePlan:
    """Return what was measured under `key` before on this machine, else measure and keep it."""
    name = digest_json(key | {"version": VERSION})
    kept = recall("tuning", name)
    if kept is not None:
        return ComputePlan(**json.loads(kept))
    compute_plan = measure()
    keep("tuning", name, json.dumps(compute_plan.record()).encode())
    return compute_plan
