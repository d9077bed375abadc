"""Learning-rate search: what is searched and refused, which rates stop, and what is said of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

import analysis
from analysis.reading.errors import AnalysisError
from sweep.config.errors import ConfigurationError
from sweep.config.study import StudyConfig, validate_study
from sweep.export import export_original
from sweep.ledger.ledger import Ledger
from sweep.lr_search.asha import Halving
from sweep.lr_search.outcomes import at_edge, best_rate, rate_outcomes, write_outcomes
from sweep.lr_search.search import SEEDS, check_kind, open_search, search_study
from sweep.planning.inputs import prepare
from sweep.planning.study_record import place_beside, place_inside
from trainables.ledger import schema
from trainables.ledger.forms import LedgerError
from trainables.ledger.storage.base import StorageError
from trainables.ledger.storage.location import open_storage

STUDY = {
    "schema": schema.SCHEMA_VERSION,
    "name": "a",
    "task_a": "a",
    "task_b": "b",
    "axes": ["lr"],
    "dtype": "fp32",
    "config": {},
    "fingerprint": {},
}
RATES = (1e-4, 1e-3, 1e-2, 1e-1)
STEPS = 90  # rungs at 10 and 30
KEYS = {
    rate: (f"{position}a".ljust(20, "0"), f"{position}b".ljust(20, "0"))
    for position, rate in enumerate(RATES)
}


def changed(values: dict[str, Any], **search: Any) -> StudyConfig:
    return validate_study({**values, "search": values["search"] | search}, origin="test")


@pytest.mark.parametrize(
    ("asked", "search", "message"),
    [
        ({"rates": [1e-3]}, {}, "two or more different rates.*got 0.001"),
        ({"rates": []}, {}, "two or more different rates.*got none"),
        ({"rates": [1e-3, 1e-3]}, {}, "two or more different rates"),
        ({"rates": [1e-3, 0.0]}, {}, "above 0, got 0.0"),
        ({"rates": [1e-3, float("nan")]}, {}, "above 0, got nan"),
        ({"seeds": [7, 7]}, {}, r"different seeds, got \[7, 7\]"),
        ({"seeds": [1, 7]}, {"seed": [0, 1]}, "--seed 1 is a seed of the study"),
        (
            {"seeds": [4]},
            {"strategy": ["random", "difficulty_hard"], "seeds": {"looks": [3, 5]}},
            "--seed 4 is a seed",
        ),
        ({"mix": 0.3}, {}, r"search.mix has 0.5\); got --mix 0.3"),
        ({"mix": 0.0}, {}, r"got --mix 0$"),
        ({}, {"mix": [0]}, r"search.mix has none, add one\)$"),
        ({}, {"lr": [1e-3, 1e-2]}, "search.lr lists the rates that the study compares"),
        ({}, {"batch_size": [4, 8]}, "--set search.batch_size=4"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    study_values: dict[str, Any], asked: dict[str, Any], search: dict[str, Any], message: str
) -> None:
    if "seeds" in search:
        study_values["search"].pop("seed")
    with pytest.raises(ConfigurationError, match=message):
        search_study(changed(study_values, **search), **{"rates": RATES, **asked})


def test_a_seed_that_was_planned_once_is_a_seed_of_the_study(study_values: dict[str, Any]) -> None:
    ledger = Ledger(open_storage(study_values["storage"]).make())
    labels = {schema.STRATEGY: "random", schema.MIX: 0.5, schema.SEED: 9}
    ledger.write(
        schema.PLAN_FILE, {"schema": schema.SCHEMA_VERSION, "cells": [{"labels": labels, "key": None}]}
    )
    with pytest.raises(ConfigurationError, match="--seed 9 is a seed of the study"):
        search_study(changed(study_values), rates=RATES, seeds=[9])


def test_the_search_is_of_the_baseline_alone_at_one_mix_and_beside_the_study(
    study_values: dict[str, Any],
) -> None:
    study = changed(study_values, mix=[0, 0.25, 0.5], seed=[0, 1], batch_size=[2])
    searched = search_study(study, rates=RATES)
    space = searched.search
    assert (space.strategy, space.mix, space.seed) == (("random",), (0.25,), SEEDS)
    assert space.axes == {"lr": list(RATES), "batch_size": [2]}
    assert searched.storage == f"{study.storage}-tune"
    assert search_study(study, rates=RATES, mix=0.5, seeds=[7]).search.mix == (0.5,)


def test_places_beside_and_inside_a_store_keep_its_options() -> None:
    store = "s3://bucket/study?region=us-east-1"
    assert place_beside(store, suffix="tune") == "s3://bucket/study-tune?region=us-east-1"
    assert place_inside(store, folder="phase_a") == "s3://bucket/study/phase_a?region=us-east-1"
    assert place_beside("/data/why?/study", suffix=2) == "/data/why?/study-2"
    assert place_inside("/data/why?", folder="phase_a") == "/data/why?/phase_a"


@pytest.mark.parametrize("phase_a", [{}, {"seed": 3}, {"seeds": "per_replicate"}])
def test_the_search_starts_from_the_adapter_of_the_study(
    study_values: dict[str, Any], phase_a: dict[str, Any]
) -> None:
    study_values["phase_a"] |= phase_a
    study = changed(study_values, seed=[5, 6])
    places = [
        [storage.describe() for storage in prepare(each).artifacts.values()]
        for each in (study, search_study(study, rates=RATES))
    ]
    assert places[1] == places[0][:1]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A search over RATES and two seeds, opened and planned, nothing run."""
    made = Ledger(open_storage(str(tmp_path / "tune")).make())
    made.write(schema.STUDY_FILE, STUDY)
    made.write(schema.RATES_FILE, {"schema": 2, "mix": 0.5, "seeds": list(SEEDS), "steps": STEPS})
    entries = [
        {"labels": {schema.STRATEGY: "random", schema.MIX: 0.5, schema.SEED: seed, "lr": rate}, "key": key}
        for rate, keys in KEYS.items()
        for seed, key in zip(SEEDS, keys, strict=True)
    ]
    made.write(schema.PLAN_FILE, {"schema": schema.SCHEMA_VERSION, "cells": entries})
    return made


