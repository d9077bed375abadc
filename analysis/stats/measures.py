"""What is read off one run's validation losses: pure functions of arrays, in nats a token unless they say.

Losses L are (P,) over the evaluation points, point 0 before Phase B. Lower is better, so forgetting is a
rise (Chaudhry et al. 2018, with loss in place of accuracy). Owns no frame.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trainables.ledger.schema import TASK_A_EXACT_MATCH, TASK_B_EXACT_MATCH, TASK_B_F1

Values = npt.NDArray[np.float64]


class Curve(NamedTuple):
    """One run: `steps`, and both tasks' losses there, (P,) each; `scores` of generated answers by column, NaN
    where none were generated.
    """

    steps: Values
    task_a: Values
    task_b: Values
    scores: Mapping[str, Values] = {}


class Measure(NamedTuple):
    """A measure in words. `of` reads it off one run's curve; None where it takes a second run.

    `higher_is_worse`: which way the measure points; every difference is strategy - baseline. `needs`: the
    column of generated answers that it is read off, None where losses do.
    """

    label: str
    unit: str
    description: str
    higher_is_worse: bool
    of: Callable[[Curve], float] | None
    needs: str | None = None

    def judgement(self, difference: float) -> str:
        """Return whether a difference from the baseline, other than 0, is "worse" or "better" than it."""
        return "worse" if (difference > 0) == self.higher_is_worse else "better"


def final_loss(losses: Values) -> float:
    """Return L(end) of `losses` (P,)."""
    return float(losses[-1])


def forgetting(losses: Values) -> float:
    """Return F = L(end) - L(0): above 0 the task was forgotten, below 0 it improved (Chaudhry et al.
    2018).
    """
    return float(losses[-1] - losses[0])


def gain(losses: Values) -> float:
    """Return L(0) - L(end): above 0 the task was learnt (forward learning, Lopez-Paz & Ranzato 2017)."""
    return float(losses[0] - losses[-1])


def area(steps: Values, losses: Values) -> float:
    """Return the integral of L(s) - L(0) over s = t / t(end) in [0, 1], by trapezoids: the mean rise on the
    way.

    `steps`, `losses`: (P,). Below 0 the loss fell. A single point has no way: 0.
    """
    from scipy.integrate import (
        trapezoid,  # here: a configuration is held to the measures' names, and scipy is slow
    )

    if len(steps) < 2:
        return 0.0
    return float(trapezoid(losses - losses[0], steps) / steps[-1])


def retention(own: float, without_replay: float) -> float:
    """Return 1 - F / F(no replay): 1 where nothing was forgotten, 0 where replay did not help.

    NaN where the run without replay forgot nothing: there is nothing to retain then.
    """
    return 1 - own / without_replay if without_replay > 0 else float("nan")


def matched_task_b(first: Curve, second: Curve) -> float:
    """Return the lowest task B loss that both runs reached: max(min_t L_B, min_t L_B').

    NaN where a run never came below its loss before Phase B: there is no learning to match.
    """
    level = max(float(np.min(first.task_b)), float(np.min(second.task_b)))
    learnt = all(level < float(curve.task_b[0]) for curve in (first, second))
    return level if learnt else float("nan")


def forgetting_at(curve: Curve, level: float) -> float:
    """Return L_A - L_A(0) where task B's loss first fell to `level`, linear between evaluation points.

    NaN where the run never reached it. The first passage counts: training could have stopped there.
    """
    reached = np.flatnonzero(curve.task_b <= level)
    if not len(reached) or reached[0] == 0:
        return float("nan")
    after = int(reached[0])
    before = after - 1
    share = (curve.task_b[before] - level) / (curve.task_b[before] - curve.task_b[after])
    loss = curve.task_a[before] + share * (curve.task_a[after] - curve.task_a[before])
    return float(loss - curve.task_a[0])


def score_at_end(run: Curve, column: str) -> float:
    """Return a score of the answers at the last point, NaN where none were generated there."""
    return float(run.scores[column][-1]) if column in run.scores else float("nan")


def score_lost(run: Curve, column: str) -> float:
    """Return a score before Phase B minus that at the end (Chaudhry et al. 2018): above 0 it was lost."""
    return float(run.scores[column][0]) - score_at_end(run, column) if column in run.scores else float("nan")


def perplexity(loss: float) -> float:
    """Return exp(L), infinite where that is too large for a number."""
    with np.errstate(over="ignore"):
        return float(np.exp(np.float64(loss)))


NATS = "nats/token"
FINAL_A = "final_task_a_loss"
FORGETTING = "forgetting"
AREA = "forgetting_area"
FINAL_B = "final_task_b_loss"
GAIN_B = "task_b_gain"
AREA_B = "task_b_area"
RETENTION = "retention"
MATCHED_FORGETTING = "forgetting_at_matched_task_b"
PERPLEXITY_A = "task_a_perplexity"
PERPLEXITY_B = "task_b_perplexity"
ACCURACY_LOST = "task_a_accuracy_lost"
ACCURACY_A = "final_task_a_accuracy"
ACCURACY_B = "final_task_b_accuracy"
F1_B = "final_task_b_f1"
SHARE = "share of answers"
PRIMARY = FORGETTING

MEASURES: dict[str, Measure] = {
    FORGETTING: Measure(
        "forgetting",
        NATS,
        "task A's loss at the end minus its loss before Phase B (Chaudhry et al. 2018, loss for accuracy)",
        True,
        lambda run: forgetting(run.task_a),
    ),
    FINAL_A: Measure(
        "final task A loss", NATS, "task A's loss at the end", True, lambda run: final_loss(run.task_a)
    ),
    AREA: Measure(
        "forgetting area",
        NATS,
        "area between task A's loss and its start over normalised steps in [0, 1]: the mean rise on the way",
        True,
        lambda run: area(run.steps, run.task_a),
    ),
    FINAL_B: Measure(
        "final task B loss", NATS, "task B's loss at the end", True, lambda run: final_loss(run.task_b)
    ),
    GAIN_B: Measure(
        "task B gain",
        NATS,
        "task B's loss before Phase B minus its loss at the end: higher is better",
        False,
        lambda run: gain(run.task_b),
    ),
    AREA_B: Measure(
        "task B area",
        NATS,
        "area between task B's loss and its start over normalised steps: below 0 where B was learnt, lower "
        "is better",
        True,
        lambda run: area(run.steps, run.task_b),
    ),
    RETENTION: Measure(
        "retention",
        "share",
        "1 - forgetting / forgetting of the run without replay at the same seed: higher is better; "
        "undefined where that run forgot nothing",
        False,
        None,
    ),
    MATCHED_FORGETTING: Measure(
        "forgetting at matched task B loss",
        NATS,
        "the rise of task A's loss where task B's loss first fell to the lowest value that both runs of the "
        "pair reached, linear between evaluations; it is a measure of a pair, so random alone has none",
        True,
        None,
    ),
    PERPLEXITY_A: Measure(
        "task A perplexity",
        "perplexity",
        "exp of task A's loss at the end",
        True,
        lambda run: perplexity(run.task_a[-1]),
    ),
    PERPLEXITY_B: Measure(
        "task B perplexity",
        "perplexity",
        "exp of task B's loss at the end",
        True,
        lambda run: perplexity(run.task_b[-1]),
    ),
    ACCURACY_LOST: Measure(
        "accuracy lost on task A",
        SHARE,
        "exact match of task A's generated answers before Phase B minus at the end (Chaudhry et al. 2018)",
        True,
        lambda run: score_lost(run, TASK_A_EXACT_MATCH),
        TASK_A_EXACT_MATCH,
    ),
    ACCURACY_A: Measure(
        "final task A accuracy",
        SHARE,
        "exact match of task A's generated answers at the end: higher is better",
        False,
        lambda run: score_at_end(run, TASK_A_EXACT_MATCH),
        TASK_A_EXACT_MATCH,
    ),
    ACCURACY_B: Measure(
        "final task B accuracy",
        SHARE,
        "exact match of task B's generated answers at the end: higher is better",
        False,
        lambda run: score_at_end(run, TASK_B_EXACT_MATCH),
        TASK_B_EXACT_MATCH,
    ),
    F1_B: Measure(
        "final task B F1",
        SHARE,
        "F1 of task B's generated answers at the end, over words (Rajpurkar et al. 2016): higher is better",
        False,
        lambda run: score_at_end(run, TASK_B_F1),
        TASK_B_F1,
    ),
}
