"""Corpora that are measured at every evaluation point and never trained on: tasks, or plain text."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.ledger.schema import WATCHED
from trainables.settings import TaskSettings, WatchSettings
from trainables.tasks.examples import Row, TaskError, content_hash, is_null, read_value
from trainables.tasks.prepare import PreparedTask
from trainables.tasks.registry import check_task
from trainables.tasks.sources import HubDataset, read_hub, read_path
from trainables.tasks.task_cache import cached_task
from trainables.tasks.tokenised import ID_LENGTH, TokenisedExamples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Say = Callable[[str], None]
OWN = set(WatchSettings.model_fields) - set(TaskSettings.model_fields)


@dataclass(frozen=True)
class Watched:
    """A corpus ready to be measured; of plain text every token but each example's first is supervised."""

    name: str
    examples: TokenisedExamples
    source: str

    def describe(self) -> str:
        return (
            f"{self.name}, {len(self.examples)} examples, {self.examples.lengths.mean():.0f} tokens on "
            f"average ({self.source})"
        )


def check_watched(settings: WatchSettings) -> WatchSettings:
    """Return `settings`. Raises ValueError where they name no corpus, or ask of it what it does not have."""
    if "train" in settings.model_fields_set:
        raise ValueError("train is of no use: nothing of a watched corpus is trained on; give validation")
    if settings.name.endswith("_base"):
        raise ValueError("its name may not end in '_base', which names the base model's losses")
    if settings.text is None:
        if settings.hub is not None:
            raise ValueError("hub is for plain text: name its column by text, or describe a task with path")
        check_task(as_task(settings))
        return settings
    task_fields = ("prompt", "completion", "difficulty", "score")
    given = [name for name in task_fields if getattr(settings, name) is not None]
    if given:
        raise ValueError(f"{', '.join(given)}: plain text (text) has no prompts; leave one or the other out")
    if (settings.path is None) == (settings.hub is None):
        raise ValueError("text names a column of plain text: give its source, either path or hub")
    if settings.subset is not None and settings.hub is None:
        raise ValueError("subset is of a data set on the hub: give hub")
    return settings


def as_task(settings: WatchSettings) -> TaskSettings:
    """Return the task that a watched one is; a single example of its training set is drawn, and not used."""
    return TaskSettings.model_validate(settings.model_dump(exclude=OWN) | {"train": 1})


def prepare_watched(
    settings: WatchSettings,
    *,
    tokenizer: "Callable[[], PreTrainedTokenizerBase]",
    identity: str | None,
    max_length: int,
    say: Say = lambda message: None,
) -> Watched:
    """Return the corpus tokenised. Raises TaskError where its source or the number of its examples does not
    do.
    """
    if settings.text is None:
        own = as_task(settings)
        try:
            task = cached_task(own, tokenizer=tokenizer, identity=identity, max_length=max_length, say=say)
        except TaskError as error:
            raise TaskError(
                f"evaluation.watch, {settings.name}: {error} (a watched task needs one row more than its "
                "validation examples)"
            ) from error
        return Watched(settings.name, task.validation, task.source)
    try:
        rows, source = _read_text(settings)
        blocks = _blocks(rows, settings, tokenizer=tokenizer(), length=max_length)
    except TaskError as error:
        raise TaskError(f"evaluation.watch, {settings.name}: {error}") from error
    return Watched(settings.name, blocks, source)


def validation_sets(
    task_a: PreparedTask, task_b: PreparedTask, watched: Iterable[Watched]
) -> dict[str, TokenisedExamples]:
    """Return all that is measured at an evaluation point, by the names that its losses have."""
    sets = {"task_a": task_a.validation, "task_b": task_b.validation}
    return sets | {f"{WATCHED}{corpus.name}": corpus.examples for corpus in watched}


def refuse_trained_on(watched: Watched, training: TokenisedExamples, *, task: str) -> None:
    """Raise TaskError where a watched task shares examples with a training pool: it would measure memory.

    Examples are the same where the same is asked in the same words; plain text is not looked through.
    """
    shared = len({*watched.examples.ids} & {*training.ids})
    if shared:
        raise TaskError(
            f"evaluation.watch, {watched.name}: {shared} of its {len(watched.examples)} examples are in the "
            f"training pool of task {task}; give another source or seed"
        )


def _read_text(settings: WatchSettings) -> tuple[Iterable[Row], str]:
    """Return the rows to read text from, and the source in words: a validation split where there is one."""
    assert settings.text is not None
    path = settings.path
    if path is not None and path.is_file() and path.suffix == ".txt":
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"{path.name} cannot be read as UTF-8 text ({error})") from error
        return [{settings.text: line} for line in lines], f"file {path.name}"
    if path is not None:
        splits = read_path(path)
    else:
        assert settings.hub is not None
        splits = read_hub(HubDataset(settings.hub, settings.subset))
    rows = splits.train if splits.validation is None else splits.validation
    return (rows[index] for index in range(len(rows))), splits.source


def _blocks(
    rows: Iterable[Row], settings: WatchSettings, *, tokenizer: "PreTrainedTokenizerBase", length: int
) -> TokenisedExamples:
    """Return the text cut into `validation` examples of `length` tokens, documents after one another.

    Each begins with BOS where the tokenizer has one; its first token is not supervised.
    """
    bos = tokenizer.bos_token_id
    opening = [bos] if isinstance(bos, int) else []
    needed = settings.validation * (length - len(opening))
    tokens: list[int] = []
    for piece in _pieces(rows, column=str(settings.text)):
        encoded = tokenizer(piece, add_special_tokens=False, split_special_tokens=True, verbose=False)
        tokens += encoded["input_ids"]
        if len(tokens) >= needed:
            break
    if len(tokens) < needed:
        available = len(tokens) // (length - len(opening))
        raise TaskError(
            f"validation asks for {settings.validation} examples of {length} tokens (max_length); the text "
            f"makes {available}: lower validation or max_length"
        )
    body = np.array(tokens[:needed], np.int32).reshape(settings.validation, -1)
    whole = np.concatenate([np.full((len(body), len(opening)), bos or 0, np.int32), body], axis=1)
    nothing: tuple[Any, ...] = (None,) * len(whole)
    return TokenisedExamples(
        tokens=whole.ravel(),
        offsets=np.arange(len(whole) + 1, dtype=np.int64) * length,
        prompt_lengths=np.ones(len(whole), np.int32),
        difficulty=np.full(len(whole), np.nan),
        levels=nothing,
        types=nothing,
        ids=tuple(content_hash(" ".join(map(str, block)))[:ID_LENGTH] for block in whole.tolist()),
    )


def _pieces(rows: Iterable[Row], *, column: str) -> Iterator[str]:
    for row in rows:
        value = read_value(row, column=column)
        if is_null(value):
            continue
        if not isinstance(value, str):
            raise TaskError(f"column {column!r} must hold text, got {type(value).__name__}")
        if value.strip():
            yield value + "\n"
