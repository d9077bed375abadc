"""Task A's training pool as a strategy sees it: the family of its columns, and what there is of them.

Columns of the data and of Phase A's artifact are there by themselves; the others are computed once an
artifact, where a strategy of the study needs them (`trainables.columns`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from trainables.ledger.errors import UserError

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


class SelectionError(UserError):
    """A strategy or mix that task A's pool cannot serve."""


@dataclass(frozen=True)
class Column:
    """What a column holds, and where it is from: task A's data, Phase A's artifact, or a computation of its
    own once Phase A has ended.
    """

    meaning: str
    origin: Literal["data", "artifact", "computed"]


COLUMNS: dict[str, Column] = {
    "difficulty": Column("(n,) larger is harder, NaN where it is unknown", "data"),
    "lengths": Column("(n,) tokens, prompt included", "data"),
    "strata": Column("(n,) a number for each pair of level and type, where there are several", "data"),
    "losses": Column("(n,) nats a supervised token after Phase A", "artifact"),
    "base_losses": Column("(n,) nats a supervised token before Phase A", "computed"),
    "learning_curve": Column(
        "(n, points) nats a supervised token as Phase A goes on, at each tenth of the steps that it may take",
        "computed",
    ),
    "embeddings": Column(
        "(n, d) the last hidden state after Phase A, mean over an example's tokens", "computed"
    ),
    "task_b_embeddings": Column("(m, d) the same of task B's training examples", "computed"),
    "gradients": Column(
        "(n, k) the gradient of an example's loss by the adapter after Phase A, randomly projected",
        "computed",
    ),
    "task_b_gradients": Column("(m, k) the same of task B's first training examples", "computed"),
    "forgotten": Column(
        "(n,) rise of the loss, nats a supervised token, over one run of Phase B without replay, on a seed "
        "that no study has",
        "computed",
    ),
}


@dataclass(frozen=True)
class Pool:
    """Task A's training pool; NaN marks an example without a value.

    `difficulty`: (n,) larger is harder. `losses`: (n,) nats a supervised token after Phase A, or
    None where Phase A has not run yet. `columns`: further ones that there are, by name, of COLUMNS.
    """

    size: int
    difficulty: Floats
    losses: Floats | None = None
    columns: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def present(self) -> dict[str, Array]:
        """Return the columns that have a value at all, by name."""
        named = {"difficulty": self.difficulty, "losses": self.losses, **self.columns}
        return {
            name: _read_only(values)
            for name, values in named.items()
            if values is not None and not bool(np.isnan(values).all())
        }

    def column(self, name: str) -> Array:
        """Return a column. Raises SelectionError where there is none."""
        if name not in self.present:
            raise SelectionError(
                f"task A's training pool lacks {name!r}; it has: {', '.join(self.present) or 'no column'}"
            )
        return self.present[name]

    @cached_property
    def ranks(self) -> dict[str, Indices]:
        """Return the dense ranks of each column there is, ascending and descending, NaN last in both."""
        present = {"difficulty": self.difficulty, "losses": self.losses}
        return {
            f"{name} {direction}": dense_ranks(values if direction == "ascending" else -values)
            for name, values in present.items()
            if values is not None
            for direction in ("ascending", "descending")
        }

    @cached_property
    def directions(self) -> Array:
        """Return (n, d) each embedding as it differs from their mean, at length 1; fp64, so that no choice
        hangs on how a processor rounds.
        """
        embeddings = self.column("embeddings").astype(np.float64)
        return unit_rows(embeddings - embeddings.mean(axis=0))

    def similarity(self, index: int) -> Array:
        """Return (n,) the cosine of each of `directions` with one of them."""
        found: Array = self.directions @ self.directions[index]
        return found


class PoolExamples(Protocol):
    """A training pool's examples."""

    @property
    def difficulty(self) -> Floats: ...
    @property
    def lengths(self) -> Indices: ...
    @property
    def levels(self) -> Sequence[str | None]: ...
    @property
    def types(self) -> Sequence[str | None]: ...


def open_pool(
    examples: PoolExamples, *, losses: Floats | None = None, computed: Mapping[str, Array] | None = None
) -> Pool:
    """Return the pool of task A's training examples, with what is known of them after Phase A."""
    lengths = examples.lengths
    columns: dict[str, Array] = {"lengths": lengths, **(computed or {})}
    pairs = list(zip(examples.levels, examples.types, strict=True))
    if len(set(pairs)) > 1:
        numbers = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
        columns["strata"] = np.array([numbers[pair] for pair in pairs], np.int64)
    return Pool(len(lengths), examples.difficulty, losses, columns)


def _read_only(values: Array) -> Array:
    """Return the same numbers, which a strategy cannot change for others."""
    view = values.view()
    view.flags.writeable = False
    return view


def unit_rows(rows: Array) -> Array:
    """Return the rows at length 1; one of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Array = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return found


def dense_ranks(values: Floats) -> Indices:
    """Return (n,) the place of each value among the distinct ones, NaN last; a few bits sort fast."""
    distinct, ranks = np.unique(values, return_inverse=True)
    return ranks.astype(np.min_scalar_type(len(distinct)))
