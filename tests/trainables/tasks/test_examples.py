"""How single values are read out of rows."""

import math

import pytest

from trainables.tasks.examples import TaskError, content_hash, read_difficulty, read_label, read_text


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("Level 5", 5.0),
        ("Level ?", math.nan),
        ("easy", 1.0),
        ("Medium", 2.0),
        (" hard ", 3.0),
        ("2.5", 2.5),
        ("-2", -2.0),
        ("1e3", 1000.0),
        ("grade 3-5", math.nan),
        ("gsm-8", 8.0),
        ("inf", math.nan),
        ("", math.nan),
        (None, math.nan),
    ],
)
def test_a_difficulty_is_the_one_number_its_label_stands_for(label: str | None, number: float) -> None:
    assert read_difficulty(label) == pytest.approx(number, nan_ok=True)


def test_the_content_hash_ignores_how_white_space_is_laid_out() -> None:
    assert content_hash("What is\n  2 + 3?\t") == content_hash("What is 2 + 3?")
    assert content_hash("What is 2 + 3?") != content_hash("What is 2+3?")


def test_a_missing_column_is_named_beside_those_there_are() -> None:
    with pytest.raises(TaskError, match="no column 'answer'; the columns are question, solution"):
        read_text({"question": "?", "solution": "!"}, column="answer")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "has no value"),
        (math.nan, "has no value"),
        ({"text": ["a"]}, "must hold text or numbers, got dict"),
        (["a"], "must hold text or numbers, got list"),
    ],
)
def test_null_and_nested_values_are_not_text(value: object, complaint: str) -> None:
    with pytest.raises(TaskError, match=complaint):
        read_text({"answer": value}, column="answer")


def test_a_null_label_is_none_and_an_empty_text_stays_empty() -> None:
    assert read_label({"level": None}, column="level") is None
    assert read_text({"input": ""}, column="input") == ""


def test_half_a_surrogate_pair_is_not_text() -> None:
    with pytest.raises(TaskError, match=r"column 'q' must hold Unicode text.* at character 1"):
        read_text({"q": "a\ud800"}, column="q")


def test_a_message_lists_no_endless_columns() -> None:
    with pytest.raises(TaskError) as caught:
        read_text({str(number): 1 for number in range(100_000)}, column="q")
    assert len(str(caught.value)) < 2000
