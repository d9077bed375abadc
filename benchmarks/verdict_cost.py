"""How many runs a verdict costs: unpaired as most papers compare, paired at a fixed size, as a report judges.

Variances are those of a real study (docs/smollm2_contrasts.csv and its summary): runs of one arm over seeds,
and paired differences. The truth is one difference for every contrast; a procedure's size is the smallest at
which it answers the share of questions that is asked for: of contrasts, or of strategies whether they matter
at all.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pandas as pd
from scipy import stats

from analysis.stats.intervals import Values
from benchmarks.machine import RESULTS, publish_result
from benchmarks.simulated import ALPHA, DIFFERENT, Step, holm, judge, judge_at, planned_steps

DOCS = Path(__file__).parents[1] / "docs"
SIZES = (*range(3, 64), *range(64, 400, 8))


class Variances(NamedTuple):
    """SDs (m,) of m contrasts: of one run over seeds, own and the baseline's, of pairs, and of pairs with the
    mean of two draws of the baseline. `mixes` (m,) tell which contrasts share a baseline; they
    come mix by mix, the same strategies at each.
    """

    own: Values
    baseline: Values
    paired: Values
    two_draws: Values
    mixes: Values


class Cost(NamedTuple):
    """What a procedure takes: its seeds, the runs, and the share of questions that it answers with them.

    `work`: of one run, in runs of the study that the variances are from.
    """

    procedure: str
    seeds: int
    runs: float
    resolved: float
    work: float = 1.0


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
    adjusted = _welch(rng, known, seeds=seeds, effect=effect, studies=studies)
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


def welch_any(rng: np.random.Generator, known: Variances, *, seeds: int, effect: float, studies: int) -> Cost:
    """Of strategies: one matters where Welch's test and Holm find it different at some mix."""
    different = _welch(rng, known, seeds=seeds, effect=effect, studies=studies) <= ALPHA
    found = float(_by_strategy(different, known).any(axis=-1).mean())
    return Cost("unpaired, Welch, Holm", seeds, seeds * _arms(known), found)


def looks_any(rng: np.random.Generator, known: Variances, *, seeds: int, effect: float, studies: int) -> Cost:
    """Of strategies: one matters where it is different at some mix, every contrast judged together."""
    differences = _pairs(rng, known, known.paired, seeds=seeds, effect=effect, studies=studies)
    cost = _sequential("paired, three looks", differences, known, seeds=seeds, draws=1)
    found = judge(differences, _three(seeds)).verdicts == DIFFERENT
    return cost._replace(resolved=float(_by_strategy(found, known).any(axis=-1).mean()))


def strategies(
    rng: np.random.Generator, known: Variances, *, seeds: int, effect: float, studies: int
) -> Cost:
    """Strategies by their means over the mixes, weighted by a precision that was declared."""
    return _strategies("strategies only", rng, known, known.paired, seeds, effect, studies, draws=1)


def strategies_two_draws(
    rng: np.random.Generator, known: Variances, *, seeds: int, effect: float, studies: int
) -> Cost:
    """The same against the mean of two draws of the baseline."""
    name = "strategies only, two draws"
    return _strategies(name, rng, known, known.two_draws, seeds, effect, studies, draws=2)


PROCEDURES: Sequence[Callable[..., Cost]] = (welch, paired, looks, looks_two_draws)
OF_STRATEGIES: Sequence[Callable[..., Cost]] = (welch_any, looks_any, strategies, strategies_two_draws)


def _welch(rng: np.random.Generator, known: Variances, *, seeds: int, effect: float, studies: int) -> Values:
    """Return Holm's p values (S, m) of unpaired differences."""
    own = effect + known.own * rng.standard_normal((seeds, studies, len(known.mixes)))
    _, place = np.unique(known.mixes, return_inverse=True)
    drawn = rng.standard_normal((seeds, studies, place.max() + 1))[..., place] * known.baseline
    return holm(stats.ttest_ind(own, drawn, axis=0, equal_var=False).pvalue)


def _by_strategy(values: Any, known: Variances) -> Any:
    """Return values of contrasts (..., m) by strategy and mix, (..., strategies, mixes)."""
    mixes = len(np.unique(known.mixes))
    return np.swapaxes(values.reshape(*values.shape[:-1], mixes, -1), -1, -2)


