"""Prepared tasks that are kept: equal to fresh ones, and made again when anything they depend on changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from trainables.cache.machine import cache_directory
from trainables.settings import TaskSettings
from trainables.tasks import task_cache
from trainables.tasks.prepare import PreparedTask, prepare_task
from trainables.tasks.sources import Splits
from trainables.tasks.task_cache import ARRAYS, KIND, PLAIN, TEXTS, cached_task

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Desk:
    """Prepares tasks with the cache, and counts how often the tokenizer was needed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.loaded = 0

    def load(self) -> PreTrainedTokenizerBase:
        self.loaded += 1
        return self.tokenizer

    def prepare(
        self,
        settings: TaskSettings,
        *,
        identity: str | None = "tokenizer",
        max_length: int = 1000,
    ) -> PreparedTask:
        return cached_task(settings, tokenizer=self.load, identity=identity, max_length=max_length)


@pytest.fixture
def desk(byte_tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path / "cache"))
    return Desk(byte_tokenizer)


def write_rows(path: Path, *, answer: str = "It is {}.") -> Path:
    rows = [
        {"q": f"What is {number}?", "a": answer.format(number), "grade": None if number % 3 else number}
        for number in range(20)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def own(path: Path, **changes: Any) -> TaskSettings:
    fields = {"name": "sums", "path": path, "prompt": "{q}", "completion": "{a}", "difficulty": "grade"}
    return TaskSettings(**fields | {"train": 8, "validation": 4} | changes)


def assert_equal(one: PreparedTask, other: PreparedTask) -> None:
    assert {name: getattr(one, name) for name in PLAIN} == {name: getattr(other, name) for name in PLAIN}
    for mine, theirs in ((one.train, other.train), (one.validation, other.validation)):
        assert mine.digest == theirs.digest
        assert all(getattr(mine, name) == getattr(theirs, name) for name in TEXTS)
        for name in ARRAYS:
            ours, expected = getattr(mine, name), getattr(theirs, name)
            assert ours.dtype == expected.dtype
            assert ours.flags.writeable
            assert np.array_equal(ours, expected, equal_nan=name == "difficulty")


SOURCES: dict[str, Callable[[Path], TaskSettings]] = {
    "generated": lambda folder: TaskSettings(name="multihop", train=8, validation=4),
    "file": lambda folder: own(write_rows(folder / "mine.jsonl")),
    "directory": lambda folder: own(write_rows(folder / "train.jsonl").parent),
    "directory with more": lambda folder: own(write_rows(folder / "data" / "train.jsonl").parents[1]),
    "file beside another": lambda folder: own(
        write_rows(write_rows(folder / "dev.jsonl").with_name("train.jsonl"))
    ),
    "chat": lambda folder: TaskSettings(name="arithmetic", train=8, validation=4, prompt_format="chat"),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
def test_a_kept_task_equals_a_fresh_one_and_needs_no_tokenizer(
    tmp_path: Path, desk: Desk, make: Callable[[Path], TaskSettings]
) -> None:
    (tmp_path / "data").mkdir()
    settings = make(tmp_path / "data")
    first, kept = desk.prepare(settings), desk.prepare(settings)
    assert desk.loaded == 1
    fresh = prepare_task(settings, tokenizer=desk.tokenizer, max_length=1000)
    assert_equal(first, fresh)
    assert_equal(kept, fresh)


def test_a_moved_file_of_equal_content_is_not_prepared_again(tmp_path: Path, desk: Desk) -> None:
    (tmp_path / "there").mkdir()
    desk.prepare(own(write_rows(tmp_path / "mine.jsonl")))
    desk.prepare(own(write_rows(tmp_path / "there" / "mine.jsonl")))
    assert desk.loaded == 1


def test_a_changed_data_file_is_prepared_again(tmp_path: Path, desk: Desk) -> None:
    before = desk.prepare(own(write_rows(tmp_path / "mine.jsonl")))
    after = desk.prepare(own(write_rows(tmp_path / "mine.jsonl", answer="It was {}")))
    assert desk.loaded == 2
    assert after.digest != before.digest


def test_a_renamed_split_is_prepared_again(tmp_path: Path, desk: Desk) -> None:
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "train.jsonl")
    test = write_rows(tmp_path / "data" / "test.jsonl", answer="It was {}")
    desk.prepare(own(tmp_path / "data"))
    test.rename(test.with_name("train_2.jsonl"))
    assert_equal(
        desk.prepare(own(tmp_path / "data")),
        prepare_task(own(tmp_path / "data"), tokenizer=desk.tokenizer, max_length=1000),
    )


@pytest.mark.parametrize("change", [{"train": 9}, {"seed": 1}, {"completion": "{a}!"}])
def test_changed_settings_are_prepared_again(tmp_path: Path, desk: Desk, change: dict[str, Any]) -> None:
    path = write_rows(tmp_path / "mine.jsonl")
    desk.prepare(own(path))
    desk.prepare(own(path, **change))
    assert desk.loaded == 2


def test_another_length_or_tokenizer_is_prepared_again(desk: Desk) -> None:
    settings = TaskSettings(name="arithmetic", train=8, validation=4)
    desk.prepare(settings)
    desk.prepare(settings, max_length=999)
    desk.prepare(settings, identity="another")
    assert desk.loaded == 3


@pytest.mark.parametrize("module", ["trainables/tasks/wording.py", "trainables/model/sources.py"])
def test_changed_code_is_prepared_again(desk: Desk, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TaskSettings(name="arithmetic", train=8, validation=4)
    desk.prepare(settings)
    digests = task_cache.module_digests()
    assert module in digests
    monkeypatch.setattr(task_cache, "module_digests", lambda: digests | {module: "changed"})
    desk.prepare(settings)
    assert desk.loaded == 2


def test_code_that_prepares_nothing_may_change(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TaskSettings(name="arithmetic", train=8, validation=4)
    desk.prepare(settings)
    digests = task_cache.module_digests() | {"trainables/model/loss.py": "changed"}
    monkeypatch.setattr(task_cache, "module_digests", lambda: digests)
    desk.prepare(settings)
    assert desk.loaded == 1


@pytest.mark.parametrize("package", ["tokenizers", "transformers"])
def test_another_version_of_what_tokenises_prepares_again(
    desk: Desk, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TaskSettings(name="arithmetic", train=8, validation=4)
    desk.prepare(settings)
    monkeypatch.setattr(task_cache, "version", lambda name: "0" if name == package else "1")
    desk.prepare(settings)
    monkeypatch.setattr(task_cache, "version", lambda name: "1")
    desk.prepare(settings)
    assert desk.loaded == 3


def test_a_flipped_bit_is_noticed_wherever_it_is_and_the_task_made_again(desk: Desk) -> None:
    settings = TaskSettings(name="arithmetic", train=8, validation=4)
    fresh = desk.prepare(settings)
    (entry,) = (cache_directory() / KIND).iterdir()
    whole = entry.read_bytes()
    places = [*range(0, 80, 13), *range(80, len(whole), len(whole) // 7), len(whole) - 1]
    for place in places:
        entry.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert_equal(desk.prepare(settings), fresh)
        assert entry.read_bytes() == whole
    assert desk.loaded == 1 + len(places)


def test_a_task_is_prepared_where_nothing_can_be_kept(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path / "file" / "cache"))
    path = write_rows(tmp_path / "mine.jsonl")
    assert_equal(desk.prepare(own(path)), desk.prepare(own(path)))


def test_a_tokenizer_with_code_of_its_own_is_asked_every_time(desk: Desk) -> None:
    settings = TaskSettings(name="arithmetic", train=8, validation=4)
    desk.prepare(settings, identity=None)
    desk.prepare(settings, identity=None)
    assert desk.loaded == 2


def test_rows_that_changed_while_they_were_read_are_not_kept(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "mine.jsonl")

    def slowly(settings: TaskSettings, **given: Any) -> PreparedTask:
        write_rows(path, answer="It was {}")
        return prepare_task(settings, **given)

    monkeypatch.setattr(task_cache, "prepare_task", slowly)
    desk.prepare(own(path))
    monkeypatch.undo()
    assert not (tmp_path / "cache" / KIND).exists()


@pytest.mark.parametrize(
    ("newest", "read", "times"),
    [(COMMIT, COMMIT, 1), (None, COMMIT, 2), (COMMIT, None, 2), (COMMIT, COMMIT[::-1], 2)],
    ids=["pinned", "hub not reached", "read from who knows where", "read from another commit"],
)
def test_a_hub_task_is_kept_only_where_its_commit_is_known(
    desk: Desk, newest: str | None, read: str | None, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"problem": f"What is {number}?", "level": "Level 1", "type": "", "solution": f"{number}"}
        for number in range(20)
    ]
    source = f"hub somewhere{task_cache.name_commit(read)}"
    monkeypatch.setattr(task_cache, "hub_commit", lambda hub: newest)
    monkeypatch.setattr("trainables.tasks.prepare.read_hub", lambda hub: Splits(rows, None, source))
    settings = TaskSettings(name="math", train=8, validation=4)
    assert_equal(desk.prepare(settings), desk.prepare(settings))
    assert desk.loaded == times


def test_a_file_that_comes_beside_the_data_is_told_of_though_the_task_is_kept(
    desk: Desk, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "data" / "train.jsonl")
    assert desk.prepare(own(path)).notes == desk.prepare(own(path.parent)).notes == ()
    write_rows(tmp_path / "data" / "dev.jsonl").rename(tmp_path / "data" / "dev.md")
    assert desk.prepare(own(path.parent)).notes == ("not used of data: dev.md",)
    (tmp_path / "data" / "dev.md").rename(tmp_path / "data" / "dev.jsonl")
    assert desk.prepare(own(path)).notes
    assert desk.prepare(own(path.parent)).notes == ()
