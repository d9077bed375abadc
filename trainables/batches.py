"""Cutting a set of examples into padded microbatches of a bounded number of tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainables.tasks.tokenised import TokenisedExamples


@dataclass(frozen=True)
class Microbatch:
    """Some examples, padded on the right to the longest.

    `positions`: (m,) where each example stood in the set that was cut. `tokens`, `attended`:
    (m, t). `predicts`: (m, t), true where the model's output is supervised by the next token.
    """

    positions: npt.NDArray[np.int64]
    tokens: torch.Tensor
    attended: torch.Tensor
    predicts: torch.Tensor

    def to(self, device: torch.device) -> "Microbatch":
        return Microbatch(
            self.positions, self.tokens.to(device), self.attended.to(device), self.predicts.to(device)
        )


Example = tuple[TokenisedExamples, int]


def cut_into_microbatches(
    examples: Sequence[Example], *, token_budget: int, loss_on: str
) -> Iterator[Microbatch]:
    """Yield every example once, like lengths together, at most `token_budget` padded tokens each.

    An example longer than the budget makes a microbatch of its own. Longest first, so that memory
    runs out at once if it runs out at all.
    """
    lengths = np.array([task.lengths[index] for task, index in examples])
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, token_budget // int(lengths[order[start]]))
        chosen = order[start : start + count]
        yield _pad([examples[position] for position in chosen], chosen, loss_on=loss_on)
        start += count


def _pad(examples: Sequence[Example], positions: npt.NDArray[np.int64], *, loss_on: str) -> Microbatch:
    width = max(int(task.lengths[index]) for task, index in examples)
    tokens = np.zeros((len(examples), width), np.int64)
    attended = np.zeros((len(examples), width), np.int64)
    predicts = np.zeros((len(examples), width), bool)
    for row, (task, index) in enumerate(examples):
        text = task.example(index)
        tokens[row, : len(text)] = text
        attended[row, : len(text)] = 1
        first = 1 if loss_on == "all" else int(task.prompt_lengths[index])
        predicts[row, first - 1 : len(text) - 1] = True
    return Microbatch(
        positions.astype(np.int64),
        torch.from_numpy(tokens),
        torch.from_numpy(attended),
        torch.from_numpy(predicts),
    )
