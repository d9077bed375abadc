"""The trackers that a study may name. A new one is a class and a line of TRACKERS."""

import importlib
import importlib.metadata
import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from trainables.ledger.errors import RunEndedError, UserError
from trainables.ledger.redaction import redact

Rows = list[dict[str, Any]]


class TrackerError(RunEndedError):
    """A tracker that does not take what it is given."""


class MissingTrackerError(UserError):
    """A tracker that cannot be used here; the message says why and what to do."""


@dataclass(frozen=True)
class Run:
    """A cell as trackers know it: one run, called by its label."""

    key: str
    name: str
    parameters: dict[str, Any]


class Tracker(ABC):
    """Takes rows of the runs of a `study`; what is written to files goes into `folder`."""

    packages: ClassVar[tuple[str, ...]]  # that it needs
    extra: ClassVar[str]  # of this project, which installs them

    def __init__(self, study: str, folder: Path) -> None:
        self.study, self.folder = study, folder

    def check(self) -> None:
        """Raise MissingTrackerError where it cannot be used; leaves nothing behind."""
        for package in self.packages:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise MissingTrackerError(
                    f"trackers: {package} cannot be imported ({error}): pip install "
                    f"'forgetting-sweep[{self.extra}]', or leave the tracker out"
                ) from error

    @abstractmethod
    def log(self, run: Run, rows: Rows, *, ended: bool) -> None:
        """Take a run's new rows; `ended`: there will be no more. Raises TrackerError."""

    def close(self) -> None:
        """Let go of what is open; nothing, for most. Raises TrackerError."""
        return


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """Return what of a row is measured: both losses, accuracies and the rest, by name."""
    return {
        name: float(value)
        for name, value in row.items()
        if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def plain(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as every tracker takes them: lists and nothing as text."""
    return {
        name: value if isinstance(value, (int, float, str, bool)) else str(value)
        for name, value in parameters.items()
    }


class TensorBoard(Tracker):
    """Event files in tensorboard/LABEL; written by tensorboardX, which needs no torch."""

    packages, extra = ("tensorboardX",), "tensorboard"

    def log(self, run: Run, rows: Rows, *, ended: bool) -> None:
        if not rows:
            return
        from tensorboardX import SummaryWriter

        # Two files of one second would have one name without the step.
        place = self.folder / "tensorboard" / f"{re.sub(r'[^A-Za-z0-9.=_-]+', '_', run.name)[:150]}"
        try:
            with SummaryWriter(str(place), filename_suffix=f".{rows[0]['step']}") as writer:
                if rows[0]["step"] == 0:
                    table = "\n".join(f"| {name} | {value} |" for name, value in run.parameters.items())
                    writer.add_text("parameters", f"| | |\n|---|---|\n{table}")
                for row in rows:
                    for name, value in numbers(row).items():
                        writer.add_scalar(name, value, row["step"])
        except OSError as error:
            raise TrackerError(f"{place}: {error}") from error


class MLflow(Tracker):
    """Runs of the experiment STUDY at MLFLOW_TRACKING_URI, or in mlflow.db of the study's directory."""

    packages, extra = ("mlflow",), "mlflow"
    KEY = "forgetting_sweep.key"

    def __init__(self, study: str, folder: Path) -> None:
        super().__init__(study, folder)
        self._runs: dict[str, str] = {}
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")

    @property
    def uri(self) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.folder.absolute()}/mlflow.db"

    def check(self) -> None:
        super().check()
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        if urlsplit(self.uri).scheme not in ("http", "https"):
            return
        try:
            MlflowClient(tracking_uri=self.uri).search_experiments(max_results=1)
        except MlflowException as error:
            raise MissingTrackerError(
                f"trackers: MLflow's server at {redact(self.uri)} does not answer "
                f"({redact(str(error)):.300}): start it, or set MLFLOW_TRACKING_URI"
            ) from error

    def log(self, run: Run, rows: Rows, *, ended: bool) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        try:
            client = MlflowClient(tracking_uri=self.uri)
            number = self._run(client, run)
            for row in rows:
                when = int(1000 * float(row.get("seconds") or 0))
                metrics = [Metric(name, value, when, row["step"]) for name, value in numbers(row).items()]
                client.log_batch(number, metrics=metrics)
            if ended:
                client.set_terminated(number)
        except MlflowException as error:
            raise TrackerError(redact(str(error))[:300]) from error

    def _run(self, client: Any, run: Run) -> str:
        """Return the number of the cell's run: the one that an earlier session began, or a new one."""
        if run.key in self._runs:
            return self._runs[run.key]
        experiment = client.get_experiment_by_name(self.study)
        place = experiment.experiment_id if experiment else client.create_experiment(self.study)
        found = client.search_runs([place], filter_string=f"tags.`{self.KEY}` = '{run.key}'", max_results=1)
        if found:
            number = str(found[0].info.run_id)
        else:
            number = str(client.create_run(place, run_name=run.name, tags={self.KEY: run.key}).info.run_id)
            for name, value in plain(run.parameters).items():
                client.log_param(number, name, value)
        self._runs[run.key] = number
        return number


class WandB(Tracker):
    """Runs of the project WANDB_PROJECT, or forgetting-sweep, in the group STUDY; WANDB_MODE as usual."""

    packages, extra = ("wandb",), "wandb"

    def __init__(self, study: str, folder: Path) -> None:
        super().__init__(study, folder)
        self._open: dict[str, Any] = {}

    def check(self) -> None:
        super().check()
        import wandb

        if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
            return
        try:
            found = wandb.Api(timeout=15).viewer
        except (wandb.errors.Error, OSError, ValueError) as error:
            raise MissingTrackerError(
                f"trackers: Weights & Biases does not answer ({redact(str(error)):.300}): log in with "
                "`wandb login`, or set WANDB_MODE=offline"
            ) from error
        assert found is not None

    def log(self, run: Run, rows: Rows, *, ended: bool) -> None:
        import wandb

        try:
            if run.key not in self._open and rows:
                self._open[run.key] = wandb.init(
                    project=os.environ.get("WANDB_PROJECT", "forgetting-sweep"),
                    group=self.study,
                    id=run.key,
                    name=run.name,
                    config=plain(run.parameters),
                    resume="allow",
                    reinit="create_new",
                    dir=str(self.folder),
                    settings=wandb.Settings(silent=True, console="off", init_timeout=30),
                )
            for row in rows:
                self._open[run.key].log(numbers(row), step=row["step"])
            if ended and run.key in self._open:
                self._open.pop(run.key).finish()
        except (wandb.errors.Error, OSError) as error:
            raise TrackerError(redact(str(error))[:300]) from error

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].finish()


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
