"""Studies with known truth, many at a time: the procedure of a report, and those it is compared with.

The closed test, the looks and their alpha are the report's own; the tests are vectorised over studies.
"""

from collections.abc import Sequence
from itertools import islice, takewhile
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.findings.design import Batch
from analysis.findings.multiplicity import close
from analysis.findings.strategies_first import INSIDE
from analysis.stats.intervals import Values

OPEN, DIFFERENT, EQUIVALENT = 0, 1, 2
ALPHA, GROWTH = 0.05, 0.1
Codes = npt.NDArray[np.int64]


class Step(NamedTuple):
    """A look: so many seeds, so much alpha."""

    seeds: int
    alpha: float


class Outcome(NamedTuple):
    """What studies (S) say of their contrasts (m): a code and the seeds it is from, (S, m) each.

    `runs` (S,): the cells that were run, those of the baseline among them.
    """

    verdicts: Codes
    seeds: Codes
    runs: Values

    def any_wrong(self, truth: Values, margin: float | None) -> float:
        """Return the share of studies that claim something wrong of a contrast's `truth` (m,)."""
        return float(self.wrong(truth, margin).any(axis=1).mean())

    def wrong(self, truth: Values, margin: float | None) -> npt.NDArray[np.bool_]:
        """Return which claims are wrong, in the shape of the verdicts."""
        wrong = (self.verdicts == DIFFERENT) & (truth == 0)
        if margin is not None:
            wrong |= (self.verdicts == EQUIVALENT) & (np.abs(truth) >= margin * (1 - 1e-12))
        return wrong

    @property
    def resolved(self) -> float:
        return float((self.verdicts != OPEN).mean())


def draw(rng: np.random.Generator, *, seeds: int, studies: int, contrasts: int) -> Values:
    """Return differences (n, S, m) of equally noisy runs from one baseline run a seed: SD 1, truth 0."""
    own = rng.standard_normal((seeds, studies, contrasts))
    return np.asarray((own - rng.standard_normal((seeds, studies, 1))) / np.sqrt(2))


def p_values(differences: Values, margin: float | None) -> Values:
    """Return the p of a difference and of equivalence, (S, m, 2), of paired `differences` (n, S, m)."""
    n = len(differences)
    mean, error = differences.mean(axis=0), differences.std(axis=0, ddof=1) / np.sqrt(n)
    p = 2 * stats.t.sf(np.abs(mean) / error, n - 1)
    inside = np.full_like(p, np.nan) if margin is None else stats.t.sf((margin - np.abs(mean)) / error, n - 1)
    return np.stack([p, inside], axis=-1)


def planned_steps(*looks: int, growth: float = GROWTH, most: int | None = None) -> list[Step]:
    """Return the looks that a report takes of a study that declared `looks`, grown to `most` seeds."""
    batch = Batch(None, looks, (), frozenset(), ALPHA * (1 - growth), growth)
    shares = takewhile(lambda look: look[0] <= (most or looks[-1]), islice(batch.shares(), 60))
    return [Step(count, batch.alpha * share) for count, share in shares]


def judge(
    differences: Values, steps: Sequence[Step], margin: float | None = None, *, share_equivalent: float = 1.0
) -> Outcome:
    """Take the looks of a report: verdicts stand, and what is decided is run no more."""
    _, studies, contrasts = differences.shape
    verdicts = np.zeros((studies, contrasts), np.int64)
    seeds, runs, before = np.zeros_like(verdicts), np.zeros(studies), 0
    both = np.zeros_like(verdicts, bool)  # hypotheses of a contrast are rejected: it shares alpha no more
    for count, alpha in steps:
        still = verdicts == OPEN
        runs += (count - before) * (still.sum(axis=1) + still.any(axis=1))
        seeds[still], before = count, count
        raw = p_values(differences[:count], margin) / [1.0, share_equivalent]
        adjusted = _adjusted(raw, still, others=~still & ~both)
        verdicts[still] = judge_p(adjusted, alpha)[still]
        both |= still & (np.nan_to_num(adjusted, nan=0.0 if margin is None else 1.0) <= alpha).all(axis=-1)
    return Outcome(verdicts, seeds, runs)


class Nested(NamedTuple):
    """What studies say of their strategies' means over mixes (R, S), and of the mixes inside (R, S, M)."""

    means: Outcome
    inside: Outcome


def judge_strategies(
    differences: Values, steps: Sequence[Step], margin: float | None = None, weights: Values | None = None
) -> Nested:
    """Judge strategies first, from differences (n, R, S, M) of R studies, S strategies and M mixes."""
    n, studies, strategies, mixes = differences.shape
    weights = np.full(mixes, 1 / mixes) if weights is None else weights / weights.sum()
    each = differences.reshape(n, studies * strategies, mixes)
    own = [step._replace(alpha=step.alpha / strategies) for step in steps]
    means = judge((each @ weights)[..., None], own, margin, share_equivalent=INSIDE)
    verdicts = np.zeros((studies * strategies, mixes), np.int64)
    seeds = np.repeat(means.seeds, mixes, axis=1)
    for place, step in enumerate(steps):
        opened = (means.verdicts[:, 0] == DIFFERENT) & (means.seeds[:, 0] == step.seeds)
        later = [look._replace(alpha=look.alpha * INSIDE) for look in own[place:]]
        found = judge(each[:, opened], later, margin)
        verdicts[opened], seeds[opened] = found.verdicts, found.seeds
    shape = (studies, strategies)
    return Nested(
        Outcome(means.verdicts.reshape(shape), means.seeds.reshape(shape), np.zeros(studies)),
        Outcome(verdicts.reshape(*shape, mixes), seeds.reshape(*shape, mixes), np.zeros(studies)),
    )


def _adjusted(p: Values, still: npt.NDArray[np.bool_], *, others: npt.NDArray[np.bool_]) -> Values:
    """Return the p values (S, m, 2) adjusted among the contrasts that are open and `others`; 1 for these."""
    adjusted = np.ones_like(p)
    sizes = np.stack([still.sum(axis=1), others.sum(axis=1)], axis=1)
    for size, more in np.unique(sizes[sizes[:, 0] > 0], axis=0):
        mask = still & (sizes == (size, more)).all(axis=1)[:, None]
        adjusted[mask] = close(p[mask].reshape(-1, size, 2), others=more).reshape(-1, 2)
    return adjusted


def judge_p(adjusted: Values, alpha: float) -> Codes:
    """Return the verdicts (S, m) at `alpha` from adjusted p values (S, m, 2)."""
    different, equivalent = (np.nan_to_num(adjusted[..., place], nan=1.0) <= alpha for place in (0, 1))
    return np.where(equivalent, EQUIVALENT, np.where(different, DIFFERENT, OPEN))


def holm(p: Values) -> Values:
    """Return the p of a difference (..., m) adjusted by Holm's steps, with no claim of equivalence."""
    return close(np.stack([p, np.full_like(p, np.nan)], axis=-1))[..., 0]


def judge_at(differences: Values, alpha: float, margin: float | None = None) -> Codes:
    """Return the verdicts on all of the seeds at once, as a study of fixed size has them."""
    return judge_p(close(p_values(differences, margin)), alpha)
