"""What is registered before a study is what its report is held against."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from analysis.cli import main as analysis
from analysis.reading.errors import AnalysisError
from analysis.reading.preregistration import COMPARED, departures, read_document
from sweep.cli import cli
from tests.sweep.fake_study import FakeStudy

SEARCH = {"strategy": ["random", "difficulty_hard", "difficulty_easy"], "mix": [0, 0.5], "seed": [0, 1, 2, 3]}


@pytest.fixture
def values(study_values: dict[str, Any]) -> dict[str, Any]:
    return {**study_values, "search": SEARCH, "inference": {"smallest_effect": 0.01}}


def register(values: dict[str, Any], folder: Path, *, name: str = "plan.md") -> tuple[int, str, Path]:
    config, document = folder / "study.yaml", folder / name
    config.write_text(yaml.safe_dump(values))
    ended = CliRunner().invoke(cli, ["plan", str(config), "--preregister", str(document)])
    return ended.exit_code, ended.output + str(ended.exception or ""), document


def report(values: dict[str, Any], document: Path, folder: Path) -> tuple[int, str]:
    command = ["report", values["storage"], "-o", str(folder), "--preregistration", str(document)]
    ended = CliRunner().invoke(analysis, command)
    assert ended.exit_code == 0, ended.output
    page = (folder / "report.md").read_text()
    return ended.exit_code, page[page.index("Preregistration") :].split("\n\n#")[0].replace("\\", "")


def test_a_study_as_registered_is_said_to_be_and_one_that_is_not_is_told_apart(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said, document = register(values, tmp_path)
    assert code == 0, said
    record = read_document(document)
    assert record["family"] == ["difficulty_easy 0.5", "difficulty_hard 0.5"]
    assert (record["looks"], record["seeds"], record["finished_cells"]) == ([4], [0, 1, 2, 3], 0)
    fake = FakeStudy(values, monkeypatch)
    fake.phase_a()
    fake.end(lambda label: 0.1)
    assert "as registered." in report(values, document, tmp_path / "same")[1]
    fake.declare(inference={"smallest_effect": 0.02})
    fake.open()
    _, told = report(values, document, tmp_path / "other")
    assert "departs from it" in told
    assert "smallest effect: 0.01 registered, 0.02 in the study" in told


def test_a_document_that_is_there_is_not_replaced_and_one_that_was_changed_is_refused(
    values: dict[str, Any], tmp_path: Path
) -> None:
    _, _, document = register(values, tmp_path)
    text = document.read_text()
    code, said, _ = register(values, tmp_path)
    assert (code, document.read_text()) == (1, text)
    assert "is there already, and is not replaced" in said
    document.write_text(text.replace('"smallest_effect": 0.01', '"smallest_effect": 0.05'))
    with pytest.raises(AnalysisError, match="is not the one that was hashed"):
        read_document(document)
    document.write_text("# nothing")
    with pytest.raises(AnalysisError, match="is no document of"):
        read_document(document)


def test_every_departure_has_a_line() -> None:
    record: dict[str, Any] = dict.fromkeys(COMPARED, 1) | {"family": ["a"], "seeds": [0, 1]}
    assert departures(record, record) == []
    for name in COMPARED:
        other = record | {name: 2 if name not in ("family", "seeds") else []}
        assert len(departures(record, other)) == 1, name
    more = departures(record, record | {"family": ["a", "b"], "seeds": [0, 1, 2]})
    assert more == ["seeds: 2 there and not registered", "family of contrasts: b there and not registered"]


def test_a_study_without_a_contrast_registers_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    code, said, document = register(values | {"search": {"strategy": ["random"]}}, tmp_path)
    assert code == 1
    assert "no contrast to register" in said
    assert not document.exists()


@pytest.mark.parametrize(
    ("text", "said"), [("{", "is no JSON"), ("[1]", "lacks tasks"), ("{}", "lacks tasks")]
)
def test_a_hashed_record_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    document = tmp_path / "plan.md"
    digest = hashlib.sha256(text.encode()).hexdigest()
    document.write_text(f"```json\n{text}\n```\n\nsha256: {digest}\n")
    with pytest.raises(AnalysisError, match=said):
        read_document(document)
