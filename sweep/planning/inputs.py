"""What a run needs before any compute: the model's source, tokenised tasks, keys and fingerprint.

Reads data, the tokenizer and, once, the model's weights, to check them; what this machine keeps from an
earlier run is taken from there, without torch or transformers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from typing import Any

from sweep.config.study import StudyConfig
from trainables.artifact import Artifact
from trainables.cache.code_identity import NUMERICS
from trainables.column_store import ColumnPlace
from trainables.engine.memory import Footprint
from trainables.engine.model_fit import Limits, check_model
from trainables.engine.setup import Setup
from trainables.ledger.digests import digest_json
from trainables.ledger.schema import ARTIFACTS_DIRECTORY, TASKS
from trainables.ledger.storage.base import PATIENCE, Storage
from trainables.ledger.storage.location import open_storage
from trainables.model.lora_fit import adapter_parameters, fitting_digest
from trainables.model.sources import (
    ModelError,
    ModelSource,
    check_quantization,
    load_tokenizer,
    resolve_model,
    tokenizer_identity,
)
from trainables.replay.batch_order import exchange_rate, replay_count
from trainables.replay.controls import CONTROLS
from trainables.replay.selection import find_strategy
from trainables.settings import PhaseBSettings, Precision, TaskSettings
from trainables.tasks.prepare import PreparedTask
from trainables.tasks.scoring import SCORES, check_score
from trainables.tasks.task_cache import cached_task
from trainables.tasks.watched import Watched, prepare_watched, refuse_trained_on

PHASE_A_BOOKKEEPING = {"adapter", "cache", "checkpoint_every", "seeds"}  # fields that change no number
PHASE_B_BOOKKEEPING = {"keep_adapters"}
# What a run without replay does not depend on.
OF_REPLAY = {"mix_mode", "mix_unit", "eval_every", "replay_schedule", "reselect_every"}
# Fields that came later, and the values that mean what studies begun without them are.
LATER = {
    "quantization": "none",
    "scaling": "standard",
    "mix_unit": "examples",
    "until": None,
    "replay_schedule": "uniform",
    "reselect_every": None,
}
CODE_PACKAGES = ("torch", "transformers")
NOT_PHASE_A = (
    "code",
    "strategies",
    "task_b",
    "phase_b",
)  # sections that leave the key of Phase A's artifact as it is


@dataclass(frozen=True)
class Prepared:
    """A study's inputs, resolved. `artifacts`: where each Phase A artifact is or will be, by its seed.

    `adapter_parameters`: how many numbers one adapter has, `base_parameters`: the frozen model. `footprint`:
    what the model needs of a device. `watched`: corpora that are measured alone.
    """

    source: ModelSource
    setup: Setup
    task_a: PreparedTask
    task_b: PreparedTask
    artifacts: dict[int, Storage]
    fingerprint: dict[str, Any]
    adapter_parameters: int
    base_parameters: int
    footprint: Footprint
    watched: tuple[Watched, ...] = ()

    @property
    def own_scores(self) -> dict[str, str]:
        """Return the sources of the user's scores that the tasks are judged by, by name."""
        named = {task.score: SCORES[task.score].source for task in (self.task_a, self.task_b)}
        return {name: source for name, source in named.items() if source is not None}

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        parts = (part for task in (self.task_a, self.task_b) for part in (task.all_training, task.validation))
        longest = max(int(part.lengths.max()) for part in parts)
        return max([longest, *(int(corpus.examples.lengths.max()) for corpus in self.watched)])

    def exchange(self, training: PhaseBSettings) -> float:
        """Return how many of task A's training examples stand for one of task B's in a mix."""
        return exchange_rate(training, self.task_a.train, self.task_b.train)

    def describe(self) -> list[str]:
        """Say what the model and the data are, and what was left out: a line each."""
        tasks = [("task A", self.task_a), ("task B", self.task_b)]
        lines = [f"{which}: {line}" for which, task in tasks for line in task.describe()]
        watched = [f"watched: {corpus.describe()}" for corpus in self.watched]
        return [f"model: {self.source.describe()}", *lines, *watched]

    def computed_in(self, precision: Precision) -> "Prepared":
        """Return the same with the precision that "auto" stands for: what every worker builds its model
        in.
        """
        settings = self.setup.settings.model_copy(update={"dtype": precision})
        return replace(self, setup=replace(self.setup, settings=settings))

    def task_records(self) -> dict[str, Any]:
        """Return what was read of each task and what was left out, as JSON."""
        return {"task_a": self.task_a.record(), "task_b": self.task_b.record()}


