"""What each task reads from its rows."""

import math
from pathlib import Path
from typing import Any

import pytest

from trainables.settings import TaskSettings
from trainables.tasks.records import TaskError
from trainables.tasks.registry import OWN_TASK, TASKS

MATH_ROW = {"problem": "What is 2 + 3?", "level": "Level 4", "type": "Algebra", "solution": r"\boxed{5}"}
HUB_ROW: dict[str, Any] = {
    "question": "Who?",
    "answer": "Bo",
    "type": "bridge",
    "level": "medium",
    "supporting_facts": {"title": ["B", "A", "B"], "sent_id": [0, 1, 1]},
    "context": {"title": ["A", "C", "B"], "sentences": [["One.", " Two."], ["Three."], ["Four."]]},
}
ORIGINAL_ROW: dict[str, Any] = {
    **HUB_ROW,
    "supporting_facts": [["B", 0], ["A", 1], ["B", 1]],
    "context": [["A", ["One.", " Two."]], ["C", ["Three."]], ["B", ["Four."]]],
}
HOTPOTQA = TaskSettings(name="hotpotqa")
SUPPORTING = TaskSettings(name="hotpotqa", paragraphs="supporting")


def own_task(**changes: Any) -> TaskSettings:
    fields = {"name": "mine", "path": Path(__file__), "prompt": "Q: {q}", "completion": "{a}"}
    return TaskSettings(**{**fields, **changes})


def test_math_keeps_level_and_type_beside_the_solution() -> None:
    item = TASKS["math"].read_item(MATH_ROW, settings=TaskSettings(name="math"))
    assert item.message.endswith("Problem: What is 2 + 3?")
    assert (item.completion, item.level, item.type, item.difficulty) == (
        r"\boxed{5}",
        "Level 4",
        "Algebra",
        4.0,
    )


def test_an_unknown_math_level_has_no_difficulty() -> None:
    item = TASKS["math"].read_item({**MATH_ROW, "level": "Level ?"}, settings=TaskSettings(name="math"))
    assert item.level == "Level ?"
    assert math.isnan(item.difficulty)


@pytest.mark.parametrize("settings", [HOTPOTQA, SUPPORTING], ids=["all", "supporting"])
def test_both_context_shapes_read_the_same(settings: TaskSettings) -> None:
    read_item = TASKS["hotpotqa"].read_item
    assert read_item(HUB_ROW, settings=settings) == read_item(ORIGINAL_ROW, settings=settings)


def test_hotpotqa_shows_titles_with_joined_sentences_and_then_the_question() -> None:
    item = TASKS["hotpotqa"].read_item(HUB_ROW, settings=HOTPOTQA)
    assert item.message.endswith("\n\nA: One. Two.\nC: Three.\nB: Four.\n\nQuestion: Who?")
    assert (item.completion, item.level, item.type, item.difficulty) == ("Bo", "medium", "bridge", 2.0)


def test_supporting_paragraphs_leave_out_the_distracting_ones() -> None:
    item = TASKS["hotpotqa"].read_item(HUB_ROW, settings=SUPPORTING)
    assert item.message.endswith("\n\nA: One. Two.\nB: Four.\n\nQuestion: Who?")


def test_a_context_without_its_supporting_paragraphs_leaves_the_question() -> None:
    row = {**HUB_ROW, "supporting_facts": {"title": ["Z"], "sent_id": [0]}}
    item = TASKS["hotpotqa"].read_item(row, settings=SUPPORTING)
    assert item.message.endswith("answer only.\n\nQuestion: Who?")


@pytest.mark.parametrize("context", [{"title": ["A"]}, {"title": ["A"], "sentences": []}, [["A"]], None])
def test_a_context_in_a_third_shape_is_an_error_that_names_the_two(context: object) -> None:
    with pytest.raises(TaskError, match=r"'context' must be \{title: .* or a list of \[title, sentences\]"):
        TASKS["hotpotqa"].read_item({**HUB_ROW, "context": context}, settings=HOTPOTQA)


@pytest.mark.parametrize(
    ("name", "row", "column"),
    [
        *[("math", MATH_ROW, column) for column in MATH_ROW],
        *[("hotpotqa", HUB_ROW, column) for column in HUB_ROW],
    ],
)
def test_every_column_of_a_built_in_task_is_required(name: str, row: dict[str, Any], column: str) -> None:
    settings = SUPPORTING if name == "hotpotqa" else TaskSettings(name=name)
    others = {key: value for key, value in row.items() if key != column}
    with pytest.raises(TaskError, match=f"no column '{column}'; the columns are {', '.join(others)}"):
        TASKS[name].read_item(others, settings=settings)


def test_templates_insert_values_literally() -> None:
    row = {"q": "{a} or {{b}}?", "a": 7, "type": "sets"}
    item = OWN_TASK.read_item(row, settings=own_task(prompt="{{Q}}: {q}\n"))
    assert (item.message, item.completion, item.type) == ("{Q}: {a} or {{b}}?\n", "7", "sets")
    assert item.level is None
    assert math.isnan(item.difficulty)


@pytest.mark.parametrize(
    ("value", "level", "difficulty"),
    [
        (3, "3", 3.0),
        ("grade 3", "grade 3", 3.0),
        ("hard", "hard", 3.0),
        ("?", "?", math.nan),
        (None, None, math.nan),
    ],
)
def test_the_difficulty_column_gives_level_and_difficulty(
    value: object, level: str | None, difficulty: float
) -> None:
    item = OWN_TASK.read_item({"q": "?", "a": "!", "grade": value}, settings=own_task(difficulty="grade"))
    assert item.level == level
    assert item.difficulty == pytest.approx(difficulty, nan_ok=True)


@pytest.mark.parametrize("column", ["q", "a", "grade"])
def test_every_column_an_own_task_names_is_required(column: str) -> None:
    row = {key: "1" for key in ("q", "a", "grade") if key != column}
    with pytest.raises(TaskError, match=f"no column '{column}'; the columns are"):
        OWN_TASK.read_item(row, settings=own_task(difficulty="grade"))


def test_a_template_that_is_empty_once_filled_is_an_error() -> None:
    with pytest.raises(TaskError, match="completion '{a}' is empty once filled"):
        OWN_TASK.read_item({"q": "?", "a": " "}, settings=own_task())


@pytest.mark.parametrize(
    "context",
    [
        [["A", "a sentence that is no list"]],
        [["A", [3]]],
        [[["A"], ["One."]]],
        {"title": [None], "sentences": [["One."]]},
        [["A", ["half \ud800 a pair"]]],
    ],
)
@pytest.mark.parametrize("settings", [HOTPOTQA, SUPPORTING], ids=["all", "supporting"])
def test_titles_and_sentences_are_text(context: object, settings: TaskSettings) -> None:
    row = ORIGINAL_ROW | {"context": context}
    with pytest.raises(TaskError, match="'context' must hold"):
        TASKS["hotpotqa"].read_item(row, settings=settings)


def test_a_supporting_fact_that_is_no_title_supports_nothing() -> None:
    item = TASKS["hotpotqa"].read_item(ORIGINAL_ROW | {"supporting_facts": [[["B"], 0]]}, settings=SUPPORTING)
    assert "One." not in item.message
