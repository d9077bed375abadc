"""A block-sequential study's progression: what its looks said, and which cells the open contrasts still need.

Decided from the judgement of every contrast alone, so that every run, `plan` and the report find the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.findings.family import Contrast
from trainables.ledger.schema import NO_REPLAY

if TYPE_CHECKING:
    from analysis.findings.rounds import Judgement


@dataclass(frozen=True)
class Progression:
    """How far a study with looks has come: the `judgements` of its family, in the family's order."""

    judgements: "Mapping[Contrast, Judgement]"

    @property
    def open(self) -> "dict[Contrast, Judgement]":
        return {contrast: each for contrast, each in self.judgements.items() if each.open}

    @property
    def taken(self) -> dict[Contrast, int]:
        """Return the seeds of each contrast's newest look, of those that have taken one."""
        return {contrast: each.look.count for contrast, each in self.judgements.items() if each.taken}

    @property
    def over(self) -> bool:
        """Whether there is no further look: every contrast is decided, or at the last that is planned."""
        return not any(each.upcoming and each.upcoming.complete for each in self.open.values())

    @property
    def seeds(self) -> int:
        """Count the seeds up to the next look, or those that were enough."""
        return max(len(self._due(each)) for each in self.judgements.values())

    def needs(self, contrast: Contrast, seed: int) -> bool:
        """Whether a label's run is part of a look that was taken or is next.

        A contrast that is decided needs no more. The baseline and its A/A control run where a contrast of
        their mix and axes does, the run without replay where any of its axes does.
        """
        own = self.judgements.get(contrast)
        if own is not None:
            return seed in self._due(own)
        anywhere = contrast.strategy == NO_REPLAY
        return any(
            seed in self._due(each)
            for other, each in self.judgements.items()
            if other.axes == contrast.axes and (anywhere or other.mix == contrast.mix)
        )

    @staticmethod
    def _due(judgement: "Judgement") -> tuple[int, ...]:
        upcoming = judgement.upcoming
        if upcoming is not None and (upcoming.complete or not judgement.taken):
            return upcoming.seeds
        return judgement.look.seeds

    def describe(self) -> list[str]:
        """Return what the newest look said: a headline, and one line for each contrast."""
        if not self.taken:
            return []
        decided = sum(each.decided for each in self.judgements.values())
        headline = (
            f"look at {max(self.taken.values())} seeds: {decided} of {len(self.judgements)} "
            f"contrast{'s' if len(self.judgements) > 1 else ''} with the baseline decided"
        )
        return [
            headline,
            *(f"  {contrast.describe()}: {_said(each)}" for contrast, each in self.judgements.items()),
        ]

    def following(self) -> str:
        """Say what comes next."""
        if not self.open:
            return f"every contrast is decided: the study is complete with {self.seeds} seeds"
        if self.over:
            return (
                f"that was the last look: the study ends with {self.seeds} seeds; more would be judged at "
                f"{min(each.upcoming.count for each in self.open.values() if each.upcoming)}"
            )
        return f"next: a look once {self.seeds} seeds of the contrasts that are open have ended"


def _said(judgement: "Judgement") -> str:
    if not judgement.taken:
        return f"to be judged at {judgement.look.count} seeds"
    count = judgement.look.count
    of = "" if judgement.n == count else f" of {count}"
    return f"{judgement.verdict} (n = {judgement.n}{of})"