def prepare(study: StudyConfig, *, say: Callable[[str], None] = lambda message: None) -> Prepared:
    """Resolve the model, check that it can be trained, tokenise both tasks, check a user's adapter.

    `say` is told how far that is.

    Raises ModelError, TaskError or AdapterError.
    """
    check_quantization(study.model.quantization)
    source = resolve_model(study.model)
    fit = check_model(source, study.model)
    limits = fit.limits
    limits.check_length(study.max_length)
    task_a, task_b = _prepare_tasks(study, source, say=say)
    for task in (task_a, task_b):
        for part in (task.all_training, task.validation):
            limits.check_tokens(part, name=task.name)
    watched = _prepare_watched(study, source, tasks=(task_a, task_b), say=say)
    for corpus in watched:
        limits.check_tokens(corpus.examples, name=corpus.name)
    _check_answers(study, {"task_a": task_a, "task_b": task_b}, limits=limits)
    fingerprint = _fingerprint(study, source, (task_a, task_b), watched)
    patience = min(PATIENCE, study.resources.storage_patience)
    place = (
        open_storage(study.phase_a.cache, patience=patience)
        if study.phase_a.cache
        else open_storage(study.storage, patience=patience).inside(ARTIFACTS_DIRECTORY)
    )
    parameters = adapter_parameters(source, study.model.lora)
    gpus = study.resources.gpus if study.resources.on_gpu else 0.0
    setup = Setup(source, study.model, gpus=gpus, cpus=study.resources.cpus)
    seeds = dict.fromkeys(study.phase_a.seed_of(replicate) for replicate in study.search.seed)
    artifacts = {seed: place.inside(_artifact_key(fingerprint, seed, task_b=task_b)) for seed in seeds}
    precision: Precision = "fp32" if study.model.dtype == "fp32" else "bf16"
    footprint = fit.size.footprint(
        precision=precision, quantization=study.model.quantization, adapter=parameters
    )
    sizes = parameters, fit.size.parameters, footprint
    return Prepared(source, setup, task_a, task_b, artifacts, fingerprint, *sizes, watched)


def _check_answers(study: StudyConfig, tasks: dict[str, PreparedTask], *, limits: Limits) -> None:
    """Raise TaskError or ModelError where answers that are asked for cannot be judged, or have no room."""
    generate = study.evaluation.generate
    if generate is None:
        return
    for name in generate.tasks:
        task = tasks[name]
        check_score(task.score, task=task.name)
        longest = int(task.validation.prompt_lengths[: generate.examples].max())
        try:
            limits.check_length(longest + generate.max_new_tokens)
        except ModelError as error:
            raise ModelError(
                f"evaluation.generate: a prompt of task {task.name} has {longest} tokens and an answer up to "
                f"{generate.max_new_tokens} (max_new_tokens): {error}"
            ) from error


def _artifact_key(fingerprint: dict[str, Any], seed: int, *, task_b: PreparedTask) -> str:
    """Return the key of the artifact that Phase A makes with a seed: the same in whichever study asks for
    it.
    """
    sections = {name: value for name, value in fingerprint.items() if name not in NOT_PHASE_A}
    if "seed" in sections["phase_a"]:  # not with an adapter of the user's
        sections["phase_a"] = sections["phase_a"] | {"seed": seed}
    return digest_json(sections | {"task_b.validation": task_b.validation.digest})


def _prepare_tasks(
    study: StudyConfig, source: ModelSource, *, say: Callable[[str], None]
) -> tuple[PreparedTask, PreparedTask]:
    tokenizer, identity = cache(partial(load_tokenizer, source)), tokenizer_identity(source)

    def read(settings: TaskSettings, fresh: int = 0) -> PreparedTask:
        return cached_task(
            settings,
            tokenizer=tokenizer,
            identity=identity,
            max_length=study.max_length,
            fresh=fresh,
            say=say,
        )

    task_a, task_b = read(study.task_a), read(study.task_b)
    fresh = _fresh_count(study, task_a, task_b)
    return task_a, read(study.task_b, fresh) if fresh else task_b


def _fresh_count(study: StudyConfig, task_a: PreparedTask, task_b: PreparedTask) -> int:
    """Return how many further examples of task B the study's controls take: one for each replayed."""
    if not any(CONTROLS[name].fresh for name in study.search.strategy if name in CONTROLS):
        return 0
    trainings = [study.training_at(point) for point in study.search.axis_points()]
    counts = [
        replay_count(
            max(study.search.mix),
            len(task_b.train),
            exchange=exchange_rate(training, task_a.train, task_b.train),
        )
        for training in trainings
    ]
    return max(counts) if max(counts) <= len(task_a.train) else 0  # more is refused with the mix


