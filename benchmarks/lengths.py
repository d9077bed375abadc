"""Real examples' lengths, kept as numbers so that a benchmark needs no data, and examples made up to them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.ledger.atomic_write import publish_bytes
from trainables.tasks.tokenised import TokenisedExamples

FILE = Path(__file__).parent / "lengths.json"
EXAMPLES = 320  # of each set
MAX_LENGTH = 2048
SETS: dict[str, dict[str, Any]] = {
    "math": {"name": "math"},
    "hotpotqa_all": {"name": "hotpotqa", "paragraphs": "all"},
    "hotpotqa_supporting": {"name": "hotpotqa", "paragraphs": "supporting"},
}

Pairs = Sequence[Sequence[int]]  # (length, prompt_length) of each example


@dataclass(frozen=True)
class Lengths:
    """The sets by their names in SETS, longer examples than `max_length` tokens left out."""

    tokenizer: str
    max_length: int
    sets: dict[str, Pairs]

    def record(self) -> dict[str, Any]:
        """Return what a result says of them: how many, and how long on average."""
        means = {name: np.array(pairs).mean(0).round(1).tolist() for name, pairs in self.sets.items()}
        return {
            "tokenizer": self.tokenizer,
            "max_length": self.max_length,
            "examples": {name: len(pairs) for name, pairs in self.sets.items()},
            "mean_length": {name: mean[0] for name, mean in means.items()},
            "mean_prompt_length": {name: mean[1] for name, mean in means.items()},
        }


def read_lengths(path: Path = FILE) -> Lengths:
    """Read what `write_lengths` wrote."""
    return Lengths(**json.loads(path.read_text()))


def write_lengths(lengths: Lengths, path: Path = FILE) -> None:
    """Publish the file, a set a line."""
    record = asdict(lengths)
    sets = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(pairs)}" for name, pairs in record["sets"].items())
    head = json.dumps({name: value for name, value in record.items() if name != "sets"})
    publish_bytes(path, f'{head[:-1]}, "sets": {{\n  {sets}\n}}}}\n'.encode())


def measure_lengths(folder: Path, *, examples: int = EXAMPLES) -> Lengths:
    """Tokenise the real data in `folder` with SmolLM2's tokenizer. Raises TaskError where it does not do."""
    from benchmarks.study import DATA_FILES
    from trainables.model.sources import SMOLLM2_ALIAS, SMOLLM2_HUB_ID, load_tokenizer, resolve_model
    from trainables.settings import ModelSettings, TaskSettings
    from trainables.tasks.prepare import prepare_task

    tokenizer = load_tokenizer(resolve_model(ModelSettings(name=SMOLLM2_ALIAS)))
    sets = {}
    for name, values in SETS.items():
        path = folder / DATA_FILES[values["name"]]
        settings = TaskSettings(**values, path=path, train=examples, validation=1)
        drawn = prepare_task(settings, tokenizer=tokenizer, max_length=MAX_LENGTH).train
        sets[name] = np.stack([drawn.lengths, drawn.prompt_lengths], axis=1).tolist()
    return Lengths(SMOLLM2_HUB_ID, MAX_LENGTH, sets)


def make_up(pairs: Pairs, *, vocabulary: int, seed: int = 0) -> TokenisedExamples:
    """Return examples of these lengths whose tokens are random."""
    lengths, prompts = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    tokens = np.random.default_rng(seed).integers(0, vocabulary, offsets[-1], dtype=np.int32)
    n = len(pairs)
    nothing = (None,) * n
    names = tuple(str(index) for index in range(n))
    return TokenisedExamples(
        tokens, offsets, prompts.astype(np.int32), np.full(n, np.nan), nothing, nothing, names
    )
