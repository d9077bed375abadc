"""A strategy that is no more what it was: what finished cells of it allow, and what nobody has finished."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sweep.planning.inputs import prepare
from sweep.planning.study_record import OtherStudyError, check_meaning
from tests.sweep.fake_study import FakeStudy
from trainables.ledger import schema
from trainables.replay import strategies
from trainables.replay.pool import Pool
from trainables.replay.strategies import Strategy

SEARCH = {"mix": [0, 0.5], "seed": [0, 1], "strategy": ["random", "mine"]}


def roll(pool: Pool, generator: np.random.Generator, *, by: int) -> npt.NDArray[np.int64]:
    return np.roll(np.arange(pool.size), by)


def order_as_it_comes(pool: Pool, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.arange(pool.size)


def order_from_the_end(pool: Pool, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.arange(pool.size)[::-1]


@pytest.fixture
def fake(study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeStudy:
    monkeypatch.setitem(strategies.STRATEGIES, "mine", Strategy(partial(roll, by=0)))
    fake = FakeStudy({**study_values, "search": SEARCH}, monkeypatch)
    fake.phase_a()
    return fake


def change(fake: FakeStudy, to: Strategy, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(strategies.STRATEGIES, "mine", to)
    fake.prepared = prepare(fake.study)


def test_an_order_that_changed_under_an_unchanged_function_is_refused_before_anything_is_written(
    fake: FakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.end(lambda label: 0.1)
    before = fake.ledger.plan()
    other = Strategy(partial(roll, by=5))
    assert other.digest == strategies.STRATEGIES["mine"].digest
    change(fake, other, monkeypatch)
    check_meaning(fake.ledger, fake.prepared.fingerprint)
    with pytest.raises(OtherStudyError, match="finished cell of 'mine' at mix 0.5, seed 0"):
        fake.whole()
    assert fake.ledger.plan() == before
    change(fake, Strategy(partial(roll, by=0)), monkeypatch)
    assert not fake.whole().pending, "undone, the study is what it was"


def test_the_same_holds_once_another_axis_is_searched(
    fake: FakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr = fake.study.phase_b.lr
    fake.end(lambda label: 0.1)
    fake.declare(search={**SEARCH, "lr": [lr, 2 * lr]})
    fake.prepared = prepare(fake.study)
    assert len(fake.whole().pending) == len(fake.whole().cells) / 2
    change(fake, Strategy(partial(roll, by=5)), monkeypatch)
    with pytest.raises(OtherStudyError, match="finished cell of 'mine'"):
        fake.whole()


def test_a_strategy_of_which_nothing_has_finished_may_be_mended(
    fake: FakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(fake, Strategy(order_as_it_comes), monkeypatch)
    fake.end(lambda label: 0.1, which=lambda label: label.strategy != "mine")
    fake.end(lambda label: 0.1, which=lambda label: label.strategy == "mine", state=schema.FAILED)
    change(fake, Strategy(order_from_the_end), monkeypatch)
    check_meaning(fake.ledger, fake.prepared.fingerprint)
    fake.end(lambda label: 0.1, which=lambda label: label.strategy == "mine")
    assert not fake.whole().pending
    change(fake, Strategy(order_as_it_comes), monkeypatch)
    with pytest.raises(OtherStudyError, match=r"strategies\.mine: finished with"):
        check_meaning(fake.ledger, fake.prepared.fingerprint)


def test_a_strategy_that_is_left_out_may_come_back_only_as_it_was(
    fake: FakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(fake, Strategy(order_as_it_comes), monkeypatch)
    fake.end(lambda label: 0.1)
    fake.declare(search={**SEARCH, "strategy": ["random"]})
    fake.prepared = prepare(fake.study)
    fake.open()
    fake.declare(search=SEARCH)
    change(fake, Strategy(order_as_it_comes), monkeypatch)
    check_meaning(fake.ledger, fake.prepared.fingerprint)
    change(fake, Strategy(order_from_the_end), monkeypatch)
    with pytest.raises(OtherStudyError, match=r"strategies\.mine"):
        check_meaning(fake.ledger, fake.prepared.fingerprint)
