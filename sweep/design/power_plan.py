"""What a study's seeds can tell apart: from the spread of pairs that are there, the difference they detect.

The spread is known from the study's own finished pairs, from a pilot, or from the user; never assumed. It is
pooled within each mix, for it differs between mixes, and used at its upper limit, for a pilot is small.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig
from sweep.design.interim import Differences, contrast_differences, finished_pairs

if TYPE_CHECKING:
    from analysis.findings.rounds import Judgement
    from analysis.reading.study import RecordedStudy

UNKNOWN = (
    "detectable difference: unknown: no pilot. Finish two seeds or more, or give --pilot STUDY or "
    "--paired-sd X"
)
LIMIT = 0.8  # that the true SD lies below the one that seeds are counted with
LARGER = (2, 5, 10)  # times the validation examples that there are


@dataclass(frozen=True)
class Spread:
    """The SD of paired differences in the primary measure at one mix, and in words where it is from.

    `mix` is ALL_MIXES for strategies' means over them, None where it is not known. `freedom`: its degrees of
    freedom, infinite where it was given. `interaction`: the share of its variance that is seed x example,
    over `examples` validation examples; None where single examples are not known.
    """

    mix: float | None
    deviation: float
    freedom: float
    source: str
    interaction: float | None = None
    examples: int = 0

    @property
    def upper(self) -> float:
        """The SD's one-sided upper limit, sqrt(freedom / chi2) s: the truth is below it 4 times in 5."""
        from scipy.stats import chi2

        if math.isinf(self.freedom):
            return self.deviation
        return self.deviation * math.sqrt(self.freedom / float(chi2.ppf(1 - LIMIT, self.freedom)))

    def with_examples(self, count: int) -> float:
        """Return the upper limit of the SD over `count` validation examples in place of `examples`."""
        assert self.interaction is not None
        return self.upper * math.sqrt(1 - self.interaction + self.interaction * self.examples / count)


def find_spreads(
    study: StudyConfig, recorded: "RecordedStudy", *, pilot: str | None = None, given: float | None = None
) -> list[Spread]:
    """Return the spread that a user has `given`, or at each mix that of the `pilot` or the `recorded` study.

    Empty where no contrast of its own has two pairs. Raises ConfigurationError if what was given or the pilot
    has no spread, AnalysisError where the pilot is no study.
    """
    if given is not None:
        if not (math.isfinite(given) and given > 0):
            raise ConfigurationError(f"--paired-sd must be a finite number above 0, got {given}")
        return [Spread(None, given, math.inf, "as given")]
    measure = study.inference.primary
    if pilot is not None:
        from analysis.reading.study import read_study

        other = read_study(pilot).compared_with(study.inference.baseline)
        spreads = _spreads(other, study, origin=f"the pilot {other.name}{_other_tasks(study, other)}")
        if not spreads:
            most = max(map(len, contrast_differences(other, measure=measure).values()), default=0)
            raise ConfigurationError(
                f"--pilot needs a contrast with two finished pairs or more that differ; {pilot} has {most} "
                "at most"
            )
        return spreads
    return _spreads(recorded, study, origin="this study")


def _other_tasks(study: StudyConfig, other: "RecordedStudy") -> str:
    """Return in words which tasks the pilot was on, where they are not the study's."""
    tasks = (other.task_a, other.task_b)
    return (
        "" if tasks == (study.task_a.name, study.task_b.name) else f" (on other tasks: {' -> '.join(tasks)})"
    )


def _spreads(recorded: "RecordedStudy", study: StudyConfig, *, origin: str) -> list[Spread]:
    measure, draws = study.inference.primary, study.inference.baseline_draws
    by_mix: dict[float, list[Differences]] = {}
    for (_, mix, *_), values in contrast_differences(recorded, measure=measure, draws=draws).items():
        if len(values) > 1 and np.ptp(values) > 0:
            by_mix.setdefault(float(str(mix)), []).append(values)
    if by_mix and study.inference.order != "together":
        by_mix |= _of_means(recorded, study)
    shares = _interaction(recorded, measure=measure) if by_mix else {}
    return [
        _pool(mix, values, origin=origin, shares=shares.get(mix)) for mix, values in sorted(by_mix.items())
    ]


