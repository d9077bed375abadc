"""Prepared tasks that this machine keeps: read back until anything that they depend on changes."""

import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from trainables.cache.code_identity import module_digests
from trainables.cache.file_digests import remembered_digest
from trainables.cache.machine import keep, recall
from trainables.ledger.digests import digest_file, digest_json
from trainables.settings import TaskSettings
from trainables.tasks.folders import list_files
from trainables.tasks.prepare import PreparedTask, prepare_task
from trainables.tasks.registry import find_task
from trainables.tasks.sources import hub_commit, name_commit, neighbours
from trainables.tasks.tokenised import TokenisedExamples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KIND = "tasks"
PACKAGES = ("datasets", "jinja2", "numpy", "pyarrow", "tokenizers", "transformers")
ARRAYS = ("tokens", "offsets", "prompt_lengths", "difficulty")
TEXTS = ("levels", "types", "ids")
PARTS = ("train", "validation", "fresh")
PLAIN = ("name", "dropped", "duplicates", "without_paragraphs", "source", "notes", "digest", "score")
SMALL = 1 << 20  # bytes of a file that is as soon read as looked up

Origin = dict[str, Any]  # what pins a task's rows


def cached_task(
    settings: TaskSettings,
    *,
    tokenizer: Callable[[], "PreTrainedTokenizerBase"],
    identity: str | None,
    max_length: int,
    fresh: int = 0,
    say: Callable[[str], None] = lambda message: None,
) -> PreparedTask:
    """Return what `prepare_task` returns, made only if this machine does not keep it.

    `identity` pins what the tokenizer does, which is loaded only when it is needed. Without one, or where
    nothing pins the rows, the task is made at every call. Raises TaskError.
    """
    origin = _origin(settings) if identity is not None else None
    if origin is None:
        return prepare_task(settings, tokenizer=tokenizer(), max_length=max_length, fresh=fresh, say=say)
    key = _key(settings, origin=origin, identity=identity, max_length=max_length, fresh=fresh)
    kept = recall(KIND, key)
    if kept is not None:
        return _decode(kept)
    task = prepare_task(settings, tokenizer=tokenizer(), max_length=max_length, fresh=fresh, say=say)
    if _was_made_from(origin, task, settings):
        keep(KIND, key, _encode(task))
    return task


def _key(settings: TaskSettings, *, origin: Origin, identity: str | None, max_length: int, fresh: int) -> str:
    code = {
        name: digest
        for name, digest in module_digests().items()
        if name.startswith("trainables/tasks/") or name == "trainables/model/sources.py"
    }
    return digest_json(
        {
            "settings": settings.model_dump(mode="json", exclude={"path"}),
            "origin": origin,
            "tokenizer": identity,
            "max_length": max_length,
            "fresh": fresh,
            "code": code,
            "packages": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        }
    )


def _origin(settings: TaskSettings) -> Origin | None:
    """Return what pins the rows: the files' names and contents, the hub's commit, or nothing but the code.

    None where the hub cannot be asked.
    """
    if settings.path is not None:
        return {"name": settings.path.name, "files": _files(settings.path)}
    hub = find_task(settings).hub
    if hub is None:
        return {}
    commit = hub_commit(hub)
    return None if commit is None else {"hub": [hub.id, hub.subset], "commit": commit}


def _files(path: Path) -> dict[str, str]:
    if path.is_file():
        return {path.name: _digest(path)} | dict.fromkeys(neighbours(path), "beside")
    files = (file for file in list_files(path) if file.is_file())
    return {file.relative_to(path).as_posix(): _digest(file) for file in files}


def _digest(file: Path) -> str:
    return digest_file(file) if file.stat().st_size < SMALL else remembered_digest(file)


def _was_made_from(origin: Origin, task: PreparedTask, settings: TaskSettings) -> bool:
    """Say whether the rows were still those of `origin` when they were read."""
    if "commit" in origin:
        return task.source.endswith(name_commit(origin["commit"]))
    return _origin(settings) == origin


def _encode(task: PreparedTask) -> bytes:
    """Return a task as safetensors; what is no array is JSON in one of bytes."""
    record: dict[str, Any] = {name: getattr(task, name) for name in PLAIN}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for part in PARTS:
        examples = getattr(task, part)
        if examples is None:
            continue
        record[part] = {name: getattr(examples, name) for name in TEXTS}
        arrays |= {f"{part}.{name}": getattr(examples, name) for name in ARRAYS}
    arrays["record"] = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)
    return save(arrays)


def _decode(content: bytes) -> PreparedTask:
    arrays = load(content)
    fields = json.loads(arrays["record"].tobytes())
    fields["notes"] = tuple(fields["notes"])
    for part in PARTS:
        if part not in fields:
            continue
        texts: dict[str, Any] = {name: tuple(fields[part][name]) for name in TEXTS}
        fields[part] = TokenisedExamples(**texts | {name: arrays[f"{part}.{name}"] for name in ARRAYS})
    return PreparedTask(**fields)
