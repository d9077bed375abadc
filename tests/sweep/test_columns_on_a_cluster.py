"""Strategies that choose by computed columns, in whole studies on a real Ray cluster."""

from pathlib import Path
from typing import Any

import pytest

from tests.sweep.test_own_strategies import SHORTEST
from tests.sweep.test_run import ledger_of, local_ray, results, run, table  # noqa: F401 (a fixture)
from trainables.ledger import schema
from trainables.replay import own
from trainables.replay.own import load_own
from trainables.replay.strategies import STRATEGIES

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]


def columns(values: dict[str, Any]) -> dict[str, Path]:
    """Return the folder of each computed column, by its name."""
    places = Path(values["storage"], schema.ARTIFACTS_DIRECTORY).glob(f"*/{schema.COLUMNS_DIRECTORY}/*/")
    return {place.name.rpartition("-")[0]: place for place in places}


def test_a_study_grows_by_strategies_whose_columns_are_then_computed_once(
    study_values: dict[str, Any], tmp_path: Path
) -> None:
    """An own strategy among them, which no worker has the code of."""
    study_values["search"] |= {"strategy": ["random"], "mix": [0.25]}
    assert run(study_values).states == {schema.DONE: 1}
    assert columns(study_values) == {}
    before = results(study_values["storage"])
    (tmp_path / "mine.py").write_text(SHORTEST)
    known = dict(STRATEGIES)
    load_own(tmp_path / "mine.py")
    try:
        study_values["strategies"] = str(tmp_path / "mine.py")
        study_values["search"]["strategy"] = ["random", "similar_to_b", "learnability", "shortest"]
        assert set(run(study_values).states) == {schema.DONE}
        made = {name: place / schema.COLUMN_FILE for name, place in columns(study_values).items()}
        assert made.keys() == {"base_losses", "embeddings", "task_b_embeddings"}
        when = {name: path.stat().st_mtime_ns for name, path in made.items()}
        study_values["search"]["seed"] = [0, 1]
        study_values["search"]["strategy"].append("dissimilar_to_b")
        assert set(run(study_values).states) == {schema.DONE}
    finally:
        for name in STRATEGIES.keys() - known.keys():
            del STRATEGIES[name], own.loaded[name]
    assert {name: path.stat().st_mtime_ns for name, path in made.items()} == when
    assert columns(study_values).keys() == made.keys()
    after = results(study_values["storage"])
    assert all(after[key] == written for key, written in before.items())
    costs = ledger_of(study_values).storage.read_record(schema.COSTS_FILE)
    assert costs is not None
    assert sorted(each["column"] for each in costs["columns"]) == sorted(made)
    assert costs["strategies"]["dissimilar_to_b"] == ["embeddings", "task_b_embeddings"]
    assert {"similar_to_b", "learnability", "shortest"} < set(table(study_values["storage"])["strategy"])


def test_each_replicates_adapter_has_columns_of_its_own(study_values: dict[str, Any]) -> None:
    study_values["phase_a"]["seeds"] = "per_replicate"
    study_values["search"] |= {"strategy": ["random", "forgotten"], "mix": [0.25], "seed": [0, 1]}
    study_values["phase_b"]["replay_schedule"] = "late"
    assert run(study_values).states == {schema.DONE: 4}
    costs = ledger_of(study_values).storage.read_record(schema.COSTS_FILE)
    assert costs is not None
    assert sorted((each["column"], each["phase_a_seed"]) for each in costs["columns"]) == [
        ("forgotten", 0),
        ("forgotten", 1),
    ]


def test_a_schedule_as_an_axis_is_compared_and_the_run_without_replay_is_one(
    study_values: dict[str, Any],
) -> None:
    study_values["search"] |= {
        "strategy": ["random", "loss_descending"],
        "mix": [0, 0.25],
        "seed": [0],
        "replay_schedule": ["uniform", "early"],
    }
    assert run(study_values).states == {schema.DONE: 5}
    frame = table(study_values["storage"])
    assert len(frame[frame["strategy"] == "none"]["seed"]) > 0
