"""What a user may set on the learning side: frozen, validated once, free of heavy imports."""

import math
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from trainables.ledger.storage.location import check_location

Precision = Literal["bf16", "fp32"]
Attention = Literal["auto", "eager", "sdpa", "flash"]
Quantization = Literal["none", "nf4"]
ALL_LINEAR = "all-linear"  # as PEFT names them

LARGEST = 2**31 - 1  # of all counts: they size arrays, and a typing error is not to allocate one
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Settings(BaseModel):
    """A section of the configuration: immutable, with unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def refuse_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number belongs: they would count as 1 and 0."""
        assert info.field_name is not None
        plain = value if isinstance(value, (list, tuple)) else [value]
        truth = any(isinstance(each, bool) for each in plain)
        if truth and takes_numbers(cls.model_fields[info.field_name].annotation):
            raise ValueError("must be a number, not true or false")
        return value


def takes_numbers(annotation: Any) -> bool:
    """Say whether a field of this annotation holds numbers, alone or in a list."""
    return annotation in (int, float) or any(takes_numbers(inner) for inner in get_args(annotation))


class LoraSettings(Settings):
    """The adapter's shape (Hu et al. 2021): rank, scale, dropout, adapted projections.

    `scaling`: "standard" is alpha / r, "rslora" alpha / sqrt(r) (Kalajdzievski 2023). `target_modules`: names
    of projections, or "all-linear" for every linear layer but the output layer (Dettmers et al. 2023).
    """

    r: Count = 8
    """The rank of every adapter."""
    alpha: Annotated[float, Field(gt=0)] = 16
    """What scaling divides by the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """The share of an adapter's inputs that is dropped in training."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """The projections that are adapted, or all-linear for every linear layer but the output layer."""
    scaling: Literal["standard", "rslora"] = "standard"
    """How the adapter's product is scaled: alpha / r, or alpha / sqrt(r) for rslora."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def accept_a_bare_all_linear(cls, value: Any) -> Any:
        return (ALL_LINEAR,) if value == ALL_LINEAR else value

    @field_validator("target_modules")
    @classmethod
    def check_all_linear_is_alone(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if ALL_LINEAR in value and len(value) > 1:
            raise ValueError(f"{ALL_LINEAR} stands for every linear layer: name it alone, got {list(value)}")
        return value

    @property
    def all_linear(self) -> bool:
        """Whether every linear layer but the output layer is adapted."""
        return self.target_modules == (ALL_LINEAR,)

    @property
    def scale(self) -> float:
        """What the low-rank product is multiplied with."""
        return self.alpha / (math.sqrt(self.r) if self.scaling == "rslora" else self.r)


class ModelSettings(Settings):
    """The base model: a hub id, a local directory, a GGUF file, or the alias `smollm2-135m`.

    "auto" is settled before the first cell: bf16 where the hardware of every device computes it, the
    attention that is fastest on the first worker, `torch.compile` where it pays for itself over the study.
    The Phase A artifact records what was settled, and every cell follows it. `quantization`: nf4 packs the
    frozen linear layers into 4 bits (QLoRA, Dettmers et al. 2023).
    """

    name: str = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    """A hub id, a directory of safetensors, a GGUF file, or smollm2-135m."""
    revision: str | None = None
    """The hub's branch, tag or commit; what it stood for is recorded as a commit."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """What is computed in; auto is bf16 where every device computes it."""
    attention: Attention = "auto"
    """The attention kernel; auto takes the one that was fastest on the first worker."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether layers go through torch.compile; auto where it pays for itself."""
    quantization: Quantization = "none"
    """nf4 packs the frozen linear layers into 4 bits (QLoRA); needs forgetting-sweep[nf4]."""
    trust_remote_code: bool = False
    """Whether code that comes with a model may run."""
    lora: LoraSettings = LoraSettings()
    """The adapter's shape."""

    @model_validator(mode="before")
    @classmethod
    def accept_a_bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class TaskSettings(Settings):
    """One task: where its examples come from, how many are used, how they are worded.

    `train` and `validation` count examples after over-long ones are dropped. A task that is not
    built in needs `path`, `prompt` and `completion`; the two are templates over its columns. Which tasks are,
    `tasks.registry.check_task` knows. `score`: how generated answers are judged, of `tasks.scoring.SCORES` or
    by a Python file with a `score(answer, reference)` of the user's, run where the command line names it too.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
    """math, hotpotqa, arithmetic, multihop or convention, which are built in, or a name for your own."""
    path: Path | None = None
    """A file or folder of examples; by default the built-in task's own source."""
    train: Count = 4000
    """Training examples, counted after over-long ones are dropped."""
    validation: Count = 400
    """Validation examples, counted likewise."""
    seed: Seed = 0
    """What the draw of examples depends on; never a replicate's seed."""
    paragraphs: Literal["all", "supporting"] = "all"
    """Of HotpotQA: all paragraphs, or the supporting ones alone."""
    prompt_format: Literal["instruct", "chat"] = "instruct"
    """How a prompt is written: [INST] or the tokenizer's chat template."""
    prompt: str | None = None
    """Your own task's prompt, a template over its columns."""
    completion: str | None = None
    """Your own task's completion, a template over its columns."""
    difficulty: str | None = None
    """The column that difficulty strategies order by."""
    score: str | None = None
    """How answers are judged: text, short_answer or mathematics; by default as suits the task."""

    @model_validator(mode="before")
    @classmethod
    def accept_a_bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("score")
    @classmethod
    def place_own_score(cls, score: str | None) -> str | None:
        own = score is not None and score.endswith(".py")
        return str(Path(score).expanduser().absolute()) if own and score is not None else score

    @field_validator("path")
    @classmethod
    def find_path(cls, path: Path | None) -> Path | None:
        return None if path is None else existing(path)

    @field_validator("prompt", "completion")
    @classmethod
    def check_template(cls, template: str | None) -> str | None:
        if template is not None:
            template_columns(template)
        return template


