"""The thin Tune entry: a trial trains one cell or several together and reports each row.

The only file here that knows Ray.
"""

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any, TypeVar, get_args

import ray
from ray import tune
from ray.actor import ActorHandle

from trainables.cell import Shared
from trainables.columns import ColumnError
from trainables.engine.cell_folder import CellStore
from trainables.engine.compile import CompilerError
from trainables.engine.device import DeviceError, OutOfMemoryError
from trainables.engine.interruption import Heartbeat, StoppedError
from trainables.engine.loop import Diverged
from trainables.ledger import schema
from trainables.ledger.cell_reader import is_finished
from trainables.ledger.fencing import ClaimLostError
from trainables.ledger.storage.base import Storage, StoragePausedError
from trainables.model.base_weights import BaseWeights, SharedWeightsError
from trainables.model.lora_files import AdapterError
from trainables.model.sources import ModelError
from trainables.phase_b import run_cells
from trainables.replay.batch_order import CellSpec
from trainables.watchdog import Watchdog, WorkerBeat, process_mark
from trainables.worker_identity import Requirement, identify

T = TypeVar("T")
ASK_SECONDS = 0.2  # how often a worker asks whether it is to stop
# What a worker finds that another try would find again: said once, in its own words, and not tried again.
Verdict = (
    ModelError
    | AdapterError
    | ColumnError
    | Diverged
    | CompilerError
    | OutOfMemoryError
    | DeviceError
    | SharedWeightsError
)
VERDICTS: tuple[type[Verdict], ...] = get_args(Verdict)
REPORTED = ("step", "task_a_loss", "task_b_loss")  # Tune keeps statistics of each, for each trial


@dataclass(frozen=True)
class DriverLink:
    """A worker's line to its driver: the study's storage, the driver's fencing token, and its mailbox.

    A worker that makes no progress for `timeout` seconds is ended. `required` is what it must compute with.
    """

    storage: Storage
    _: KW_ONLY
    fencing_token: int
    mailbox: "ActorHandle[Any]"
    timeout: float
    required: Requirement

    def say(self, message: str) -> None:
        """Pass a message on to the user."""
        ray.get(self.mailbox.say.remote(message))

    def proves(self) -> bool:
        """Return whether this process computes with what is required; the driver is told where it does
        not.
        """
        found = identify(on_gpu=self.required.on_gpu, source=self.required.source)
        faults = self.required.faults_of_worker(found)
        if faults:
            address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
            line = f"{socket.gethostname()} ({address}): {'; '.join(faults)}"
            ray.get(self.mailbox.refuse.remote(line))
        return not faults

    @contextmanager
    def watched(self, work: str) -> Iterator[Heartbeat]:
        """Yield the heartbeat of a piece of work: it notes progress, and raises StoppedError on request.

        Its heartbeats go to the driver too, which ends a process that cannot even end itself.
        """
        mark = process_mark(os.getpid())
        assert mark is not None, "this process runs"
        node = ray.get_runtime_context().get_node_id()
        worker = WorkerBeat(node, socket.gethostname(), os.getpid(), mark, work)
        with Watchdog(self.timeout, report=lambda message: self.say(f"{work}: {message}")) as watchdog:
            ray.get(self.mailbox.beat.remote(worker))
            try:
                yield self._heartbeat(watchdog, worker)
            finally:
                self.mailbox.rest.remote(worker)

    def _heartbeat(self, watchdog: Watchdog, worker: WorkerBeat) -> Callable[[], None]:
        asked = 0.0

        def heartbeat() -> None:
            nonlocal asked
            watchdog.beat()
            if time.monotonic() - asked < ASK_SECONDS:
                return
            asked = time.monotonic()
            if ray.get(self.mailbox.beat.remote(worker)):
                raise StoppedError

        return heartbeat


@dataclass(frozen=True)
class Inputs:
    """What every trial of a study is given, in the object store: unpickled once by each worker.

    `shared` is by replicate seed: one object for all, or where each replicate has its own adapter, one each.
    `work` names each trial's, by its first key.
    """

    _: KW_ONLY
    shared: "dict[int, ray.ObjectRef[Shared]]"
    weights: "ray.ObjectRef[BaseWeights | None]"
    cells: "ray.ObjectRef[dict[str, CellSpec]]"
    work: dict[str, str]


@lru_cache(maxsize=3)  # of one study; trials follow one another in a worker
def _fetch(reference: "ray.ObjectRef[T]") -> T:
    return ray.get(reference)


def train_cells(config: dict[str, Any], *, inputs: Inputs, link: DriverLink) -> None:
    """Run the cells whose keys are in `config["keys"]`.

    The base model's weights are mapped from the object store. The ledger's own checkpoints decide where
    to continue; Tune's are not used. Cells whose storage fails, or that another worker has taken over, are
    left as they are, without an error: the driver decides. So are those of a worker that differs from it, and
    those of which it finds what another try would find again.
    """
    keys: list[str] = config["keys"]
    try:
        with link.watched(inputs.work[keys[0]]) as heartbeat:
            if link.proves():
                heartbeat()
                _train(keys, inputs, link, heartbeat)
    except StoppedError:
        return
    except ClaimLostError as error:
        link.say(f"{error}: this worker leaves it alone")
    except StoragePausedError as error:
        ray.get(link.mailbox.pause.remote(f"{socket.gethostname()}: {error}", error.needed))
    except VERDICTS as error:
        what = f"{type(error).__name__}: {error}"
        ray.get(link.mailbox.fail.remote(keys, {"error": what, "log": traceback.format_exc()}))


def _train(keys: list[str], inputs: Inputs, link: DriverLink, heartbeat: Heartbeat) -> None:
    weights, cells = _fetch(inputs.weights), _fetch(inputs.cells)
    shared = _fetch(inputs.shared[cells[keys[0]].seed])
    folders = {key: link.storage.inside(f"{schema.CELLS_DIRECTORY}/{key}") for key in keys}
    pending = [cells[key] for key, folder in folders.items() if not is_finished(folder)]
    stores = {
        key: CellStore(folder, fencing_token=link.fencing_token, warn=link.say)
        for key, folder in folders.items()
    }
    if not pending:
        return
    for key, row in run_cells(pending, shared=shared, stores=stores, weights=weights, heartbeat=heartbeat):
        tune.report({"key": key} | {name: row[name] for name in REPORTED})


def name_work(specs: list[CellSpec]) -> str:
    """Return what a trial's work is called: its first cell, and how many more there are."""
    first = specs[0]
    what = f"{first.strategy} {first.mix:.4g}" if first.strategy else "no replay"
    more = f" and {len(specs) - 1} more" if len(specs) > 1 else ""
    return f"{what}, seed {first.seed}{more}"
