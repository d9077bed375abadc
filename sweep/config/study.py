"""The study's configuration: one YAML file, validated whole before anything heavy is imported."""

import shlex
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from analysis.stats.measures import MEASURES, PRIMARY
from sweep.config.cross_checks import CHECKS
from sweep.config.errors import ConfigurationError
from sweep.config.faults import describe_faults
from sweep.config.search_space import SearchSettings
from sweep.config.yaml_text import parse_yaml
from sweep.trackers.trackers import TRACKERS
from trainables.ledger.redaction import HIDDEN, redact
from trainables.ledger.schema import DEFAULT_BASELINE
from trainables.ledger.storage.location import check_location
from trainables.replay.own import is_loaded
from trainables.settings import (
    LARGEST,
    Count,
    EvaluationSettings,
    ModelSettings,
    PhaseASettings,
    PhaseBSettings,
    Settings,
    TaskSettings,
)
from trainables.tasks.registry import check_task

MOST_FAULTS = 50  # that one message lists
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how such a text begins
BARE = ("model", "task_a", "task_b")  # sections that a name alone may stand for


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


def check_own(named: Any) -> None:
    """Raise ValueError where a file of strategies is named here or on the command line alone: its code is
    run.
    """
    given = None if named is None else Path(str(named)).expanduser().resolve()
    if given is not None and not is_loaded(given):
        raise ValueError(
            f"strategies: {named!s:.200} is code, and run only where the command line names it too: add "
            f"--strategies {shlex.quote(str(named))}"
        )


def _known_tracker(name: str) -> str:
    if name not in TRACKERS:
        raise ValueError(f"unknown tracker {name!r:.100}: choose from {', '.join(TRACKERS)}")
    return name


class NotifySettings(Settings):
    """Who is told of a run: `command` gets JSON on its standard input, `webhook` a POST of it.

    `webhook` is an address, or $NAME for that of an environment variable. `on`: when.
    """

    command: Annotated[str, Field(min_length=1)] | None = None
    webhook: str | None = None
    on: Annotated[tuple[Literal["end", "failure", "look"], ...], Field(min_length=1)] = (
        "end",
        "failure",
        "look",
    )

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


CheckedTask = Annotated[TaskSettings, AfterValidator(check_task)]


