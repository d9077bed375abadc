"""What each task reads from its rows."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.settings import TaskSettings
from trainables.tasks.examples import TaskError
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


@pytest.mark.parametrize(
    "facts",
    [
        [[["B"], 0]],
        [[0, "B"]],
        [["B", 0, 1]],
        ["B", "A"],
        "B",
        "[B, 0]",
        [{"idx": 2}],
        [{"title": 3, "sent_id": 0}],
        {"title": "AB", "sent_id": [0, 1]},
        {"title": ["B"], "sent_id": 0},
        None,
        3,
    ],
)
def test_supporting_facts_of_another_shape_are_an_error_that_says_what_was_found(facts: object) -> None:
    with pytest.raises(TaskError, match=r"'supporting_facts' (must (be|hold)|holds text that is not JSON).*"):
        TASKS["hotpotqa"].read_item(ORIGINAL_ROW | {"supporting_facts": facts}, settings=SUPPORTING)


def as_objects(value: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(value, entry, strict=True)) for entry in zip(*value.values(), strict=True)]


def renamed(value: Any, **names: str) -> Any:
    if isinstance(value, list):
        return [renamed(each, **names) for each in value]
    return {names.get(name, name): inner for name, inner in value.items()}


def as_arrays(value: dict[str, list[Any]]) -> dict[str, Any]:
    """Return parallel lists as pandas reads them from Parquet: arrays, of arrays where they nest."""
    titles, others = value.values()
    nested = np.empty(len(others), dtype=object)
    for index, other in enumerate(others):
        nested[index] = np.array(other, dtype=object) if isinstance(other, list) else other
    return dict(zip(value, (np.array(titles, dtype=object), nested), strict=True))


FACTS, CONTEXT = HUB_ROW["supporting_facts"], HUB_ROW["context"]
TEXTS = [{"title": "A", "paragraph_text": "One. Two."}, {"title": "C", "paragraph_text": "Three."}]
MARKED = [
    *({**TEXTS[index], "idx": index, "is_supporting": index == 0} for index in (0, 1)),
    {"title": "B", "paragraph_text": "Four.", "idx": 2, "is_supporting": True},
]
WITHOUT = {name: value for name, value in HUB_ROW.items() if name not in ("context", "supporting_facts")}
PUBLISHED: dict[str, dict[str, Any]] = {
    "objects": HUB_ROW | {"context": as_objects(CONTEXT), "supporting_facts": as_objects(FACTS)},
    "objects of facts alone": HUB_ROW | {"supporting_facts": as_objects(FACTS)},
    "pairs as tuples": HUB_ROW | {"supporting_facts": [tuple(fact.values()) for fact in as_objects(FACTS)]},
    "content": HUB_ROW | {"context": renamed(CONTEXT, sentences="content")},
    "sent_idx": HUB_ROW | {"supporting_facts": renamed(as_objects(FACTS), sent_id="sent_idx")},
    "JSON text": HUB_ROW
    | {"context": json.dumps(CONTEXT), "supporting_facts": json.dumps(ORIGINAL_ROW["supporting_facts"])},
    "arrays": HUB_ROW | {"context": as_arrays(CONTEXT), "supporting_facts": as_arrays(FACTS)},
    "array of objects": HUB_ROW | {"supporting_facts": np.array(as_objects(FACTS), dtype=object)},
    "marked paragraphs": WITHOUT | {"paragraphs": MARKED},
    "contexts": renamed(WITHOUT, question="question_text") | {"contexts": MARKED},
}


@pytest.mark.parametrize("settings", [HOTPOTQA, SUPPORTING], ids=["all", "supporting"])
@pytest.mark.parametrize("form", PUBLISHED)
def test_every_published_form_of_hotpotqa_gives_the_same_prompt(form: str, settings: TaskSettings) -> None:
    expected = TASKS["hotpotqa"].read_item(HUB_ROW, settings=settings)
    assert TASKS["hotpotqa"].read_item(PUBLISHED[form], settings=settings) == expected
    assert expected.paragraphs == (3 if settings is HOTPOTQA else 2)


@pytest.mark.parametrize(
    "row",
    [
        MATH_ROW | {"level": 4},
        MATH_ROW | {"level": "4"},
        MATH_ROW | {"level": 4.0, "answer": "5", "unique_id": "test/algebra/1.json"},
        renamed(MATH_ROW, type="subject") | {"level": 4, "answer": "5"},
        renamed(MATH_ROW, problem="question", type="subject"),
    ],
)
def test_every_published_form_of_math_gives_the_same_item(row: dict[str, Any]) -> None:
    settings = TaskSettings(name="math")
    assert TASKS["math"].read_item(row, settings=settings) == TASKS["math"].read_item(
        MATH_ROW, settings=settings
    )


def test_a_missing_column_names_what_else_it_may_be_called() -> None:
    row = {name: value for name, value in MATH_ROW.items() if name != "type"}
    with pytest.raises(
        TaskError, match=r"no column 'type'; the columns are problem, level, solution \(subject would do\)"
    ):
        TASKS["math"].read_item(row, settings=TaskSettings(name="math"))
