"""The family: the contrasts with the baseline that share one alpha. The one definition, for plan, looks and
report.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from trainables.ledger import schema

Axes = tuple[tuple[str, Any], ...]
ALL_MIXES = math.inf  # the mix of a contrast that is a mean over the mixes


class Contrast(NamedTuple):
    """A strategy against the baseline, at one mix, or over ALL_MIXES, and one point of the further axes."""

    strategy: str
    mix: float
    axes: Axes = ()

    def describe(self) -> str:
        values = [f"{name} {value}" for name, value in self.axes]
        mix = "over all mixes" if self.mix == ALL_MIXES else f"{self.mix:.4g}"
        return ", ".join([f"{self.strategy} {mix}", *values])


class PlannedLabel(NamedTuple):
    """A contrast's run of one seed, and the key of its cell: None while that is not known."""

    contrast: Contrast
    seed: int
    cell: str | None


def in_family(strategy: str, *, baseline: str) -> bool:
    """Return whether a strategy's contrasts with the baseline ask what the study asks.

    No replay and the A/A control do not; what else stands in for replay (fresh_b, a_only) is declared as
    strategies are, and does.
    """
    return strategy not in (baseline, schema.AA, schema.NO_REPLAY)


def family(labels: Iterable[PlannedLabel], *, baseline: str, first_seeds: float = math.inf) -> list[Contrast]:
    """Return the contrasts that share alpha, in the order of `labels`: every one planned, run or not.

    Those that are identical over the `first_seeds` to be judged are none: they ask nothing.
    """
    planned = list(labels)
    same = identical(planned, baseline=baseline, first_seeds=first_seeds)
    contrasts = dict.fromkeys(label.contrast for label in planned)
    return [each for each in contrasts if in_family(each.strategy, baseline=baseline) and each not in same]


def identical(
    labels: Iterable[PlannedLabel], *, baseline: str, first_seeds: float = math.inf
) -> set[Contrast]:
    """Return the contrasts whose every run is the baseline's own, under another label."""
    judged = [label for label in labels if label.seed < first_seeds]
    own = {
        (label.contrast.mix, label.contrast.axes, label.seed): label.cell
        for label in judged
        if label.contrast.strategy == baseline
    }
    others = [label for label in judged if label.contrast.strategy != baseline]
    differing = {
        label.contrast
        for label in others
        if label.cell is None or own.get((label.contrast.mix, label.contrast.axes, label.seed)) != label.cell
    }
    return {label.contrast for label in others} - differing
