"""The study's configuration: one YAML file, validated whole before anything heavy is imported."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from analysis.stats.measures import MEASURES, PRIMARY
from sweep.config.errors import ConfigurationError
from sweep.config.faults import describe_faults
from sweep.config.search_space import SearchSettings
from sweep.config.yaml_text import parse_yaml
from sweep.trackers.trackers import TRACKERS
from trainables.ledger.redaction import HIDDEN, redact
from trainables.ledger.schema import AA, DEFAULT_BASELINE, TASKS
from trainables.ledger.storage.location import check_location
from trainables.replay.batch_order import replay_count
from trainables.replay.controls import CONTROLS
from trainables.settings import (
    LARGEST,
    Count,
    EvaluationSettings,
    ModelSettings,
    PhaseASettings,
    PhaseBSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)
from trainables.tasks.registry import check_task, find_task
from trainables.tasks.scoring import SCORES
from trainables.tasks.watched import check_watched

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
    gpus: Annotated[float, Field(ge=0)] = 0
    device: Literal["auto", "cpu"] = "auto"
    phase_a_cpus: Annotated[float, Field(gt=0)] | None = None
    max_concurrent: Count | None = None
    cells_per_worker: Count | Literal["auto"] = "auto"
    retries: Annotated[int, Field(ge=0, le=LARGEST)] = 3
    progress_timeout: Annotated[float, Field(gt=0)] = 1800
    storage_patience: Annotated[float, Field(ge=0)] = 600

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
    baseline: str = DEFAULT_BASELINE
    smallest_effect: Annotated[float, Field(gt=0)] | None = None
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    growth: Annotated[float, Field(ge=0, lt=1)] = 0.1
    baseline_draws: Literal[1, 2] = 1
    order: Literal["together", "strategies_first", "strategies_only"] = "together"
    question: Literal["equivalence", "non_inferiority"] = "equivalence"
    task_b_margin: Annotated[float, Field(gt=0)] | None = None
    weights: dict[float, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None


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

    `storage` is a directory, or s3://bucket/prefix with pyarrow's options as its query. `gate`: the grid is
    run only once Phase A has learned and the first runs without replay have forgotten something. `trackers`
    and `notify` change no number.
    """

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
    storage: str
    model: ModelSettings = ModelSettings()
    task_a: CheckedTask = TaskSettings(name="math")
    task_b: CheckedTask = TaskSettings(name="hotpotqa")
    max_length: Annotated[int, Field(ge=8, le=LARGEST)] = 2048
    phase_a: PhaseASettings = PhaseASettings()
    phase_b: PhaseBSettings = PhaseBSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    search: SearchSettings = SearchSettings()
    inference: InferenceSettings = InferenceSettings()
    gate: bool = False
    resources: ResourceSettings = ResourceSettings()
    trackers: tuple[Annotated[str, AfterValidator(_known_tracker)], ...] = ()
    notify: NotifySettings | None = None

    @model_validator(mode="before")
    @classmethod
    def fill_in_names(cls, value: Any) -> Any:
        """Name the storage after the study, and the tasks as in the original, where the user did not."""
        if not isinstance(value, dict):
            return value
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

    @field_validator("storage")
    @classmethod
    def check_storage(cls, location: str) -> str:
        return check_location(location)

    @model_validator(mode="after")
    def check_baseline(self) -> Self:
        baseline, strategies = self.inference.baseline, self.search.strategy
        if baseline != DEFAULT_BASELINE and baseline not in strategies:
            raise ValueError(
                f"inference.baseline: must be one of search.strategy, {', '.join(strategies)}; got "
                f"{baseline!r:.100}"
            )
        if AA in strategies and baseline != DEFAULT_BASELINE:
            raise ValueError(
                f"search.strategy: {AA!r} is {DEFAULT_BASELINE!r} once more, and shows what no difference "
                f"from it looks like; the baseline is {baseline!r}: leave {AA!r} out"
            )
        if self.inference.baseline_draws > 1 and not {DEFAULT_BASELINE, AA} <= {*strategies}:
            raise ValueError(
                f"inference.baseline_draws: 2 takes the mean of {DEFAULT_BASELINE!r} and {AA!r}; list both "
                f"in search.strategy, got {', '.join(strategies)}"
            )
        if baseline in CONTROLS:
            raise ValueError(
                f"inference.baseline: {baseline!r} is a control, which is compared too; choose a strategy"
            )
        self._check_weights()
        if self.search.looks and not self.search.compares(baseline):
            raise ValueError(
                f"search: a look judges strategies against {baseline!r}: list it, another strategy and a mix "
                f"above 0; got strategy {list(strategies)} and mix {list(self.search.mix)}"
            )
        return self

    @model_validator(mode="after")
    def check_watch(self) -> Self:
        for settings in self.evaluation.watch:
            try:
                check_watched(settings)
            except ValueError as error:
                raise ValueError(f"evaluation.watch, {settings.name}: {error}") from error
            if settings.name in (self.task_a.name, self.task_b.name):
                raise ValueError(
                    f"evaluation.watch: {settings.name!r} is trained on; choose another name or corpus"
                )
        return self

    @model_validator(mode="after")
    def check_generation(self) -> Self:
        generate, needed = self.evaluation.generate, MEASURES[self.inference.primary].needs
        if needed is not None and (generate is None or not needed.startswith(generate.tasks)):
            task = next(task for task in TASKS if needed.startswith(task))
            raise ValueError(
                f"inference.primary: {self.inference.primary} is of generated answers: add {task} to "
                "evaluation.generate.tasks"
            )
        if generate is None:
            return self
        if needed is not None:
            task = next(task for task in TASKS if needed.startswith(task))
            settings = getattr(self, task)
            score = settings.score or find_task(settings).score
            if needed.removeprefix(f"{task}_") not in SCORES[score].names:
                raise ValueError(
                    f"inference.primary: {self.inference.primary} is none of the scores of {task}, which is "
                    f"judged by {score!r}: {', '.join(SCORES[score].names)}"
                )
        for name in generate.tasks:
            size = getattr(self, name).validation
            if generate.examples is not None and generate.examples > size:
                raise ValueError(
                    f"evaluation.generate.examples: {generate.examples} is more than the {size} of "
                    f"{name}.validation"
                )
        if not isinstance(generate.at, str):
            every = {self.training_at(point).eval_every for point in self.search.axis_points()}
            wrong = [step for step in generate.at if any(step % each for each in every)]
            if wrong:
                raise ValueError(
                    f"evaluation.generate.at: answers are generated at evaluation points, multiples of "
                    f"phase_b.eval_every, {', '.join(map(str, sorted(every)))}; got "
                    f"{', '.join(map(str, wrong))}"
                )
        return self

    def _check_weights(self) -> None:
        weights, mixes = self.inference.weights, [mix for mix in self.search.mix if mix > 0]
        if weights is None:
            return
        if self.inference.order == "together":
            raise ValueError(
                "inference.weights: are of a strategy's mean over its mixes: set inference.order to "
                "strategies_first or strategies_only"
            )
        if set(weights) != set(mixes):
            raise ValueError(
                f"inference.weights: must give each mix of search.mix above 0 a weight, {mixes}; got "
                f"{sorted(weights)}"
            )

    @model_validator(mode="after")
    def check_whole(self) -> Self:
        if self.task_a.name == self.task_b.name:
            raise ValueError(f"task_a and task_b are both {self.task_a.name!r}; forgetting needs two tasks")
        if self.gate and 0 not in self.search.mix:
            raise ValueError(
                "gate: true measures forgetting without replay: add 0 to search.mix, got "
                f"{list(self.search.mix)}"
            )
        for point in self.search.axis_points():
            training = self.training_at(point)
            by_examples = training.mix_unit == "examples"  # of tokens, planning knows how many
            if training.mix_mode == "substitute" and by_examples and max(self.search.mix) >= 1:
                raise ValueError(
                    "search.mix 1.0 with mix_mode 'substitute' leaves no task B example; use mix < 1 or 'add'"
                )
            self._check_length("phase_b", training, self._fewest_in_phase_b(training))
        if self.phase_a.adapter is None:
            self._check_length("phase_a", self.phase_a, (self.task_a.train, "task_a.train"))
        return self

    def _fewest_in_phase_b(self, training: PhaseBSettings) -> tuple[int, str]:
        """Return how many examples an epoch of Phase B has at the smallest mix, and what makes them."""
        size, mix = self.task_b.train, min(self.search.mix)
        count = replay_count(mix, size)
        if training.mix_mode == "substitute" or training.mix_unit == "tokens" or count == 0:
            return size, "task_b.train"
        return size + count, f"task_b.train, {size}, and {count} replayed at mix {mix:g}"

    @staticmethod
    def _check_length(section: str, training: TrainingSettings, pool: tuple[int, str]) -> None:
        """Raise ValueError for a batch that an epoch cannot fill, or a warm-up that ends after the
        training.
        """
        examples, origin = pool
        if training.batch_size > examples:
            raise ValueError(
                f"{section}.batch_size {training.batch_size} is more than the {examples} examples of an "
                f"epoch ({origin}): each would be one short batch. Lower batch_size or raise train"
            )
        steps = training.steps or -(-examples // training.batch_size) * (training.epochs or 0)
        if training.warmup_steps > steps:
            raise ValueError(
                f"{section}.warmup_steps {training.warmup_steps} is more than the {steps} steps of "
                f"{section}: its learning rate, {training.lr:g}, would never be reached"
            )

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
