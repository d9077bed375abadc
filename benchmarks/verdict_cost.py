"""How many runs a verdict costs: unpaired as most papers compare, paired at a fixed size, as a report judges.

Variances are those of a real study (docs/smollm2_contrasts.csv and its summary): runs of one arm over seeds,
and paired differences. The truth is one difference for every contrast; a procedure's size is the smallest at
which it resolves the share of contrasts that is asked for.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pandas as pd
from scipy import stats

from analysis.stats.intervals import Values
from benchmarks.machine import RESULTS, publish_result
from benchmarks.simulated import ALPHA, DIFFERENT, holm, judge, judge_at, planned_steps

DOCS = Path(__file__).parents[1] / "docs"
SIZES = (*range(3, 64), *range(64, 400, 8))


class Variances(NamedTuple):
    """SDs (m,) of m contrasts: of one run over seeds, own and the baseline's, of pairs, and of pairs with the
    mean of two draws of the baseline. `mixes` (m,) tell which contrasts share a baseline.
    """

    own: Values
    baseline: Values
    paired: Values
    two_draws: Values
    mixes: Values


class Cost(NamedTuple):
    """What a procedure takes: its seeds, the runs, and the share of contrasts that it resolves with them."""

    procedure: str
    seeds: int
    runs: float
    resolved: float


def measured(contrasts: Path, summary: Path) -> Variances:
    """Return the variances of a study from the tables of its report."""
    pairs, arms = pd.read_csv(contrasts), pd.read_csv(summary)
    quantile = stats.t.ppf(0.975, arms["done"] - 1) / np.sqrt(arms["done"])
    arms = arms.assign(sd=arms["forgetting_half_width"] / quantile).set_index(["strategy", "mix"])["sd"]
    again = pairs[pairs["strategy"] == "random_aa"].set_index("mix")["sd"]
    family = pairs[pairs["in_family"]]
    mixes = family["mix"].to_numpy(float)
    paired = family["sd"].to_numpy(float)
    noise = again.loc[mixes].to_numpy(float) ** 2 / 2  # of one draw: their difference has twice that
    own = [arms[strategy, mix] for strategy, mix in zip(family["strategy"], mixes, strict=True)]
    baseline = [arms["random", mix] for mix in mixes]
    halved = np.sqrt(np.maximum(paired**2 - noise / 2, paired**2 / 2))
    return Variances(np.array(own), np.array(baseline), paired, halved, mixes)


def welch(rng: np.random.Generator, known: Variances, *, seeds: int, effect: float, studies: int) -> Cost:
    """Independent seeds in every arm, Welch's t test, Holm."""
    count = len(known.mixes)
    own = effect + known.own * rng.standard_normal((seeds, studies, count))
    _, place = np.unique(known.mixes, return_inverse=True)
    drawn = rng.standard_normal((seeds, studies, place.max() + 1))[..., place] * known.baseline
    p = stats.ttest_ind(own, drawn, axis=0, equal_var=False).pvalue
    adjusted = holm(p)
    return Cost("unpaired, Welch, Holm", seeds, seeds * _arms(known), float((adjusted <= ALPHA).mean()))


def paired(rng: np.random.Generator, known: Variances, *, seeds: int, effect: float, studies: int) -> Cost:
    """Pairs by seed at a fixed size, Holm: this tool's former default."""
    differences = _pairs(rng, known, known.paired, seeds=seeds, effect=effect, studies=studies)
    resolved = float((judge_at(differences, ALPHA) == DIFFERENT).mean())
    return Cost("paired, Holm at a fixed size", seeds, seeds * _arms(known), resolved)


def looks(rng: np.random.Generator, known: Variances, *, seeds: int, effect: float, studies: int) -> Cost:
    """Pairs by seed, three looks, verdicts that stand, decided contrasts run no more."""
    differences = _pairs(rng, known, known.paired, seeds=seeds, effect=effect, studies=studies)
    return _sequential("paired, three looks", differences, known, seeds=seeds, draws=1)


def looks_two_draws(
    rng: np.random.Generator, known: Variances, *, seeds: int, effect: float, studies: int
) -> Cost:
    """The same against the mean of two draws of the baseline."""
    differences = _pairs(rng, known, known.two_draws, seeds=seeds, effect=effect, studies=studies)
    return _sequential("paired, three looks, two draws", differences, known, seeds=seeds, draws=2)


PROCEDURES: Sequence[Callable[..., Cost]] = (welch, paired, looks, looks_two_draws)


def _arms(known: Variances) -> int:
    return len(known.mixes) + len(np.unique(known.mixes))


def _pairs(
    rng: np.random.Generator, known: Variances, deviation: Values, *, seeds: int, effect: float, studies: int
) -> Values:
    """Return paired differences (n, S, m); those of one mix share half of their variance, the baseline's."""
    _, place = np.unique(known.mixes, return_inverse=True)
    shared = rng.standard_normal((seeds, studies, place.max() + 1))[..., place]
    own = rng.standard_normal((seeds, studies, len(known.mixes)))
    return np.asarray(effect + deviation * (own - shared) / np.sqrt(2))


def _sequential(name: str, differences: Values, known: Variances, *, seeds: int, draws: int) -> Cost:
    planned = sorted({max(3, round(seeds / 4)), max(3, round(seeds / 2)), seeds})
    outcome = judge(differences, planned_steps(*planned))
    runs = outcome.seeds.sum(axis=1).astype(float)
    for mix in np.unique(known.mixes):  # the baseline runs as long as a contrast of its mix does
        runs += draws * outcome.seeds[:, known.mixes == mix].max(axis=1)
    return Cost(name, seeds, float(runs.mean()), outcome.resolved)


def smallest(
    procedure: Callable[..., Cost], known: Variances, *, effect: float, share: float, studies: int
) -> Cost:
    """Return the cost of the smallest size at which a procedure resolves the share; of the largest if none "
    "does."""
    for seeds in SIZES:
        cost = procedure(np.random.default_rng(seeds), known, seeds=seeds, effect=effect, studies=studies)
        if cost.resolved >= share:
            break
    return cost


@click.command()
@click.option(
    "--effect",
    type=click.FloatRange(min=0, min_open=True),
    default=0.002,
    show_default=True,
    help="The true difference of every contrast, in the table's unit.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.8,
    show_default=True,
    help="Of the contrasts, that are to be resolved.",
)
@click.option(
    "--contrasts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=DOCS / "smollm2_contrasts.csv",
    help="contrasts.csv of a study with random_aa.",
)
@click.option(
    "--summary",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=DOCS / "smollm2_math_hotpotqa.csv",
    help="summary.csv of the same study.",
)
@click.option("--studies", type=click.IntRange(50), default=1000, show_default=True)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def verdict_cost(
    effect: float, share: float, contrasts: Path, summary: Path, studies: int, output: Path
) -> None:
    """Count the runs to a verdict, on variances that a real study measured.

    \b
    python -m benchmarks verdict-cost
    python -m benchmarks verdict-cost --contrasts report/contrasts.csv --summary report/summary.csv
    """  # fmt: skip
    known = measured(contrasts, summary)
    costs = [smallest(each, known, effect=effect, share=share, studies=studies) for each in PROCEDURES]
    for cost in costs:
        click.echo(
            f"{cost.procedure:34} {cost.seeds:4} seeds {cost.runs:8,.0f} runs "
            f"{costs[0].runs / cost.runs:5.1f}x fewer {cost.resolved:6.1%} resolved"
        )
    record = {
        "effect": effect,
        "share": share,
        "studies": studies,
        "costs": [each._asdict() for each in costs],
    }
    publish_result("verdict_cost", record, folder=output)
