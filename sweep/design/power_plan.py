"""What a study's seeds can tell apart: from the spread of pairs that are there, the difference they detect.

The spread is known from the study's own finished pairs, from a pilot, or from the user; never assumed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig
from sweep.design.interim import Differences, contrast_differences, paired_differences, pooled_deviation
from sweep.ledger.ledger import Ledger
from sweep.planning.plan import Plan

if TYPE_CHECKING:
    from analysis.reading.study import RecordedStudy

UNKNOWN = (
    "detectable difference: unknown: no pilot. Finish two seeds or more, or give --pilot STUDY or "
    "--paired-sd X"
)


@dataclass(frozen=True)
class Spread:
    """The SD of paired differences in the primary measure, and in words where it is from."""

    deviation: float
    source: str


def find_spread(
    study: StudyConfig, plan: Plan, ledger: Ledger, *, pilot: str | None = None, given: float | None = None
) -> Spread | None:
    """Return the spread that a user has `given`, of the `pilot` at a location, or of the study's own pairs.

    None where no contrast of its own has two pairs. Raises ConfigurationError if what was given or the pilot
    has no spread, AnalysisError where the pilot is no study.
    """
    if given is not None:
        if not (math.isfinite(given) and given > 0):
            raise ConfigurationError(f"--paired-sd must be a finite number above 0, got {given}")
        return Spread(given, "as given")
    if pilot is not None:
        differences, other = contrast_differences(
            pilot, measure=study.inference.primary, baseline=study.inference.baseline
        )
        spread = _pool(differences, origin=f"the pilot {other.name}{_other_tasks(study, other)}")
        if spread is None:
            most = max(map(len, differences.values()), default=0)
            raise ConfigurationError(
                f"--pilot needs a contrast with two finished pairs or more that differ; {pilot} has {most} "
                "at most"
            )
        return spread
    if ledger.study_record() is None:
        return None
    return _pool(paired_differences(study, plan.cells, ledger), origin="this study")


def _other_tasks(study: StudyConfig, other: "RecordedStudy") -> str:
    """Return in words which tasks the pilot was on, where they are not the study's."""
    tasks = (other.task_a, other.task_b)
    return (
        "" if tasks == (study.task_a.name, study.task_b.name) else f" (on other tasks: {' -> '.join(tasks)})"
    )


def _pool(differences: Mapping[Any, Differences], *, origin: str) -> Spread | None:
    varied = {key: values for key, values in differences.items() if len(values) > 1 and np.any(values)}
    deviation, freedom = pooled_deviation(varied)
    if not freedom or deviation == 0:
        return None
    sizes = sorted({len(values) for values in varied.values()})
    pairs = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    contrasts = f"{len(varied)} contrast{'s' if len(varied) > 1 else ''}"
    return Spread(
        deviation,
        f"pooled within {contrasts} of {origin}, n = {pairs} seeds each, {freedom} degrees of freedom",
    )


def describe_resolution(study: StudyConfig, spread: Spread | None, *, contrasts: int) -> list[str]:
    """Return what the configured seeds detect, and how many the declared smallest effect needs, in lines.

    `contrasts` share alpha.
    """
    if not contrasts:
        return [
            "detectable difference: none, search.strategy and search.mix make no contrast with "
            f"{study.inference.baseline}"
        ]
    if spread is None:
        return [UNKNOWN, *_without_smallest(study)]
    from analysis.stats.measures import MEASURES
    from analysis.stats.power import detectable_difference

    settings, measure = study.inference, MEASURES[study.inference.primary]
    asked = _asked(study, contrasts)
    seeds = len(study.search.seed)
    detected = detectable_difference(spread.deviation, seeds, **asked)
    reach = (
        "fewer than 3 seeds detect no difference"
        if math.isnan(detected)
        else f"{seeds} seeds detect differences of {detected:.3g} and more"
    )
    return [
        f"SD of pairs: {spread.deviation:.3g} {measure.unit} of {measure.label} ({spread.source})",
        f"detectable difference: {reach}, at {settings.power:.0%} power and alpha {_split(study, contrasts)}",
        *(_needed(study, spread, asked) or _without_smallest(study)),
    ]


def _asked(study: StudyConfig, contrasts: int) -> dict[str, Any]:
    looks = max(1, len(study.search.looks))
    settings = study.inference
    return {
        "alpha": 1 - settings.level,
        "power": settings.power,
        "comparisons": looks * contrasts,
    }


def _split(study: StudyConfig, contrasts: int) -> str:
    alpha, looks = 1 - study.inference.level, len(study.search.looks)
    shared = f"{contrasts} contrast{'s' if contrasts > 1 else ''}"
    if looks:
        return f"{alpha:.3g} / ({looks} looks x {shared})"
    return f"{alpha:.3g} / {shared} (Holm's first step)"


def _needed(study: StudyConfig, spread: Spread, asked: dict[str, Any]) -> list[str]:
    from analysis.stats.power import seeds_for_difference, seeds_for_equivalence

    smallest = study.inference.smallest_effect
    if smallest is None:
        return []
    different, equivalent = (
        _seeds(count(spread.deviation, smallest, **asked))
        for count in (seeds_for_difference, seeds_for_equivalence)
    )
    return [
        f"smallest effect {smallest:g}: {different} to find a difference of that size, {equivalent} to show "
        "that there is none as large where the true difference is 0"
    ]


def _seeds(count: int | None) -> str:
    return "more than 10,000 seeds" if count is None else f"{count:,} seeds"


def _without_smallest(study: StudyConfig) -> list[str]:
    if study.inference.smallest_effect is not None:
        return []
    return [
        "smallest effect: none declared (inference.smallest_effect), so no contrast can become equivalent"
        + (", and a look stops only where all are different" if study.search.looks else "")
    ]
