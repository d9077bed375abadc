"""The thin Tune entry: one trial trains one cell and reports each row. The only file here that knows Ray."""

from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle

from trainables import columns
from trainables.cell_store import CellStore
from trainables.phase_b import Shared, run_cell
from trainables.replay import CellSpec


def train_cell(
    config: dict[str, Any],
    *,
    shared: Shared,
    cells: dict[str, CellSpec],
    storage: Path,
    board: "ActorHandle[Any]",
) -> None:
    """Run the cell `config["key"]`. `board` is the actor that says whether the driver wants to stop.

    The ledger's own checkpoint decides where to continue; Tune's checkpoints are not used.
    """
    store = CellStore(storage / columns.CELLS_DIRECTORY / config["key"])

    def should_stop() -> bool:
        return bool(ray.get(board.stopping.remote()))

    if store.result() is None and not should_stop():
        for row in run_cell(cells[config["key"]], shared=shared, store=store, should_stop=should_stop):
            tune.report({name: value for name, value in row.items() if value is not None})