def _prepare_watched(
    study: StudyConfig,
    source: ModelSource,
    *,
    tasks: tuple[PreparedTask, PreparedTask],
    say: Callable[[str], None],
) -> tuple[Watched, ...]:
    """Return the watched corpora, none of whose examples is trained on."""
    if not study.evaluation.watch:
        return ()
    tokenizer, identity = cache(partial(load_tokenizer, source)), tokenizer_identity(source)
    length = study.max_length
    found = tuple(
        prepare_watched(settings, tokenizer=tokenizer, identity=identity, max_length=length, say=say)
        for settings in study.evaluation.watch
    )
    for corpus in found:
        for task in tasks:
            refuse_trained_on(corpus, task.all_training, task=task.name)
    return found


def _fingerprint(
    study: StudyConfig,
    source: ModelSource,
    tasks: tuple[PreparedTask, PreparedTask],
    watched: tuple[Watched, ...],
) -> dict[str, Any]:
    """Return all that gives a finished cell its meaning, by section; a change of it is refused."""
    model = study.model.model_dump(mode="json")
    phase_a = study.phase_a.model_dump(mode="json", exclude=PHASE_A_BOOKKEEPING)
    if study.phase_a.adapter is not None:
        phase_a = {"adapter": fitting_digest(study.phase_a.adapter, source=source, lora=study.model.lora)}
    elif study.phase_a.seeds == "per_replicate":
        phase_a["seed"] = "per_replicate"
    phase_b = study.phase_b.model_dump(mode="json", exclude=PHASE_B_BOOKKEEPING | set(study.search.axes))
    sections: dict[str, Any] = {
        "engine": {"numerics": NUMERICS},
        "code": {name: version(name).partition("+")[0] for name in CODE_PACKAGES},  # without its build's name
        "strategies": {name: _known_by(name) for name in study.search.strategy},
        "model": without_later(
            {
                "fingerprint": source.fingerprint,
                "dtype": model["dtype"],
                "attention": model["attention"],
                "compile": model["compile"],
                "quantization": model["quantization"],
            }
        ),
        "lora": without_later(model["lora"]),
        "phase_a": without_later(phase_a),
        "phase_b": without_later(phase_b),
    }
    evaluation: dict[str, Any] = {}
    if study.evaluation.generate is not None:
        evaluation["generate"] = study.evaluation.generate.model_dump(mode="json", exclude_none=True)
        named = dict(zip(TASKS, tasks, strict=True))
        scores = {name: named[name].score for name in study.evaluation.generate.tasks}
        # of an own one its file's name, wherever it lies
        evaluation["scores"] = {
            name: [score.rpartition("/")[2], SCORES[score].digest] for name, score in scores.items()
        }
    if watched:
        evaluation["watch"] = {corpus.name: corpus.examples.digest for corpus in watched}
    if evaluation:
        sections["evaluation"] = evaluation
    for name, settings, task in (("task_a", study.task_a, tasks[0]), ("task_b", study.task_b, tasks[1])):
        sections[name] = {"name": settings.name, "train": len(task.train), "validation": len(task.validation)}
        sections[name]["content"] = task.digest
    return sections


def _known_by(strategy: str) -> str:
    return CONTROLS[strategy].digest if strategy in CONTROLS else find_strategy(strategy).digest


def column_place(study: StudyConfig, prepared: Prepared, seed: int, artifact: Artifact) -> ColumnPlace:
    """Return where the computed columns of a Phase A seed's artifact are."""
    training = study.phase_b.model_dump(mode="json", exclude=PHASE_B_BOOKKEEPING | OF_REPLAY)
    meaning = without_later(training) | {"phase_a_seed": seed}
    return ColumnPlace(prepared.artifacts[seed], artifact, prepared.task_b.digest, meaning)


def computed_columns(study: StudyConfig) -> dict[str, tuple[str, ...]]:
    """Return the columns that are computed for each of the study's strategies that takes any."""
    rules = {name: find_strategy(name) for name in study.search.strategy if name not in CONTROLS}
    return {name: rule.computed for name, rule in rules.items() if rule.computed}


def without_later(section: dict[str, Any]) -> dict[str, Any]:
    """Return a section without the fields that say nothing new."""
    return {name: value for name, value in section.items() if (name, value) not in LATER.items()}
