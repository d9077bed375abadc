"""A task made ready for training: sampled, free of duplicates, within the length limit, tokenised."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.settings import TaskSettings
from trainables.tasks.examples import Example, Row, TaskError
from trainables.tasks.registry import find_task
from trainables.tasks.sources import HubDataset, Rows, Splits, read_hub, read_path
from trainables.tasks.tokenised import Encoded, TokenisedExamples, encode_examples, join, pack
from trainables.tasks.wording import word_example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A generated task gives up after this many rows for each one asked for.
GENERATED_ROWS_PER_EXAMPLE = 20
CHUNK = 1000  # examples that are read and tokenised at a time
SECONDS_BETWEEN_LINES = 10.0  # of what says how far a preparation is

Say = Callable[[str], None]
PlacedRows = Iterator[tuple[str, Row]]  # a row and where it is, for messages


@dataclass(frozen=True)
class PreparedTask:
    """Two disjoint sets of examples and what was passed over to fill them.

    `dropped` counts over-long examples, `duplicates` those with a question that was met before,
    `without_paragraphs` the examples whose question stands alone although the task has paragraphs. `notes`
    say what of the source is not used. `digest` covers both sets. `score`: how generated answers are judged.
    `fresh`: further examples, of which no run trains on any but `fresh_b`.
    """

    name: str
    train: TokenisedExamples
    validation: TokenisedExamples
    dropped: int
    duplicates: int
    without_paragraphs: int
    source: str
    notes: tuple[str, ...]
    digest: str
    score: str = "text"
    fresh: TokenisedExamples | None = None

    @cached_property
    def all_training(self) -> TokenisedExamples:
        """The training examples, and the fresh ones behind them."""
        return self.train if self.fresh is None else join(self.train, self.fresh)

    def record(self) -> dict[str, Any]:
        """Return where the examples are from and what was left out, as JSON."""
        counts = {"dropped": self.dropped, "duplicates": self.duplicates}
        counts["without_paragraphs"] = self.without_paragraphs
        return {"source": self.source, **counts, "notes": list(self.notes)}

    def describe(self) -> list[str]:
        """Say what was prepared and what was left out: one line, and one for each note."""
        parts = [
            f"{self.name}, {len(self.train)} + {len(self.validation)} examples",
            f"{self.train.lengths.mean():.0f} tokens on average",
            f"{self.dropped} over-long dropped",
            f"{self.duplicates} duplicates dropped",
        ]
        if self.without_paragraphs:
            parts.append(f"{self.without_paragraphs} without any paragraph")
        return [f"{', '.join(parts)} ({self.source})", *(f"{self.name}: {note}" for note in self.notes)]


def prepare_task(
    settings: TaskSettings,
    *,
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    fresh: int = 0,
    say: Say = lambda message: None,
) -> PreparedTask:
    """Draw and tokenise a task's validation and training examples; `say` is told how far a long one is.

    Validation is drawn first, so asking for more training examples leaves it as it is; `fresh` ones, which
    are in neither, are drawn last. All depend on `settings.seed` only, never on a replicate's. Raises
    TaskError where the source, a row or the
    number of fitting examples does not do.
    """
    rows, validation_rows, source, notes = _open_rows(settings, fresh=fresh)
    draw = _Draw(settings, tokenizer=tokenizer, max_length=max_length, say=say)
    validation = draw.take(validation_rows, count=settings.validation, field="validation")
    train = draw.take(rows, count=settings.train, field="train")
    further = draw.take(rows, count=fresh, field="search.mix of fresh_b") if fresh else None
    if settings.difficulty is not None and np.isnan(train.difficulty).all():
        raise TaskError(
            f"task {settings.name}: no training example has a readable difficulty in column "
            f"{settings.difficulty!r} (one is {train.levels[0]!r}); use numbers, text with one number in it, "
            f"or easy, medium, hard"
        )
    if settings.paragraphs == "supporting" and draw.without_paragraphs == len(train) + len(validation):
        raise TaskError(
            f"task {settings.name}: none of the {draw.without_paragraphs} examples has a supporting "
            "paragraph: no title in supporting_facts is one in context. Use paragraphs: all, or mend the data"
        )
    if draw.with_part_of_them:
        notes = (*notes, f"{draw.with_part_of_them} examples lack some of their supporting paragraphs")
    return PreparedTask(
        name=settings.name,
        train=train,
        validation=validation,
        dropped=draw.dropped,
        duplicates=draw.duplicates,
        without_paragraphs=draw.without_paragraphs,
        source=source,
        notes=notes,
        digest=hashlib.sha256((train.digest + validation.digest).encode()).hexdigest(),
        score=settings.score or find_task(settings).score,
        fresh=further,
    )


def _open_rows(settings: TaskSettings, *, fresh: int) -> tuple[PlacedRows, PlacedRows, str, tuple[str, ...]]:
    """Return the rows to draw train and validation from, the source in words, and what of it is not used;
    the two are one iterator where validation is carved out of train."""
    task = find_task(settings)
    train_seed, validation_seed = np.random.SeedSequence(settings.seed).spawn(2)
    if task.generate_rows is not None:
        limit = GENERATED_ROWS_PER_EXAMPLE * (settings.train + settings.validation + fresh)
        generated = islice(task.generate_rows(np.random.default_rng(train_seed)), limit)
        rows = ((f"generated row {number}", row) for number, row in enumerate(generated, start=1))
        return rows, rows, "generated", ()
    try:
        splits = _read_splits(settings, hub=task.hub)
    except TaskError as error:
        raise TaskError(f"task {settings.name}: {error}") from error
    train = _shuffle(splits.train, seed=train_seed, split="train")
    if splits.validation is None:
        return train, train, splits.source, splits.notes
    validation = _shuffle(splits.validation, seed=validation_seed, split="validation")
    return train, validation, splits.source, splits.notes


def _read_splits(settings: TaskSettings, *, hub: HubDataset | None) -> Splits:
    if settings.path is not None:
        return read_path(settings.path, hub=hub)
    assert hub is not None, "TaskSettings requires a path of a task that is not built in"
    return read_hub(hub)


def _shuffle(rows: Rows, *, seed: np.random.SeedSequence, split: str) -> PlacedRows:
    for index in np.random.default_rng(seed).permutation(len(rows)).tolist():
        yield f"row {index + 1} of {split}", rows[index]


class _Draw:
    """Takes sets of examples from streams of rows; no question is taken twice, whatever its answer."""

    def __init__(
        self,
        settings: TaskSettings,
        *,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
        say: Say,
    ) -> None:
        self.settings = settings
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.say = say
        self.told = time.monotonic()
        self.seen: set[str] = set()
        self.bare: set[str] = set()  # of those seen, without a paragraph
        self.lacking: set[str] = set()  # of those seen, with some of their paragraphs and not all
        self.walked = 0
        self.dropped = 0
        self.duplicates = 0
        self.without_paragraphs = 0
        self.with_part_of_them = 0

    def take(self, rows: PlacedRows, *, count: int, field: str) -> TokenisedExamples:
        """Return the first `count` new examples that fit; no chunk holds more than are missing, so
        nothing is tokenised or counted beyond the last one taken."""
        walked, dropped, duplicates = self.walked, self.dropped, self.duplicates
        examples: list[Example] = []
        encoded: list[Encoded] = []
        while len(examples) < count:
            self._tell(len(examples), count=count, field=field)
            chunk = list(islice(self._read_new_examples(rows), min(count - len(examples), CHUNK)))
            if not chunk:
                raise TaskError(
                    f"task {self.settings.name}: {field} asks for {count} examples; {len(examples)} of the "
                    f"{self.walked - walked} rows it can draw from fit max_length {self.max_length} "
                    f"({self.dropped - dropped} are longer, {self.duplicates - duplicates} are duplicates): "
                    f"lower {field} or raise max_length"
                )
            tokens = encode_examples(
                chunk, tokenizer=self.tokenizer, prompt_format=self.settings.prompt_format
            )
            for example, one in zip(chunk, tokens, strict=True):
                if len(one.tokens) > self.max_length:
                    self.dropped += 1
                else:
                    examples.append(example)
                    encoded.append(one)
                    self.without_paragraphs += example.content in self.bare
                    self.with_part_of_them += example.content in self.lacking
        return pack(examples, encoded=encoded)

    def _tell(self, taken: int, *, count: int, field: str) -> None:
        now = time.monotonic()
        if now - self.told >= SECONDS_BETWEEN_LINES:
            self.told = now
            self.say(f"task {self.settings.name}: {taken:,} of {count:,} {field} examples prepared")

    def _read_new_examples(self, rows: PlacedRows) -> Iterator[Example]:
        read_item = find_task(self.settings).read_item
        for place, row in rows:
            self.walked += 1
            try:
                item = read_item(row, settings=self.settings)
                example = word_example(item, settings=self.settings, tokenizer=self.tokenizer)
            except TaskError as error:
                raise TaskError(f"task {self.settings.name}, {place}: {error}") from error
            if example.content in self.seen:
                self.duplicates += 1
            else:
                self.seen.add(example.content)
                if item.paragraphs == 0:
                    self.bare.add(example.content)
                elif item.lacking:
                    self.lacking.add(example.content)
                yield example
