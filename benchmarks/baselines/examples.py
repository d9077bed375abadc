"""A study's prepared examples as HF `Trainer` takes them: data sets of token lists, labels, an order."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from torch.utils.data import Dataset, Sampler
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from trainables.replay.batch_order import Stream
from trainables.tasks.tokenised import TokenisedExamples

Padding = Literal["max_length", "longest"]
IGNORED = -100  # the label that the loss of transformers leaves out
Tasks = tuple[TokenisedExamples, TokenisedExamples]


class Examples(Dataset[dict[str, list[int]]]):
    """Token lists and labels; the prompt's labels are IGNORED unless `loss_on` is "all"."""

    def __init__(self, members: Sequence[tuple[TokenisedExamples, int]], *, loss_on: str) -> None:
        self.items = [_item(task, index, loss_on=loss_on) for task, index in members]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self.items[index]


def _item(task: TokenisedExamples, index: int, *, loss_on: str) -> dict[str, list[int]]:
    tokens: list[int] = task.example(index).tolist()
    unsupervised = 0 if loss_on == "all" else int(task.prompt_lengths[index])
    labels = [IGNORED] * unsupervised + tokens[unsupervised:]
    return {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels}


def collator(
    tokenizer: PreTrainedTokenizerBase, *, padding: Padding, max_length: int
) -> DataCollatorForSeq2Seq:
    """Return the stock collator, padding on the right; EOS pads where the tokenizer has no token for it."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return DataCollatorForSeq2Seq(tokenizer, padding=padding, max_length=max_length)


def sorted_set(task: TokenisedExamples) -> tuple[Examples, np.ndarray]:
    """Return a set for evaluation, longest first, and where each of its examples stood: (n,)."""
    places = np.argsort(-task.lengths, kind="stable")
    return Examples([(task, int(place)) for place in places], loss_on="completion"), places


class StudyOrder(Sampler[int]):
    """The study's own order of training, epoch by epoch, as positions in a data set."""

    def __init__(self, epochs: Sequence[Sequence[int]]) -> None:
        self.epochs = epochs
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass goes through; `Trainer` says so before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.epochs[0])

    def __iter__(self) -> Iterator[int]:
        return iter(self.epochs[self.epoch])


def training_set(stream: Stream, *, tasks: Tasks, loss_on: str) -> tuple[Examples, StudyOrder]:
    """Return every example that `stream` trains on, once, and the order in which it visits them."""
    visits = list(zip(stream.sources.tolist(), stream.indices.tolist(), strict=True))
    places = {visit: place for place, visit in enumerate(dict.fromkeys(visits))}
    ends = [*stream.offsets[:: stream.epoch_steps].tolist(), len(visits)]
    epochs = [
        [places[visit] for visit in visits[first:last]]
        for first, last in itertools.pairwise(ends)
        if last > first
    ]
    members = [(tasks[source], index) for source, index in places]
    return Examples(members, loss_on=loss_on), StudyOrder(epochs)
