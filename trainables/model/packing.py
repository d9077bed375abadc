"""Packing examples into microbatches without padding between them.

A microbatch has a row for each adapter that trains (a run); whole examples lie in it end to end.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from trainables.model.dropout import DropoutStream
from trainables.tasks.tokenised import TokenisedExamples

WORTHWHILE = 0.8  # of a row's positions; choosing among more costs what it saves
Example = tuple[TokenisedExamples, int]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AdapterBatch:
    """The examples that one run computes at a time; `dropout` is None where nothing is dropped.

    `loss_on` says which tokens are supervised, `step` is the optimiser step, for the masks; `weight` is what
    the loss of a token counts in the objective.
    """

    examples: Sequence[Example]
    loss_on: Literal["completion", "all"]
    dropout: DropoutStream | None = None
    step: int = 0
    weight: float = 1.0


class Tail(NamedTuple):
    """The positions of one run's row whose output is needed: of each example from the last one before its
    first supervised token to its end, so that a causal attention over all its keys is aligned at the end.

    `flat`: (q,) flat positions. `bounds`: (m + 1,) int32, ends of the examples among them. `supervised`: (s,)
    where in `flat` the supervised positions are.
    """

    flat: torch.Tensor
    bounds: torch.Tensor
    supervised: torch.Tensor


@dataclass(frozen=True)
class Microbatch:
    """K rows of T tokens; positions in the flattened rows (K * T) are called flat.

    `tokens`, `positions`: (K, T). `bounds`: (segments + 1,) int32, flat ends of the examples and of the
    padding behind a row's last one; `longest` of them. `supervised`, `targets`: (s,) flat positions whose
    output is supervised and the tokens they should predict, example by example; `weights`: (s,) fp32, what
    each counts. `counts`: (m,) supervised tokens of each example; `runs`, `places`: (m,) its row and where it
    stood in the run's batch. `mask_rows`: (layers, K * T) or None. `tail`: what the last layer is needed for,
    None where that is nearly everything or there are several rows.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    bounds: torch.Tensor
    longest: int
    supervised: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    counts: Ints
    runs: Ints
    places: Ints
    mask_rows: torch.Tensor | None
    tail: Tail | None = None

    def to(self, device: torch.device) -> "Microbatch":
        """Return the microbatch on `device`; to a GPU the copy runs while other work goes on."""
        if device.type == "cpu":
            return self

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.pin_memory().to(device, non_blocking=True)

        moved: dict[str, Any] = {
            field.name: move(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        tail = None if self.tail is None else Tail(*map(move, self.tail))
        return replace(self, **moved, tail=tail)


def pack(runs: Sequence[AdapterBatch], *, token_budget: int) -> list[Microbatch]:
    """Return microbatches that hold every run's examples once, of at most `token_budget` tokens each.

    An example longer than its run's share of the budget gets a row of its own. The longest examples
    come first, so that memory runs out at once if it runs out at all.
    """
    share = max(1, token_budget // len(runs))
    bins = [_fill_bins(_lengths(run.examples), share) for run in runs]
    deepest = max(len(run_bins) for run_bins in bins)
    return [
        _lay_out(runs, [run_bins[number] if number < len(run_bins) else [] for run_bins in bins])
        for number in range(deepest)
    ]


def _lengths(examples: Sequence[Example]) -> Ints:
    return np.array([task.offsets[index + 1] - task.offsets[index] for task, index in examples], np.int64)


def _fill_bins(lengths: Ints, capacity: int) -> list[list[int]]:
    """Put every item into the fullest bin with room for it, longest item first (best-fit decreasing)."""
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, bin), ascending
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        fitting = bisect.bisect_left(room, (length, -1))
        if fitting == len(room):
            bins.append([item])
            left, number = capacity - length, len(bins) - 1
        else:
            left, number = room.pop(fitting)
            bins[number].append(item)
            left -= length
        if left > 0:
            bisect.insort(room, (left, number))
    return bins


def _lay_out(runs: Sequence[AdapterBatch], chosen: Sequence[Sequence[int]]) -> Microbatch:
    """Lay the chosen examples of each run into its row."""
    lengths = [_lengths([run.examples[i] for i in row]) for run, row in zip(runs, chosen, strict=True)]
    width, longest = int(max(map(np.sum, lengths))), int(np.concatenate(lengths).max())
    tokens = np.zeros((len(runs), width), np.int64)
    positions = np.zeros_like(tokens)
    layers = next((run.dropout.layers for run in runs if run.dropout is not None), None)
    masks = None if layers is None else np.zeros((layers, len(runs), width), np.int64)
    bounds, supervised, targets, weights = [0], [], [], []
    counts, owners, places = [], [], []
    for number, (run, row) in enumerate(zip(runs, chosen, strict=True)):
        start = 0
        for place in row:
            task, index = run.examples[place]
            text = task.example(index)
            end = start + len(text)
            tokens[number, start:end] = text
            positions[number, start:end] = np.arange(len(text))
            if masks is not None and run.dropout is not None:
                masks[:, number, start:end] = run.dropout.rows(run.step, place, len(text))
            first = 1 if run.loss_on == "all" else int(task.prompt_lengths[index])
            supervised.append(number * width + start + np.arange(first - 1, len(text) - 1))
            targets.append(text[first:])
            weights.append(np.full(len(text) - first, run.weight, np.float32))
            counts.append(len(text) - first)
            owners.append(number)
            places.append(place)
            bounds.append(number * width + end)
            start = end
        for padding in range(start, width, longest):  # in pieces, so that it never looks like a long example
            end = min(padding + longest, width)
            positions[number, padding:end] = np.arange(end - padding)
            bounds.append(number * width + end)
    return Microbatch(
        tokens=torch.from_numpy(tokens),
        positions=torch.from_numpy(positions),
        bounds=torch.tensor(bounds, dtype=torch.int32),
        longest=longest,
        supervised=torch.from_numpy(np.concatenate(supervised).astype(np.int64)),
        targets=torch.from_numpy(np.concatenate(targets).astype(np.int64)),
        weights=torch.from_numpy(np.concatenate(weights)),
        counts=np.array(counts, np.int64),
        runs=np.array(owners, np.int64),
        places=np.array(places, np.int64),
        mask_rows=None if masks is None or layers is None else torch.from_numpy(masks.reshape(layers, -1)),
        tail=_tail(bounds, counts, width) if len(runs) == 1 else None,
    )


def _tail(bounds: Sequence[int], counts: Sequence[int], width: int) -> Tail | None:
    """Return the tail of a row whose examples end at `bounds` and have `counts` supervised tokens each."""
    lengths = np.array(counts, np.int64) + 1
    ends = np.cumsum(lengths)
    if ends[-1] > WORTHWHILE * width:
        return None
    places = np.arange(ends[-1])
    example = np.repeat(np.arange(len(lengths)), lengths)
    flat = places + (np.array(bounds[1:]) - ends)[example]
    return Tail(
        flat=torch.from_numpy(flat),
        bounds=torch.from_numpy(np.concatenate(([0], ends)).astype(np.int32)),
        supervised=torch.from_numpy(np.delete(places, ends - 1)),
    )
