"""The trials that Tune executes on the cluster. Imports Ray."""

import logging
import threading
from collections import Counter
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from sweep.cluster.grouping import group_cells, group_rates
from sweep.cluster.signals import Interruption
from sweep.config.study import StudyConfig
from sweep.console.progress import Progress
from sweep.ledger.lease import Lease
from sweep.ledger.ledger import Ledger
from sweep.ledger.outages import Outages, Pause
from sweep.lr_search.asha import Halving
from sweep.planning.inputs import Prepared
from sweep.planning.plan import Plan
from trainables.cell import Shared
from trainables.ledger import schema
from trainables.ledger.storage.base import StorageError
from trainables.model.base_weights import BaseWeights
from trainables.replay.batch_order import CellSpec
from trainables.worker import DriverLink, Inputs, name_work, train_cells


class _DriverOnly:
    """Is pickled empty: Tune pickles its parts for its own way of restoring, which the ledger replaces."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Watcher(_DriverOnly, TrialProgressCallback):
    """Passes what Tune sees on to the progress view, knows which trials are at work, and counts the tries
    that failed.

    Takes the place of Tune's own progress callback, which keeps every trial's last result as text.
    """

    def __init__(
        self, progress: Progress, ledger: Ledger, interruption: Interruption, attempts: Counter[str]
    ) -> None:
        self.progress, self.interruption, self.attempts = progress, interruption, attempts
        self.ledger = Ledger(replace(ledger.storage, patience=0.0))  # Tune must not wait for an outage
        self.running: set[str] = set()

    def setup(self, *args: Any, **info: Any) -> None:
        # Tune has just taken SIGUSR1 for itself, and would end without checkpoints
        self.interruption.listen()

    def _state(self, key: str) -> str:
        try:
            return self.ledger.state(key)
        except StorageError:
            return schema.PARTIAL

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.add(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if schema.STEP in result and not result.get("done"):
            self.progress.cell_row(result["key"], result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        for key in trial.config["keys"]:
            self.progress.cell_ended(key, self._state(key))
        _forget_results(trial)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        self._note_failure(trial.config["keys"], last=False)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.discard(trial.trial_id)
        self._note_failure(trial.config["keys"], last=True)

    def _note_failure(self, keys: list[str], *, last: bool) -> None:
        """Count a try that failed; one of several cells is nobody's, for each is then tried by itself."""
        for key in keys:
            if len(keys) == 1:
                self.attempts[key] += 1
            (self.progress.cell_failed if last and len(keys) == 1 else self.progress.cell_retried)(key)


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
    """Phase B on the cluster: one Tune trial for the cells that train in one process.

    With `early_stopping`, of a learning-rate search alone, these are a rate's, and rates that fall behind
    stop.
    """

    ledger: Ledger
    _: KW_ONLY
    weights: "ray.ObjectRef[BaseWeights | None]"
    link: DriverLink
    lease: Lease
    outages: Outages
    progress: Progress
    interruption: Interruption
    early_stopping: bool = False
    attempts: Counter[str] = field(default_factory=Counter)  # of a cell by itself, that failed

    def run(self, study: StudyConfig, prepared: Prepared, plan: Plan, *, slots: int) -> None:
        """Execute the pending cells; record in the ledger those that ran out of retries.

        `slots` is how many trials run at a time. Cells that the storage stopped go on once it is back.
        """
        made = {
            seed: ray.put(
                Shared(
                    prepared.setup,
                    artifact,
                    prepared.task_a,
                    prepared.task_b,
                    study.evaluation,
                    prepared.watched,
                    prepared.own_scores,
                )
            )
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
            pauses: list[Pause] = ray.get(self.link.mailbox.take_pauses.remote())
            if pauses and not self.outages.wait_out(pauses, storage=self.ledger.storage):
                break
            left = [spec for spec in specs if spec.key not in failed and not self._finished(spec.key)]
            if len(left) < len(specs):
                self.outages.note_progress()
            specs = left
            if not pauses and (retries := retries - 1) < 0:  # left by workers that lost their claim
                break
        self.lease.check()
        if ray.get(self.link.mailbox.refusals.remote()):
            return  # what failed on a node that has no business here has not failed
        for key, failure in failed.items():
            self.ledger.record_failure(key, attempts=self.attempts[key], **failure)

    def _group(
        self, study: StudyConfig, plan: Plan, specs: list[CellSpec], slots: int
    ) -> list[list[CellSpec]]:
        assert plan.compute_plan is not None
        if self.early_stopping:
            return group_rates(specs)
        asked = study.resources.cells_per_worker
        together = plan.compute_plan.cells if asked == "auto" else asked
        return group_cells(specs, together=together, slots=slots, phase_a_seed=plan.phase_a_seed)

    def _attempt(
        self, study: StudyConfig, shared: "dict[int, ray.ObjectRef[Shared]]", groups: list[list[CellSpec]]
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
        self, study: StudyConfig, shared: "dict[int, ray.ObjectRef[Shared]]", groups: list[list[CellSpec]]
    ) -> dict[str, dict[str, str]]:
        """Run every group to its end; return the error and log of each cell that ran out of retries."""
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a cell that is tried again is no news
        with TemporaryDirectory(prefix="forgetting-sweep-") as scratch:  # Tune's own files
            results = self._tuner(study, shared, groups, Path(scratch)).fit()
            return self._take_verdicts(alone={group[0].key for group in groups if len(group) == 1}) | {
                key: _failure(result)
                for result in (results[position] for position in range(len(results)))
                if result.error is not None and result.config is not None
                for key in result.config["keys"]
                if not self._finished(key)
            }

    def _take_verdicts(self, *, alone: set[str]) -> dict[str, dict[str, str]]:
        """Return the error and log of each cell that no other try would have helped; those `alone` have
        failed.
        """
        told: Any = ray.get(self.link.mailbox.take_failures.remote())
        verdicts = {key: failure for key, failure in told.items() if not self._finished(key)}
        for key in verdicts.keys() & alone:
            self.attempts[key] += 1
            self.progress.cell_failed(key)
        return verdicts

    def _finished(self, key: str) -> bool:
        return self.ledger.state(key) in schema.FINAL_STATES

    def _tuner(
        self,
        study: StudyConfig,
        shared: "dict[int, ray.ObjectRef[Shared]]",
        groups: list[list[CellSpec]],
        scratch: Path,
    ) -> tune.Tuner:
        watcher = _Watcher(self.progress, self.ledger, self.interruption, self.attempts)
        cells = {spec.key: spec for group in groups for spec in group}
        work = {group[0].key: name_work(group) for group in groups}
        inputs = Inputs(shared=shared, weights=self.weights, cells=ray.put(cells), work=work)
        trainable = tune.with_parameters(train_cells, inputs=inputs, link=self.link)
        return tune.Tuner(
            tune.with_resources(trainable, {"cpu": study.resources.cpus, "gpu": study.resources.gpus}),
            param_space={"keys": tune.grid_search([[spec.key for spec in group] for group in groups])},
            tune_config=tune.TuneConfig(
                scheduler=Halving(self.ledger) if self.early_stopping else None,
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
