"""What runs on the cluster: the Phase A task, and the trials that Tune executes. Imports Ray."""

import logging
import threading
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from sweep.configuration import Study
from sweep.errors import PhaseAError
from sweep.grouping import group_cells
from sweep.interruption import Interruption
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.outages import Outages, Pause
from sweep.planning import Plan
from sweep.preparation import Prepared
from sweep.progress import Progress
from trainables import columns
from trainables.base_weights import BaseWeights, read_base_weights
from trainables.cell import Shared
from trainables.claims import ClaimLostError
from trainables.compute import choose_precision, open_device
from trainables.phase_a import PhaseAJob, make_artifact
from trainables.redaction import redact
from trainables.replay import CellSpec
from trainables.storage.base import StorageError, StoragePausedError
from trainables.trainee import Setup
from trainables.tune_entry import Inputs, Office, train_cells

POLL_SECONDS = 1.0
STORE_SHARE = (
    0.5  # of a node's object store that the base weights may take; larger ones are read by each worker
)


def share_base_weights(study: Study, setup: Setup) -> "ray.ObjectRef[BaseWeights | None]":
    """Put the base weights into the object store, read once by a worker; None if they are too large for it.

    The driver's node keeps them: a worker's result would be lost with its node, and made again only once a
    slot is free, while the trials in all slots wait for it.
    """
    room = STORE_SHARE * min(
        node["Resources"].get("object_store_memory", 0)
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    )
    task: Any = ray.remote(_base_weights_task).options(
        num_cpus=study.resources.cpus, num_gpus=study.resources.gpus
    )
    try:
        return ray.put(ray.get(task.remote(setup, room)))
    except RayError as error:
        raise PhaseAError(f"the base model could not be loaded:\n{redact(str(error))}") from error


def _base_weights_task(setup: Setup, room: float) -> BaseWeights | None:
    precision = choose_precision(setup.settings.dtype, open_device(use_gpu=setup.use_gpu))
    weights = read_base_weights(setup.source, precision=precision)
    return weights if weights.size <= room else None


PhaseAEnd = bool | StoragePausedError


def _phase_a_task(job: PhaseAJob, weights: BaseWeights | None, office: Office, cpus: float) -> PhaseAEnd:
    """Return whether the artifact is whole now, or what was wrong with the storage."""
    torch.set_num_threads(max(1, int(cpus)))  # the process may have served a task with fewer
    try:
        with office.watched("Phase A") as pulse:
            return make_artifact(
                job,
                weights=weights,
                term=office.term,
                pulse=pulse,
                report=lambda step, steps: office.board.tell_phase_a.remote(job.settings.seed, step, steps),
                warn=office.say,
            )
    except StoragePausedError as error:
        return error
    except ClaimLostError as error:
        office.say(f"{error}: this worker leaves it alone")
        return False


def run_phase_a(
    study: Study,
    prepared: Prepared,
    *,
    weights: "ray.ObjectRef[BaseWeights | None]",
    offices: dict[int, Office],
    outages: Outages,
    progress: Progress,
    tokens: float,
) -> bool:
    """Make the artifacts of the seeds in `offices`, as many at a time as fit on the cluster.

    Returns False if a stop, or storage that stays away, ended it early. `tokens` are those that one worker
    will train on in Phase B. Its threads follow from the configuration and not from the machine, so that
    its numbers do too. Raises PhaseAError where a worker failed more often than `resources.retries`.
    """
    jobs = [
        PhaseAJob(
            prepared.setup,
            study.phase_a.model_copy(update={"seed": seed}),
            prepared.task_a,
            prepared.task_b,
            batch_size=study.phase_b.batch_size,
            tokens=tokens,
            storage=prepared.artifacts[seed],
        )
        for seed in offices
    ]
    board = next(iter(offices.values())).board
    cpus = study.resources.phase_a_cpus or study.resources.cpus
    task = ray.remote(_phase_a_task).options(
        num_cpus=cpus,
        num_gpus=study.resources.gpus,
        max_retries=study.resources.retries,
        retry_exceptions=True,
    )
    while jobs:
        before: Any = ray.get(board.phase_a.remote())
        tasks = [task.remote(job, weights, offices[job.settings.seed], cpus) for job in jobs]
        ends = _follow(tasks, board, progress)
        if False in ends:
            return False
        paused = [end for end in ends if isinstance(end, StoragePausedError)]
        jobs = [job for job, end in zip(jobs, ends, strict=True) if isinstance(end, StoragePausedError)]
        if ray.get(board.phase_a.remote()) > before:
            outages.note_progress()
        pauses = [(str(error), error.needed) for error in paused]
        if pauses and not outages.wait_out(pauses, storage=jobs[0].storage):
            return False
    return True


