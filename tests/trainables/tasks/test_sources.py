"""Files and directories become the same rows whatever their format, or one readable error."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

from trainables.tasks.examples import TaskError
from trainables.tasks.sources import HubDataset, hub_commit, read_hub, read_path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = [
    {"problem": "What is {2} + 3?", "level": "Level 1"},
    {"problem": 'Line one\nline "two", é', "level": "Level 2"},
]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    ".jsonl": write_jsonl,
    ".json": write_json,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_file_format_gives_the_same_rows_as_one_train_split(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    WRITERS[suffix](path, ROWS)
    splits = read_path(path)
    assert list(splits.train) == ROWS
    assert splits.validation is None
    assert splits.source.startswith(f"file mine{suffix} (sha256 ")


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_directory_has_the_splits_its_file_names_mention(tmp_path: Path, suffix: str) -> None:
    WRITERS[suffix](tmp_path / f"train-00000-of-00002{suffix}", ROWS[:1])
    WRITERS[suffix](tmp_path / f"train-00001-of-00002{suffix}", ROWS[1:])
    WRITERS[suffix](tmp_path / f"hotpot_dev_v1{suffix}", ROWS[1:])
    (tmp_path / "README.md").write_text("not data")
    splits = read_path(tmp_path)
    assert list(splits.train) == ROWS
    assert splits.validation is not None
    assert list(splits.validation) == ROWS[1:]


def test_a_saved_dataset_is_a_train_split(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    splits = read_path(tmp_path / "saved")
    assert list(splits.train) == ROWS
    assert splits.validation is None


def test_a_saved_dataset_dict_prefers_validation_to_test(tmp_path: Path) -> None:
    saved = datasets.DatasetDict(
        train=datasets.Dataset.from_list(ROWS),
        test=datasets.Dataset.from_list(ROWS[:1]),
        validation=datasets.Dataset.from_list(ROWS[1:]),
    )
    saved.save_to_disk(tmp_path / "saved")
    splits = read_path(tmp_path / "saved")
    assert list(splits.train) == ROWS
    assert splits.validation is not None
    assert list(splits.validation) == ROWS[1:]


def test_rows_of_one_jsonl_file_keep_their_own_shapes(tmp_path: Path) -> None:
    rows = [
        {"context": {"title": ["A"], "sentences": [["One.", " Two."]]}},
        {"context": [["A", ["One.", " Two."]]], "extra": None},
    ]
    write_jsonl(tmp_path / "both.jsonl", rows)
    assert list(read_path(tmp_path / "both.jsonl").train) == rows


def test_csv_values_stay_the_text_they_are(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("code,answer,grade\n007,NA,1.50\n")
    assert list(read_path(tmp_path / "mine.csv").train) == [{"code": "007", "answer": "NA", "grade": "1.50"}]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", '{"x": 1}\n{"x": \n', "a.jsonl, line 2: not valid JSON"),
        ("a.jsonl", '{"x": 1}\n[1]\n', "a.jsonl, line 2: a row must be a JSON object, got list"),
        ("a.jsonl", "\n", "a.jsonl holds no rows"),
        ("a.json", "[]", "a.json holds no rows"),
        ("a.json", '{"x": 1}\n{"x": \n', "a.json, line 2: not valid JSON"),
        ("a.csv", "x,y,x\n1,2,3\n", "a.csv: the header names column 'x' twice"),
        ("a.arrow", "no", "a.arrow: not a valid Arrow file"),
        (
            "a.jsonl",
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a.jsonl is a git-lfs pointer",
        ),
        ("a.json", '{"data": []}', "must hold a list of objects, got dict"),
        ("a.csv", "x,y\n1\n", "a.csv, row 1: must have the header's 2 fields"),
        ("a.csv", 'x\n1\n"1" 2\n3\n', "a.csv, line 3: not valid CSV"),
        ("a.parquet", "no", "a.parquet: not a valid Parquet file"),
        ("a.jsonl", "[" * 100_000, "a.jsonl: not valid, it is nested too deeply"),
        ("a.json", "[" * 100_000, "a.json: not valid, it is nested too deeply"),
        ("a.jsonl", "1" * 5000, "a.jsonl, line 1: not valid JSON"),
        ("a.json", "1" * 5000, "a.json: not valid JSON"),
        ("a.parquet", "PAR1" + "x" * 20 + "PAR1", "a.parquet: not a valid Parquet file"),
        ("a.parquet", "", "a.parquet: not a valid Parquet file"),
        ("a.txt", "x", "must end in .jsonl, .json, .parquet, .csv, .ndjson, .tsv, .arrow, got '.txt'"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_says_where(
    tmp_path: Path, name: str, content: str, complaint: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TaskError, match=complaint.replace("(", r"\(")):
        read_path(tmp_path / name)


def test_text_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"x": "é"}'.encode("latin-1"))
    with pytest.raises(TaskError, match="a.jsonl: the text must be UTF-8"):
        read_path(tmp_path / "a.jsonl")


def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="path must be a file or a directory, '.*nowhere' does not exist"):
        read_path(tmp_path / "nowhere")


def test_a_directory_without_a_train_split_is_an_error_that_lists_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="must have a train split, it has no file ending in"):
        read_path(tmp_path)
    write_jsonl(tmp_path / "test.jsonl", ROWS)
    with pytest.raises(TaskError, match="must have a train split, it has test"):
        read_path(tmp_path)


def test_a_file_name_that_mentions_no_split_or_two_is_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train_test.jsonl", ROWS)
    with pytest.raises(
        TaskError, match="train_test.jsonl: a file in a data directory must name one split of train"
    ):
        read_path(tmp_path)


def test_a_file_that_is_not_there_or_no_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TaskError, match=r"train\.jsonl cannot be read \(.*No such file"):
        read_path(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    os.mkfifo(tmp_path / "train.jsonl")
    with pytest.raises(TaskError, match=r"train\.jsonl is no regular file"):
        read_path(tmp_path)


@pytest.mark.parametrize("content", ['{"splits": ["train"]}', "NaN", "[]", '{"splits": 3}', "[" * 100_000])
def test_a_broken_saved_dataset_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset_dict.json").write_text(content)
    with pytest.raises(TaskError, match="not a complete datasets.save_to_disk directory"):
        read_path(tmp_path)


def test_the_source_changes_with_the_content_and_not_with_the_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write_jsonl(tmp_path / place / "train.jsonl", ROWS)
    one, two = (read_path(tmp_path / place / "train.jsonl").source for place in ("one", "two"))
    write_jsonl(tmp_path / "two" / "train.jsonl", ROWS[:1])
    assert one == two != read_path(tmp_path / "two" / "train.jsonl").source


def test_the_hub_is_asked_for_the_dataset_and_its_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def load_dataset(name: str, subset: str | None) -> dict[str, list[dict[str, Any]]]:
        asked.append((name, subset))
        return {"train": ROWS, "validation": ROWS[:1]}

    monkeypatch.setattr(HfApi, "dataset_info", lambda self, repo_id, *, timeout: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    splits = read_hub(HubDataset("hotpotqa/hotpot_qa", "distractor"))
    assert asked == [("hotpotqa/hotpot_qa", "distractor")]
    assert (splits.train, splits.validation) == (ROWS, ROWS[:1])
    assert splits.source == "hub hotpotqa/hotpot_qa (distractor)"


def test_an_unreachable_hub_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, subset: str | None) -> None:
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    asked: list[str] = []

    def dataset_info(self: HfApi, repo_id: str, *, timeout: float) -> None:
        asked.append(repo_id)
        raise HTTPError("no route")

    monkeypatch.setattr(HfApi, "dataset_info", dataset_info)
    with pytest.raises(
        TaskError, match="cannot load 'a/b' .*Couldn't reach it.* no route.*set path to a local copy"
    ):
        read_hub(HubDataset("a/b"))
    assert asked == ["a/b"]
    assert datasets.is_progress_bar_enabled()
    assert not datasets.config.HF_HUB_OFFLINE


def test_a_hub_that_does_not_answer_is_asked_once_and_its_copies_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Left to themselves, the libraries retry for half a minute, a line each time."""

    def dataset_info(self: HfApi, repo_id: str, *, timeout: float) -> None:
        raise ConnectionError("offline")

    monkeypatch.setattr(HfApi, "dataset_info", dataset_info)
    with pytest.raises(TaskError, match="cannot load 'nobody/nothing' .*the hub does not answer: offline"):
        read_hub(HubDataset("nobody/nothing"))
    assert caplog.records == []


