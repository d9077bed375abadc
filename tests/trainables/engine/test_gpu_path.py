"""A GPU's default path, taken on the CPU over stand-ins for its kernels: Phase A and a cell, nothing asked
for.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.stand_ins import as_on_a_gpu
from sweep.config.study import validate_study
from tests.trainables.learning import artifact_of, learn, result_of, run_cell
from trainables.engine.session import forget_session
from trainables.model import attention


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_session()


def losses(values: dict[str, Any], name: str) -> tuple[list[float], Any, Any]:
    learning = learn(validate_study(values | {"storage": f"{values['storage']}-{name}"}, origin="test"))
    store = learning.store("cell")
    rows = list(run_cell(learning.spec(), shared=learning.shared(), store=store))
    return [row["task_b_loss"] for row in rows], artifact_of(learning).compute_plan, result_of(store)


@pytest.mark.slow
def test_a_study_runs_with_what_a_gpu_prefers_and_learns_what_plain_attention_learns(
    study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study_values["model"]["dtype"] = "auto"
    monkeypatch.setattr("tests.trainables.learning._MADE", {})
    calls: list[str] = []
    varlen = attention.ATTENTIONS["flash"]

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append("flash")
        return varlen(*arguments, **options)

    monkeypatch.setitem(attention.ATTENTIONS, "flash", counted)
    with as_on_a_gpu():
        found, compute_plan, result = losses(study_values, "gpu")
        assert len(calls) > 100
        calls.clear()
        study_values["model"]["attention"] = "eager"
        expected, _, _ = losses(study_values, "plain")
    assert not calls
    del study_values["model"]["attention"]
    forget_session()
    monkeypatch.setattr("tests.trainables.learning._MADE", {})  # a new Phase A, no copy of the pretended one
    assert losses(study_values, "cpu")[1].attention != "flash"  # nothing pretended was kept
    assert (compute_plan.precision, compute_plan.attention) == ("bf16", "flash")
    assert result["computed_on"].startswith("CPU, bf16")
    assert found == pytest.approx(expected, abs=0.02)
    assert found != expected