def write_points(ledger: Ledger, key: str, losses: dict[int, float]) -> None:
    rows = [
        dict.fromkeys(schema.ROW_COLUMNS, 0)
        | {schema.STEP: step, schema.TASK_A_LOSS: 1.0, schema.TASK_B_LOSS: loss}
        for step, loss in losses.items()
    ]
    ledger.cell(key).write_record(schema.ROWS_FILE, {"rows": rows})


def end(ledger: Ledger, key: str, state: str = schema.DONE) -> None:
    result = {"state": state, "step": 4, "seconds": 1.0, "artifact": None, "files": {}}
    ledger.cell(key).write_record(schema.RESULT_FILE, result)


def report(halving: Halving, rate: float, step: int, *losses: float) -> list[str]:
    """Return what is decided at each seed's point, as the worker reports them one after another."""
    trial: Any = SimpleNamespace(config={"keys": list(KEYS[rate])}, trial_id="of this run")
    told = [
        {"key": key, schema.STEP: step, schema.TASK_A_LOSS: 1.0, schema.TASK_B_LOSS: loss}
        for key, loss in zip(KEYS[rate], losses, strict=False)
    ]
    return [halving.on_trial_result(None, trial, each) for each in told]


GO, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def test_a_rate_stops_at_a_rung_where_its_mean_over_the_seeds_is_behind(ledger: Ledger) -> None:
    halving = Halving(ledger)
    first, good, poor, _ = RATES
    assert report(halving, first, 10, 2.0, 2.2) == [GO, GO]
    assert report(halving, good, 10, 1.0, 1.2) == [GO, GO]
    assert report(halving, poor, 5, 9.0, 9.0) == [GO, GO]  # no rung yet
    assert report(halving, poor, 10, 0.9, 9.0) == [GO, STOP]  # one seed alone decides nothing
    assert report(halving, first, 30, 1.9, 1.9) == [GO, GO]
    assert report(halving, good, 30, 2.5, 2.5) == [GO, STOP]
    assert [ledger.state(key) for key in KEYS[poor]] == [schema.STOPPED] * 2
    assert ledger.state(KEYS[first][0]) == schema.MISSING


def test_no_rate_is_stopped_at_its_last_step(ledger: Ledger) -> None:
    halving = Halving(ledger)
    assert report(halving, RATES[0], STEPS, 1.0, 1.0) == [GO, GO]
    assert report(halving, RATES[1], STEPS, 9.0, 9.0) == [GO, GO]


def test_a_search_that_goes_on_decides_as_if_it_had_never_stopped(ledger: Ledger) -> None:
    for rate, loss in zip(RATES[:2], (1.0, 1.1), strict=True):
        for key in KEYS[rate]:
            write_points(ledger, key, {0: 3.0, 10: loss})
    assert report(Halving(ledger), RATES[2], 10, 1.5, 1.5) == [GO, STOP]
    alone = {rate: keys for rate, keys in KEYS.items() if rate not in RATES[:2]}
    for key in (key for rate, keys in KEYS.items() if rate not in alone for key in keys):
        ledger.cell(key).delete(schema.ROWS_FILE)
    assert report(Halving(ledger), RATES[3], 10, 1.5, 1.5) == [GO, GO]  # with nothing to compare it with


def test_a_rate_of_which_a_seed_diverged_stops(ledger: Ledger) -> None:
    halving = Halving(ledger)
    healthy, diverged = KEYS[RATES[0]]
    end(ledger, diverged, schema.DIVERGED)
    assert report(halving, RATES[0], 5, 1.0) == [STOP]
    assert [ledger.state(key) for key in (healthy, diverged)] == [schema.STOPPED, schema.DIVERGED]
    assert rate_outcomes(ledger)[0].state == schema.DIVERGED


