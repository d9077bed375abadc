"""The study's configuration: one YAML file, validated whole before anything heavy is imported."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trainables.columns import AA, MIX, SEED, STRATEGY
from trainables.settings import (
    LARGEST,
    Count,
    ModelSettings,
    PhaseASettings,
    PhaseBSettings,
    Seed,
    Settings,
    TaskSettings,
)
from trainables.storage.locations import check_location
from trainables.strategies import STRATEGIES

AXES = tuple(
    sorted(set(PhaseBSettings.model_fields) - {"keep_adapters"})
)  # phase_b fields that may be searched
MOST_VALUES = 100_000  # in one file, its aliases written out
DEEPEST = 100  # sections inside sections
MOST_FAULTS = 50  # that one message lists
MOST_LABELS = 1_000_000  # points of one search space
PLURAL = (list, tuple, dict, set)  # what YAML can put where one value of an axis belongs


class ConfigurationError(ValueError):
    """A configuration that cannot be run; the message names each field, its value and the choices."""


class SearchSettings(Settings):
    """The grid: strategy x mix x seed, and any `phase_b` field as a further axis."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    strategy: Annotated[tuple[str, ...], Field(min_length=1)] = tuple(
        name for name in STRATEGIES if name != AA
    )
    mix: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)] = (0.1,)
    seed: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)

    @model_validator(mode="before")
    @classmethod
    def wrap_single_values(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: item if isinstance(item, (list, tuple)) else [item] for name, item in value.items()}

    @field_validator("strategy")
    @classmethod
    def check_strategies(cls, strategies: tuple[str, ...]) -> tuple[str, ...]:
        for name in strategies:
            if name not in STRATEGIES:
                raise ValueError(f"unknown strategy {name!r}: choose from {', '.join(STRATEGIES)}")
        return strategies

    @model_validator(mode="after")
    def check_axes(self) -> Self:
        for name, values in {STRATEGY: self.strategy, MIX: self.mix, SEED: self.seed, **self.axes}.items():
            if name not in AXES and name not in (STRATEGY, MIX, SEED):
                raise ValueError(
                    f"unknown axis {name!r}: choose strategy, mix, seed or a phase_b field ({', '.join(AXES)})"
                )
            if not values:
                raise ValueError(f"axis {name!r} has no value")
            if any(isinstance(value, PLURAL) for value in values):
                raise ValueError(f"axis {name!r} must list plain values, got {list(values)!r:.200}")
            if len(set(values)) != len(values):
                raise ValueError(f"axis {name!r} names a value twice: {list(values)!r:.200}")
        sizes = [len(values) for values in (self.strategy, self.mix, self.seed, *self.axes.values())]
        if math.prod(sizes) > MOST_LABELS:
            raise ValueError(
                f"the axes span {math.prod(sizes):,} points, at most {MOST_LABELS:,} make a study"
            )
        return self

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Return the further axes by name."""
        return dict(self.model_extra or {})

    def axis_points(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of the further axes; one empty combination where there are none."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))


class ResourceSettings(Settings):
    """What one trial holds on the cluster; fractions share a device, `retries` follow a failure.

    `phase_a_cpus` is what Phase A holds, with nothing beside it to share a machine with (default: `cpus`).
    `cells_per_worker` cells train in one trial side by side; "auto" is what was fastest where Phase A ran.
    `progress_timeout`: seconds without a microbatch after which a worker is ended and its cell retried.
    `storage_patience`: seconds that a run waits, cells paused, for storage that is full or does not answer.
    """

    cpus: Annotated[float, Field(gt=0)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0
    phase_a_cpus: Annotated[float, Field(gt=0)] | None = None
    max_concurrent: Count | None = None
    cells_per_worker: Count | Literal["auto"] = "auto"
    retries: Annotated[int, Field(ge=0, le=LARGEST)] = 3
    progress_timeout: Annotated[float, Field(gt=0)] = 1800
    storage_patience: Annotated[float, Field(ge=0)] = 600

    @field_validator("cpus", "gpus", "phase_a_cpus")
    @classmethod
    def check_fraction(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError(f"above 1 only whole numbers can be scheduled, got {value}")
        return value


class Study(Settings):
    """One study: everything that `run` needs to know. Paths are absolute once validated.

    `storage` is a directory, or s3://bucket/prefix with pyarrow's options as its query.
    """

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
    storage: str
    model: ModelSettings = ModelSettings()
    task_a: TaskSettings = TaskSettings(name="math")
    task_b: TaskSettings = TaskSettings(name="hotpotqa")
    max_length: Annotated[int, Field(ge=8, le=LARGEST)] = 2048
    phase_a: PhaseASettings = PhaseASettings()
    phase_b: PhaseBSettings = PhaseBSettings()
    search: SearchSettings = SearchSettings()
    resources: ResourceSettings = ResourceSettings()

    @model_validator(mode="before")
    @classmethod
    def fill_in_names(cls, value: Any) -> Any:
        """Name the storage after the study, and the tasks as in the original, where the user did not."""
        if not isinstance(value, dict):
            return value
        filled = dict(value)
        if isinstance(value.get("study"), str) and value.get("storage") is None:
            filled["storage"] = f"results/{value['study']}"
        for section, name in (("task_a", "math"), ("task_b", "hotpotqa")):
            if isinstance(value.get(section), dict):
                filled[section] = {"name": name, **value[section]}
        return filled

    @field_validator("storage")
    @classmethod
    def check_storage(cls, location: str) -> str:
        return check_location(location)

    @model_validator(mode="after")
    def check_whole(self) -> Self:
        if self.task_a.name == self.task_b.name:
            raise ValueError(f"task_a and task_b are both {self.task_a.name!r}; forgetting needs two tasks")
        for point in self.search.axis_points():
            training = self.training_at(point)
            if training.mix_mode == "substitute" and max(self.search.mix) >= 1:
                raise ValueError(
                    "search.mix 1.0 with mix_mode 'substitute' leaves no task B example; use mix < 1 or 'add'"
                )
        return self

    def training_at(self, point: dict[str, Any]) -> PhaseBSettings:
        """Return Phase B's settings at one combination of the further axes."""
        values = self.phase_b.model_dump() | point
        for chosen, other in (("steps", "epochs"), ("epochs", "steps")):
            if chosen in point and other not in point:
                values[other] = None
        try:
            return PhaseBSettings.model_validate(values)
        except ValidationError as error:
            faults = "; ".join(_faults(error))
            raise ValueError(f"search: {point} is not possible: {faults}") from error


