"""The block-sequential rule: when a study with planned looks may stop, and at which level it reports.

Owns the level of a look and the verdicts at a look; how many seeds run by when is the sweep's.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from analysis.findings.verdicts import judge
from analysis.stats.intervals import LEVEL, Values, paired_test, tost
from trainables.ledger import schema

if TYPE_CHECKING:
    import pandas as pd

Key = TypeVar("Key", bound=Hashable)


def look_level(level: float, looks: int, contrasts: int) -> float:
    """Return the level of each interval at each look: 1 - (1 - level) / (looks * contrasts).

    `looks` and `contrasts` count what was planned, also where a study stops early.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if looks < 1 or contrasts < 1:
        raise ValueError(f"looks and contrasts must be 1 or more, got {looks} and {contrasts}")
    return 1 - (1 - level) / (looks * contrasts)


def ended_looks(cells: "pd.DataFrame", looks: Sequence[int]) -> list[int]:
    """Return the looks that can be taken, in their order: those before the first whose seeds have not ended.

    `cells` are the planned labels with `seed` and `state`; look n needs every cell of the seeds 0 to n - 1
    done, diverged or failed.
    """
    ended = []
    for count in looks:
        due = cells[cells[schema.SEED] < count]
        if due[schema.SEED].nunique() < count or due["state"].isin([schema.MISSING, schema.PARTIAL]).any():
            break
        ended.append(count)
    return ended


def decide(
    differences: Mapping[Key, Values],
    *,
    looks: Sequence[int],
    level: float = LEVEL,
    smallest_effect: float | None = None,
    contrasts: int | None = None,
) -> dict[Key, str]:
    """Return the verdict of every primary contrast at one look, from its paired differences so far (n,).

    The rule. A block is one seed in all strategies and mixes. `looks` are numbers of blocks, such as
    (5, 10, 20), declared before the first outcome. At each, blocks run up to that number, and every
    contrast is judged on all its blocks so far: *different* if its paired t test, *equivalent* if its TOST
    against +-`smallest_effect`, has p <= a = (1 - level) / (number of looks * number of contrasts). The
    study stops at the first look at which no contrast is unresolved, or at the last; the
    verdicts of that look are the study's, and an earlier look's are not carried over. Intervals are
    reported at level 1 - a (`look_level`), so that one excludes 0 exactly where p <= a; that of an
    equivalent contrast may reach a little out of the zone, since TOST at a is the interval of level 1 - 2 a.

    By the union bound, whatever the correlations and wherever it stops, at most 1 - level of studies make
    any wrong claim: *different* where the true difference is 0, or *equivalent* where it is
    `smallest_effect` or more (no contrast can be both, so the two kinds share the one budget).

    `differences` has every planned contrast as a key, an empty array where it has no pair: their number is
    the divisor, unless more share alpha than are asked about, `contrasts` in all. Raises ValueError where
    there is none. Contrasts with fewer than three pairs, and without `smallest_effect` those that show no
    difference, stay unresolved.
    """
    alpha = 1 - look_level(level, len(looks), contrasts or len(differences))
    verdicts = {}
    for key, values in differences.items():
        equivalence = float("nan") if smallest_effect is None else tost(values, smallest_effect)
        verdicts[key] = judge(paired_test(values, level=level).p, equivalence, alpha=alpha)
    return verdicts