class StudyConfig(Settings):
    """One study: everything that `run` needs to know. Paths are absolute once validated.

    `storage` is a directory, or s3://bucket/prefix with pyarrow's options as its query. `strategies` is a
    Python file with strategies of the user's, run where the command line names it too. `gate`: the grid is
    run only once Phase A has learned and the first runs without replay have forgotten something. `trackers`
    and `notify` change no number.
    """

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
    """The study's name."""
    storage: str
    """A directory, or s3://bucket/prefix; by default results/ and the study's name."""
    model: ModelSettings = ModelSettings()
    """The base model; a name alone will do."""
    task_a: CheckedTask = TaskSettings(name="math")
    """What Phase A teaches, and what is replayed; a name alone will do."""
    task_b: CheckedTask = TaskSettings(name="hotpotqa")
    """What Phase B teaches; a name alone will do."""
    max_length: Annotated[int, Field(ge=8, le=LARGEST)] = 2048
    """The longest example in tokens; longer ones are dropped and counted, never cut."""
    phase_a: PhaseASettings = PhaseASettings()
    """How the adapter that every cell starts from is trained."""
    phase_b: PhaseBSettings = PhaseBSettings()
    """How a cell is trained."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """What is measured beside both tasks' validation losses."""
    strategies: Path | None = None
    """A Python file with strategies of your own; named on the command line too."""
    search: SearchSettings = SearchSettings()
    """Which cells there are."""
    inference: InferenceSettings = InferenceSettings()
    """What will be asked of the results; changes no cell."""
    gate: bool = False
    """Whether the grid runs only once something was learned and forgotten."""
    resources: ResourceSettings = ResourceSettings()
    """What a trial holds on the cluster."""
    trackers: tuple[Annotated[str, AfterValidator(_known_tracker)], ...] = ()
    """Where rows of cells go as well, one run a cell."""
    notify: NotifySettings | None = None
    """Who is told when the study ends, fails or has come to a look."""

    @model_validator(mode="before")
    @classmethod
    def fill_in_names(cls, value: Any) -> Any:
        """Name the storage after the study, and the tasks as in the original, where the user did not."""
        if not isinstance(value, dict):
            return value
        check_own(value.get("strategies"))
        # a section whose every field is a comment is null
        filled = {
            name: given for name, given in value.items() if given is not None or name not in cls.model_fields
        }
        if value.get("storage") is None:
            study = value.get("study")  # anything but text is a fault of its own
            filled["storage"] = f"results/{study if isinstance(study, str) else 'study'}"
        for section, name in (("task_a", "math"), ("task_b", "hotpotqa")):
            if isinstance(value.get(section), dict):
                filled[section] = {"name": name, **value[section]}
        return filled

    @field_validator("strategies")
    @classmethod
    def place_strategies(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().resolve()

    @field_validator("storage")
    @classmethod
    def check_storage(cls, location: str) -> str:
        return check_location(location)

    @model_validator(mode="after")
    def check_together(self) -> Self:
        for check in CHECKS:
            check(self)
        return self

    def recorded(self) -> dict[str, Any]:
        """Return the configuration as the study keeps it: without its place, and without secrets."""
        values = self.model_dump(mode="json", exclude={"storage"})
        return values | {"notify": self.notify.recorded() if self.notify else None}

    def first_seeds(self, count: int) -> Self:
        """Return the study of the first `count` seeds."""
        return self.model_copy(update={"search": self.search.first_seeds(count)})

    def training_at(self, point: dict[str, Any]) -> PhaseBSettings:
        """Return Phase B's settings at one combination of the further axes."""
        values = self.phase_b.model_dump() | point
        for chosen, other in (("steps", "epochs"), ("epochs", "steps")):
            if chosen in point and other not in point:
                values[other] = None
        try:
            return PhaseBSettings.model_validate(values)
        except ValidationError as error:
            faults = "; ".join(describe_faults(error, model=PhaseBSettings, listed=True))
            raise ValueError(f"search: {point} is not possible: {faults}") from error


def load_study(path: Path, overrides: tuple[str, ...] = ()) -> StudyConfig:
    """Read and validate the configuration file at `path`, with `key.path=value` overrides applied.

    Raises ConfigurationError naming every field at fault.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        found = "UTF-16" if error.object[:2] in UTF_16 else str(error)
        raise ConfigurationError(f"{path}: cannot be read: the text must be UTF-8 ({found})") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    values = parse_yaml(text, origin=str(path))
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"{path}: expected sections such as `study:` and `search:`, got {values!r:.80}"
        )
    for override in overrides:
        _apply(values, override)
    return validate_study(values, origin=str(path))


def validate_study(values: dict[str, Any], *, origin: str) -> StudyConfig:
    """Return the validated study. Raises ConfigurationError with one line for each fault."""
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"  {line}" for line in islice(describe_faults(error, model=StudyConfig), MOST_FAULTS)]
        more = error.error_count() - MOST_FAULTS
        ending = [f"  ... and {more} more"] if more > 0 else []
        raise ConfigurationError("\n".join([f"{origin}:", *lines, *ending])) from error


def _apply(values: dict[str, Any], override: str) -> None:
    """Set one `section.field=value` in place; the value is YAML."""
    name, separator, text = override.partition("=")
    keys = name.strip().split(".")
    if not separator or not all(keys):
        raise ConfigurationError(f"--set {override!r:.200}: write it as section.field=value")
    node = values
    for key in keys[:-1]:
        if isinstance(node.get(key), str) and node is values and key in BARE:
            node[key] = {"name": node[key]}
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            raise ConfigurationError(f"--set {override!r:.200}: {key} is a value, not a section")
    node[keys[-1]] = parse_yaml(text, origin=f"--set {override!r:.200}")
