"""Dropout whose masks depend on what is dropped, never on how a batch is cut or who shares it.

Every token of every adapted layer takes one row of a fixed table of independent Bernoulli masks.
Which row is drawn by a counter: (cell's dropout seed, optimiser step, place in the batch).
"""

import numpy as np
import numpy.typing as npt
import torch

TABLE_ROWS = 2**14
TABLE_SEED = 0x0D120

Rows = npt.NDArray[np.int64]


class MaskTable:
    """TABLE_ROWS masks for each width: 0 with probability `rate`, else 1."""

    def __init__(self, rate: float, *, dtype: torch.dtype, device: torch.device) -> None:
        self.rate, self.dtype, self.device = rate, dtype, device
        self._tables: dict[int, torch.Tensor] = {}

    def of_width(self, width: int) -> torch.Tensor:
        """Return the table for inputs of `width` numbers: (TABLE_ROWS, width)."""
        if width not in self._tables:
            self._tables[width] = torch.from_numpy(_kept(width, self.rate)).to(self.device, self.dtype)
        return self._tables[width]


def _kept(width: int, rate: float) -> npt.NDArray[np.bool_]:
    generator = np.random.default_rng([TABLE_SEED, width])
    return np.stack([generator.random(width, np.float32) >= rate for _ in range(TABLE_ROWS)])


class DropoutStream:
    """One cell's choice of masks: random access, so that no state has to be saved."""

    def __init__(self, seed: int, layers: int) -> None:
        self.seed, self.layers = seed, layers

    def rows(self, step: int, place: int, length: int) -> Rows:
        """Return the table rows (layers, length) of the example at `place` in the batch of `step`.

        A longer example begins with a shorter one's rows.
        """
        generator = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, place, step]))
        drawn = generator.integers(0, TABLE_ROWS, size=(length, self.layers), dtype=np.uint16)
        return drawn.T.astype(np.int64)
