"""Which learning rates go on: asynchronous successive halving, a rate with all its seeds. Imports Ray."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from sweep.ledger.ledger import Ledger
from sweep.lr_search.outcomes import Points, cell_points, cells_by_rate, mean_points
from sweep.lr_search.search import steps_of_search
from trainables.ledger import schema
from trainables.ledger.storage.base import StorageError

REDUCTION = 3  # of the rates that come to a rung, about one in so many goes on
NO_CONTROLLER: Any = None  # the scheduler asks nothing of it
GIVEN_UP = (schema.DIVERGED, schema.STOPPED)
RUNGS = 2  # before the last step, each REDUCTION times as far as the one before


class Halving(FIFOScheduler):
    """Stops rates that have fallen behind in task B's validation loss, mean over their seeds, or diverged.

    Decides as Ray's ASHA does (Li et al. 2020, https://arxiv.org/abs/1810.05934): at the first evaluation
    point from a ninth and a third of the steps on, against the rates that came there before. Ray's scheduler
    decides, but could not be Tune's own: it judges a trial, not the mean of a rate's seeds, and forgets what
    an earlier run has seen, which is read from the ledger here; every decision is recorded there before it is
    carried out.
    """

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = Ledger(replace(ledger.storage, patience=0.0))  # Tune must not wait for an outage
        self.steps = steps_of_search(ledger)
        self._reasons: dict[float, str] = {}  # why a rate does not go on
        self._asha = ASHAScheduler(
            time_attr=schema.STEP,
            metric=schema.TASK_B_LOSS,
            mode="min",
            max_t=self.steps,
            grace_period=math.ceil(self.steps / REDUCTION**RUNGS),
            reduction_factor=REDUCTION,
            stop_last_trials=False,  # else a rate would be stopped at its end, before its result is written
        )
        cells = cells_by_rate(ledger.plan())
        self._rate_of = {key: rate for rate, keys in cells.items() for key in keys}
        self._points: dict[float, dict[str, Points]] = {}
        for rate, keys in cells.items():
            self._points[rate] = {key: cell_points(ledger, key) for key in keys}
            self._asha.on_trial_add(NO_CONTROLLER, _entrant(rate))
            for step, (_, loss) in mean_points(self._points[rate]).items():
                self._falls_behind(rate, step, loss)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if schema.STEP not in result:
            return TrialScheduler.CONTINUE
        rate, step = self._rate_of[result["key"]], result[schema.STEP]
        cells = self._points[rate]
        cells[result["key"]][step] = (result[schema.TASK_A_LOSS], result[schema.TASK_B_LOSS])
        late = [key for key, points in cells.items() if step not in points]
        if any(self._state(key) in GIVEN_UP for key in late):
            self._reasons[rate] = "another seed of this rate diverged or was stopped"
        elif not late and self._falls_behind(rate, step, mean_points(cells)[step][1]):
            self._reasons[rate] = "other rates had a lower loss of task B at this step"
        return self._stop(trial, rate, step) if rate in self._reasons else TrialScheduler.CONTINUE

    def _falls_behind(self, rate: float, step: int, loss: float) -> bool:
        """Enter a rate's loss at the rung it has come to, if any; return whether it does not go on from
        there.
        """
        if step >= self.steps:
            return False
        reached = {schema.STEP: step, schema.TASK_B_LOSS: loss}
        return self._asha.on_trial_result(NO_CONTROLLER, _entrant(rate), reached) == TrialScheduler.STOP

    def _state(self, key: str) -> str | None:
        """Return a cell's state, None while the storage does not say."""
        try:
            return self.ledger.state(key)
        except StorageError:
            return None

    def _stop(self, trial: Trial, rate: float, step: int) -> str:
        """Record that the trial's cells end here; where the storage fails, they go on to the next point."""
        try:
            for key in trial.config["keys"]:
                if self._state(key) not in GIVEN_UP:
                    self.ledger.record_stop(key, step=step, reason=self._reasons[rate])
        except StorageError:
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP


def _entrant(rate: float) -> Any:
    """Return what Ray's scheduler knows a rate by; Tune's own ids change from run to run."""
    return SimpleNamespace(trial_id=str(rate))