def template_columns(template: str) -> tuple[str, ...]:
    """Return the column names a `{column}` template reads; refuse anything but plain names."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template {template!r} is not valid: {error}") from error
    names = [name for _, name, _, _ in parts if name is not None]
    for _, name, spec, conversion in parts:
        if name is not None and (not name.isidentifier() or spec or conversion):
            raise ValueError(
                f"template {template!r}: {{{name}}} is not a plain {{column}}; double literal braces"
            )
    if not names:
        raise ValueError(f"template {template!r} names no {{column}}")
    return tuple(dict.fromkeys(names))


def existing(path: Path) -> Path:
    """Return `path` as an absolute one. Raises ValueError where there is nothing."""
    try:
        path = path.expanduser().absolute()
    except RuntimeError as error:  # `~name` of nobody
        raise ValueError(f"no home directory for {str(path)!r}") from error
    try:
        found = path.exists()
    except OSError as error:
        raise ValueError(f"{str(path)[:200]!r} cannot be looked up: {error.strerror}") from error
    if not found:
        raise ValueError(f"no file or directory at {path}")
    return path


class TrainingSettings(Settings):
    """One phase's optimisation: AdamW with a warm-up and decay schedule, over whole batches."""

    epochs: Count | None = None
    """Passes over the data; give this or steps."""
    steps: Count | None = None
    """Optimiser steps; give this or epochs."""
    lr: Annotated[float, Field(gt=0)] = 2e-4
    """The highest learning rate."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate falls after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    """Steps over which the rate rises from zero."""
    batch_size: Count = 64
    """Examples an optimiser step."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's."""
    gradient_clipping: Annotated[float, Field(gt=0)] | None = 1.0
    """The largest norm of a step's gradient; null for none."""
    loss_on: Literal["completion", "all"] = "completion"
    """What is supervised in training; validation always measures the completion."""

    @model_validator(mode="after")
    def check_duration(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"give exactly one of epochs and steps, got epochs={self.epochs}, steps={self.steps}"
            )
        return self


class PlateauSettings(Settings):
    """When Phase A has learned what it can: task A's validation loss is measured `every` so many steps, and
    the last `patience` measurements are no more than `smallest_gain` (nats a token) below the best before
    them.
    """

    smallest_gain: Annotated[float, Field(gt=0)]
    """Nats a token that a measurement must gain to count."""
    patience: Count = 3
    """Measurements without such a gain that end Phase A."""
    every: Count = 10
    """Steps from one measurement to the next."""

    def reached(self, losses: Sequence[float]) -> bool:
        """Say whether losses so far, in order, have come to the plateau."""
        if len(losses) <= self.patience:
            return False
        return min(losses[-self.patience :]) >= min(losses[: -self.patience]) - self.smallest_gain


class PhaseASettings(TrainingSettings):
    """Phase A: task A alone. `adapter` brings a trained PEFT adapter instead of training one.

    `seeds`: "shared" starts every cell from one adapter, that of `seed`; "per_replicate" trains one for each
    replicate, with the replicate's seed, so that intervals cover the variation between adapters too.
    `cache` is a storage of artifacts that studies share; by default each study keeps its own. `until` ends
    training at a plateau, before its last step.
    """

    epochs: Count | None = 2
    """Passes over task A; give this or steps."""
    seed: Seed = 0
    """The seed of the shared adapter."""
    seeds: Literal["shared", "per_replicate"] = "shared"
    """One adapter for all cells, or one for each replicate."""
    adapter: Path | None = None
    """A PEFT directory of your own in place of training one."""
    cache: str | None = None
    """A storage of artifacts that studies share."""
    checkpoint_every: Count = 10
    """Steps from one checkpoint to the next."""
    until: PlateauSettings | None = None
    """Ends training where task A's validation loss has stopped falling."""

    @field_validator("adapter")
    @classmethod
    def find_adapter(cls, path: Path | None) -> Path | None:
        return None if path is None else existing(path)

    @field_validator("cache")
    @classmethod
    def check_cache(cls, location: str | None) -> str | None:
        return None if location is None else check_location(location)

    @model_validator(mode="after")
    def check_adapters(self) -> Self:
        if self.adapter is not None and self.seeds == "per_replicate":
            raise ValueError("seeds 'per_replicate' trains an adapter a replicate; leave out adapter")
        if self.adapter is not None and self.until is not None:
            raise ValueError("until is for training, and adapter brings a trained one; leave one of them out")
        return self

    def seed_of(self, replicate: int) -> int:
        """Return the Phase A seed of the adapter that a replicate starts from."""
        return replicate if self.seeds == "per_replicate" else self.seed

    @model_validator(mode="before")
    @classmethod
    def steps_replace_default_epochs(cls, value: Any) -> Any:
        return _steps_replace_default_epochs(value)


