"""Preparing a task: who is drawn, who is passed over, and what stays the same when a setting grows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from transformers import PreTrainedTokenizerBase

from trainables.settings import TaskSettings
from trainables.tasks import prepare as prepare_module
from trainables.tasks.examples import TaskError
from trainables.tasks.prepare import PreparedTask, prepare_task
from trainables.tasks.registry import TASKS

LONG = "and so on " * 100


def math_rows(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Rows whose level and type can be told from their problem's number."""
    return [
        {
            "problem": f"What is {number}?",
            "level": f"Level {number % 5 + 1}",
            "type": f"Type {number % 3}",
            "solution": f"It is [{number}].",
        }
        for number in range(start, start + count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def prepare(
    path: Path | None, *, tokenizer: PreTrainedTokenizerBase, max_length: int = 300, **changes: Any
) -> PreparedTask:
    fields = {"name": "math", "path": path, "train": 20, "validation": 5, **changes}
    return prepare_task(TaskSettings(**fields), tokenizer=tokenizer, max_length=max_length)


def numbers_of(prepared: PreparedTask, *, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The number each training example's solution names, read back from its tokens."""
    train = prepared.train
    solutions = [
        tokenizer.decode(train.example(index)[train.prompt_lengths[index] :].tolist())
        for index in range(len(train))
    ]
    return [int(solution.split("[")[1].split("]")[0]) for solution in solutions]


def test_levels_and_types_stay_with_their_examples_when_others_are_dropped(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = math_rows(60)
    for row in rows[::3]:
        row["problem"] += LONG
    path = write(tmp_path / "math.jsonl", rows)
    prepared = prepare(path, tokenizer=byte_tokenizer, train=30, validation=10)
    assert prepared.dropped > 0
    numbers = numbers_of(prepared, tokenizer=byte_tokenizer)
    assert prepared.train.levels == tuple(f"Level {number % 5 + 1}" for number in numbers)
    assert prepared.train.types == tuple(f"Type {number % 3}" for number in numbers)
    assert prepared.train.difficulty.tolist() == [number % 5 + 1 for number in numbers]


def test_over_long_examples_are_dropped_and_counted(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = math_rows(40)
    for row in rows[:15]:
        row["solution"] += LONG
    prepared = prepare(write(tmp_path / "math.jsonl", rows), tokenizer=byte_tokenizer)
    assert (len(prepared.train), len(prepared.validation), prepared.dropped) == (20, 5, 15)
    assert max(prepared.train.lengths.max(), prepared.validation.lengths.max()) <= 300


def test_train_and_validation_share_no_question(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    again = [{**row, "problem": f"  {row['problem']}\n", "solution": "Another [1]."} for row in math_rows(25)]
    path = write(tmp_path / "math.jsonl", math_rows(25) + again)
    prepared = prepare(path, tokenizer=byte_tokenizer)
    assert len({*prepared.train.ids, *prepared.validation.ids}) == 25
    with pytest.raises(TaskError, match=r"20 of the 4\d rows .* are duplicates\): lower train"):
        prepare(path, tokenizer=byte_tokenizer, train=21)


def test_a_validation_question_in_the_train_split_is_left_out_of_train(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    write(tmp_path / "train.jsonl", math_rows(20))
    write(tmp_path / "validation.jsonl", math_rows(10, start=15))
    prepared = prepare(tmp_path, tokenizer=byte_tokenizer, train=15, validation=10)
    assert sorted(numbers_of(prepared, tokenizer=byte_tokenizer)) == list(range(15))
    assert prepared.duplicates <= 5


@pytest.mark.parametrize("name", ["math", "arithmetic"], ids=["carved out of train", "generated"])
def test_asking_for_more_training_examples_keeps_the_others_as_they_are(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    path = write(tmp_path / "math.jsonl", math_rows(60)) if name == "math" else None
    small = prepare(path, tokenizer=byte_tokenizer, name=name, train=20)
    large = prepare(path, tokenizer=byte_tokenizer, name=name, train=40)
    assert large.validation.digest == small.validation.digest
    assert large.train.ids[:20] == small.train.ids


def test_the_seed_decides_which_examples_are_drawn(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    path = write(tmp_path / "math.jsonl", math_rows(60))
    one, same, other = (prepare(path, tokenizer=byte_tokenizer, seed=seed) for seed in (0, 0, 1))
    assert one.digest == same.digest != other.digest
    assert set(one.train.ids) != set(other.train.ids)


def test_no_more_rows_are_tokenised_than_the_counts_need(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = math_rows(60)
    for row in rows:
        row["solution"] += LONG if int(row["level"][-1]) == 5 else ""
    few = prepare(write(tmp_path / "math.jsonl", rows), tokenizer=byte_tokenizer, train=1, validation=1)
    all_of_them = prepare(tmp_path / "math.jsonl", tokenizer=byte_tokenizer, train=40, validation=8)
    assert few.dropped < all_of_them.dropped == 12


def test_too_few_fitting_examples_is_an_error_that_counts_them(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = math_rows(30)
    for row in rows[:4]:
        row["solution"] += LONG
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "dev.jsonl", math_rows(5, start=30))
    with pytest.raises(
        TaskError,
        match=r"task math: train asks for 4000 examples; 26 of the 30 rows it can draw from fit max_length "
        r"300 \(4 are longer, 0 are duplicates\): lower train or raise max_length",
    ):
        prepare(tmp_path, tokenizer=byte_tokenizer, train=4000)


def test_a_bad_row_is_an_error_that_names_task_and_row(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    path = write(tmp_path / "math.jsonl", [{"question": "?", "solution": "!"}])
    with pytest.raises(
        TaskError, match="task math, row 1 of train: no column 'level'; the columns are question, solution"
    ):
        prepare(path, tokenizer=byte_tokenizer)
    path.write_text("[]")
    with pytest.raises(
        TaskError, match="task math: math.jsonl, line 1: a row must be a JSON object, got list"
    ):
        prepare(path, tokenizer=byte_tokenizer)


def save(path: Path, rows: list[dict[str, Any]], *, kind: str) -> Path:
    table = datasets.Dataset.from_list(rows)
    if kind == "directory":
        table.save_to_disk(path / "mine")
        return path / "mine"
    file = path / f"mine.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif kind == "csv":
        table.to_pandas().to_csv(file, index=False)
    else:
        file.write_text(json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows)))
    return file


def test_an_own_task_is_the_same_from_every_kind_of_source(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = [
        {"q": f"{number} + {number} = {{?}}", "a": number * 2, "grade": number % 4} for number in range(40)
    ]
    own = {"name": "sums", "prompt": "Q: {q}\nA:", "completion": "{a}", "difficulty": "grade"}
    prepared = [
        prepare(save(tmp_path, rows, kind=kind), tokenizer=byte_tokenizer, **own)
        for kind in ("csv", "json", "jsonl", "parquet", "directory")
    ]
    assert len({each.digest for each in prepared}) == 1
    train = prepared[0].train
    text = byte_tokenizer.decode(train.example(0).tolist())
    number = int(text.removeprefix("<s>Q: ").split(" ")[0])
    assert text == f"<s>Q: {number} + {number} = {{?}}\nA: {number * 2}</s>"
    assert train.difficulty[0] == number % 4


def test_a_difficulty_that_no_row_gives_is_an_error(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    path = write(tmp_path / "mine.jsonl", [{"q": f"{n}?", "a": "!", "grade": "so-so"} for n in range(30)])
    with pytest.raises(
        TaskError, match="no training example has a readable difficulty in column 'grade' .*'so-so'"
    ):
        prepare(
            path, tokenizer=byte_tokenizer, name="mine", prompt="{q}", completion="{a}", difficulty="grade"
        )


def test_a_part_of_unreadable_difficulties_is_nan(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = [{"q": f"{n}?", "a": f"[{n}]", "grade": n if n % 2 else "?"} for n in range(30)]
    own = {"name": "mine", "prompt": "{q}", "completion": "{a}", "difficulty": "grade"}
    prepared = prepare(write(tmp_path / "mine.jsonl", rows), tokenizer=byte_tokenizer, **own)
    odd = np.array(numbers_of(prepared, tokenizer=byte_tokenizer)) % 2 == 1
    assert (np.isnan(prepared.train.difficulty) == ~odd).all()


def test_a_generated_task_that_cannot_fit_gives_up(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    settings = TaskSettings(name="multihop", train=5, validation=5)
    with pytest.raises(TaskError, match="task multihop: validation asks for 5 examples; 0 of the 200 rows"):
        prepare_task(settings, tokenizer=byte_tokenizer, max_length=10)


@pytest.mark.parametrize("name", ["arithmetic", "multihop"])
@pytest.mark.parametrize("prompt_format", ["instruct", "chat"])
def test_generated_tasks_need_no_files(
    byte_tokenizer: PreTrainedTokenizerBase, name: str, prompt_format: str
) -> None:
    settings = TaskSettings(name=name, train=20, validation=5, prompt_format=prompt_format)
    prepared = prepare_task(settings, tokenizer=byte_tokenizer, max_length=1000)
    assert (len(prepared.train), len(prepared.validation), prepared.source) == (20, 5, "generated")
    assert not np.isnan(prepared.train.difficulty).any()


def test_chat_prompts_keep_control_tokens_of_the_data_as_text(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = [{**row, "problem": f"{row['problem']} </s>"} for row in math_rows(25)]
    path = write(tmp_path / "math.jsonl", rows)
    prepared = prepare(path, tokenizer=byte_tokenizer, prompt_format="chat")
    tokens = prepared.train.example(0).tolist()
    # One ends the template's user turn, one the completion.
    assert tokens.count(byte_tokenizer.eos_token_id) == 2
    assert tokens.count(byte_tokenizer.bos_token_id) == 1


def test_every_built_in_task_has_one_origin() -> None:
    assert set(TASKS) == {"math", "hotpotqa", "arithmetic", "multihop", "convention"}
    for task in TASKS.values():
        assert (task.generate_rows is not None) == (task.hub is None)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"ray", "torch", "transformers", "datasets", "sweep", "analysis"}
    code = f"import sys, trainables.tasks.prepare; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def hotpotqa_rows(count: int, *, lacking: int) -> list[dict[str, Any]]:
    """Rows of two paragraphs, one of them supporting but in the first `lacking`."""
    return [
        {
            "question": f"Who is {number}?",
            "answer": f"Ann {number}",
            "type": "bridge",
            "level": "easy",
            "context": [[f"Ann {number}", ["She is."]], ["Bob", ["He is not."]]],
            "supporting_facts": [["Nobody" if number < lacking else f"Ann {number}", 0]],
        }
        for number in range(count)
    ]


def test_examples_whose_question_stands_alone_are_counted_and_told(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    path = write(tmp_path / "mine.jsonl", hotpotqa_rows(25, lacking=7))
    fields = {"name": "hotpotqa", "paragraphs": "supporting"}
    some = prepare(path, tokenizer=byte_tokenizer, **fields)
    assert some.without_paragraphs == 7
    assert "7 without any paragraph" in some.describe()[0]
    assert some.record() == {
        "source": some.source,
        "dropped": 0,
        "duplicates": 0,
        "without_paragraphs": 7,
        "notes": [],
    }
    whole = prepare(path, tokenizer=byte_tokenizer, **fields | {"paragraphs": "all"})
    assert whole.without_paragraphs == 0
    assert "paragraph" not in whole.describe()[0]
    few = prepare(path, tokenizer=byte_tokenizer, **fields, train=2, validation=1)
    assert few.without_paragraphs <= 3, "rows beyond the last one taken are not counted"


def test_examples_that_lack_some_of_their_supporting_paragraphs_are_told(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = hotpotqa_rows(25, lacking=7)
    for row in rows[5:15]:
        row["supporting_facts"] = [*row["supporting_facts"], ["Carl", 0]]
    path = write(tmp_path / "mine.jsonl", rows)
    some = prepare(path, tokenizer=byte_tokenizer, name="hotpotqa", paragraphs="supporting")
    assert some.without_paragraphs == 7
    assert some.notes == ("8 examples lack some of their supporting paragraphs",)
    assert prepare(path, tokenizer=byte_tokenizer, name="hotpotqa").notes == ()


def test_a_task_none_of_whose_examples_has_a_supporting_paragraph_is_refused(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    path = write(tmp_path / "mine.jsonl", hotpotqa_rows(25, lacking=25))
    with pytest.raises(TaskError, match="none of the 25 examples has a supporting paragraph"):
        prepare(path, tokenizer=byte_tokenizer, name="hotpotqa", paragraphs="supporting")


def test_what_is_not_used_of_a_folder_is_told_with_the_task(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    write(tmp_path / "train.jsonl", math_rows(25))
    write(tmp_path / "notes.md", [])
    prepared = prepare(tmp_path, tokenizer=byte_tokenizer)
    assert prepared.describe()[1:] == [f"math: not used of {tmp_path.name}: notes.md"]


def test_a_long_preparation_says_how_far_it_is_and_gives_the_same_examples(
    byte_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TaskSettings(name="arithmetic", train=30, validation=5)
    at_once = prepare_task(settings, tokenizer=byte_tokenizer, max_length=130)
    monkeypatch.setattr(prepare_module, "CHUNK", 7)
    monkeypatch.setattr(prepare_module, "SECONDS_BETWEEN_LINES", 0)
    said: list[str] = []
    in_steps = prepare_task(settings, tokenizer=byte_tokenizer, max_length=130, say=said.append)
    told = [int(line.split()[2]) for line in said if "of 30 train examples prepared" in line]
    assert told == sorted(told)
    assert len({*told}) > 3
    assert in_steps.digest == at_once.digest
    assert (in_steps.dropped, in_steps.duplicates) == (at_once.dropped, at_once.duplicates)
    assert at_once.dropped > 0
