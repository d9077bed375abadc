"""Sections of a configuration that change no number of a cell: what a trial holds, what will be asked of the
results, and who is told.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from analysis.stats.measures import MEASURES, PRIMARY
from sweep.trackers.trackers import TRACKERS
from trainables.ledger.redaction import HIDDEN, redact
from trainables.ledger.schema import DEFAULT_BASELINE
from trainables.settings import LARGEST, Count, Settings


class ResourceSettings(Settings):
    """What one trial holds on the cluster; fractions share a device, `retries` follow a failure.

    `device`: "auto" computes on a GPU where `gpus` asks for one; "cpu" reserves it and computes on the CPU.

    `phase_a_cpus` is what Phase A holds, with nothing beside it to share a machine with (default: `cpus`).
    `cells_per_worker` cells train in one trial side by side; "auto" is what was fastest where Phase A ran.
    `progress_timeout`: seconds without a microbatch after which a worker is ended and its cell retried.
    `storage_patience`: seconds that a run waits, cells paused, for storage that is full or does not answer.
    """

    cpus: Annotated[float, Field(gt=0)] = 1
    """CPUs that a trial holds; fractions are allowed."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """The part of a GPU that a trial holds; also of its memory."""
    device: Literal["auto", "cpu"] = "auto"
    """auto computes on a GPU where gpus asks for one; cpu reserves it and computes on the CPU."""
    phase_a_cpus: Annotated[float, Field(gt=0)] | None = None
    """CPUs that Phase A holds; by default cpus."""
    max_concurrent: Count | None = None
    """Trials at a time; by default as many as fit."""
    cells_per_worker: Count | Literal["auto"] = "auto"
    """Cells that train together in one process; auto is what was fastest where Phase A ran."""
    retries: Annotated[int, Field(ge=0, le=LARGEST)] = 3
    """How often a trial that failed is tried again."""
    progress_timeout: Annotated[float, Field(gt=0)] = 1800
    """Seconds without a microbatch after which a worker is ended."""
    storage_patience: Annotated[float, Field(ge=0)] = 600
    """Seconds that cells wait for storage that is full or away."""

    @property
    def on_gpu(self) -> bool:
        """Whether a trial computes on a GPU."""
        return self.gpus > 0 and self.device == "auto"

    @field_validator("gpus")
    @classmethod
    def check_one_gpu(cls, value: float) -> float:
        if value > 1:
            raise ValueError("at most 1: a cell trains on one GPU, and further ones would stand idle")
        return value

    @field_validator("cpus", "phase_a_cpus")
    @classmethod
    def check_fraction(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError(f"above 1 only whole numbers can be scheduled, got {value}")
        return value


def _known_measure(name: str) -> str:
    if name not in MEASURES:
        raise ValueError(f"unknown measure {name!r:.100}: choose one of {', '.join(MEASURES)}")
    return name


class InferenceSettings(Settings):
    """What will be asked of the results, declared before there are any; no number of a cell depends on it.

    `baseline` is the strategy that the others are compared with.

    `primary` is the measure that the verdicts are about, `smallest_effect` the difference in it (its unit;
    nats a token for most) below which two strategies count as equivalent; None: nothing can. `level` is that
    of the intervals and of the family of contrasts, `power` what `plan` counts seeds for, `growth` the share
    of alpha that is kept for seeds and contrasts which are added once outcomes were seen. `baseline_draws`: 2
    compares with the mean of random and random_aa, which draws its replay anew. `order`: judge every
    contrast of the family together, or each strategy's mean over its mixes first, with these `weights` of
    the mixes (1 each unless given), and the mixes of what differs then; or the means only.
    `question`: what is asked beside a difference, that there is none as large as `smallest_effect`, or none
    for the worse. `task_b_margin`: a strategy that is better must also learn task B, its final loss less
    than this above the baseline's.
    """

    primary: Annotated[str, AfterValidator(_known_measure)] = PRIMARY
    """The measure that the verdicts are about."""
    baseline: str = DEFAULT_BASELINE
    """The strategy that the others are compared with."""
    smallest_effect: Annotated[float, Field(gt=0)] | None = None
    """The difference below which two strategies count as equivalent; null: none can."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the intervals and of the family of contrasts."""
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    """What plan counts seeds for."""
    growth: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of alpha kept for what is added after outcomes were seen."""
    baseline_draws: Literal[1, 2] = 1
    """2 compares with the mean of random and random_aa."""
    order: Literal["together", "strategies_first", "strategies_only"] = "together"
    """All contrasts together; or a strategy's mean over its mixes first; or the means alone."""
    question: Literal["equivalence", "non_inferiority"] = "equivalence"
    """Beside a difference: that there is none as large, or none for the worse."""
    task_b_margin: Annotated[float, Field(gt=0)] | None = None
    """What is better must also keep task B's final loss within this of the baseline's."""
    weights: dict[float, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    """Of the mixes in a strategy's mean; alike unless given."""


def known_tracker(name: str) -> str:
    if name not in TRACKERS:
        raise ValueError(f"unknown tracker {name!r:.100}: choose from {', '.join(TRACKERS)}")
    return name


class NotifySettings(Settings):
    """Who is told of a run: `command` gets JSON on its standard input, `webhook` a POST of it.

    `webhook` is an address, or $NAME for that of an environment variable. `on`: when.
    """

    command: Annotated[str, Field(min_length=1)] | None = None
    """A program; it gets JSON on its standard input."""
    webhook: str | None = None
    """An address that JSON is posted to, or $NAME for that of an environment variable."""
    on: Annotated[tuple[Literal["end", "failure", "look"], ...], Field(min_length=1)] = (
        "end",
        "failure",
        "look",
    )
    """When: at the end, at a failure, at a look."""

    @model_validator(mode="after")
    def check_targets(self) -> Self:
        if self.command is None and self.webhook is None:
            raise ValueError("name a command or a webhook")
        if self.command is not None and not self.command.strip():
            raise ValueError("command: must name a program")
        begins = ("http://", "https://", "$", HIDDEN)
        if self.webhook is not None and not self.webhook.startswith(begins):
            raise ValueError("webhook: must begin with http:// or https://, or name a variable as $NAME")
        return self

    def recorded(self) -> dict[str, Any]:
        """Return the settings as a study keeps them: an address is a secret, a variable's name is none."""
        values = self.model_dump(mode="json")
        if self.webhook is not None and not self.webhook.startswith("$"):
            values["webhook"] = HIDDEN
        if self.command is not None:
            values["command"] = redact(self.command)
        return values
