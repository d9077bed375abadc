"""The looks of contrasts that are judged together, one after the other: what each has come to.

Owns the state from look to look; which contrasts are together is analysis.findings.judgement's.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from analysis.findings.design import Batch, Look
from analysis.findings.family import Contrast
from analysis.findings.multiplicity import Judged, judge_together
from analysis.findings.pairs import PAIRED, UNFINISHED
from analysis.findings.verdicts import UNRESOLVED, second_claim
from analysis.reading.declaration import Inference
from analysis.stats.intervals import Values, spread_by_grid


@dataclass(frozen=True)
class Judgement:
    """What is known of one contrast of the family.

    `look`: the newest that was `taken`, or the first, which is still to come; `upcoming`: the next one, None
    once the contrast is decided. `n` pairs count there; one of `sharing` parts of the alpha of its `batch` is
    the contrast's, and `share_equivalent` of that for its being equivalent. `closed`: it is not judged, for
    the strategy's mean over all mixes is equivalent. `p` and `p_equivalence` are adjusted for the family and
    for all looks, to be compared with the study's alpha; NaN before the first look.
    """

    verdict: str
    look: Look
    taken: bool
    upcoming: Look | None
    batch: Batch
    n: int
    sharing: float
    p: float
    p_equivalence: float
    share_equivalent: float = 1.0
    closed: bool = False

    @property
    def decided(self) -> bool:
        return self.verdict != UNRESOLVED

    @property
    def open(self) -> bool:
        return not (self.decided or self.closed)

    @property
    def level_adjusted(self) -> float:
        """The level of an interval that holds with those of the whole family, whenever the study ends."""
        return 1 - self.look.alpha / self.sharing

    def level(self, alpha: float) -> float:
        """Return the level of an interval that holds by itself, at 1 - alpha, whenever the study ends."""
        return 1 - alpha * self.look.share


@dataclass(frozen=True)
class PlannedPairs:
    """A contrast's planned pairs by seed: what became of each, and the primary measure's difference.

    `grid`: the step between the values that the measure can take, 0 where it can take any.
    """

    standing: Mapping[int, str]
    differences: Mapping[int, float]
    grid: float = 0.0

    def ended(self, seeds: Collection[int]) -> bool:
        """Whether both runs of every seed have ended, by whatever way."""
        return all(self.standing.get(seed, UNFINISHED) != UNFINISHED for seed in seeds)

    def values(self, seeds: Collection[int]) -> Values:
        """Return the differences of those seeds that make a pair in which the measure has a value, (n,)."""
        found = [self.differences[seed] for seed in seeds if self.standing.get(seed) == PAIRED]
        known = np.array(found, dtype=np.float64)
        return spread_by_grid(known[np.isfinite(known)], self.grid)


def take_looks(
    batch: Batch,
    pairs: Mapping[Contrast, PlannedPairs],
    *,
    settings: Inference,
    part: float = 1.0,
    share_equivalent: float = 1.0,
    first: int = 0,
) -> dict[Contrast, Judgement]:
    """Take one look after the other at contrasts, as long as one of them is open and ready.

    They have a `part` of each look's alpha, and of that `share_equivalent` for what is equivalent. Looks at
    fewer seeds than `first` are left out.
    """
    looks = [look for look in batch.looks() if look.count >= first]
    found = {
        contrast: Judgement(
            UNRESOLVED,
            looks[0],
            False,
            looks[0],
            batch,
            len(own.values(looks[0].seeds)),
            len(pairs) / part,
            np.nan,
            np.nan,
            share_equivalent,
        )
        for contrast, own in pairs.items()
    }
    for look, upcoming in zip(looks, [*looks[1:], None], strict=True):
        still = [contrast for contrast in pairs if not found[contrast].decided]
        ready = [each for each in still if look.complete and pairs[each].ended(look.seeds)]
        if not ready:
            break
        others = _still_counting(found, settings=settings)
        none = np.array([], dtype=np.float64)
        differences = {each: pairs[each].values(look.seeds) if each in ready else none for each in still}
        judged = judge_together(
            differences,
            alpha=look.alpha * part,
            second=second_claim(settings),
            share_equivalent=share_equivalent,
            others=others,
        )
        for contrast in ready:
            before = replace(found[contrast], look=look, n=len(differences[contrast]), taken=True)
            scale = settings.alpha / (look.alpha * part) if look.alpha else np.inf
            found[contrast] = _taken(judged[contrast], before, upcoming=upcoming, scale=scale)
    return found


def _still_counting(found: Mapping[Contrast, Judgement], *, settings: Inference) -> int:
    """Return how many decided contrasts share alpha still: those of which another claim would be possible."""
    if settings.smallest_effect is None:
        return 0
    largest = [np.fmax(each.p, each.p_equivalence) for each in found.values() if each.decided]
    return sum(bool(p > settings.alpha) for p in largest)


def _taken(judged: Judged, before: Judgement, *, upcoming: Look | None, scale: float) -> Judgement:
    """Return a contrast's judgement once a look was taken; `scale` makes its p one for the study's alpha."""
    p, equivalence = (
        float(np.fmin(min(1.0, new * scale) if np.isfinite(new) else np.nan, old))
        for new, old in ((judged.p, before.p), (judged.p_equivalence, before.p_equivalence))
    )
    return replace(
        before,
        verdict=judged.verdict,
        upcoming=upcoming if judged.verdict == UNRESOLVED else None,
        p=p,
        p_equivalence=equivalence,
    )
