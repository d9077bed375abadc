"""What a measurement says of its machine, and what it must not say."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import machine
from benchmarks.machine import describe_machine, gemm_peak, publish_result, read_result, without_places


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("storage=/tmp/place/run", "storage=run"),
        ("--data ../shared/data --folder /home/someone/out/", "--data ../shared/data --folder out"),
        ('{"path": "/a/b/c.jsonl", "name": "owner/model"}', '{"path": "c.jsonl", "name": "owner/model"}'),
        ("search.seed=[0,1]", "search.seed=[0,1]"),
    ],
)
def test_of_an_absolute_path_only_the_last_part_is_kept(text: str, without: str) -> None:
    assert without_places(text) == without


def test_the_description_is_json_without_places_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/someone/benchmarks/__main__.py", "study", "--data", "/data/x"])
    described = describe_machine()
    text = json.dumps(described)
    assert described["command"] == "python -m benchmarks study --data x"
    assert str(machine.REPOSITORY) not in text
    assert str(Path.home()) not in text
    assert described["versions"]["torch"] == torch.__version__
    assert described["cores"] >= 1


def test_a_package_inside_another_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", [str(machine.REPOSITORY / "tests" / "chaos" / "__main__.py"), "-o", "page.md"]
    )
    assert machine.command_line() == "python -m tests.chaos -o page.md"


def test_a_published_result_reads_back(tmp_path: Path) -> None:
    path = publish_result("name", {"seconds": 1.5}, folder=tmp_path / "results")
    assert path == tmp_path / "results" / "name.json"
    assert read_result(path) == {"seconds": 1.5}


def test_the_gemm_peak_is_a_rate_that_a_matrix_product_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.GEMM_SIZES, "cpu", (256,))
    assert 1e8 < gemm_peak("cpu", torch.float32, seconds=0.05) < 1e14
