"""A user's own score: run where the command line says so, sent to workers as text, killed where it hangs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.config.errors import ConfigurationError
from sweep.config.study import validate_study
from tests.trainables.learning import artifact_of, learn, run_cell
from trainables.tasks import judging
from trainables.tasks.judging import judge
from trainables.tasks.own_score import OwnScoreError, load_own_score
from trainables.tasks.scoring import SCORES

HALF = """
def score(answer, reference):
    print("said by a user's own code")
    return 1.0 if answer == reference else 0.5
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Leave no score of a test behind."""
    before = dict(SCORES)
    yield
    for name in SCORES.keys() - before.keys():
        del SCORES[name]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(HALF)
    return path


@pytest.fixture
def values(study_values: dict[str, Any], file: Path) -> dict[str, Any]:
    study_values["task_a"]["score"] = str(file)
    study_values["evaluation"] = {"generate": {"tasks": ["task_a"], "max_new_tokens": 4}}
    return study_values


def test_a_file_that_only_the_configuration_names_is_not_run(values: dict[str, Any], file: Path) -> None:
    file.write_text(HALF + f"open({str(file.with_suffix('.ran'))!r}, 'w')")
    with pytest.raises(ConfigurationError, match="is code, and run only where .* add --score"):
        validate_study(values, origin="test")
    assert not file.with_suffix(".ran").exists()


@pytest.mark.slow
def test_answers_of_a_cell_are_judged_by_it_where_its_file_is_not(values: dict[str, Any], file: Path) -> None:
    """A random model is never right: each answer counts a half."""
    load_own_score(file)
    learning = learn(validate_study(values, origin="test"))
    file.unlink()
    shared = learning.shared()
    answers = artifact_of(learning).answers
    assert answers is not None
    assert answers["after"]["task_a"]["scores"] == {"exact_match": [0.5] * 4}
    spec = learning.spec()
    del SCORES[str(file)]  # as in a worker
    rows = list(run_cell(spec, shared=shared, store=learning.store("cell")))
    assert rows[-1]["task_a_exact_match"] == 0.5


def test_the_function_is_part_of_what_a_study_means_and_its_place_is_not(
    values: dict[str, Any], file: Path, tmp_path: Path
) -> None:
    def meaning(path: Path) -> Any:
        load_own_score(path)
        values["task_a"]["score"] = str(path)
        return learn(validate_study(values, origin="test")).prepared.fingerprint["evaluation"]["scores"]

    elsewhere = tmp_path / "elsewhere" / "mine.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text("# a comment\n" + HALF)
    assert meaning(file) == meaning(elsewhere)
    file.write_text(HALF.replace("0.5", "0.25"))
    assert meaning(file) != meaning(elsewhere)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1", r"must define score\(answer, reference\)"),
        ("def score(answer): return 1", "positional argument"),
        ("def score(answer, reference): return 2", r"must be in \[0, 1\], got 2"),
        ("def score(answer, reference): return 'right'", r"must be in \[0, 1\], got 'right'"),
        ("def score(answer, reference): return answer[0] == '4'", "IndexError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def score(:", "SyntaxError"),
    ],
)
def test_a_score_that_cannot_be_used_says_why(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(OwnScoreError, match=message):
        load_own_score(file)
    with pytest.raises(OwnScoreError, match="cannot be read"):
        load_own_score(file.with_name("absent.py"))


@pytest.mark.slow
def test_one_that_hangs_counts_as_wrong_and_one_that_fails_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "SECONDS", 1.0)
    source = """
def score(answer, reference):
    while answer == "forever":
        pass
    return {"right": 1}[answer]
"""
    found = judge("mine", [("right", "x"), ("forever", "x"), ("right", "x")], source=source)
    assert [each["exact_match"] for each in found] == [1.0, 0.0, 1.0]
    with pytest.raises(RuntimeError, match="cannot be judged by 'mine': KeyError: 'other'"):
        judge("mine", [("other", "x")], source=source)
