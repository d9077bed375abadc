"""How many tokens fit into a device's memory beside a model: as measured there, or before there is a device.

Imports nothing heavy: `plan` asks it too.
"""

from dataclasses import dataclass
from typing import NamedTuple

from trainables.engine.compute_plan import Work

SMALLEST_BUDGET = 128  # tokens; below this a smaller microbatch saves nothing worth having
LARGEST: dict[str, dict[Work, int]] = {  # more tokens at a time gain nothing beyond these
    "cpu": {"training": 1024, "evaluation": 2048},
    "cuda": {"training": 32768, "evaluation": 131072},
}
USEFUL_TOKENS = {"cpu": 256, "cuda": 4096}  # below these a device idles, and recomputing layers pays
SHARE = 0.5  # of what is there; the rest is for workspace and fragmentation
CARDS = (16, 24, 40, 80, 141)  # GB that GPUs have: T4, 4090 or L4, A100, H100, H200
GIGABYTE = 1e9
BYTES_PACKED = 0.5 + 4 / 64  # of a weight in 4 bits, with its part of a block's scale
BYTES_TRAINED = 16  # of an adapter's number: fp32, with its gradient and AdamW's two moments


class Tokens(NamedTuple):
    """Tokens of a microbatch for each kind of work, and whether layers are recomputed for a useful one."""

    training: int
    evaluation: int
    recomputed: bool


@dataclass(frozen=True)
class Footprint:
    """What a model needs of a device: bytes of its frozen weights and of one adapter in training, the bytes a
    token that the forward pass keeps for the backward pass, and those of one layer's input.
    """

    weights: float
    adapter: float
    token: float
    state: float
    layers: int

    def tokens(self, room: float, *, device: str) -> Tokens:
        """Return what fits into the useful share of `room`, the bytes beside the weights."""
        useful = SHARE * room
        training = _power_of_two(useful / self.token, LARGEST[device]["training"])
        recomputed = training < USEFUL_TOKENS[device]
        if recomputed:
            training = _power_of_two(useful / self._recomputed, LARGEST[device]["training"])
        evaluation = _power_of_two(useful / self.token * self.layers, LARGEST[device]["evaluation"])
        return Tokens(training, max(evaluation, training), recomputed)

    def least(self, longest: int, *, cells: int) -> float:
        """Return the bytes without which nothing is trained: an example of `longest` tokens, layers
        recomputed.
        """
        return self.weights + cells * (self.adapter + longest * self._recomputed)

    @property
    def _recomputed(self) -> float:
        """Bytes a token where each layer's input alone is kept."""
        return self.token / self.layers + self.state * self.layers

    def on_cards(self, longest: int, *, gpus: float, cells: int) -> list[str]:
        """Return a line on what is needed, and one on what that means on GPUs of each size in CARDS, for a
        trial that is given `gpus` of one.
        """
        needed = self.least(longest, cells=cells)
        first = (
            f"{_size(self.weights)} of weights, {_size(cells * self.adapter)} of adapters and their "
            f"optimisers, {_size(self.token)} a token (estimated); at least {_size(needed)} for the longest "
            f"example, {longest:,} tokens"
        )
        ends = []
        for card in CARDS:
            given = card * GIGABYTE * gpus
            if given < needed:
                ends.append(f"{card} GB: does not fit")
                continue
            tokens = self.tokens(given - self.weights - cells * self.adapter, device="cuda")
            ends.append(
                f"{card} GB: {tokens.training:,}{' (layers recomputed)' if tokens.recomputed else ''}"
            )
        part = "a GPU" if gpus == 1 else f"{gpus:g} of a GPU"
        return [first, f"tokens a microbatch with {part} of {'; '.join(ends)}"]


def _power_of_two(tokens: float, largest: int) -> int:
    return max(SMALLEST_BUDGET, min(largest, 1 << (max(1, int(tokens)).bit_length() - 1)))


def _size(count: float) -> str:
    """Return bytes in the unit that suits them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