def _follow(
    tasks: "list[ray.ObjectRef[PhaseAEnd]]", board: "ActorHandle[Any]", progress: Progress
) -> list[PhaseAEnd]:
    """Show how far Phase A is until every task has ended."""
    while len(ray.wait(tasks, num_returns=len(tasks), timeout=POLL_SECONDS)[0]) < len(tasks):
        progress.phase_a(*ray.get(board.phase_a.remote()))
    try:
        return ray.get(tasks)
    except RayError as error:
        raise PhaseAError(f"Phase A failed; nothing of task B was run:\n{redact(str(error))}") from error


class _DriverOnly:
    """Is pickled empty: Tune pickles its parts for its own way of restoring, which the ledger replaces."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Watcher(_DriverOnly, TrialProgressCallback):
    """Passes what Tune sees on to the progress view, and knows which trials are at work.

    Takes the place of Tune's own progress callback, which keeps every trial's last result as text.
    """

    def __init__(self, progress: Progress, ledger: Ledger, interruption: Interruption) -> None:
        self.progress, self.interruption = progress, interruption
        self.ledger = Ledger(replace(ledger.storage, patience=0.0))  # Tune must not wait for an outage
        self.running: set[str] = set()

    def setup(self, *args: Any, **info: Any) -> None:
        self.interruption.listen()  # Tune has just taken SIGUSR1 for itself, and would end without checkpoints

    def _state(self, key: str) -> str:
        try:
            return self.ledger.state(key)
        except StorageError:
            return columns.PARTIAL

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.add(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if columns.STEP in result and not result.get("done"):
            self.progress.cell_row(result["key"], result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        for key in trial.config["keys"]:
            self.progress.cell_ended(key, self._state(key))
        _forget_results(trial)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        for key in trial.config["keys"]:
            self.progress.cell_retried(key)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        for key in trial.config["keys"]:
            self.progress.cell_failed(key)


def _forget_results(trial: Trial) -> None:
    """Drop what Tune keeps of a finished trial's metrics: tens of kilobytes that nobody asks for."""
    trial.run_metadata.last_result = {}
    trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps = {}, {}


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
    """Phase B on the cluster: one Tune trial for the cells that train in one process."""

    ledger: Ledger
    _: KW_ONLY
    weights: "ray.ObjectRef[BaseWeights | None]"
    office: Office
    lease: Lease
    outages: Outages
    progress: Progress
    interruption: Interruption

    def run(self, study: Study, prepared: Prepared, plan: Plan, *, slots: int) -> None:
        """Execute the pending cells; record in the ledger those that ran out of retries.

        `slots` is how many trials run at a time. Cells that the storage stopped go on once it is back.
        """
        made = {
            seed: ray.put(Shared(prepared.setup, artifact, prepared.task_a, prepared.task_b))
            for seed, artifact in plan.made.items()
        }
        shared = {cell.seed: made[plan.phase_a_seed(cell.seed)] for cell in plan.cells}
        specs = [cell.spec for cell in plan.pending if cell.spec is not None]
        groups = self._group(study, plan, specs, slots)
        self.progress.start(plan, workers=min(slots, len(groups)), together=max(map(len, groups)))
        failed: dict[str, dict[str, str]] = {}
        retries = study.resources.retries
        while specs and not self.interruption.requested.is_set():
            failed |= self._attempt(study, shared, self._group(study, plan, specs, slots))
            pauses: list[Pause] = ray.get(self.office.board.take_pauses.remote())
            if pauses and not self.outages.wait_out(pauses, storage=self.ledger.storage):
                break
            left = [spec for spec in specs if spec.key not in failed and not self._finished(spec.key)]
            if len(left) < len(specs):
                self.outages.note_progress()
            specs = left
            if not pauses and (retries := retries - 1) < 0:  # left by workers that lost their claim
                break
        self.lease.check()
        for key, failure in failed.items():
            self.ledger.record_failure(key, attempts=study.resources.retries + 1, **failure)

    def _group(self, study: Study, plan: Plan, specs: list[CellSpec], slots: int) -> list[list[CellSpec]]:
        assert plan.tuning is not None
        asked = study.resources.cells_per_worker
        together = plan.tuning.cells if asked == "auto" else asked
        return group_cells(specs, together=together, slots=slots, phase_a_seed=plan.phase_a_seed)

    def _attempt(
        self, study: Study, shared: "dict[int, ray.ObjectRef[Shared]]", groups: list[list[CellSpec]]
    ) -> dict[str, dict[str, str]]:
        """Run every group; then each companion of a failed cell alone, so that one cannot fail the others."""
        failed = self._execute(study, shared, groups)
        grouped = {spec.key for group in groups if len(group) > 1 for spec in group}
        companions = [
            [spec] for group in groups for spec in group if spec.key in failed and spec.key in grouped
        ]
        failed = {key: failure for key, failure in failed.items() if key not in grouped}
        if companions and not self.interruption.requested.is_set():
            failed |= self._execute(study, shared, companions)
        return failed

    def _execute(
        self, study: Study, shared: "dict[int, ray.ObjectRef[Shared]]", groups: list[list[CellSpec]]
    ) -> dict[str, dict[str, str]]:
        """Run every group to its end; return the error and log of each cell that ran out of retries."""
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a cell that is tried again is no news
        with TemporaryDirectory(prefix="forgetting-sweep-") as scratch:  # Tune's own files
            results = self._tuner(study, shared, groups, Path(scratch)).fit()
            return {
                key: _failure(result)
                for result in (results[position] for position in range(len(results)))
                if result.error is not None and result.config is not None
                for key in result.config["keys"]
                if not self._finished(key)
            }

    def _finished(self, key: str) -> bool:
        return self.ledger.state(key) in (columns.DONE, columns.DIVERGED)

    def _tuner(
        self,
        study: Study,
        shared: "dict[int, ray.ObjectRef[Shared]]",
        groups: list[list[CellSpec]],
        scratch: Path,
    ) -> tune.Tuner:
        watcher = _Watcher(self.progress, self.ledger, self.interruption)
        cells = {spec.key: spec for group in groups for spec in group}
        inputs = Inputs(shared=shared, weights=self.weights, cells=ray.put(cells))
        trainable = tune.with_parameters(train_cells, inputs=inputs, office=self.office)
        return tune.Tuner(
            tune.with_resources(trainable, {"cpu": study.resources.cpus, "gpu": study.resources.gpus}),
            param_space={"keys": tune.grid_search([[spec.key for spec in group] for group in groups])},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=study.resources.max_concurrent,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.config["keys"][0]),
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(scratch),
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=study.resources.retries),
                stop=_StopOnceIdle(watcher, self.interruption.requested),
                verbose=0,
            ),
        )


def _failure(result: tune.Result) -> dict[str, str]:
    """Return the last line of a trial's error and its whole log."""
    log = Path(result.path) / "error.txt"
    text = log.read_text() if log.is_file() else str(result.error)
    last = [line for line in str(result.error).splitlines() if line.strip()][-1]
    return {"error": last.strip(), "log": text}