def load_study(path: Path, overrides: tuple[str, ...] = ()) -> Study:
    """Read and validate the configuration file at `path`, with `key.path=value` overrides applied.

    Raises ConfigurationError naming every field at fault.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    values = _parse(text, origin=str(path))
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"{path}: expected sections such as `study:` and `search:`, got {values!r:.80}"
        )
    for override in overrides:
        _apply(values, override)
    return validate_study(values, origin=str(path))


def validate_study(values: dict[str, Any], *, origin: str) -> Study:
    """Return the validated study. Raises ConfigurationError with one line for each fault."""
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        lines = [f"  {line}" for line in _faults(error)]
        more = [f"  ... and {len(lines) - MOST_FAULTS} more"] if len(lines) > MOST_FAULTS else []
        raise ConfigurationError("\n".join([f"{origin}:", *lines[:MOST_FAULTS], *more])) from error


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice instead of keeping the last, and endless nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise yaml.MarkedYAMLError(
            problem=f"key {repeated[0]!r} is given twice", problem_mark=node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


def _bounded_integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    value: int = loader.construct_yaml_int(node)
    if abs(value) >= 2**63:
        raise yaml.MarkedYAMLError(problem="an integer is too large", problem_mark=node.start_mark)
    return value


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)
_Loader.add_constructor("tag:yaml.org,2002:int", _bounded_integer)


def _parse(text: str, *, origin: str) -> Any:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _count_values(node, counts={})
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, TypeError, ValueError, KeyError, AttributeError) as error:
        # PyYAML raises the last three for a value that does not fit its tag, such as `!!bool x`
        raise ConfigurationError(f"{origin}: not valid YAML: {error}") from error


def _count_values(node: yaml.Node | None, *, counts: dict[int, int]) -> int:
    """Return how many values a node stands for once its aliases are written out; refuse more than MOST_VALUES.

    Nine aliases of nine aliases, ten deep, are a page of text and 3 billion values.
    """
    if node is None or id(node) in counts:
        return counts.get(id(node), 0)
    counts[id(node)] = MOST_VALUES  # until it is known: an alias inside its own anchor is without end
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = itertools.chain.from_iterable(inner) if isinstance(node, yaml.MappingNode) else inner
    counts[id(node)] = 1 + sum(_count_values(part, counts=counts) for part in parts)
    if counts[id(node)] > MOST_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"it stands for more than {MOST_VALUES:,} values", problem_mark=node.start_mark
        )
    return counts[id(node)]


def _apply(values: dict[str, Any], override: str) -> None:
    """Set one `section.field=value` in place; the value is YAML."""
    name, separator, text = override.partition("=")
    keys = name.strip().split(".")
    if not separator or not all(keys):
        raise ConfigurationError(f"--set {override!r:.200}: write it as section.field=value")
    node = values
    for key in keys[:-1]:
        if isinstance(node.get(key), str) and key == "model":
            node[key] = {"name": node[key]}
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ConfigurationError(f"--set {override!r:.200}: {key} is a value, not a section")
    node[keys[-1]] = _parse(text, origin=f"--set {override!r:.200}")


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        place = _place(fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = ", ".join(_fields_at(fault["loc"][:-1]))
            yield f"{place}: unknown key; choose from {known}"
        elif fault["type"] == "missing":
            yield f"{place}: required, and not given"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(fault["input"], (dict, BaseModel)) else f" (got {fault['input']!r:.200})"
            yield f"{place}: {message}{shown}"


def _place(location: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".") or "the file"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the section at `location` knows."""
    model: Any = Study
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
