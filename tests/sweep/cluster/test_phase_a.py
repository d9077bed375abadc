"""Sharing the base weights: what is too large for the object store is not read to find that out."""

from types import SimpleNamespace
from typing import Any

import pytest

from sweep.cluster import phase_a
from sweep.config.study import StudyConfig
from sweep.planning.inputs import prepare


@pytest.mark.parametrize(("store", "shared"), [(2**20, True), (2**10, False)])
def test_weights_beyond_the_object_stores_share_are_left_to_the_workers_unread(
    study: StudyConfig, monkeypatch: pytest.MonkeyPatch, store: int, shared: bool
) -> None:
    read: list[Any] = []
    task = SimpleNamespace(remote=lambda *inputs: read.append(inputs) or "weights")
    nodes = [{"Alive": True, "Resources": {"object_store_memory": store}}]
    ray: Any = SimpleNamespace(nodes=lambda: nodes, get=lambda value: value, put=lambda value: value)
    monkeypatch.setattr(phase_a, "ray", ray)
    monkeypatch.setattr(phase_a, "as_task", lambda *inputs, **options: task)
    prepared, said = prepare(study).computed_in("fp32"), []
    found = phase_a.share_base_weights(study, prepared, SimpleNamespace(), say=said.append)
    assert found == ("weights" if shared else None)
    assert bool(read) is shared
    assert shared or "each worker reads its own from disk" in said[0]
