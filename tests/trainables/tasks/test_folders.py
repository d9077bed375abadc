"""Data folders as they are published and copied: every file is used, or named as not used."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from trainables.tasks import folders
from trainables.tasks.examples import TaskError
from trainables.tasks.registry import TASKS
from trainables.tasks.sources import Splits, read_path

MATH, HOTPOTQA = TASKS["math"].hub, TASKS["hotpotqa"].hub


def rows(text: str) -> list[dict[str, Any]]:
    return [{"x": letter} for letter in text]


def letters(splits: Splits) -> tuple[str, str | None]:
    """Return the rows of both splits as letters, in order of the alphabet."""
    train, validation = (
        "".join(sorted(row["x"] for row in part or ())) for part in (splits.train, splits.validation)
    )
    return train, None if splits.validation is None else validation


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files by name: rows of one letter each where the ending is that of data, else the text itself."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(text)), path)
        elif path.suffix in (".jsonl", ".JSONL", ".ndjson"):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows(text)))
        elif path.suffix == ".json":
            path.write_text(json.dumps(rows(text) if len(text) > 1 else rows(text)[0]))
        elif path.suffix == ".gz":
            path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows(text)).encode()))
        else:
            path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"train/algebra/1.json": "a", "train/geometry/1.json": "b", "test/algebra/7.json": "c"},
            ("ab", "c"),
        ),
        ({"MATH/train/algebra/1.json": "a", "MATH/test/algebra/7.json": "c"}, ("a", "c")),
        (
            {
                "algebra/train-0-of-1.parquet": "a",
                "geometry/train-0-of-1.parquet": "b",
                "geometry/test.parquet": "c",
            },
            ("ab", "c"),
        ),
        ({"algebra/train/1.json": "a", "number_theory/test/1.json": "c"}, ("a", "c")),
        ({"algebra/1.json": "a", "Number Theory/1.json": "b"}, ("ab", None)),
        ({"train.JSONL": "a", "Test.JSONL": "c"}, ("a", "c")),
        ({"train.jsonl.gz": "a", "dev.ndjson": "c"}, ("a", "c")),
        ({"train.parquet/part-0.parquet": "a", "train.parquet/part-1.parquet": "b"}, ("ab", None)),
        ({"data/train-00000-of-00001.parquet": "ab", "data/test-00000-of-00001.parquet": "cd"}, ("ab", "cd")),
        ({"training.jsonl": "a", "eval.jsonl": "c"}, ("a", "c")),
        ({"train.jsonl": "a", "validation/part.jsonl": "c"}, ("a", "c")),
    ],
)
def test_a_layout_that_is_in_use_is_read_whole(
    tmp_path: Path, files: dict[str, str], expected: tuple[str, str | None]
) -> None:
    splits = read_path(write(tmp_path, files), hub=MATH)
    assert letters(splits) == expected
    assert splits.notes == ()


def test_what_systems_leave_beside_files_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, {"train.jsonl": "a", "test/1.json": "c"})
    for name in ("._train.jsonl", "test/._1.json", ".DS_Store", "Thumbs.db", "__MACOSX/train.jsonl"):
        write(tmp_path, {f"{name}.txt": "x"})
        (tmp_path / f"{name}.txt").rename(tmp_path / name)
    splits = read_path(tmp_path)
    assert (letters(splits), splits.notes) == (("a", "c"), ())


def test_every_other_file_is_named_as_not_used(tmp_path: Path) -> None:
    files = {
        "data/train-00000-of-00002.parquet": "a",
        "data/validation.jsonl": "c",
        "data/test.jsonl": "d",
        "extra/train.jsonl": "e",
        "README.md": "train",
        ".gitattributes": "*",
        ".git/train.txt": "x",
        "dataset_infos.json": "abc",
        "train.jsonl.bak": "old",
    }
    splits = read_path(write(tmp_path, files))
    assert letters(splits) == ("a", "c")
    unused, missing = splits.notes
    assert unused == (
        f"not used of {tmp_path.name}: .git/, .gitattributes, README.md, data/test.jsonl, "
        "dataset_infos.json, extra/train.jsonl, train.jsonl.bak"
    )
    assert missing == "1 of the 2 parts data/train-...-of-00002.parquet are not there"


@pytest.mark.parametrize(
    "name", ["validation.txt", "dev.xlsx", "val.jsonl.part", "test/data.bin", "validation"]
)
def test_a_validation_split_that_cannot_be_read_is_never_replaced_in_silence(
    tmp_path: Path, name: str
) -> None:
    write(tmp_path, {"train.jsonl": "ab", f"{name}.txt": "c"})
    (tmp_path / f"{name}.txt").rename(tmp_path / name)
    with pytest.raises(TaskError, match=rf"{name} names the .* validation would be drawn from train"):
        read_path(tmp_path)


def test_a_split_that_is_preferred_to_the_one_there_is_must_be_readable(tmp_path: Path) -> None:
    write(tmp_path, {"train.jsonl": "ab", "test.jsonl": "c", "validation.txt": "d"})
    with pytest.raises(
        TaskError, match=r"validation\.txt names the validation split.*the test split would be used"
    ):
        read_path(tmp_path)
    (tmp_path / "validation.txt").rename(tmp_path / "test.txt")  # the split there is comes first
    assert read_path(tmp_path).notes == (f"not used of {tmp_path.name}: test.txt",)


def test_of_data_sets_side_by_side_the_subset_of_the_task_is_read(tmp_path: Path) -> None:
    files = {
        "distractor/train-00000-of-00001.parquet": "a",
        "distractor/validation-00000-of-00001.parquet": "c",
        "fullwiki/train-00000-of-00001.parquet": "b",
        "fullwiki/validation-00000-of-00001.parquet": "d",
    }
    splits = read_path(write(tmp_path, files), hub=HOTPOTQA)
    assert letters(splits) == ("a", "c")
    assert splits.notes == (f"not used of {tmp_path.name}: 2 files in fullwiki/",)
    with pytest.raises(TaskError, match=r"side by side \(distractor, fullwiki\): set path to one of them"):
        read_path(tmp_path)
    assert letters(read_path(tmp_path / "fullwiki", hub=HOTPOTQA)) == ("b", "d")


def test_of_the_original_files_the_subset_of_the_task_is_read(tmp_path: Path) -> None:
    files = {
        "hotpot_train_v1.1.json": "ab",
        "hotpot_dev_distractor_v1.json": "cd",
        "hotpot_dev_fullwiki_v1.json": "ef",
        "hotpot_test_fullwiki_v1.json": "gh",
    }
    splits = read_path(write(tmp_path, files), hub=HOTPOTQA)
    assert letters(splits) == ("ab", "cd")
    assert splits.notes == (
        f"not used of {tmp_path.name}: hotpot_dev_fullwiki_v1.json, hotpot_test_fullwiki_v1.json",
    )


def test_a_whole_beside_its_parts_is_read_once(tmp_path: Path) -> None:
    files = {"data/train.parquet": "ab", "algebra/train.parquet": "a", "geometry/train.parquet": "b"}
    assert letters(read_path(write(tmp_path / "one", files), hub=MATH)) == ("ab", None)
    files = {"default/train.parquet": "ab", "algebra/train.parquet": "a", "geometry/train.parquet": "b"}
    assert letters(read_path(write(tmp_path / "two", files), hub=MATH)) == ("ab", None)


@pytest.mark.parametrize(
    "files", [{"train/test_1.jsonl": "a"}, {"train.jsonl": "a", "test/train.jsonl": "b"}]
)
def test_a_file_and_its_folder_that_disagree_are_an_error(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(TaskError, match="must name one split of train"):
        read_path(write(tmp_path, files))


def test_the_folder_above_is_proposed_where_a_split_alone_was_given(tmp_path: Path) -> None:
    write(tmp_path, {"train/mine.jsonl": "a"})
    with pytest.raises(TaskError, match=r"mine\.jsonl: .*or path the folder above 'train'"):
        read_path(tmp_path / "train")


def test_links_are_followed_and_a_circle_of_them_ends(tmp_path: Path) -> None:
    write(tmp_path, {"elsewhere/1.json": "a"})
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "set")
    assert letters(read_path(tmp_path / "set")) == ("a", None)


def test_a_home_directory_is_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_FILES", 3)
    write(tmp_path, {f"train/{number}.json": "a" for number in range(4)})
    with pytest.raises(TaskError, match=r"holds more than 3 files: set path to the data's own folder"):
        read_path(tmp_path)


def test_a_path_to_one_file_says_which_files_beside_it_are_not_used(tmp_path: Path) -> None:
    write(tmp_path, {"train.jsonl": "ab", "dev.jsonl": "c", "README.md": "x"})
    assert read_path(tmp_path / "train.jsonl").notes == (
        "validation is drawn from train.jsonl; not used, as path names one file: dev.jsonl",
    )


def test_a_stranger_in_a_saved_dataset_is_named(tmp_path: Path) -> None:
    datasets.DatasetDict(train=datasets.Dataset.from_list(rows("ab"))).save_to_disk(tmp_path / "saved")
    assert read_path(tmp_path / "saved").notes == ()
    write(tmp_path / "saved", {"validation.jsonl": "c"})
    assert read_path(tmp_path / "saved").notes == ("not used of saved: validation.jsonl",)


def test_a_damaged_file_is_named_with_its_folder(tmp_path: Path) -> None:
    write(tmp_path, {"train/algebra/1.json": "a", "train/algebra/2.json": "b"})
    (tmp_path / "train/algebra/2.json").write_text("{")
    with pytest.raises(TaskError, match=r"train/algebra/2\.json, line 1: not valid JSON"):
        read_path(tmp_path)
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(TaskError, match="must have a train split, it has no file ending in"):
        read_path(tmp_path)
