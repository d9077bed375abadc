"""The measures of one run and of two, on curves whose answers are known, and what they must obey."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.stats.measures import (
    ACCURACY_A,
    ACCURACY_B,
    F1_B,
    FORGETTING,
    MATCHED_FORGETTING,
    MEASURES,
    PERPLEXITY_A,
    PERPLEXITY_B,
    RETENTION,
    Curve,
    area,
    final_loss,
    forgetting,
    forgetting_at,
    gain,
    matched_task_b,
    perplexity,
    retention,
)

CURVES = [
    ([1.0, 1.2, 1.1], 1.1, 0.1, -0.1, 0.125),
    ([1.0, 0.9, 0.8], 0.8, -0.2, 0.2, -0.1),
    ([1.0, 1.1, 1.5], 1.5, 0.5, -0.5, 0.175),
    ([1.0], 1.0, 0.0, 0.0, 0.0),
]


def curve(task_a: list[float], task_b: list[float]) -> Curve:
    return Curve(np.arange(len(task_a), dtype=float), np.array(task_a), np.array(task_b))


@pytest.mark.parametrize(("losses", "final", "forgotten", "gained", "mean_rise"), CURVES)
def test_measures_of_one_task(
    losses: list[float], final: float, forgotten: float, gained: float, mean_rise: float
) -> None:
    values = np.array(losses)
    assert final_loss(values) == pytest.approx(final)
    assert forgetting(values) == pytest.approx(forgotten)
    assert gain(values) == pytest.approx(gained)
    assert area(np.arange(len(values), dtype=float), values) == pytest.approx(mean_rise)


def test_the_area_weighs_uneven_steps_and_does_not_depend_on_their_unit() -> None:
    losses = np.array([1.0, 1.2, 1.1])
    steps = np.array([0.0, 1.0, 10.0])
    assert area(steps, losses) == pytest.approx((0.1 + 9 * 0.15) / 10)
    assert area(7 * steps, losses) == pytest.approx(area(steps, losses))


def test_retention_is_1_where_nothing_is_forgotten_and_0_where_replay_does_not_help() -> None:
    assert [retention(own, 0.2) for own in (0.0, 0.2, 0.05, 0.3)] == pytest.approx([1, 0, 0.75, -0.5])
    assert math.isnan(retention(0.1, 0.0))
    assert math.isnan(retention(0.1, -0.1))
    assert math.isnan(retention(0.1, math.nan))


def test_matched_forgetting_is_read_where_b_first_fell_to_what_both_reached() -> None:
    fast = curve([1.0, 1.2, 1.3], [2.0, 1.6, 1.4])
    slow = curve([1.0, 1.1, 1.4], [2.0, 1.9, 1.7])
    level = matched_task_b(fast, slow)
    assert level == 1.7
    assert forgetting_at(fast, level) == pytest.approx(0.2 * 0.75)
    assert forgetting_at(slow, level) == pytest.approx(0.4)


def test_matched_forgetting_takes_the_first_passage_of_a_loss_that_rises_again() -> None:
    run = curve([1.0, 1.1, 1.2, 1.3], [2.0, 1.5, 1.9, 1.4])
    assert forgetting_at(run, 1.75) == pytest.approx(0.05)


def test_runs_that_learnt_nothing_have_nothing_to_match() -> None:
    learnt, worse = curve([1.0, 1.1], [2.0, 1.5]), curve([1.0, 1.1], [2.0, 2.1])
    assert math.isnan(matched_task_b(learnt, worse))
    assert math.isnan(matched_task_b(worse, learnt))
    assert math.isnan(forgetting_at(worse, 1.9))
    assert math.isnan(forgetting_at(learnt, math.nan))


def test_perplexity_is_exp_and_may_be_infinite() -> None:
    assert perplexity(0.0) == 1
    assert perplexity(np.log(7.0)) == pytest.approx(7)
    assert perplexity(1e6) == math.inf


LOSSES = st.lists(st.floats(0.1, 5), min_size=2, max_size=12)
NATS = [name for name, measure in MEASURES.items() if measure.unit == "nats/token" and measure.of is not None]


@given(LOSSES, LOSSES, st.floats(0.1, 10))
def test_measures_in_nats_scale_with_the_losses(
    task_a: list[float], task_b: list[float], scale: float
) -> None:
    size = min(len(task_a), len(task_b))
    run = curve(task_a[:size], task_b[:size])
    scaled = Curve(run.steps, run.task_a * scale, run.task_b * scale)
    for name in NATS:
        of = MEASURES[name].of
        assert of is not None
        assert of(scaled) == pytest.approx(scale * of(run), abs=1e-9)


@given(LOSSES, LOSSES, st.floats(-2, 2))
def test_a_shift_of_both_losses_moves_only_measures_of_a_level(
    task_a: list[float], task_b: list[float], shift: float
) -> None:
    size = min(len(task_a), len(task_b))
    run = curve(task_a[:size], task_b[:size])
    shifted = Curve(run.steps, run.task_a + shift, run.task_b + shift)
    levels = {"final_task_a_loss", "final_task_b_loss", PERPLEXITY_A, PERPLEXITY_B}
    for name, measure in MEASURES.items():
        if measure.of is not None and measure.needs is None and name not in levels:
            assert measure.of(shifted) == pytest.approx(measure.of(run), abs=1e-9)


@given(LOSSES, LOSSES)
def test_bounds_between_measures_hold(task_a: list[float], task_b: list[float]) -> None:
    size = min(len(task_a), len(task_b))
    run = curve(task_a[:size], task_b[:size])
    largest = float(np.max(run.task_a) - run.task_a[0])
    assert forgetting(run.task_a) <= largest + 1e-12
    assert area(run.steps, run.task_a) <= largest + 1e-12


@given(LOSSES, LOSSES, LOSSES, LOSSES)
def test_matching_does_not_depend_on_which_run_is_named_first(
    a: list[float], b: list[float], other_a: list[float], other_b: list[float]
) -> None:
    size = min(map(len, (a, b, other_a, other_b)))
    first = curve(a[:size], b[:size])
    second = curve(other_a[:size], other_b[:size])
    assert matched_task_b(first, second) == pytest.approx(matched_task_b(second, first), nan_ok=True)


def test_every_measure_says_what_it_is_and_only_pairs_have_no_function() -> None:
    for measure in MEASURES.values():
        assert measure.label
        assert measure.unit
        assert len(measure.description) > 20
    assert {name for name, measure in MEASURES.items() if measure.of is None} == {
        RETENTION,
        MATCHED_FORGETTING,
    }
    better = {name for name, measure in MEASURES.items() if not measure.higher_is_worse}
    assert better == {"task_b_gain", RETENTION, ACCURACY_A, ACCURACY_B, F1_B}
    assert next(iter(MEASURES)) == FORGETTING
