"""A study on a cluster of two nodes of one machine, whose GPUs are logical."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
from ray.cluster_utils import Cluster

from tests.sweep.test_run import run, table
from trainables.ledger import schema

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]


def test_four_logical_gpus_on_two_nodes_give_the_tables_of_one_worker(
    study_values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    study_values["model"]["attention"] = "eager"  # not what was fastest in a busy moment
    study_values["search"]["seed"] = [0, 1]
    one = {**study_values, "storage": str(tmp_path / "one"), "resources": {"max_concurrent": 1}}
    assert run(one).states == {schema.DONE: 6}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 2, "include_dashboard": False}
    )
    try:
        cluster.add_node(num_cpus=2, num_gpus=2)
        study_values["resources"] = {"cpus": 1, "gpus": 1, "device": "cpu", "cells_per_worker": 1}
        assert run(study_values, cluster.address).states == {schema.DONE: 6}
    finally:
        ray.shutdown()
        cluster.shutdown()
    pd.testing.assert_frame_equal(table(study_values["storage"]), table(one["storage"]), check_exact=True)
