"""Values of an axis beside each other, and what choosing cost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analysis
from analysis.findings.findings import Findings
from analysis.reading.declaration import Inference
from analysis.tables.listings import TABLES
from tests.analysis.studies import rewrite, write_json, write_study
from trainables.ledger import schema

SEARCH = {"config": {"search": {"lr": [0.002, 0.001]}}}


def find(directory: Path) -> Findings:
    return analysis.find(str(directory), settings=Inference(primary="forgetting"))


def test_values_of_an_axis_are_compared_with_the_one_listed_first_run_by_run(tmp_path: Path) -> None:
    study = write_study(tmp_path, axes={"lr": [0.001, 0.002]}, seeds=range(5), description=SEARCH)
    found = find(study)
    frame = found.between
    assert {(row["axis"], row["value"], row["reference"]) for row in frame.to_dict("records")} == {
        ("lr", 0.001, 0.002)
    }
    outcomes = found.outcomes.set_index(["strategy", "lr", "seed"]).sort_index()["forgetting"]
    for row in frame.to_dict("records"):
        own, other = (outcomes[row["strategy"], lr].to_numpy() for lr in (0.001, 0.002))
        assert row["n"] == 5
        assert row["difference"] == pytest.approx(np.mean(own - other))
        half = 2.776445 * np.std(own - other, ddof=1) / np.sqrt(5)
        assert row["high"] - row["difference"] == pytest.approx(half, rel=1e-5)
    assert set(frame["strategy"]) == {"none", "random", "difficulty_hard", "difficulty_easy"}


def test_a_run_that_both_values_share_is_no_pair(tmp_path: Path) -> None:
    study = write_study(tmp_path, axes={"lr": [0.001, 0.002]}, seeds=range(3))
    plan = study / schema.PLAN_FILE

    def share(record: dict[str, Any]) -> None:
        keys = {
            entry["labels"]["seed"]: entry["key"]
            for entry in record["cells"]
            if entry["labels"]["strategy"] == "none" and entry["labels"]["lr"] == 0.001
        }
        for entry in record["cells"]:
            if entry["labels"]["strategy"] == "none":
                entry["key"] = keys[entry["labels"]["seed"]]

    rewrite(plan, share)
    assert "none" not in set(find(study).between["strategy"])


def test_a_value_that_is_null_may_be_the_reference(tmp_path: Path) -> None:
    """Fault: it is a text among the labels and none in the search, and the order of appearance decided."""
    search = {"config": {"search": {"reselect_every": [None, 10]}}}
    study = write_study(tmp_path, axes={"reselect_every": [10, None]}, seeds=range(3), description=search)
    (found,) = {(row["value"], row["reference"]) for row in find(study).between.to_dict("records")}
    assert found == ("10", "null")


def test_without_a_second_value_there_is_no_table(tmp_path: Path) -> None:
    found = find(write_study(tmp_path))
    assert TABLES["between"](found) is None
    assert TABLES["costs"](found) is None


def cost(column: str, seconds: float, *, seed: int = 0, gpus: float = 0.0) -> dict[str, Any]:
    held = {"cpus": 2, "gpus": gpus, "computed_on": "a device"}
    return {"column": column, "phase_a_seed": seed, "seconds": seconds, **held}


def with_costs(directory: Path, *columns: dict[str, Any]) -> Path:
    strategies = {"difficulty_hard": ["embeddings", "gradients"]}
    record = {"schema": schema.SCHEMA_VERSION, "columns": list(columns), "strategies": strategies}
    write_json(directory / schema.COSTS_FILE, record)
    return directory


def test_what_choosing_cost_is_of_every_adapter_and_in_runs_of_the_study(tmp_path: Path) -> None:
    study = write_study(tmp_path, description={"config": {"resources": {"cpus": 1, "gpus": 0}}})
    with_costs(study, cost("embeddings", 3.0), cost("embeddings", 4.0, seed=1), cost("gradients", 5.0),
               cost("base_losses", 1000.0))  # fmt: skip
    found = find(study)
    (row,) = found.costs.frame.to_dict("records")
    assert (row["strategy"], row["columns"], row["device"]) == (
        "difficulty_hard",
        "embeddings, gradients",
        "CPU",
    )
    assert (row["seconds"], row["adapters"]) == (24.0, 2)
    run = found.study.rows.groupby("cell")[schema.SECONDS].max().mean()
    assert row["runs"] == pytest.approx(24.0 / run)
    contrast = found.contrasts.set_index("strategy").loc["difficulty_hard"]
    assert row["difference"] == contrast["difference"]
    table = TABLES["costs"](found)
    assert table is not None
    assert "24.0" in str(table.rows)


def test_costs_on_a_gpu_are_its_seconds(tmp_path: Path) -> None:
    study = write_study(tmp_path, description={"config": {"resources": {"cpus": 4, "gpus": 0.5}}})
    found = find(with_costs(study, cost("embeddings", 10.0, gpus=0.5)))
    (row,) = found.costs.frame.to_dict("records")
    assert (row["seconds"], row["device"]) == (5.0, "GPU")


def test_a_damaged_record_of_costs_is_a_problem_and_no_end(tmp_path: Path) -> None:
    study = with_costs(write_study(tmp_path), cost("embeddings", float(1)))
    (study / schema.COSTS_FILE).write_text("{}")
    found = find(study)
    assert found.costs.frame.empty
    assert any(schema.COSTS_FILE in problem for problem in found.problems)
