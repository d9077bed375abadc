"""What runs on the cluster: the Phase A task, and the trials that Tune executes. Imports Ray."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune.experiment import Trial

from sweep.cluster import Board
from sweep.configuration import Study
from sweep.errors import PhaseAError
from sweep.ledger import Ledger
from sweep.planning import Plan
from sweep.preparation import Prepared
from sweep.progress import Progress
from trainables import columns
from trainables.phase_a import PhaseAJob, load_artifact, make_artifact
from trainables.phase_b import Shared
from trainables.replay import CellSpec
from trainables.tune_entry import train_cell

POLL_SECONDS = 1.0
SCRATCH_DIRECTORY = "ray"  # Tune's own files, gone when the run ends


@contextmanager
def open_board(stop_requested: threading.Event) -> Iterator["ActorHandle[Any]"]:
    """Yield the board; once `stop_requested` is set, the board tells every worker."""
    board: Any = ray.remote(Board).options(num_cpus=0).remote()
    closing = threading.Event()

    def forward() -> None:
        while not closing.is_set():
            if stop_requested.wait(POLL_SECONDS / 2):
                ray.get(board.stop.remote())
                return

    forwarder = threading.Thread(target=forward, daemon=True)
    forwarder.start()
    try:
        yield board
    finally:
        closing.set()
        forwarder.join()


def _phase_a_task(job: PhaseAJob, board: "ActorHandle[Any]") -> bool:
    return make_artifact(
        job,
        should_stop=lambda: bool(ray.get(board.stopping.remote())),
        report=lambda step, steps: board.tell_phase_a.remote(step, steps),
    )


def run_phase_a(study: Study, prepared: Prepared, *, board: "ActorHandle[Any]", progress: Progress) -> bool:
    """Make the artifact on a worker unless it is there. Returns False if a stop ended it early.

    Raises PhaseAError where the worker failed more often than `resources.retries`.
    """
    job = PhaseAJob(prepared.setup, study.phase_a, prepared.task_a, prepared.task_b, prepared.artifact)
    task = ray.remote(_phase_a_task).options(
        num_cpus=study.resources.cpus,
        num_gpus=study.resources.gpus,
        max_retries=study.resources.retries,
        retry_exceptions=True,
    )
    result = task.remote(job, board)
    while not ray.wait([result], timeout=POLL_SECONDS)[0]:
        progress.phase_a(*ray.get(board.phase_a.remote()))
    try:
        finished: bool = ray.get(result)
    except RayError as error:
        raise PhaseAError(f"Phase A failed; nothing of task B was run:\n{error}") from error
    if finished:
        progress.phase_a_done(load_artifact(prepared.artifact).summary())
    return finished


class _DriverOnly:
    """Is pickled empty: Tune pickles its parts for its own way of restoring, which the ledger replaces."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Watcher(_DriverOnly, tune.Callback):
    """Passes what Tune sees on to the progress view, and knows which trials are at work."""

    def __init__(self, progress: Progress, ledger: Ledger) -> None:
        self.progress, self.ledger = progress, ledger
        self.running: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.add(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if columns.STEP in result and not result.get("done"):
            self.progress.cell_row(trial.config["key"], result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        self.progress.cell_ended(trial.config["key"], self.ledger.state(trial.config["key"]))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        self.progress.cell_retried(trial.config["key"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        self.progress.cell_failed(trial.config["key"])


class _StopOnceIdle(_DriverOnly, tune.Stopper):
    """Ends the experiment after a requested stop, when every running trial has checkpointed and left."""

    def __init__(self, watcher: _Watcher, requested: threading.Event) -> None:
        self.watcher, self.requested = watcher, requested

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.requested.is_set() and not self.watcher.running


@dataclass(frozen=True)
class Trials:
    """Phase B on the cluster: one Tune trial a pending cell."""

    ledger: Ledger
    _: KW_ONLY
    board: "ActorHandle[Any]"
    progress: Progress
    stop_requested: threading.Event

    def run(self, study: Study, prepared: Prepared, plan: Plan) -> None:
        """Execute the pending cells; record in the ledger those that ran out of retries."""
        cells = {cell.spec.key: cell.spec for cell in plan.pending if cell.spec is not None}
        for key in cells:
            (self.ledger.cell_folder(key) / columns.FAILURE_FILE).unlink(missing_ok=True)
        scratch = self.ledger.root / SCRATCH_DIRECTORY
        shutil.rmtree(scratch, ignore_errors=True)
        results = self._tuner(study, prepared, cells, scratch).fit()
        for result in (results[position] for position in range(len(results))):
            if result.error is not None and result.config is not None:
                self._record_failure(result.config["key"], result, attempts=study.resources.retries + 1)
        shutil.rmtree(scratch, ignore_errors=True)

    def _tuner(
        self, study: Study, prepared: Prepared, cells: dict[str, CellSpec], scratch: Path
    ) -> tune.Tuner:
        shared = Shared(prepared.setup, load_artifact(prepared.artifact), prepared.task_a, prepared.task_b)
        watcher = _Watcher(self.progress, self.ledger)
        trainable = tune.with_parameters(
            train_cell, shared=shared, cells=cells, storage=self.ledger.root, board=self.board
        )
        return tune.Tuner(
            tune.with_resources(trainable, {"cpu": study.resources.cpus, "gpu": study.resources.gpus}),
            param_space={"key": tune.grid_search(list(cells))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=study.resources.max_concurrent,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.config["key"]),
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(scratch),
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=study.resources.retries),
                stop=_StopOnceIdle(watcher, self.stop_requested),
                verbose=0,
            ),
        )

    def _record_failure(self, key: str, result: tune.Result, *, attempts: int) -> None:
        if self.ledger.finished(key):
            return
        log = Path(result.path) / "error.txt"
        text = log.read_text() if log.is_file() else str(result.error)
        last = [line for line in str(result.error).splitlines() if line.strip()][-1]
        self.ledger.record_failure(key, error=last.strip(), log=text, attempts=attempts)
