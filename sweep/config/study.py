"""The study's configuration: one YAML file, validated whole before anything heavy is imported."""

import shlex
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from sweep.config.cross_checks import CHECKS
from sweep.config.errors import ConfigurationError
from sweep.config.faults import describe_faults
from sweep.config.search_space import SearchSettings
from sweep.config.sections import InferenceSettings, NotifySettings, ResourceSettings, known_tracker
from sweep.config.yaml_text import parse_yaml
from trainables.ledger.storage.location import check_location
from trainables.replay.own import is_loaded, locate
from trainables.settings import (
    LARGEST,
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


def check_own(named: Any) -> None:
    """Raise ValueError where a file of strategies is named here or on the command line alone: its code is
    run.
    """
    given = None if named is None else locate(Path(str(named)))
    if given is not None and not is_loaded(given):
        raise ValueError(
            f"strategies: {named!s:.200} is code, and run only where the command line names it too: add "
            f"--strategies {shlex.quote(str(named))}"
        )


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
    trackers: tuple[Annotated[str, AfterValidator(known_tracker)], ...] = ()
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
        return None if path is None else locate(path)

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
