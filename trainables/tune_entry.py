"""The thin Tune entry: a trial trains one cell or several together and reports each row.

The only file here that knows Ray.
"""

from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle

from trainables import columns
from trainables.base_weights import BaseWeights
from trainables.cell import Shared
from trainables.cell_store import CellStore
from trainables.phase_b import run_cells
from trainables.replay import CellSpec


def train_cells(
    config: dict[str, Any],
    *,
    shared: Shared,
    weights: BaseWeights | None,
    cells: dict[str, CellSpec],
    storage: Path,
    board: "ActorHandle[Any]",
) -> None:
    """Run the cells whose keys are in `config["keys"]`.

    `weights` are the base model's, mapped from the object store. `board` is the actor that says whether the
    driver wants to stop. The ledger's own checkpoints decide where to continue; Tune's are not used.
    """
    stores = {key: CellStore(storage / columns.CELLS_DIRECTORY / key) for key in config["keys"]}

    def should_stop() -> bool:
        return bool(ray.get(board.stopping.remote()))

    pending = [cells[key] for key, store in stores.items() if store.result() is None]
    if not pending or should_stop():
        return
    for key, row in run_cells(
        pending, shared=shared, stores=stores, weights=weights, should_stop=should_stop
    ):
        tune.report({"key": key} | {name: value for name, value in row.items() if value is not None})
