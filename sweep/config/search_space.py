"""The search space: strategy x mix x seed and further axes, and the looks that end it early."""

import itertools
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from sweep.config.faults import nearest
from trainables.ledger.schema import AA, MIX, SEED, STRATEGY
from trainables.replay.controls import CONTROLS
from trainables.replay.selection import LENGTH_MATCHED
from trainables.replay.strategies import ORIGINAL, STRATEGIES
from trainables.settings import PhaseBSettings, Seed, Settings

AXES = tuple(
    sorted(set(PhaseBSettings.model_fields) - {"keep_adapters"})
)  # phase_b fields that may be searched
MOST_LABELS = 1_000_000  # points of one search space
FEWEST_SEEDS_AT_A_LOOK = 3  # fewer have no interval
PLURAL = (list, tuple, dict, set)  # what YAML can put where one value of an axis belongs


class SearchSettings(Settings):
    """The grid: strategy x mix x seed, and any `phase_b` field as a further axis.

    `seeds: {looks: [5, 10, 20]}` in place of `seed` runs seeds 0, 1, ... in blocks and judges at each look.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    strategy: Annotated[tuple[str, ...], Field(min_length=1)] = ORIGINAL
    """What fills the replay slots; strategies and controls."""
    mix: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)] = (0.1,)
    """Replayed examples for each of task B's training examples; 0 is no replay."""
    seed: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """A replicate each."""
    looks: tuple[Annotated[int, Field(ge=FEWEST_SEEDS_AT_A_LOOK, le=MOST_LABELS)], ...] = ()
    """Written as seeds: {looks: [5, 10, 20]}: the numbers of seeds at which contrasts are judged."""

    @model_validator(mode="before")
    @classmethod
    def wrap_single_values(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        wrapped = {name: item if isinstance(item, (list, tuple)) else [item] for name, item in value.items()}
        return wrapped if "seeds" not in value else _with_looks(wrapped, seeds=value["seeds"])

    @field_validator("strategy")
    @classmethod
    def check_strategies(cls, strategies: tuple[str, ...]) -> tuple[str, ...]:
        choices = [*STRATEGIES, *CONTROLS]  # what may fill replay slots
        known = {*choices, *(f"{LENGTH_MATCHED}{name}" for name in STRATEGIES if STRATEGIES[name].columns)}
        for name in strategies:
            if name not in known:
                parts = [part for part in re.split(r"[,;\s]+", name) if part]
                several = len(parts) > 1 and all(part in known for part in parts)
                hint = f"; write a list as [{', '.join(parts)}]" if several else nearest(name, sorted(known))
                raise ValueError(
                    f"unknown strategy {name!r}: choose from {', '.join(choices)}, or {LENGTH_MATCHED} "
                    f"before one that is not random{hint}"
                )
        return strategies

    @field_validator("looks")
    @classmethod
    def check_order(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in itertools.pairwise(looks)):
            raise ValueError(f"looks must rise, as in [5, 10, 20]; got {list(looks)!r:.200}")
        return looks

    @model_validator(mode="after")
    def check_axes(self) -> Self:
        for name, values in {STRATEGY: self.strategy, MIX: self.mix, SEED: self.seed, **self.axes}.items():
            if name not in AXES and name not in (STRATEGY, MIX, SEED):
                raise ValueError(
                    f"unknown axis {name!r}: choose strategy, mix, seed or a phase_b field "
                    f"({', '.join(AXES)})"
                    f"{nearest(name, [STRATEGY, MIX, SEED, *AXES])}"
                )
            if not values:
                raise ValueError(f"axis {name!r} has no value")
            if any(isinstance(value, PLURAL) for value in values):
                raise ValueError(f"axis {name!r} must list plain values, got {list(values)!r:.200}")
            if len(set(values)) != len(values):
                raise ValueError(f"axis {name!r} names a value twice: {list(values)!r:.200}")
        sizes = [len(values) for values in (self.strategy, self.mix, self.seed, *self.axes.values())]
        if math.prod(sizes) > MOST_LABELS:
            raise ValueError(
                f"the axes span {math.prod(sizes):,} points, at most {MOST_LABELS:,} make a study"
            )
        return self

    @model_validator(mode="after")
    def check_looks(self) -> Self:
        if not self.looks:
            return self
        if self.seed != tuple(range(self.looks[-1])):
            raise ValueError(
                f"looks are written as `seeds: {{looks: {list(self.looks)}}}`, in place of `seed`: seeds are "
                "then 0, 1, ..."
            )
        return self

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Return the further axes by name."""
        return dict(self.model_extra or {})

    def compares(self, baseline: str) -> bool:
        """Whether there is a strategy, at a mix above 0, to compare with the baseline."""
        compared = any(name not in (baseline, AA) for name in self.strategy)
        return baseline in self.strategy and compared and any(mix > 0 for mix in self.mix)

    def axis_points(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of the further axes; one empty combination where there are none."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def first_seeds(self, count: int) -> Self:
        """Return the space of the first `count` seeds; the looks stay those that were declared."""
        return self.model_copy(update={SEED: self.seed[:count]})


def _with_looks(values: dict[str, Any], *, seeds: Any) -> dict[str, Any]:
    """Return the section with `seeds: {looks: [...]}` written out as looks and the seeds up to the last."""
    if "seed" in values:
        raise ValueError("give exactly one of seed and seeds, got both")
    looks = seeds["looks"] if isinstance(seeds, dict) and list(seeds) == ["looks"] else None
    whole = isinstance(looks, (list, tuple)) and all(type(look) is int for look in looks)
    if not whole or not looks:
        raise ValueError(f"seeds must be {{looks: [5, 10, 20]}}, or use seed: [0, 1, 2]; got {seeds!r:.200}")
    known = range(FEWEST_SEEDS_AT_A_LOOK, MOST_LABELS + 1)
    outside = [look for look in looks if look not in known]
    if outside:
        raise ValueError(f"each look needs {known.start} to {MOST_LABELS:,} seeds, got {outside[0]}")
    return {name: item for name, item in values.items() if name != "seeds"} | {
        "looks": list(looks),
        SEED: list(range(looks[-1])),
    }