def _of_means(recorded: "RecordedStudy", study: StudyConfig) -> dict[float, list[Differences]]:
    """Return the differences of each strategy's mean over the mixes, those of two seeds and more."""
    from analysis.findings.family import ALL_MIXES
    from analysis.findings.strategies_first import mean_pairs
    from trainables.ledger.schema import STRATEGY

    settings = study.inference
    pairs = finished_pairs(recorded, measure=settings.primary, draws=settings.baseline_draws)
    weights = settings.weights or {}
    means = mean_pairs(pairs, column="difference", axes=recorded.axes, weights=weights)
    groups = means.groupby([STRATEGY, *recorded.axes], sort=False)["difference"]
    found = [group.to_numpy() for _, group in groups]
    kept = [values for values in found if len(values) > 1 and np.ptp(values) > 0]
    return {ALL_MIXES: kept} if kept else {}


def _pool(mix: float, several: list[Differences], *, origin: str, shares: tuple[float, int] | None) -> Spread:
    """Return the SD pooled over a mix's contrasts: sqrt(sum_c (n_c - 1) s_c^2 / sum_c (n_c - 1))."""
    freedom = sum(len(values) - 1 for values in several)
    squares = sum(float(np.var(values, ddof=1)) * (len(values) - 1) for values in several)
    sizes = sorted({len(values) for values in several})
    pairs = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    contrasts = f"{len(several)} contrast{'s' if len(several) > 1 else ''}"
    source = f"{contrasts} of {origin}, n = {pairs} seeds each, {freedom} degrees of freedom"
    return Spread(mix, math.sqrt(squares / freedom), freedom, source, *(shares or ()))


def _interaction(recorded: "RecordedStudy", *, measure: str) -> dict[float, tuple[float, int]]:
    """Return for each mix the share of the pairs' variance that is seed x example, and how many examples."""
    from analysis.findings.findings import find
    from analysis.stats.measures import FORGETTING
    from trainables.ledger.schema import MIX

    if measure != FORGETTING:
        return {}
    frame = find(recorded).variance.dropna(subset=["se_interaction"])
    found = {}
    for mix, rows in frame.groupby(MIX):
        weights = rows["n"] * (rows["n"] - 1)
        whole = float((weights * rows["se_seeds"] ** 2).sum())
        part = float((weights * rows["se_interaction"] ** 2).sum())
        if whole > 0:
            found[float(str(mix))] = min(1.0, part / whole), int(rows["examples"].iloc[0])
    return found


def describe_resolution(
    study: StudyConfig, spreads: list[Spread], judgements: "Mapping[Any, Judgement]"
) -> list[str]:
    """Return what the configured seeds detect, and how many the declared smallest effect needs, in lines.

    `judgements` are those of the family, which tell how alpha is shared.
    """
    if not judgements:
        return [
            "detectable difference: none, search.strategy and search.mix make no contrast with "
            f"{study.inference.baseline}"
        ]
    if not spreads:
        return [UNKNOWN, *_without_smallest(study)]
    from analysis.findings.family import ALL_MIXES
    from analysis.stats.measures import MEASURES

    measure = MEASURES[study.inference.primary]
    only = study.inference.order == "strategies_only"
    asked = [spread for spread in spreads if not only or spread.mix in (None, ALL_MIXES)]
    lines = [line for spread in asked for line in _describe(study, spread, judgements)]
    return [
        f"SD of pairs in {measure.label} ({measure.unit}); seeds are counted with its upper {LIMIT:.0%} "
        f"limit, at {study.inference.power:.0%} power and alpha {_split(judgements)}:",
        *(f"  {line}" for line in lines),
        *_precision(study, spreads),
        *_without_smallest(study),
    ]


def _precision(study: StudyConfig, spreads: list[Spread]) -> list[str]:
    """Return the weights that a strategy's mean over mixes has the least variance with, as far as known."""
    from analysis.findings.family import ALL_MIXES

    known = {spread.mix: spread.deviation for spread in spreads if spread.mix not in (None, ALL_MIXES)}
    if study.inference.order == "together" or len(known) < 2:
        return []
    least = min(known.values())
    weights = ", ".join(f"{mix:g}: {(least / sd) ** 2:.2g}" for mix, sd in known.items())
    return [f"weights of most precision, if declared before outcomes: inference.weights {{{weights}}}"]


