"""Strategies first: one primary contrast a strategy, its weighted mean over the mixes; then the mixes inside.

What a study judges that declares `inference.order: strategies_first`: S questions before S x M; or
`strategies_only`, S questions and no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.findings.design import Batch
from analysis.findings.family import ALL_MIXES, Contrast
from analysis.findings.outcomes import MATCHED
from analysis.findings.pairs import STANDINGS, UNFINISHED
from analysis.findings.rounds import Judgement, PlannedPairs, take_looks
from analysis.findings.verdicts import DIFFERENT, UNRESOLVED
from analysis.reading.declaration import STRATEGIES_ONLY, Inference
from trainables.ledger import schema

INSIDE = 0.5  # of a strategy's alpha, for its mixes, and for its mean being equivalent


def judge_strategies(
    batch: Batch, pairs: Mapping[Contrast, PlannedPairs], *, settings: Inference
) -> dict[Contrast, Judgement]:
    """Return the judgement of each strategy's mean over its mixes, and of the mixes' contrasts in `pairs`.

    A strategy has 1 / S of a look's alpha. Its mean is *different* at all of that, *equivalent* at half; only
    once it is different are its mixes judged, from that look on, by the closed test at the other half. So at
    most that 1 / S of studies claim anything wrong of it: where the true mean is 0, the mean had to be called
    different first; where it matters, a wrong claim is its being equivalent or one of a mix, each at half;
    in between only of a mix. It is the graph of Bretz, Maurer, Brannath & Posch 2009
    (https://doi.org/10.1002/sim.3495) with one level below each strategy, and no share handed on.

    Where strategies are all that is judged, their means are a family like any other. Mixes that are declared
    once outcomes were seen are in no mean that has been declared: they are judged together, in their batch.

    It loses where a strategy's effects have different signs at different mixes, or is there at one alone.
    """
    groups = by_strategy(pairs)
    found: dict[Contrast, Judgement] = {}
    if settings.order == STRATEGIES_ONLY:
        means = {whole: average(inside, weights=settings.weights) for whole, inside in groups.items()}
        found |= take_looks(batch, means, settings=settings)
        behind = [
            (found[whole], each, own) for whole, inside in groups.items() for each, own in inside.items()
        ]
        return found | {
            each: _behind(over_all, own, sharing=over_all.sharing) for over_all, each, own in behind
        }
    for whole, inside in groups.items():
        part = 1 / len(groups)
        mean = {whole: average(inside, weights=settings.weights)}
        (over_all,) = take_looks(batch, mean, settings=settings, part=part, share_equivalent=INSIDE).values()
        found[whole] = over_all
        if over_all.verdict != DIFFERENT:
            sharing = len(inside) / (part * INSIDE)
            found |= {each: _behind(over_all, own, sharing=sharing) for each, own in inside.items()}
            continue
        judged = take_looks(batch, inside, settings=settings, part=part * INSIDE, first=over_all.look.count)
        found |= {each: replace(own, p=float(np.fmax(own.p, over_all.p))) for each, own in judged.items()}
    return found


def by_strategy(pairs: Mapping[Contrast, PlannedPairs]) -> dict[Contrast, dict[Contrast, PlannedPairs]]:
    """Return the contrasts at single mixes under that over ALL_MIXES of the same strategy and axes."""
    groups: dict[Contrast, dict[Contrast, PlannedPairs]] = {}
    for contrast, own in pairs.items():
        groups.setdefault(contrast._replace(mix=ALL_MIXES), {})[contrast] = own
    return groups


def averaged(judgements: Mapping[Contrast, Judgement], whole: Contrast) -> list[Contrast]:
    """Return the contrasts that a strategy's mean is over: those that were declared with it."""
    batch = judgements[whole].batch
    return [
        contrast
        for contrast, each in judgements.items()
        if contrast._replace(mix=ALL_MIXES) == whole != contrast and each.batch is batch
    ]


def average(inside: Mapping[Contrast, PlannedPairs], *, weights: Mapping[float, float]) -> PlannedPairs:
    """Return the pairs of a strategy's mean: by seed, the weighted mean of the differences at its mixes.

    A seed's pair is as good as the worst of them. The weights are declared, 1 where none are: those that
    are estimated from the same pairs make the test reject up to four times too often.
    """
    seeds = sorted({seed for own in inside.values() for seed in own.standing})
    total = sum(weights.get(contrast.mix, 1.0) for contrast in inside)
    shares = {contrast: weights.get(contrast.mix, 1.0) / total for contrast in inside}
    standing, differences = {}, {}
    for seed in seeds:
        places = [STANDINGS.index(own.standing.get(seed, UNFINISHED)) for own in inside.values()]
        standing[seed] = STANDINGS[max(places)]
        differences[seed] = sum(
            shares[contrast] * own.differences.get(seed, np.nan) for contrast, own in inside.items()
        )
    return PlannedPairs(standing, differences, max(own.grid for own in inside.values()))


def _behind(over_all: Judgement, own: PlannedPairs, *, sharing: float) -> Judgement:
    """Return what is said of a mix that is not judged: nothing, and its strategy's look."""
    return replace(
        over_all,
        verdict=UNRESOLVED,
        sharing=sharing,
        share_equivalent=1.0,
        closed=over_all.decided,
        n=len(own.values(over_all.look.seeds)),
        p=np.nan,
        p_equivalence=np.nan,
    )


def is_behind(row: Mapping[Any, Any]) -> bool:
    """Return whether a row of contrasts is of a mix that is not judged, for its strategy is not different."""
    tested = np.isfinite([row["p_holm"], row["p_equivalence_holm"]]).any()
    return bool(row["in_family"] and np.isfinite(row["p"]) and not tested)


def mean_pairs(
    pairs: pd.DataFrame, *, column: str, axes: Sequence[str], weights: Mapping[float, float]
) -> pd.DataFrame:
    """Return the matched pairs' weighted mean of `column` over the mixes, a row a strategy, seed and axes.

    At mix ALL_MIXES; a seed without a value at each mix that its strategy has is left out.
    """
    keys = [schema.STRATEGY, schema.SEED, *axes]
    own = pairs[pairs[MATCHED].astype(bool)]
    weight = own[schema.MIX].map(lambda mix: weights.get(mix, 1.0)).where(own[column].notna())
    summed = own.assign(weight=weight, part=weight * own[column]).groupby(keys, sort=False)
    totals = summed.agg(weight=("weight", "sum"), part=("part", "sum")).reset_index()
    whole = totals.groupby([schema.STRATEGY, *axes])["weight"].transform("max")
    kept = totals[totals["weight"] >= whole * (1 - 1e-9)]
    means = kept[keys].assign(mix=ALL_MIXES, matched=True)
    means[column] = kept["part"] / kept["weight"]
    return means
