"""The two generated tasks: right, distinct, seeded, and of the length they promise."""

import json
import re
from itertools import islice

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from trainables.settings import TaskSettings
from trainables.tasks.examples import Row
from trainables.tasks.prepare import prepare_task
from trainables.tasks.registry import TASKS

GENERATED = [name for name, task in TASKS.items() if task.generate_rows is not None]
STEP = re.compile(r"\[([+*-])(\d+) -> (\d+)\]")
APPLY = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


def generate(name: str, *, count: int = 1000, seed: int = 0) -> list[Row]:
    generate_rows = TASKS[name].generate_rows
    assert generate_rows is not None
    return list(islice(generate_rows(np.random.default_rng(seed)), count))


def paragraphs_of(row: Row) -> dict[str, str]:
    context = row["context"]
    return {title: " ".join(each) for title, each in zip(context["title"], context["sentences"], strict=True)}


@pytest.mark.parametrize("name", GENERATED)
def test_the_seed_alone_decides_the_rows(name: str) -> None:
    assert json.dumps(generate(name)) == json.dumps(generate(name))
    assert generate(name) != generate(name, seed=1)
    assert generate(name)[:100] == generate(name, count=100)


def test_every_worked_solution_is_arithmetically_right() -> None:
    for row in generate("arithmetic"):
        opening, closing = re.fullmatch(r"Open (\d+) .* Close <(\d+)>", row["solution"]).groups()
        value = int(opening)
        for operation, operand, result in STEP.findall(row["solution"]):
            value = APPLY[operation](value, int(operand))
            assert value == int(result)
            assert 1 <= value <= 99
        assert value == int(closing)


def test_a_worked_solution_uses_the_numbers_of_its_problem_in_their_order() -> None:
    for row in generate("arithmetic"):
        used = [
            re.search(r"\d+", row["solution"]).group(),
            *(step[1] for step in STEP.findall(row["solution"])),
        ]
        assert re.findall(r"\d+", row["problem"]) == used


def test_arithmetic_has_every_level_and_a_level_counts_the_steps() -> None:
    rows = generate("arithmetic")
    assert {row["level"] for row in rows} == {f"Level {level}" for level in range(1, 6)}
    assert {row["type"] for row in rows} == {"Sums", "Mixed", "Stories"}
    for row in rows:
        assert row["level"] == f"Level {len(STEP.findall(row['solution']))}"


def test_arithmetic_rows_have_the_columns_of_math() -> None:
    assert set(generate("arithmetic", count=1)[0]) == {"problem", "level", "type", "solution"}


def test_multihop_rows_have_the_columns_of_hotpotqa() -> None:
    rows = generate("multihop")
    assert set(rows[0]) == {"question", "answer", "type", "level", "supporting_facts", "context"}
    assert {row["level"] for row in rows} == {"easy", "medium", "hard"}
    assert {row["type"] for row in rows} == {"bridge", "comparison"}


def test_a_bridge_answer_follows_from_the_two_supporting_paragraphs() -> None:
    for row in [row for row in generate("multihop") if row["type"] == "bridge"]:
        paragraphs = paragraphs_of(row)
        first, second = row["supporting_facts"]["title"]
        assert first in row["question"]
        assert second in paragraphs[first]
        assert second not in row["question"]
        assert row["answer"] in paragraphs[second]
        assert row["answer"] not in row["question"]


def test_a_comparison_answer_is_the_name_with_the_larger_number() -> None:
    for row in [row for row in generate("multihop") if row["type"] == "comparison"]:
        paragraphs = paragraphs_of(row)
        numbers = {title: _number(paragraphs[title]) for title in row["supporting_facts"]["title"]}
        assert all(name in row["question"] for name in numbers)
        assert numbers[row["answer"]] == max(numbers.values())
        assert len(set(numbers.values())) == 2


def _number(sentence: str) -> int:
    found = re.search(r"\d+", sentence)
    assert found is not None
    return int(found.group())


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_task_fills_four_thousand_distinct_examples_of_40_to_120_tokens(
    name: str, smollm2_tokenizer: PreTrainedTokenizerBase
) -> None:
    prepared = prepare_task(TaskSettings(name=name), tokenizer=smollm2_tokenizer, max_length=120)
    lengths = np.concatenate([prepared.train.lengths, prepared.validation.lengths])
    assert (len(prepared.train), len(prepared.validation)) == (4000, 400)
    assert len({*prepared.train.ids, *prepared.validation.ids}) == 4400
    assert lengths.min() >= 40
    assert prepared.dropped == 0
