"""What a run needs before any compute: the model's source, tokenised tasks, keys and fingerprint.

Reads data and the tokenizer, never the model's weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.configuration import Study
from trainables.columns import ARTIFACTS_DIRECTORY
from trainables.digests import digest_json
from trainables.models import ModelSource, load_tokenizer, resolve_model
from trainables.tasks.prepare import PreparedTask, prepare_task
from trainables.trainee import Setup

# Raised when the training code gives other numbers for the same configuration: old and new cells do not mix.
NUMERICS = 2
PHASE_A_BOOKKEEPING = {"adapter", "cache", "checkpoint_every"}  # fields that change no number
PHASE_B_BOOKKEEPING = {"keep_adapters"}


@dataclass(frozen=True)
class Prepared:
    """A study's inputs, resolved. `artifact` is where its Phase A artifact is or will be."""

    source: ModelSource
    setup: Setup
    task_a: PreparedTask
    task_b: PreparedTask
    artifact: Path
    fingerprint: dict[str, Any]


def prepare(study: Study) -> Prepared:
    """Resolve the model, tokenise both tasks, check a user's adapter.

    Raises ModelError, TaskError or AdapterError.
    """
    source = resolve_model(study.model)
    tokenizer = load_tokenizer(source)
    task_a = prepare_task(study.task_a, tokenizer=tokenizer, max_length=study.max_length)
    task_b = prepare_task(study.task_b, tokenizer=tokenizer, max_length=study.max_length)
    fingerprint = _fingerprint(study, source, (task_a, task_b))
    phase_a = {name: value for name, value in fingerprint.items() if name not in ("task_b", "phase_b")}
    key = digest_json(phase_a | {"task_b.validation": task_b.validation.digest})
    folder = study.phase_a.cache or study.storage / ARTIFACTS_DIRECTORY
    setup = Setup(source, study.model, use_gpu=study.resources.gpus > 0, cpus=study.resources.cpus)
    return Prepared(source, setup, task_a, task_b, folder / key, fingerprint)


def _fingerprint(
    study: Study, source: ModelSource, tasks: tuple[PreparedTask, PreparedTask]
) -> dict[str, Any]:
    """Return all that gives a finished cell its meaning, by section; a change of it is refused."""
    model = study.model.model_dump(mode="json")
    phase_a = study.phase_a.model_dump(mode="json", exclude=PHASE_A_BOOKKEEPING)
    if study.phase_a.adapter is not None:
        phase_a = {"adapter": _adapter_digest(study, source)}
    phase_b = study.phase_b.model_dump(mode="json", exclude=PHASE_B_BOOKKEEPING | set(study.search.axes))
    sections: dict[str, Any] = {
        "engine": {"numerics": NUMERICS},
        "model": {
            "fingerprint": source.fingerprint,
            "dtype": model["dtype"],
            "attention": model["attention"],
            "compile": model["compile"],
        },
        "lora": model["lora"],
        "phase_a": phase_a,
        "phase_b": phase_b,
    }
    for name, settings, task in (("task_a", study.task_a, tasks[0]), ("task_b", study.task_b, tasks[1])):
        sections[name] = {"name": settings.name, "train": len(task.train), "validation": len(task.validation)}
        sections[name]["content"] = task.digest
    return sections


def _adapter_digest(study: Study, source: ModelSource) -> str:
    """Check the user's adapter against the model's shape, without its weights."""
    from trainables.adapters import check_adapter
    from trainables.lora import adapter_shapes
    from trainables.models import load_empty_model

    assert study.phase_a.adapter is not None
    shapes = adapter_shapes(load_empty_model(source), study.model.lora)
    return check_adapter(study.phase_a.adapter, lora=study.model.lora, shapes=shapes)
