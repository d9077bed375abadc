"""A block-sequential study's progression: which looks it has taken, what they said, how many seeds are due.

A pure function of what has ended and of the verdicts: every run finds the same progression in the same
ledger.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from analysis.findings.family import Contrast
from analysis.findings.verdicts import UNRESOLVED


class Verdict(NamedTuple):
    """What a look says of a contrast, and from how many pairs of seeds."""

    verdict: str
    n: int


@dataclass(frozen=True)
class Look:
    """What was found once the first `seeds` seeds had ended."""

    seeds: int
    verdicts: Mapping[Contrast, Verdict]

    @property
    def decided(self) -> bool:
        return all(each.verdict != UNRESOLVED for each in self.verdicts.values())

    def describe(self) -> list[str]:
        """Return a headline, and one line for each contrast."""
        open_ones = sum(each.verdict == UNRESOLVED for each in self.verdicts.values())
        headline = (
            f"look at {self.seeds} seeds: {len(self.verdicts) - open_ones} of {len(self.verdicts)} "
            f"contrast{'s' if len(self.verdicts) > 1 else ''} with the baseline decided"
        )
        return [
            headline,
            *(
                f"  {contrast.describe()}: {found.verdict} (n = "
                f"{found.n}{'' if found.n == self.seeds else f' of {self.seeds}'})"
                for contrast, found in self.verdicts.items()
            ),
        ]


@dataclass(frozen=True)
class Progression:
    """How far a study of `looks` has come: the looks `taken`, the last of them the newest."""

    looks: tuple[int, ...]
    taken: tuple[Look, ...]

    @property
    def decided(self) -> bool:
        return bool(self.taken) and self.taken[-1].decided

    @property
    def over(self) -> bool:
        """Whether the newest look was the last that there will be."""
        return self.decided or len(self.taken) == len(self.looks)

    @property
    def seeds(self) -> int:
        """Count the seeds to run now: up to the next look, or those that were enough."""
        return self.taken[-1].seeds if self.over else self.looks[len(self.taken)]

    def describe(self) -> str:
        """Say what comes next."""
        if self.decided:
            return f"every contrast is decided: the study is complete with {self.seeds} seeds"
        if self.over:
            return f"that was the last look: the study ends with {self.seeds} seeds"
        left = len(self.looks) - len(self.taken)
        further = f", {left} look{'s' if left > 1 else ''} left" if self.taken else ""
        return f"next: a look once {self.seeds} seeds have ended{further}"


def follow_looks(
    looks: Sequence[int],
    *,
    ended: Callable[[int], bool],
    judge: Callable[[int], Mapping[Contrast, Verdict]],
) -> Progression:
    """Return the progression of a study whose first n seeds have `ended`, or not, and which `judge` judges at
    n.

    A look is taken once its seeds have ended, failed cells included, and no later one is where it decided
    every contrast. Verdicts are those at the seeds of the look, whatever has been run beyond it.
    """
    taken: list[Look] = []
    for count in looks:
        if not ended(count):
            break
        taken.append(Look(count, judge(count)))
        if taken[-1].decided:
            break
    return Progression(tuple(looks), tuple(taken))
