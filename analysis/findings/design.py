"""When a contrast is judged, and with how much of alpha: from what was declared before its outcomes.

Owns the looks and what each spends; the tests at a look are analysis.findings.multiplicity's.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.findings.family import Contrast
from analysis.reading.declaration import Declared, Inference, read_declared
from analysis.stats.intervals import FEWEST_FOR_INTERVAL
from trainables.ledger.sealed_json import Record

GROWTH = 1.5  # a study that is grown is judged at 1.5, 2.25, 3.4, ... times its declared seeds
EXPONENT = math.log2(5)  # at half of the seeds, a fifth of alpha is spent: 5, 10, 20 seeds spend 4, 16, 80 %


@dataclass(frozen=True)
class Look:
    """A look at `count` seeds: those that are known, its `alpha`, and which `share` that is of its batch's.

    `complete`: the study plans every one of its seeds.
    """

    count: int
    seeds: tuple[int, ...]
    alpha: float
    share: float
    complete: bool


@dataclass(frozen=True)
class Batch:
    """Contrasts that were declared together, with the `planned` numbers of seeds at which they are judged.

    `search` is what it declared, strategy, mix and axes; None for everything. `seeds` are the study's in the
    order in which they were declared, `present` those that it plans now. `alpha` is the batch's; of it a
    share `growth` is kept for looks after the planned ones.
    """

    search: Mapping[str, Any] | None
    planned: tuple[int, ...]
    seeds: tuple[int, ...]
    present: frozenset[int]
    alpha: float
    growth: float

    def looks(self) -> Iterator[Look]:
        """Yield the looks for which the study has seeds, in their order, and the next one."""
        for count, share in self.shares():
            seeds = self.seeds[:count]
            complete = len(seeds) == count and self.present.issuperset(seeds)
            look = Look(count, seeds, self.alpha * share, share, complete)
            yield look
            if not look.complete:
                return

    def shares_planned(self) -> Iterator[tuple[int, float]]:
        """Yield each planned look's number of seeds and share: together all but what growth keeps.

        Kim & DeMets' power family (1987, https://doi.org/10.1093/biomet/74.1.149): by a look at n of N seeds
        (n / N)^EXPONENT is spent.
        """
        spent = [(count / self.planned[-1]) ** EXPONENT for count in self.planned]
        for count, now, before in zip(self.planned, spent, [0.0, *spent[:-1]], strict=True):
            yield count, (now - before) * (1 - self.growth)

    def shares(self) -> Iterator[tuple[int, float]]:
        """Yield every look's number of seeds and its share of alpha, without end; the shares add up to 1."""
        yield from self.shares_planned()
        count, left = self.planned[-1], self.growth
        while left > 0:
            count, left = grown(count), left / 2
            yield count, left


@dataclass(frozen=True)
class Design:
    """How a study judges its contrasts, whatever it came to once outcomes were seen.

    `defaults`: the training settings, which tell an axis's value where it was not searched yet.
    """

    batches: tuple[Batch, ...]
    defaults: Record

    def batch(self, contrast: Contrast) -> Batch:
        """Return the batch of a contrast: the first that declared it."""
        found = (each for each in self.batches if _declares(each.search, contrast, defaults=self.defaults))
        return next(found, self.batches[-1])


def grown(count: int) -> int:
    """Return the number of seeds at which a study of `count` is judged next when it is grown."""
    return math.ceil(count * GROWTH)


def read_design(description: Record, *, seeds: Sequence[int], settings: Inference) -> Design:
    """Return the design that a study's declarations make; `seeds` are those that it plans now.

    What was declared last before any outcome is the first batch: its contrasts share alpha * (1 - growth),
    of which the planned looks spend all but a share `growth`, which is declared with them. The k-th
    declaration after outcomes that adds contrasts is a batch of its own, with alpha * growth / 2^k. So every
    look has a number of seeds and a part of alpha that no outcome can have moved, and the parts add up to
    alpha at most: by the union bound no more than alpha of studies make a wrong claim, however they are
    looked at, grown or ended.

    A declaration of fewer seeds than can be judged is a pilot: its seeds are not judged, for their outcomes
    may have chosen how many others there are.
    """
    present = sorted(seeds)
    stages, pilot = _stages(read_declared(description), present, settings=settings)
    order = dict.fromkeys(seed for stage in stages for seed in _seeds(stage, present))
    growth = settings.growth if stages[0].growth is None else stages[0].growth
    judged = tuple(seed for seed in dict.fromkeys([*order, *present]) if seed not in pilot)
    batches: list[Batch] = []
    for stage in stages:
        if any(_within(stage.search, batch.search) for batch in batches):
            continue
        part = growth / 2 ** len(batches) if batches else 1 - growth
        planned = _planned(stage, present, pilot=pilot) or (FEWEST_FOR_INTERVAL,)
        alpha = settings.alpha * part
        batches.append(Batch(stage.search, planned, judged, frozenset(present), alpha, growth))
    config = description.get("config")
    defaults = config.get("phase_b") if isinstance(config, dict) else None
    return Design(tuple(batches), defaults if isinstance(defaults, dict) else {})


def _stages(
    declared: Sequence[Declared], seeds: list[int], *, settings: Inference
) -> tuple[list[Declared], set[int]]:
    """Return the declarations that count, the first of them the first batch's, and the seeds of pilots."""
    blind = [each for each in declared if each.blind]
    stages = [*blind[-1:], *(each for each in declared if not each.blind)]
    pilot: set[int] = set()
    while len(stages) > 1 and not _planned(stages[0], seeds, pilot=pilot):
        pilot |= set(_seeds(stages.pop(0), seeds))
    return stages or [Declared(None, None, settings.looks, blind=True)], pilot


def _planned(stage: Declared, seeds: list[int], *, pilot: set[int]) -> tuple[int, ...]:
    """Return the numbers of judged seeds at which a declaration judges: its looks, or all of its seeds
    once.
    """
    own = _seeds(stage, seeds)
    counts = [len(set(own[:count]) - pilot) for count in stage.looks or (len(own),)]
    return tuple(count for count in counts if count >= FEWEST_FOR_INTERVAL)


def _seeds(stage: Declared, seeds: list[int]) -> list[int]:
    """Return a declaration's seeds; early ones tell how many there were, not which."""
    if stage.looks:
        return list(range(stage.looks[-1]))
    if isinstance(stage.seeds, int):
        return seeds[: stage.seeds]
    return sorted(seeds if stage.seeds is None else stage.seeds)


def _declares(search: Mapping[str, Any] | None, contrast: Contrast, *, defaults: Record) -> bool:
    """Return whether a declaration has a contrast; one that says nothing has every one."""
    if search is None:
        return True
    axes = search["axes"]
    return (
        contrast.strategy in search["strategy"]
        and contrast.mix in search["mix"]
        and all(value in axes.get(name, [defaults.get(name)]) for name, value in contrast.axes)
    )


def _within(search: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Return whether all that one declaration searches is searched by another."""
    if search is None or other is None:
        return other is None
    axes, others = search["axes"], other["axes"]
    return (
        set(search["strategy"]) <= set(other["strategy"])
        and set(search["mix"]) <= set(other["mix"])
        and axes.keys() == others.keys()
        and all(all(value in others[name] for value in axes[name]) for name in axes)
    )