def test_a_dataset_from_the_hub_names_the_commit_it_was_read_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`datasets` keeps what it downloaded in a folder named after the commit."""
    for split in ("train", "validation"):
        datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / split)
        (tmp_path / COMMIT).mkdir(exist_ok=True)
        (tmp_path / split / "data-00000-of-00001.arrow").rename(tmp_path / COMMIT / f"{split}.arrow")
    loaded = {
        split: datasets.Dataset.from_file(str(tmp_path / COMMIT / f"{split}.arrow"))
        for split in ("train", "validation")
    }
    monkeypatch.setattr(HfApi, "dataset_info", lambda self, repo_id, *, timeout: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, subset: loaded)
    assert read_hub(HubDataset("a/b")).source == f"hub a/b at {COMMIT[:12]}"


def test_the_newest_commit_is_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def dataset_info(self: HfApi, repo_id: str, *, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(sha=COMMIT if repo_id == "a/b" else None)

    monkeypatch.setattr(HfApi, "dataset_info", dataset_info)
    assert hub_commit(HubDataset("a/b")) == COMMIT


@pytest.mark.parametrize("error", [HTTPError("no"), ConnectionError("offline"), TimeoutError()])
def test_without_the_hub_the_commit_is_that_of_the_last_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def dataset_info(self: HfApi, repo_id: str, *, timeout: float) -> None:
        raise error

    cards = {"a/b": str(tmp_path / "snapshots" / COMMIT / "README.md"), "c/d": None}
    monkeypatch.setattr(HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda name, file, *, repo_type: cards[name]
    )
    assert hub_commit(HubDataset("a/b")) == COMMIT
    assert hub_commit(HubDataset("c/d")) is None
