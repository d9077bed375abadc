"""A study's findings: every tidy frame of pairs, contrasts, doses, levels and selections, made when asked
for.

Owns which frames there are, and their notes; the numbers are made by the modules it imports.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analysis.findings.answers import find_answers
from analysis.findings.between import find_between
from analysis.findings.by_level import find_levels
from analysis.findings.contrasts import contrast_notes, find_aa, find_contrasts, find_over_all, find_secondary
from analysis.findings.costs import Costs, find_costs
from analysis.findings.doses import Laws, find_doses, fit_laws
from analysis.findings.family import Contrast
from analysis.findings.judgement import judge_study
from analysis.findings.outcomes import check_measured, run_outcomes
from analysis.findings.pairs import done_pairs, plan_pairs
from analysis.findings.rounds import Judgement
from analysis.findings.selections import Selected, overlaps, pool_size, read_selections
from analysis.findings.sensitivity import find_sensitivity
from analysis.findings.variance import Components, components, split
from analysis.findings.watched import find_watched, watched_runs
from analysis.reading.answers import AnsweredItems, read_answered
from analysis.reading.declaration import Inference, read_settings
from analysis.reading.per_example import Changes, read_changes
from analysis.reading.study import RecordedStudy


@dataclass(frozen=True)
class Findings:
    """The frames of one study. Each is computed at its first use; files of single examples are read only
    then. Raises AnalysisError where the study does not have the primary measure.
    """

    study: RecordedStudy
    settings: Inference

    def __post_init__(self) -> None:
        check_measured(self.settings.primary, study=self.study)

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """A row a planned label: strategy, mix, seed, *axes, cell, state, slots_hash, MEASURES (NaN unless
        done).
        """
        return run_outcomes(self.study)

    @cached_property
    def planned_pairs(self) -> pd.DataFrame:
        """`pairs` for every planned pair whatever became of it, with `standing`: one of STANDINGS of
        analysis.findings.pairs.
        """
        return plan_pairs(self.study, self.outcomes, draws=self.settings.baseline_draws)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """A row a pair of done runs: strategy, mix, seed, *axes, matched, paired_by, m, m_baseline,
        m_difference.
        """
        return done_pairs(self.planned_pairs)

    @cached_property
    def judgements(self) -> dict[Contrast, Judgement]:
        """What each contrast of the family came to: its look, its verdict, and the next look."""
        return judge_study(self.planned_pairs, study=self.study, settings=self.settings)

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """A row a strategy, mix and axes: the primary measure's columns of CONTRAST_COLUMNS of
        analysis.findings.contrasts.
        """
        return find_contrasts(
            self.planned_pairs, judgements=self.judgements, study=self.study, settings=self.settings
        )

    @cached_property
    def over_all(self) -> pd.DataFrame:
        """`contrasts` of each strategy's mean over its mixes, at mix ALL_MIXES (infinity); empty unless
        strategies are judged first.
        """
        return find_over_all(
            self.planned_pairs, judgements=self.judgements, study=self.study, settings=self.settings
        )

    @cached_property
    def between(self) -> pd.DataFrame:
        """A row an axis, value and label: COLUMNS and NUMBERS of analysis.findings.between, of the primary
        measure; empty where no axis has two values.
        """
        return find_between(
            self.outcomes, study=self.study, measure=self.settings.primary, level=self.settings.level
        )

    @cached_property
    def costs(self) -> Costs:
        """A row a contrast whose strategy chooses by computed columns: COLUMNS and CONTRAST_COLUMNS of
        analysis.findings.costs; empty where none does.
        """
        return find_costs(self.study, self.contrasts)

    @cached_property
    def secondary(self) -> pd.DataFrame:
        """A row a contrast and every other measure, SECONDARY_COLUMNS of analysis.findings.contrasts:
        exploratory, unadjusted.
        """
        return find_secondary(
            self.planned_pairs, judgements=self.judgements, study=self.study, settings=self.settings
        )

    @cached_property
    def aa(self) -> pd.DataFrame:
        """A row a matched pair of random_aa and random: strategy, mix, seed, *axes, difference (primary
        measure).
        """
        return find_aa(self.pairs, study=self.study, settings=self.settings)

    @cached_property
    def doses(self) -> pd.DataFrame:
        """A row a strategy, mix (0: no replay, repeated for each strategy) and axes: n, mean, low, high.

        `replayed` is False at mix 0.
        """
        return find_doses(self.outcomes, study=self.study, settings=self.settings)

    @cached_property
    def _laws(self) -> Laws:
        return fit_laws(self.outcomes, study=self.study, settings=self.settings)

    @property
    def dose_fits(self) -> pd.DataFrame:
        """A row a grid point of each fitted law: strategy, *axes, law, mix, mean, low, high, n."""
        return self._laws.fits

    @property
    def dose_parameters(self) -> pd.DataFrame:
        """A row a parameter of each law: strategy, *axes, law, parameter, value, low, high, n, residual,
        p_lack_of_fit.
        """
        return self._laws.parameters

    @cached_property
    def _changes(self) -> Changes:
        return read_changes(self.study)

    @cached_property
    def _answered(self) -> AnsweredItems:
        return read_answered(self.study)

    @cached_property
    def answers(self) -> pd.DataFrame:
        """A row a task whose answers were generated, strategy, mix and axes: COLUMNS of
        analysis.findings.answers; empty where there are none.
        """
        return find_answers(self.pairs, study=self.study, answered=self._answered, level=self.settings.level)

    @cached_property
    def watched_runs(self) -> pd.DataFrame:
        """A row a watched corpus and done run: corpus, strategy, mix, seed, *axes, cell, base, start, end,
        rise.
        """
        return watched_runs(self.study)

    @cached_property
    def watched(self) -> pd.DataFrame:
        """A row a watched corpus, strategy, mix and axes: COLUMNS of analysis.findings.watched."""
        level = self.settings.level
        return find_watched(self.watched_runs, self.pairs, study=self.study, level=level)

    @cached_property
    def levels(self) -> pd.DataFrame:
        """A row a run and group of A's validation examples.

        strategy, mix, seed, *axes, group ('level' or 'type'), value, tokens, examples, forgetting.
        """
        return find_levels(self.study, changes=self._changes)

    @cached_property
    def _selected(self) -> Selected:
        return read_selections(self.study)

    @property
    def selections(self) -> pd.DataFrame:
        """A row a run and replayed example: strategy, mix, seed, *axes, id, level, type, tokens."""
        return self._selected.frame

    @cached_property
    def overlaps(self) -> pd.DataFrame:
        """A row a pair of strategies and mix: strategy, other, mix, *axes, n, jaccard, expected."""
        return overlaps(self.selections, pool_size=pool_size(self.study))

    @cached_property
    def variance(self) -> pd.DataFrame:
        """A row a contrast: strategy, mix, *axes, SPLIT_COLUMNS of analysis.findings.variance: its standard
        errors over seeds and examples, and whether its verdict holds for the task too.
        """
        return split(
            self.pairs,
            self.contrasts,
            judgements=self.judgements,
            study=self.study,
            changes=self._changes,
            settings=self.settings,
        )

    @cached_property
    def _components(self) -> Components:
        return components(self.outcomes, study=self.study, settings=self.settings)

    @cached_property
    def sensitivity(self) -> pd.DataFrame:
        """A row a contrast of the family, COLUMNS of analysis.findings.sensitivity: whether its verdict hangs
        on the test, on one seed, or on how examples are weighted.
        """
        return find_sensitivity(self.planned_pairs, self.judgements, study=self.study, settings=self.settings)

    @property
    def components(self) -> pd.DataFrame:
        """A row a source of variance over adapters, COMPONENT_COLUMNS of analysis.findings.variance."""
        return self._components.frame

    def notes_on(self, frame: str) -> tuple[str, ...]:
        """Return why a frame is empty, or what it leaves out; `frame` is the name of one of NOTED."""
        return tuple(NOTED[frame](self))

    @property
    def notes(self) -> tuple[str, ...]:
        """Every frame's notes, each once; it computes every frame."""
        return tuple(dict.fromkeys(note for frame in NOTED for note in self.notes_on(frame)))

    @property
    def problems(self) -> tuple[str, ...]:
        """Every file that could not be used, those of single examples too; it reads them."""
        found = (*self.study.problems, *self._changes.problems, *self._selected.problems)
        found += (*self._answered.problems, *self.costs.problems)
        return tuple(dict.fromkeys(found))


NOTED: dict[str, Callable[[Findings], tuple[str, ...]]] = {
    "contrasts": lambda findings: contrast_notes(
        findings.contrasts, study=findings.study, settings=findings.settings
    ),
    "dose_fits": lambda findings: findings._laws.notes,
    "levels": lambda findings: findings._changes.notes,
    "selections": lambda findings: findings._selected.notes,
    "variance": lambda findings: findings._changes.notes,
    "components": lambda findings: findings._components.notes,
}


def find(study: RecordedStudy, *, settings: Inference | None = None) -> Findings:
    """Return the findings of `study`, inferred as its configuration declares unless `settings` say otherwise.

    Raises AnalysisError where the declared settings are not possible.
    """
    return Findings(study, read_settings(study.description) if settings is None else settings)