def test_a_stop_that_was_cut_off_half_way_is_carried_through(ledger: Ledger) -> None:
    """Killed after the first seed's record: the other ends at its next point."""
    stopped, left = KEYS[RATES[0]]
    for key in KEYS[RATES[0]]:
        write_points(ledger, key, {0: 3.0, 10: 2.0})
    ledger.record_stop(stopped, step=10, reason="behind")
    halving = Halving(ledger)
    trial: Any = SimpleNamespace(config={"keys": [left]})
    told = {"key": left, schema.TASK_A_LOSS: 1.0, schema.TASK_B_LOSS: 1.0}
    assert halving.on_trial_result(None, trial, told | {schema.STEP: 10}) == GO
    assert halving.on_trial_result(None, trial, told | {schema.STEP: 15}) == STOP
    assert ledger.state(left) == schema.STOPPED


def test_a_stop_waits_for_the_storage_without_holding_tune_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise StorageError("full")

    halving = Halving(ledger)
    assert report(halving, RATES[0], 10, 1.0, 1.0) == [GO, GO]
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record_stop", fail)
        assert report(halving, RATES[1], 10, 9.0, 9.0) == [GO, GO]
    assert report(halving, RATES[1], 15, 9.0) == [STOP]
    assert {ledger.state(key) for key in KEYS[RATES[1]]} == {schema.STOPPED}


def test_the_best_rate_has_ended_on_every_seed(ledger: Ledger) -> None:
    losses = dict(zip(RATES, (2.0, 1.5, 1.2, 0.5), strict=True))
    for rate, keys in KEYS.items():
        for shift, key in zip((-0.1, 0.1), keys, strict=True):
            write_points(ledger, key, {0: 3.0, STEPS: losses[rate] + shift})
    for rate in RATES[:2]:
        for key in KEYS[rate]:
            end(ledger, key)
    end(ledger, KEYS[RATES[2]][0])  # its other seed is unfinished
    for key in KEYS[RATES[3]]:
        ledger.record_stop(key, step=STEPS, reason="behind")
    write_outcomes(ledger)
    outcomes = rate_outcomes(ledger)
    assert [each.state for each in outcomes] == [schema.DONE, schema.DONE, schema.PARTIAL, schema.STOPPED]
    best = best_rate(outcomes)
    assert best is not None
    assert (best.lr, best.step, best.task_b_loss) == (RATES[1], STEPS, pytest.approx(1.5))
    assert not at_edge(best, outcomes)
    assert at_edge(outcomes[0], outcomes)
    record = ledger.storage.read_record(schema.RATES_FILE)
    assert record is not None
    assert (record["best"], record["seeds"], record["metric"]) == (RATES[1], list(SEEDS), schema.TASK_B_LOSS)
    lines = ledger.storage.read("tune.csv").decode().splitlines()
    assert lines[0] == "lr,state,step,task_a_loss,task_b_loss"
    assert lines[1] == "0.0001,done,90,1.0,2.0"


def test_means_are_over_the_steps_that_all_seeds_have_reached(ledger: Ledger) -> None:
    first, second = KEYS[RATES[0]]
    write_points(ledger, first, {0: 3.0, 10: 2.0, 20: 1.0})
    write_points(ledger, second, {0: 3.0, 10: 4.0})
    outcome = rate_outcomes(ledger)[0]
    assert (outcome.step, outcome.task_b_loss, outcome.state) == (10, 3.0, schema.PARTIAL)
    assert rate_outcomes(ledger)[1].task_b_loss is None


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": [7]}, r"seeds \[10000, 10001\], now \[7\]"), ({"mix": [0.25]}, "mix 0.5, now 0.25")],
)
def test_a_search_on_other_seeds_or_at_another_mix_does_not_go_on_here(
    ledger: Ledger, study_values: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    asked = {"mix": [0.5], "seed": list(SEEDS), **change}
    with pytest.raises(LedgerError, match=message):
        open_search(ledger, changed(study_values, **asked), steps=STEPS)
    open_search(ledger, changed(study_values, mix=[0.5], seed=list(SEEDS)), steps=STEPS)


def test_a_search_is_no_study_and_a_study_no_search(ledger: Ledger, tmp_path: Path) -> None:
    check_kind(ledger, early_stopping=True)
    with pytest.raises(LedgerError, match="holds a learning-rate search"):
        check_kind(ledger, early_stopping=False)
    with pytest.raises(LedgerError, match="holds a learning-rate search"):
        export_original(ledger, tmp_path / "out")
    with pytest.raises(AnalysisError, match="is a learning-rate search"):
        analysis.load(ledger.storage.location)
    other = Ledger(open_storage(str(tmp_path / "other")).make())
    check_kind(other, early_stopping=True)
    check_kind(other, early_stopping=False)
    other.write(schema.STUDY_FILE, STUDY)
    with pytest.raises(LedgerError, match="holds a study"):
        check_kind(other, early_stopping=True)