def _describe(study: StudyConfig, spread: Spread, judgements: "Mapping[Any, Judgement]") -> list[str]:
    from analysis.findings.family import ALL_MIXES
    from analysis.stats.power import detectable_difference

    asked, share = _asked(study, judgements, over_all=spread.mix == ALL_MIXES)
    seeds = len(study.search.seed)
    detected = detectable_difference(spread.upper, seeds, **asked)
    reach = (
        "fewer than 3 seeds detect no difference"
        if math.isnan(detected)
        else f"{seeds} seeds detect differences of {detected:.3g} and more"
    )
    at = (
        "every mix"
        if spread.mix is None
        else "means over all mixes"
        if spread.mix == ALL_MIXES
        else f"mix {100 * spread.mix:g} %"
    )
    limit = "" if math.isinf(spread.freedom) else f" (limit {spread.upper:.3g})"
    lines = [f"{at}: {spread.deviation:.3g}{limit}, {spread.source}; {reach}"]
    smallest = study.inference.smallest_effect
    if smallest is not None:
        one_sided = study.inference.question == "non_inferiority"
        different, second = map(_seeds, _needed(spread.upper, smallest, asked, share, one_sided=one_sided))
        shown = "it is not as much worse" if one_sided else "there is none as large"
        lines.append(
            f"  smallest effect {smallest:g}: {different} to find a difference of that size, {second} to "
            f"show that {shown} where the true difference is 0"
        )
    options = asked | {"share_equivalent": share, "one_sided": study.inference.question == "non_inferiority"}
    return [*lines, *_validation(spread, smallest, options)]


def _validation(spread: Spread, smallest: float | None, asked: dict[str, Any]) -> Iterable[str]:
    """Yield what more validation examples would save: evaluation is cheap, training is not."""
    if spread.interaction is None:
        return
    from analysis.stats.power import seeds_to_decide

    told = []
    for count in [spread.examples, *(factor * spread.examples for factor in LARGER)]:
        upper = spread.with_examples(count)
        if smallest is None:
            told.append(f"{count}: SD {upper:.3g}")
        else:
            told.append(f"{count}: {_seeds(seeds_to_decide(upper, smallest, **asked))}")
    yield (
        f"  {spread.interaction:.0%} of that variance is seed x example and falls with task_a.validation: "
        f"{'; '.join(told)}"
    )


def _needed(
    sd: float, smallest: float, asked: dict[str, Any], share: float, *, one_sided: bool
) -> list[int | None]:
    """Return the seeds that find a difference of the smallest effect, and that show the second claim."""
    from analysis.stats.power import (
        seeds_for_difference,
        seeds_for_equivalence,
        seeds_for_non_inferiority,
    )

    show = seeds_for_non_inferiority if one_sided else seeds_for_equivalence
    second = asked | {"comparisons": asked["comparisons"] / share}
    return [seeds_for_difference(sd, smallest, **asked), show(sd, smallest, **second)]


def _asked(
    study: StudyConfig, judgements: "Mapping[Any, Judgement]", *, over_all: bool
) -> tuple[dict[str, Any], float]:
    """Return how alpha is shared where contrasts are judged, and the share of it for what is equivalent."""
    judgement = _last(judgements, over_all=over_all)
    asked = {"alpha": _last_alpha(judgement), "power": study.inference.power}
    return asked | {"comparisons": judgement.sharing}, judgement.share_equivalent


def _last(judgements: "Mapping[Any, Judgement]", *, over_all: bool) -> "Judgement":
    """Return a judgement of the newest batch that there is, the first where nothing was added.

    `over_all`: of a strategy's mean over its mixes.
    """
    from analysis.findings.family import ALL_MIXES

    chosen = [each for contrast, each in judgements.items() if (contrast.mix == ALL_MIXES) == over_all]
    return min(chosen or judgements.values(), key=lambda each: each.batch.alpha)


def _last_alpha(judgement: "Judgement") -> float:
    """Return the alpha of the last planned look, the first step there not yet taken."""
    shares = dict(judgement.batch.shares_planned())
    return judgement.batch.alpha * shares[judgement.batch.planned[-1]]


def _split(judgements: "Mapping[Any, Judgement]") -> str:
    judgement = _last(judgements, over_all=True)
    parts = f"{judgement.sharing:g} contrast{'s' if judgement.sharing > 1 else ''}"
    at = f" at the look of {judgement.batch.planned[-1]} seeds" if len(judgement.batch.planned) > 1 else ""
    return f"{_last_alpha(judgement):.3g}{at}, shared by {parts} (the first step)"


def _seeds(count: int | None) -> str:
    return "more than 10,000 seeds" if count is None else f"{count:,} seeds"


def _without_smallest(study: StudyConfig) -> list[str]:
    if study.inference.smallest_effect is not None:
        return []
    return [
        "smallest effect: none declared (inference.smallest_effect), so no contrast can become equivalent"
        + (", and looks end only what is different" if study.search.looks else "")
    ]
