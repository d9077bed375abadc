"""The signal gate: a grid is run only where Phase A learned and something is forgotten without replay."""

from typing import Any

import numpy as np
import pytest

from sweep.design.gate import ALPHA, CLOSED, OPEN, WAITS, measure_change
from tests.sweep.fake_study import BEFORE, LEARNT, TOKENS, FakeStudy
from trainables.ledger import schema
from trainables.ledger.loss_means import token_weighted


@pytest.fixture
def fake(study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeStudy:
    search = {"strategy": ["random", "difficulty_hard"], "mix": [0, 0.5], "seed": [4, 5]}
    return FakeStudy({**study_values, "search": search, "gate": True}, monkeypatch)


def forget(fake: FakeStudy, rise: float, state: str = schema.DONE) -> None:
    fake.end(
        lambda label: rise + 0.001 * label.seed, which=lambda label: label.strategy == "none", state=state
    )


def test_a_change_is_that_of_the_reported_loss() -> None:
    change = measure_change((LEARNT - BEFORE)[None], TOKENS)
    assert change.value == pytest.approx(token_weighted(LEARNT, TOKENS) - token_weighted(BEFORE, TOKENS))


@pytest.mark.parametrize(("seeds", "points"), [(1, 1), (2, 1), (3, 1), (3, 3)])
def test_the_gate_opens_under_no_forgetting_as_seldom_as_it_says(seeds: int, points: int) -> None:
    """Seeds are twice as noisy as the examples' mean, but for a single run, whose seed's part nobody "
    "knows."""
    generator = np.random.default_rng(seeds + points)
    tokens, opened = np.full(40, 20), []
    of_seed = 0.0 if seeds == 1 else 2 * 20 / np.sqrt(40)
    for _ in range(1500):
        common = generator.normal(0, 20, (points, 1, 40))
        own = generator.normal(0, of_seed, (points, seeds, 1)) + generator.normal(0, 5, (points, seeds, 40))
        opened.append(any(measure_change(each, tokens, points=points).rises for each in common + own))
    assert np.mean(opened) <= ALPHA + 0.008


def test_one_example_says_nothing_of_noise() -> None:
    change = measure_change(np.ones((1, 1)), np.ones(1, int))
    assert not change.rises
    assert not change.falls


def test_only_phase_a_and_the_first_runs_without_replay_come_before_the_gate(fake: FakeStudy) -> None:
    assert fake.due().gate.state == WAITS  # type: ignore[union-attr]
    fake.phase_a()
    due = fake.due()
    assert due.gate is not None
    assert due.gate.state == WAITS
    assert due.halt is None
    assert [cell.name for cell in due.stage.cells] == ["no replay, seed 4", "no replay, seed 5"]
    assert len(due.plan.cells) == 6


def test_the_grid_runs_once_something_is_forgotten(fake: FakeStudy) -> None:
    fake.phase_a()
    forget(fake, 0.3)
    due = fake.due()
    assert due.gate is not None
    assert due.gate.state == OPEN
    assert "2 of 2 runs without replay: +0.3045 nats a token" in due.gate.reason
    assert due.halt is None
    assert len(due.stage.pending) == 4


@pytest.mark.parametrize("after", [BEFORE, BEFORE + TOKENS, BEFORE + np.array([-9.0, 8, -1, 1])])
def test_nothing_runs_where_phase_a_did_not_learn_beyond_noise(fake: FakeStudy, after: np.ndarray) -> None:
    fake.phase_a(after)
    assert "Phase A did not learn" in str(fake.due().halt)
    assert "raise phase_a.epochs" in str(fake.due().halt)


@pytest.mark.parametrize("rise", [-0.0045, -0.3])
def test_no_grid_runs_where_nothing_is_forgotten(fake: FakeStudy, rise: float) -> None:
    fake.phase_a()
    forget(fake, rise)
    assert fake.due().gate.state == CLOSED  # type: ignore[union-attr]
    assert f"2 of 2 runs without replay: {rise + 0.0045:+.4f}" in str(fake.due().halt)
    assert "raise phase_b.epochs" in str(fake.due().halt)
    fake.declare(gate=False)
    assert fake.due().halt is None


def test_a_run_that_diverged_forgot_nothing_that_can_be_measured(fake: FakeStudy) -> None:
    fake.phase_a()
    forget(fake, 0.3, state=schema.DIVERGED)
    assert "0 of 2 runs without replay: diverged" in str(fake.due().halt)


def test_a_run_that_failed_is_tried_once_a_run_of_the_study(fake: FakeStudy) -> None:
    fake.phase_a()
    forget(fake, 0.3, state=schema.FAILED)
    due = fake.due()
    assert due.halt is None
    assert [cell.name for cell in due.stage.pending] == ["no replay, seed 4", "no replay, seed 5"]
    assert "failed" in str(fake.due(attempted=due.stage.pending_keys).halt)


def test_a_finished_study_has_nothing_left_to_stop(fake: FakeStudy) -> None:
    fake.phase_a()
    fake.end(lambda label: 0.0)
    assert fake.due().halt is None
