"""What a study's verdicts risk and cost, by simulation with known truth: as reports judged, and as they do.

Each line of the table is a claim of docs/statistics.md. "Before": Holm at the seeds there are, alpha /
(looks x contrasts) at each look, or one of Holm's steps a contrast for both kinds of claim.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from scipy import stats

from analysis.findings.variance import split_errors
from analysis.stats.intervals import Values, wide_degrees
from analysis.stats.power import detectable_difference
from benchmarks.machine import RESULTS, publish_result
from benchmarks.simulated import (
    ALPHA,
    DIFFERENT,
    EQUIVALENT,
    GROWTH,
    OPEN,
    Outcome,
    draw,
    holm,
    judge,
    judge_at,
    judge_p,
    judge_strategies,
    p_values,
    planned_steps,
)

FAMILY = 12
MOST = 200  # seeds that anybody would run
LOOKS = (5, 10, 20)
CHOICES = (3, 4, 5, 6, 8, 10, 15, 20)  # numbers of seeds that somebody chooses from after a pilot of two


class Line(NamedTuple):
    """A claim with what was found for it; `promised` is the most, or the least, that it says."""

    claim: str
    before: float
    after: float
    promised: str


MARKS = "<!-- error-rates -->", "<!-- /error-rates -->"
Simulation = Callable[[np.random.Generator, int], list[Line]]


def growth(rng: np.random.Generator, studies: int) -> list[Line]:
    """A study without effects is grown to the smallest number that its report names, again and again."""
    drawn = draw(rng, seeds=MOST, studies=studies, contrasts=FAMILY)
    lines = []
    for first in (3, 5, 6):
        before = np.mean([grown_by_advice(each, first=first) for each in np.moveaxis(drawn, 1, 0)])
        after = judge(drawn, planned_steps(first, most=MOST))
        claim = f"any wrong claim, grown from {first} seeds until something is found or {MOST} seeds"
        lines.append(Line(claim, float(before), after.any_wrong(np.zeros(FAMILY), None), "<= 5 %"))
    return lines


def grown_by_advice(differences: Values, *, first: int) -> bool:
    """Return whether a study (n, m) calls anything different on the way that its own advice leads it."""
    count = first
    while True:
        part = differences[:count, None]
        if (judge_at(part, ALPHA) == DIFFERENT).any():
            return True
        effects = np.abs(part.mean(axis=0)) / part.std(axis=0, ddof=1)
        count = max(count + 1, bisect_left(_detected(FAMILY), -effects.max()) + 3)
        if count > MOST:
            return False


@cache
def _detected(contrasts: int) -> list[float]:
    """Return minus the effect that n seeds detect, n = 3, 4, ...: rising, as bisect wants it."""
    return [-detectable_difference(1.0, n, comparisons=contrasts) for n in range(3, MOST + 1)]


def pilot(rng: np.random.Generator, studies: int) -> list[Line]:
    """Two seeds are run, then as many as make something of one contrast likeliest, given what they gave."""
    chances = []
    rest = rng.standard_normal((max(CHOICES), 2000, 1))
    for first in rng.standard_normal((studies // 20, 2)):
        drawn = np.concatenate([np.broadcast_to(first[:, None, None], (2, 2000, 1)), rest])
        chances.append(max((p_values(drawn[:n], None)[..., 0] <= ALPHA).mean() for n in CHOICES))
    apart = [
        (p_values(rest[: n - 2], None)[..., 0] <= planned_steps(3)[0].alpha).mean() for n in CHOICES if n > 4
    ]
    claim = "a wrong claim on one contrast, the number of seeds chosen after a pilot of two"
    return [Line(claim, float(np.mean(chances)), float(max(apart)), "<= 5 %")]


def family(rng: np.random.Generator, studies: int) -> list[Line]:
    """Contrasts are added one at a time, each judged as soon as it is there, until one is different."""
    drawn = draw(rng, seeds=5, studies=studies, contrasts=FAMILY)
    found = {"before": np.zeros(studies, bool), "after": np.zeros(studies, bool)}
    (planned,) = [step.alpha for step in planned_steps(5)]
    for count in range(1, FAMILY + 1):
        found["before"] |= (judge_at(drawn[..., :count], ALPHA) == DIFFERENT).any(axis=1)
        own = planned if count == 1 else ALPHA * GROWTH / 2 ** (count - 1) * (1 - GROWTH)
        found["after"] |= p_values(drawn[..., count - 1 : count], None)[:, 0, 0] <= own
    claim = f"any wrong claim, contrasts added one at a time until one is different, at most {FAMILY}"
    return [Line(claim, float(found["before"].mean()), float(found["after"].mean()), "<= 5 %")]


def looks(rng: np.random.Generator, studies: int) -> list[Line]:
    """Looks at 5, 10 and 20 seeds: errors, contrasts resolved, and the cells that it takes."""
    noise = draw(rng, seeds=LOOKS[-1], studies=studies, contrasts=FAMILY)
    half, margin = FAMILY // 2, 2.0
    truth = np.repeat([0.0, margin], half)
    lines = []
    steps = planned_steps(*LOOKS)
    mixed = [judge(noise + truth, steps, margin), _judge_as_before(noise + truth, margin)]
    lines.append(
        Line(
            "any wrong claim at looks 5/10/20, half of the contrasts 0 and half at the margin of 2 sd",
            mixed[1].any_wrong(truth, margin),
            mixed[0].any_wrong(truth, margin),
            "<= 5 %",
        )
    )
    for effect in (1.0, 2.0):
        after, before = judge(noise + effect, steps), _judge_as_before(noise + effect, None)
        whole = LOOKS[-1] * (FAMILY + 1)
        lines += [
            Line(
                f"contrasts of {effect:g} sd resolved by looks 5/10/20",
                before.resolved,
                after.resolved,
                "more",
            ),
            Line(
                f"cells that it took, of those of 20 seeds ({effect:g} sd)",
                float(before.runs.mean() / whole),
                float(after.runs.mean() / whole),
                "fewer",
            ),
        ]
    return [*lines, *_coverage(noise[..., :1])]


def equivalence(rng: np.random.Generator, studies: int) -> list[Line]:
    """Every contrast is 0, or at the margin, and the seeds are so many that nearly all are found to be so."""
    noise, margin = draw(rng, seeds=LOOKS[-1], studies=studies, contrasts=FAMILY), 0.85
    lines = []
    for words, truth in (("is 0", 0.0), ("is at the margin", margin)):
        differences, known = noise + truth, np.full(FAMILY, truth)
        verdicts = judge_p(shared_steps(p_values(differences, margin)), ALPHA)
        before = Outcome(verdicts, verdicts, np.zeros(studies))
        after = judge(differences, planned_steps(LOOKS[-1]), margin)
        claim = f"any wrong claim, every contrast {words}, margin {margin:g} sd, {LOOKS[-1]} seeds"
        rates = (each.any_wrong(known, margin) for each in (before, after))
        lines.append(Line(claim, *rates, "<= 5 %"))
    return lines


def shared_steps(p: Values) -> Values:
    """Return the p values (S, m, 2) adjusted by Holm's steps, one a contrast, by the smaller of its two.

    A contrast that is decided either way leaves its share to the others, which is too much.
    """
    smaller = p.min(axis=-1)
    order = np.argsort(smaller, axis=-1, kind="stable")
    left = p.shape[-2] - np.argsort(order, axis=-1, kind="stable")
    steps = np.maximum.accumulate(np.take_along_axis(smaller * left, order, axis=-1), axis=-1)
    reached = np.empty_like(steps)
    np.put_along_axis(reached, order, steps, axis=-1)
    return np.minimum(1.0, np.maximum(p * left[..., None], reached[..., None]))


def strategies(rng: np.random.Generator, studies: int) -> list[Line]:
    """Four strategies at three mixes, strategies judged first: errors over truths, and what it gains."""
    by_mix = [draw(rng, seeds=LOOKS[-1], studies=studies, contrasts=4) for _ in range(3)]
    noise = np.stack(by_mix, axis=-1)
    margin, steps, lines = 0.85, planned_steps(*LOOKS), []
    truths = {
        "all 0": [0.0, 0.0, 0.0],
        "signs that cancel": [1.0, -1.0, 0.0],
        "one mix at the margin": [0.0, 0.0, margin],
        "all at the margin": [margin, margin, margin],
        "two of them at twice the margin": [2 * margin, 2 * margin, 0.0],
    }
    for words, effects in truths.items():
        drawn, truth = noise + np.array(effects), np.array(effects)
        nested = judge_strategies(drawn, steps, margin)
        flat = judge(drawn.reshape(LOOKS[-1], studies, FAMILY), steps, margin)
        wrong = nested.means.wrong(np.full(4, _mean(effects)), margin).any(axis=1)
        wrong |= nested.inside.wrong(truth, margin).any(axis=(1, 2))
        claim = f"any wrong claim, strategies judged first ('before': all together), {words}"
        lines.append(Line(claim, flat.any_wrong(np.tile(truth, 4), margin), float(wrong.mean()), "<= 5 %"))
    for words, effects in {"alike at all mixes": [1.0, 1.0, 1.0], "at one mix": [0.0, 0.0, 1.0]}.items():
        drawn = noise[:6] + np.array(effects)
        first = judge_strategies(drawn, planned_steps(6)).means
        flat = judge(drawn.reshape(6, studies, FAMILY), planned_steps(6))
        known = (flat.verdicts == DIFFERENT).reshape(studies, 4, 3).any(axis=2)
        claim = f"strategies shown to matter with 6 seeds ('before': at some mix), 1 sd, {words}"
        lines.append(Line(claim, float(known.mean()), first.resolved, "more" if effects[0] else "less"))
    return [*lines, _weighted(noise[:5])]


def _mean(effects: list[float]) -> float:
    """Return the mean of effects, 0 where they cancel but for rounding."""
    return round(float(np.mean(effects)), 12)


def _weighted(noise: Values) -> Line:
    """How often a mean is called different that is weighted by the precision of its own pairs; and alike."""
    precise = 1 / noise.var(axis=0, ddof=1)
    estimated = (noise * precise / precise.sum(axis=-1, keepdims=True)).sum(axis=-1)
    rates = [
        float((p_values(mean, None)[..., 0] <= ALPHA).mean()) for mean in (estimated, noise.mean(axis=-1))
    ]
    claim = "a wrong claim of one strategy, 5 seeds, weights from the pairs themselves ('now': declared)"
    return Line(claim, *rates, "<= 5 %")


def _judge_as_before(differences: Values, margin: float | None) -> Outcome:
    """Judge all contrasts at alpha / (looks x contrasts), none carried forward, until all are decided."""
    _, studies, contrasts = differences.shape
    verdicts = np.zeros((studies, contrasts), np.int64)
    seeds, runs = np.zeros_like(verdicts), np.zeros(studies)
    going = np.ones(studies, bool)
    for count in LOOKS:
        p = p_values(differences[:count, going], margin)
        small = np.nan_to_num(p, nan=1.0) <= ALPHA / len(LOOKS) / contrasts
        verdicts[going] = np.where(small[..., 1], EQUIVALENT, np.where(small[..., 0], DIFFERENT, OPEN))
        seeds[going], runs[going] = count, count * (contrasts + 1)
        going &= (verdicts == OPEN).any(axis=1)
    return Outcome(verdicts, seeds, runs)


def _coverage(noise: Values) -> list[Line]:
    """How often the interval of one contrast holds the truth in studies that stopped before the last look."""
    effect, steps = 2.0, planned_steps(*LOOKS)
    outcome = judge(noise + effect, steps)
    covered: dict[str, list[bool]] = {"plain": [], "drawn": []}
    for step in steps:
        here = (outcome.seeds[:, 0] == step.seeds) & (outcome.verdicts[:, 0] != OPEN)
        part = noise[: step.seeds, here, 0]
        distance = np.abs(part.mean(axis=0)) / part.std(axis=0, ddof=1) * np.sqrt(step.seeds)
        level = ALPHA * step.alpha / (ALPHA * (1 - GROWTH))
        for name, alpha in (("plain", ALPHA), ("drawn", level)):
            covered[name] += (distance <= stats.t.ppf(1 - alpha / 2, step.seeds - 1)).tolist()
    claim = "95 % interval holds the truth (2 sd), of contrasts that a look decided"
    return [Line(claim, float(np.mean(covered["plain"])), float(np.mean(covered["drawn"])), ">= 95 %")]


def examples(rng: np.random.Generator, studies: int) -> list[Line]:
    """Strategies that differ on single examples, by chance, and not on the task: is a difference claimed of
    it?

    Over 40 examples the variance of their mean is an eighth of that of a pair, half of which is seed by
    example.
    """
    lines = []
    for count in (40, 400):
        for seeds in (5, 10, 20):
            claimed = np.zeros((studies // 20, 2), bool)
            for place in range(len(claimed)):
                claimed[place] = _claims_on_examples(rng, seeds=seeds, count=count)
            before, after = claimed.mean(axis=0)
            claim = f"any difference claimed of the task, {count} validation examples, {seeds} seeds"
            lines.append(Line(claim, float(before), float(after), "<= 5 %"))
    return lines


def _claims_on_examples(rng: np.random.Generator, *, seeds: int, count: int) -> tuple[bool, bool]:
    """Return whether a study calls anything different, and whether anything that holds for the task."""
    common = rng.normal(0, np.sqrt(40 / 8), (FAMILY + 1, 1, count))  # what a strategy does to an example
    own = rng.normal(0, np.sqrt(40 / 2), (FAMILY + 1, seeds, count))
    runs = (common + own + rng.normal(0, np.sqrt(1 / 2), (FAMILY + 1, seeds, 1))) / np.sqrt(2)
    rises = runs[1:] - runs[0]
    p = p_values(np.moveaxis(rises.mean(axis=2), 0, 1)[:, None], None)
    different = holm(p[0, :, 0]) <= ALPHA
    tokens = np.ones(count)
    holds = []
    for each, found in zip(rises, different, strict=True):
        if found:
            errors = split_errors(each, tokens)
            ratio = abs(errors["difference"]) / errors["se_both"]
            holds.append(2 * stats.t.sf(ratio, seeds - 1) * FAMILY <= ALPHA)
    return bool(different.any()), any(holds)


def skew(rng: np.random.Generator, studies: int) -> list[Line]:
    """Deterministic strategies against a random baseline whose draws are as skewed as a lognormal.

    Claims that are wrong, and those among them that the report says stay for skewed differences.
    """
    lines = []
    for seeds in (3, 5, 10):
        baseline = rng.lognormal(0, 1, (seeds, studies, 1)) - np.exp(0.5)
        drawn = baseline + 0.5 * rng.standard_normal((seeds, studies, FAMILY))
        ratio = np.abs(drawn.mean(axis=0)) / drawn.std(axis=0, ddof=1) * np.sqrt(seeds)
        plain, wide = (
            _any_different(2 * stats.t.sf(ratio, degrees)) for degrees in (seeds - 1, wide_degrees(seeds))
        )
        claim = f"any wrong claim (now: that stays on the wide reference), lognormal baseline, {seeds} seeds"
        lines.append(Line(claim, plain, wide, "<= 5 %"))
    return lines


def _any_different(p: Values) -> float:
    return float((p.min(axis=1) <= ALPHA / FAMILY).mean())


SIMULATIONS: dict[str, Simulation] = {
    "growth": growth,
    "pilot": pilot,
    "family": family,
    "looks": looks,
    "equivalence": equivalence,
    "strategies": strategies,
    "examples": examples,
    "skew": skew,
}


def simulate(names: tuple[str, ...], *, studies: int) -> list[Line]:
    """Return the lines of the simulations of those names, each with a stream of random numbers of its own."""
    return [
        line
        for place, name in enumerate(SIMULATIONS)
        if name in names
        for line in SIMULATIONS[name](np.random.default_rng(place), studies)
    ]


def table(lines: Sequence[Line]) -> str:
    """Return the lines as a table of Markdown."""
    rows = [f"| {each.claim} | {each.before:.1%} | {each.after:.1%} | {each.promised} |" for each in lines]
    return "\n".join(["| | before | now | promised |", "|---|---|---|---|", *rows])


@click.command()
@click.option("--studies", type=click.IntRange(100), default=4000, show_default=True, help="Simulated ones.")
@click.option("--only", "names", type=click.Choice(list(SIMULATIONS)), multiple=True, help="Of these [all].")
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write the table into this page, between its marks.",
)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def error_rates(studies: int, names: tuple[str, ...], page: Path | None, output: Path) -> None:
    """Simulate what verdicts risk and cost, before and now.

    \b
    python -m benchmarks error-rates --page docs/statistics.md
    python -m benchmarks error-rates --only growth --studies 1000 -o /tmp
    """
    lines = simulate(names or tuple(SIMULATIONS), studies=studies)
    click.echo(table(lines))
    if page is not None:
        before, mark, rest = page.read_text().partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        page.write_text(f"{before}{mark}\n{table(lines)}\n{MARKS[1]}{after}")
    publish_result(
        "error_rates", {"studies": studies, "lines": [each._asdict() for each in lines]}, folder=output
    )
