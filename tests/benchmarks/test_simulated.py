"""Many studies judged at a time are judged as a report judges each."""

import numpy as np
import pytest

from analysis.findings.multiplicity import judge_together
from analysis.findings.verdicts import equivalence
from analysis.stats.intervals import Values
from benchmarks.error_rates import Line, growth
from benchmarks.simulated import Step, draw, judge, planned_steps

CODES = ("unresolved", "different", "equivalent")


def one_by_one(differences: Values, steps: list[Step], margin: float | None) -> tuple[list[str], list[int]]:
    """Return the verdicts of one study (n, m), and the seeds each is from."""
    contrasts = differences.shape[1]
    verdicts, seeds, both = ["unresolved"] * contrasts, [0] * contrasts, [False] * contrasts
    for count, alpha in steps:
        still = [place for place in range(contrasts) if verdicts[place] == "unresolved"]
        values = {place: differences[:count, place] for place in still}
        others = sum(place not in still and not both[place] for place in range(contrasts))
        second = None if margin is None else equivalence(margin)
        for place, found in judge_together(values, alpha=alpha, second=second, others=others).items():
            verdicts[place], seeds[place] = found.verdict, count
            both[place] = found.p <= alpha and (margin is None or found.p_equivalence <= alpha)
    return verdicts, seeds


@pytest.mark.parametrize("margin", [None, 1.5])
def test_vectorised_studies_have_the_reports_verdicts(margin: float | None) -> None:
    truth = np.array([0.0, 1.0, 2.0, 4.0])
    drawn = truth + draw(np.random.default_rng(0), seeds=14, studies=40, contrasts=4)
    steps = planned_steps(4, 6, most=14)
    outcome = judge(drawn, steps, margin)
    for place, study in enumerate(np.moveaxis(drawn, 1, 0)):
        verdicts, seeds = one_by_one(study, steps, margin)
        assert [CODES[code] for code in outcome.verdicts[place]] == verdicts
        assert outcome.seeds[place].tolist() == seeds
    assert {CODES[code] for code in np.unique(outcome.verdicts)} == set(CODES if margin else CODES[:2])


def test_what_is_decided_is_run_no_more() -> None:
    drawn = np.array([100.0, 0.0]) + draw(np.random.default_rng(1), seeds=8, studies=50, contrasts=2)
    outcome = judge(drawn, planned_steps(4, 8))
    unresolved = outcome.verdicts[:, 1] == 0
    assert set(outcome.runs[unresolved]) == {4 * 3 + 4 * 2}


def test_growth_by_advice_breaks_alpha_and_the_looks_that_were_kept_do_not() -> None:
    lines = growth(np.random.default_rng(3), 400)
    assert all(isinstance(line, Line) and line.before > 0.09 > line.after for line in lines)
