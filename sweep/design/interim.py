"""What the analysis makes of a study's finished pairs, for the sweep's own decisions and plans.

The numbers are analysis's: it is imported only once there is something to judge.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from analysis.findings.family import Contrast, PlannedLabel, family, in_family
from sweep.config.study import StudyConfig
from sweep.design.looks import Verdict
from sweep.ledger.ledger import Entry, Ledger
from sweep.planning.cells import PlannedCell, plan_record
from sweep.planning.study_record import searched_axes
from trainables.ledger.schema import FINAL_STATES, LABEL_COLUMNS, MIX, SEED, STRATEGY

if TYPE_CHECKING:
    import pandas as pd

    from analysis.reading.study import RecordedStudy

Differences = npt.NDArray[np.float64]


def planned_family(cells: Iterable[PlannedCell], *, baseline: str) -> list[Contrast]:
    """Return the primary contrasts that the labels of `cells` make up, in their order."""
    labels = (
        PlannedLabel(
            Contrast(label.strategy, label.mix, label.axes), label.seed, cell.spec.key if cell.spec else None
        )
        for cell in cells
        for label in cell.labels
    )
    return family(labels, baseline=baseline)


def count_sharing(study: StudyConfig, cells: Sequence[PlannedCell], ledger: Ledger) -> int:
    """Return how many contrasts share alpha where `cells` are judged: those that the configuration has no
    more, too, where a cell of theirs has finished.

    They were looked at. The plan that a run publishes keeps them, and the report counts every one.
    """
    axes = searched_axes(ledger, study)
    planned = plan_record(cells, study=study, axes=axes)
    runs = {_run(entry) for entry in planned}
    dropped = [entry for entry in ledger.plan() if _run(entry) not in runs]
    known = ledger.statuses(entry["key"] for entry in dropped) if dropped else {}
    kept = [entry for entry in dropped if known[entry["key"]].state in FINAL_STATES]
    entries = [*kept, *planned]
    labels = {(label.contrast, label.seed): label for label in (_label(entry, axes) for entry in entries)}
    judged = 1 + max(cell.seed for cell in cells)
    return len(family(labels.values(), baseline=study.inference.baseline, first_seeds=judged))


def _run(entry: Entry) -> tuple[Any, ...]:
    return *(entry["labels"][name] for name in LABEL_COLUMNS), entry["key"]


def _label(entry: Entry, axes: list[str]) -> PlannedLabel:
    strategy, mix, seed = (entry["labels"][name] for name in (STRATEGY, MIX, SEED))
    contrast = Contrast(strategy, mix, tuple((name, entry["labels"].get(name)) for name in axes))
    return PlannedLabel(contrast, seed, entry["key"])


def judge_contrasts(study: StudyConfig, cells: list[PlannedCell], ledger: Ledger) -> dict[Contrast, Verdict]:
    """Return the verdict on every primary contrast from the finished pairs among `cells`.

    A contrast is judged on the pairs that are there, and n says how many they are: pairs of which a run
    failed or diverged are missing, and so are those that did not see the same examples at the same steps.
    """
    from analysis.findings.multiplicity import decide

    found = paired_differences(study, cells, ledger)
    settings = study.inference
    verdicts = decide(
        found,
        contrasts=count_sharing(study, cells, ledger),
        looks=study.search.looks,
        level=settings.level,
        smallest_effect=settings.smallest_effect,
    )
    return {contrast: Verdict(verdicts[contrast], len(values)) for contrast, values in found.items()}


def paired_differences(
    study: StudyConfig, cells: list[PlannedCell], ledger: Ledger
) -> dict[Contrast, Differences]:
    """Return the primary measure's differences from the baseline, (n,) for each primary contrast of
    `cells`.
    """
    axes = {cell.spec.key: cell.labels[0].axes for cell in cells if cell.spec}
    values: dict[Contrast, list[float]] = {
        contrast: [] for contrast in planned_family(cells, baseline=study.inference.baseline)
    }
    from analysis.reading.study import read_study

    recorded = read_study(ledger.storage.location).compared_with(study.inference.baseline)
    pairs = finished_pairs(recorded, measure=study.inference.primary)
    for strategy, mix, key, difference in pairs[[STRATEGY, MIX, "cell", "difference"]].itertuples(
        index=False
    ):
        contrast = Contrast(strategy, mix, axes.get(key, ()))
        if key in axes and contrast in values:
            values[contrast].append(difference)
    return {contrast: np.array(each, float) for contrast, each in values.items()}


def contrast_differences(
    location: str, *, measure: str, baseline: str
) -> "tuple[dict[tuple[object, ...], Differences], RecordedStudy]":
    """Return the differences of every contrast in the study at `location`, and that study."""
    from analysis.reading.study import read_study

    study = read_study(location).compared_with(baseline)
    pairs = finished_pairs(study, measure=measure)
    groups = pairs.groupby([STRATEGY, MIX, *study.axes], sort=False)["difference"]
    return {key if isinstance(key, tuple) else (key,): group.to_numpy() for key, group in groups}, study


def finished_pairs(study: "RecordedStudy", *, measure: str) -> "pd.DataFrame":
    """Return a row a matched, finished pair of a primary contrast in which the measure has a value.

    Columns: those of analysis.findings.pairs, and `difference`.
    """
    from analysis.findings.outcomes import MATCHED, run_outcomes
    from analysis.findings.pairs import DIFFERENCE_SUFFIX, done_pairs, plan_pairs

    outcomes = run_outcomes(study, measures=[measure])
    pairs = done_pairs(plan_pairs(study, outcomes, measures=[measure]))
    pairs = pairs.assign(difference=pairs[measure + DIFFERENCE_SUFFIX])
    compared = [name for name in pairs[STRATEGY].unique() if in_family(name, baseline=study.baseline)]
    usable = pairs[MATCHED] & np.isfinite(pairs["difference"]) & pairs[STRATEGY].isin(compared)
    found: pd.DataFrame = pairs[usable]
    return found


def pooled_deviation(differences: Mapping[object, Differences]) -> tuple[float, int]:
    """Return the SD of pairs pooled over contrasts with two or more, and its degrees of freedom.

    sqrt(sum_c (n_c - 1) s_c^2 / sum_c (n_c - 1)); NaN with 0 degrees where no contrast has two.
    """
    several = [values for values in differences.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    squares = sum(float(np.var(values, ddof=1)) * (len(values) - 1) for values in several)
    return (float(np.sqrt(squares / freedom)) if freedom else float("nan")), freedom
