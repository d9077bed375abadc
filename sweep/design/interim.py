"""What the analysis makes of a study so far, for the sweep's own decisions and plans.

The numbers, and the judgement of every contrast, are analysis's: the report of the same ledger finds the
same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from analysis.findings.family import Contrast, in_family
from sweep.config.study import StudyConfig
from sweep.ledger.ledger import Entry, Ledger
from sweep.planning.cells import PlannedCell, plan_record
from sweep.planning.plan import Plan
from sweep.planning.study_record import declarations, searched_axes, whole_plan
from trainables.ledger.schema import LABEL_COLUMNS, MIX, SEED, STRATEGY

if TYPE_CHECKING:
    import pandas as pd

    from analysis.findings.rounds import Judgement
    from analysis.reading.study import RecordedStudy

Differences = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interim:
    """A study so far: what every contrast of the family has come to, and what a plan's cells are of.

    `labels`: the contrast and the seed of each label of every cell of the plan.
    """

    study: "RecordedStudy"
    judgements: "Mapping[Contrast, Judgement]"
    labels: dict[PlannedCell, list[tuple[Contrast, int]]]


def study_now(
    study: StudyConfig, plan: Plan, ledger: Ledger, *, entries: list[Entry] | None = None
) -> "RecordedStudy":
    """Return the study as its report would read it, had it been opened with `plan` already.

    `entries` are what `_entries` returns, if they are known.
    """
    from analysis.reading.study import read_study

    described = {
        "name": study.study,
        "task_a": study.task_a.name,
        "task_b": study.task_b.name,
        "model": study.model.name,
        "axes": searched_axes(ledger, study),
        "config": study.recorded(),
        "declarations": declarations(ledger, study, finished=plan.finished),
    }
    return read_study(
        ledger.storage.location, description=described, plan=entries or _entries(study, plan, ledger)
    )


def _entries(study: StudyConfig, plan: Plan, ledger: Ledger) -> list[Entry]:
    """Return what a run would record as its plan: the labels of `plan`, then those that are kept."""
    planned = plan_record(plan.cells, study=study, axes=searched_axes(ledger, study))
    return whole_plan(ledger, planned, known=plan.known or None)


def look_at(study: StudyConfig, plan: Plan, ledger: Ledger) -> Interim:
    """Return what the runs that have ended say of the study whose whole plan is `plan`."""
    from analysis.findings.judgement import contrast_of, judge_study
    from analysis.reading.declaration import read_settings
    from analysis.reading.study import label_frame

    entries = _entries(study, plan, ledger)
    recorded = study_now(study, plan, ledger, entries=entries)
    settings = read_settings(recorded.description)
    pairs = _planned_pairs(recorded, measure=settings.primary, draws=settings.baseline_draws)
    frame = label_frame([entry["labels"] for entry in entries], labels=(*LABEL_COLUMNS, *recorded.axes))
    named = iter([(contrast_of(each, axes=recorded.axes), each[SEED]) for each in frame.to_dict("records")])
    return Interim(
        recorded,
        judge_study(pairs, study=recorded, settings=settings),
        {cell: [next(named) for _ in cell.labels] for cell in plan.cells},
    )


def contrast_differences(
    recorded: "RecordedStudy", *, measure: str, draws: int = 1
) -> dict[tuple[object, ...], Differences]:
    """Return the differences of the finished, matched pairs of every contrast of a study, (n,) each."""
    pairs = finished_pairs(recorded, measure=measure, draws=draws)
    groups = pairs.groupby([STRATEGY, MIX, *recorded.axes], sort=False)["difference"]
    return {key if isinstance(key, tuple) else (key,): group.to_numpy() for key, group in groups}


def finished_pairs(study: "RecordedStudy", *, measure: str, draws: int = 1) -> "pd.DataFrame":
    """Return a row a matched, finished pair of a primary contrast in which the measure has a value.

    Columns: those of analysis.findings.pairs, and `difference`.
    """
    from analysis.findings.outcomes import MATCHED
    from analysis.findings.pairs import DIFFERENCE_SUFFIX, done_pairs

    pairs = done_pairs(_planned_pairs(study, measure=measure, draws=draws))
    pairs = pairs.assign(difference=pairs[measure + DIFFERENCE_SUFFIX])
    compared = [name for name in pairs[STRATEGY].unique() if in_family(name, baseline=study.baseline)]
    usable = pairs[MATCHED] & np.isfinite(pairs["difference"]) & pairs[STRATEGY].isin(compared)
    found: pd.DataFrame = pairs[usable]
    return found


def _planned_pairs(study: "RecordedStudy", *, measure: str, draws: int) -> Any:
    from analysis.findings.outcomes import check_measured, run_outcomes
    from analysis.findings.pairs import plan_pairs

    check_measured(measure, study=study)
    outcomes = run_outcomes(study, measures=[measure])
    return plan_pairs(study, outcomes, measures=[measure], draws=draws)