class GenerateSettings(Settings):
    """Greedy answers to validation prompts: whose, when, how many, and how long one may be.

    `at`: "ends" is step 0 and the last step, "all" every evaluation point, a list step 0, the last step and
    these. `examples`: the first so many of each validation set, None for all.
    """

    tasks: Annotated[tuple[Literal["task_a", "task_b"], ...], Field(min_length=1)] = ("task_a",)
    """Whose prompts are answered."""
    at: Literal["ends", "all"] | tuple[Count, ...] = "ends"
    """At step 0 and the last step, at all evaluation points, or at these as well."""
    examples: Count | None = None
    """The first so many of each validation set; null for all."""
    max_new_tokens: Count = 256
    """The longest answer, in tokens."""

    @field_validator("tasks", mode="before")
    @classmethod
    def accept_one_task(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("tasks")
    @classmethod
    def check_distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"names a task twice: {list(value)}")
        return tuple(sorted(value))  # no number depends on the order

    def due(self, step: int, *, last: bool) -> bool:
        """Say whether answers are generated at an evaluation point."""
        return step == 0 or last or self.at == "all" or (self.at != "ends" and step in self.at)


class WatchSettings(TaskSettings):
    """A corpus that is measured at every evaluation point and never trained on: a task, or plain text.

    `text` names the column of plain text, in a file or folder (`path`; any name for a .txt file) or in a data
    set on the hub (`hub`, `subset`). `validation` counts examples; of plain text they are `max_length` long.
    """

    validation: Count = 100
    """Examples that are measured."""
    text: str | None = None
    """The column of plain text; any name for a .txt file."""
    hub: str | None = None
    """A data set on the hub."""
    subset: str | None = None
    """The data set's configuration on the hub."""


class EvaluationSettings(Settings):
    """What is measured beside both tasks' validation losses: answers, and what else may be lost."""

    generate: GenerateSettings | None = None
    """Greedy answers to validation prompts; none unless asked for."""
    watch: tuple[WatchSettings, ...] = ()
    """Corpora that are measured at every evaluation point and never trained on."""

    @field_validator("watch")
    @classmethod
    def check_names(cls, value: tuple[WatchSettings, ...]) -> tuple[WatchSettings, ...]:
        names = [each.name for each in value]
        if len(set(names)) < len(names):
            raise ValueError(f"names a corpus twice: {', '.join(names)}")
        return value


LOSSES_ALONE = EvaluationSettings()


class PhaseBSettings(TrainingSettings):
    """Phase B: task B with replay of task A. `eval_every` counts optimiser steps.

    `mix_unit`: a mix is of examples, or of supervised tokens: then as many examples of task A are replayed as
    have, on average over its pool, that share of task B's supervised tokens. `replay_schedule`: when replay
    comes, at random over the whole run, in its first half, its last half, or in batches of its own.
    `reselect_every` so many steps a strategy that goes by losses chooses again, by those of the adapter as it
    is then.
    """

    epochs: Count | None = 2
    """Passes over task B; give this or steps."""
    lr: Annotated[float, Field(gt=0)] = 7e-5
    """The highest learning rate."""
    eval_every: Count = 10
    """Steps from one evaluation point to the next."""
    mix_mode: Literal["add", "substitute"] = "add"
    """Replay on top of task B's examples, or in place of some."""
    mix_unit: Literal["examples", "tokens"] = "examples"
    """Whether a mix is of examples or of supervised tokens."""
    replay_schedule: Literal["uniform", "early", "late", "blocked"] = "uniform"
    """When replay comes: over the whole run, in its first or last half, or in batches of its own."""
    reselect_every: Count | None = None
    """Steps after which strategies that go by losses choose again; null: they choose once."""
    keep_adapters: bool = True
    """Whether finished cells keep their adapters, for export."""

    @model_validator(mode="before")
    @classmethod
    def steps_replace_default_epochs(cls, value: Any) -> Any:
        return _steps_replace_default_epochs(value)


def _steps_replace_default_epochs(value: Any) -> Any:
    if isinstance(value, dict) and value.get("steps") is not None and "epochs" not in value:
        return {**value, "epochs": None}
    return value