def _strategies(
    name: str,
    rng: np.random.Generator,
    known: Variances,
    deviation: Values,
    seeds: int,
    effect: float,
    studies: int,
    *,
    draws: int,
) -> Cost:
    """Judge the strategies' means; a strategy that is decided runs no more, at no mix."""
    differences = _pairs(rng, known, deviation, seeds=seeds, effect=effect, studies=studies)
    by_strategy = _by_strategy(differences, known)
    mixes = by_strategy.shape[-1]
    weights = 1 / (_by_strategy(deviation, known) ** 2).mean(axis=0)
    outcome = judge(by_strategy @ (weights / weights.sum()), _three(seeds))
    runs = mixes * (outcome.seeds.sum(axis=1) + draws * outcome.seeds.max(axis=1))
    return Cost(name, seeds, float(runs.mean()), outcome.resolved)


def _three(seeds: int) -> list[Step]:
    """Return three looks, the last at all of the seeds."""
    return planned_steps(*sorted({max(3, round(seeds / 4)), max(3, round(seeds / 2)), seeds}))


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
    outcome = judge(differences, _three(seeds))
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


def with_examples(known: Variances, *, share: float, times: float) -> Variances:
    """Return the variances with so many times the validation examples; `share` is of the pairs' variance what
    is seed x example.
    """
    scale = np.sqrt(1 - share + share / times)
    return known._replace(paired=known.paired * scale, two_draws=known.two_draws * scale)


def interaction(variance: Path, *, examples: int) -> float:
    """Return the share of pairs' variance over seeds that is seed x example with so many `examples`, from a
    study with any number of them.
    """
    frame = pd.read_csv(variance).dropna(subset=["se_interaction"])
    frame = frame[frame["strategy"] != "none"]
    weights = frame["n"] * (frame["n"] - 1)
    whole, part = ((weights * frame[name] ** 2).sum() for name in ("se_seeds", "se_interaction"))
    there = float(part) * int(frame["examples"].iloc[0]) / examples
    return there / (max(0.0, float(whole - part)) + there)


def _show(title: str, costs: Sequence[Cost]) -> None:
    click.echo(title)
    for cost in costs:
        first = costs[0]
        click.echo(
            f"  {cost.procedure:46} {cost.seeds:4} seeds {cost.runs:7,.0f} runs "
            f"{first.runs / cost.runs:5.1f}x fewer {first.runs / (cost.runs * cost.work):5.1f}x less compute "
            f"{cost.resolved:6.1%} answered"
        )


@click.command()
@click.option(
    "--effect",
    "effects",
    type=click.FloatRange(min=0, min_open=True),
    default=(0.002, 0.001, 0.0005),
    multiple=True,
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
@click.option(
    "--variance",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=DOCS / "smollm2_variance.csv",
    help="variance.csv of a study on the same tasks, with any number of validation examples.",
)
@click.option(
    "--examples", type=click.IntRange(1), default=40, show_default=True, help="Of the study's validation set."
)
@click.option(
    "--times",
    type=click.FloatRange(min=1),
    default=10.0,
    show_default=True,
    help="The validation examples of the last lines, in those of the study.",
)
@click.option(
    "--evaluation",
    type=click.FloatRange(min=0),
    default=0.11,
    show_default=True,
    help="What evaluating task A before and after costs, of a run's compute.",
)
@click.option("--studies", type=click.IntRange(50), default=1000, show_default=True)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def verdict_cost(
    effects: tuple[float, ...],
    share: float,
    contrasts: Path,
    summary: Path,
    variance: Path,
    examples: int,
    times: float,
    evaluation: float,
    studies: int,
    output: Path,
) -> None:
    """Count the runs to a verdict, on variances that a real study measured.

    \b
    python -m benchmarks verdict-cost
    python -m benchmarks verdict-cost --contrasts report/contrasts.csv --summary report/summary.csv \\
        --variance report/variance.csv
    """  # fmt: skip
    known, split = measured(contrasts, summary), interaction(variance, examples=examples)
    more, work = with_examples(known, share=split, times=times), 1 + evaluation * (times - 1)
    found = []
    for effect in effects:
        asked = {"effect": effect, "share": share, "studies": studies}
        for question, procedures in (("contrasts", PROCEDURES), ("strategies", OF_STRATEGIES)):
            costs = [smallest(each, known, **asked) for each in procedures]
            larger = smallest(procedures[-1], more, **asked)
            name = f"{larger.procedure}, {times:g}x examples"
            costs.append(larger._replace(procedure=name, work=work))
            _show(f"to answer {share:.0%} of {question}, a difference of {effect:g} everywhere:", costs)
            found.append({"of": question, "effect": effect, "costs": [each._asdict() for each in costs]})
    click.echo(f"{split:.0%} of the pairs' variance is seed x example, over {examples} examples")
    record = {"share": share, "studies": studies, "interaction": split, "examples": examples}
    record |= {"times": times, "evaluation": evaluation, "questions": found}
    publish_result("verdict_cost", record, folder=output)
