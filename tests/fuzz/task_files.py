"""Task data: files of every format, rows of every task, and both together as `prepare_task` takes them."""

import csv
import gzip
import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from pyarrow import parquet

from tests.conftest import _byte_tokenizer
from tests.fuzz.errors import own_errors
from tests.fuzz.values import RAW_JSON, VALUES, mutations
from trainables.settings import TaskSettings
from trainables.tasks.examples import TaskError
from trainables.tasks.prepare import prepare_task
from trainables.tasks.registry import find_task
from trainables.tasks.sources import read_path
from trainables.tasks.wording import word_example

MATH = {"problem": "What is 2 + 3?", "level": "Level 1", "type": "Algebra", "solution": "It is $5$."}
HOTPOTQA = {
    "question": "Where does Ann live?",
    "answer": "Rome",
    "type": "bridge",
    "level": "easy",
    "supporting_facts": {"title": ["Ann"], "sent_id": [0]},
    "context": {"title": ["Ann", "Bob"], "sentences": [["Ann lives in Rome."], ["Bob lives in Bonn."]]},
}
ORIGINAL_HOTPOTQA = HOTPOTQA | {
    "supporting_facts": [["Ann", 0]],
    "context": [["Ann", ["Ann lives in Rome."]]],
}
OWN = {"question": "Who?", "answer": "Ann", "score": 3, "type": "x"}
ROW_BASES = (MATH, HOTPOTQA, ORIGINAL_HOTPOTQA, OWN)
TEMPLATES = ("{question}", "{answer}", "{{}} {score} {question}", "{type}", "{missing}")

_ROW = st.sampled_from(ROW_BASES).flatmap(mutations)
_ANY_ROW = _ROW | st.sampled_from(ROW_BASES)
_TABLE = st.lists(_ANY_ROW | VALUES, max_size=4)


def _json_lines(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def _csv(rows: list[Any]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    for row in rows:
        writer.writerow(list(row.values()) if isinstance(row, dict) else [row])
    return text.getvalue().encode("utf-8", errors="surrogatepass")


def _parquet(rows: list[Any]) -> bytes:
    """Return a table of one JSON text a row, or of the rows themselves where Arrow can hold them."""
    buffer = io.BytesIO()
    try:
        table = pa.Table.from_pylist([row for row in rows if isinstance(row, dict)])
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        table = pa.table({"problem": [json.dumps(row) for row in rows], "at": [b"\xff"] * len(rows)})
    try:
        parquet.write_table(table, buffer)
    except (pa.ArrowException, ValueError):
        return b"PAR1"
    return buffer.getvalue()


def _cut(parts: tuple[bytes, int, int, bytes]) -> bytes:
    content, start, length, pasted = parts
    return content[:start] + pasted + content[start + length :]


def _damaged(contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    cut = st.tuples(contents, st.integers(0, 400), st.integers(0, 30), st.binary(max_size=8)).map(_cut)
    return st.one_of(contents, contents, cut, st.binary(max_size=60), RAW_JSON)


CONTENTS = {
    ".jsonl": _damaged(_TABLE.map(_json_lines)),
    ".json": _damaged(_TABLE.map(lambda rows: json.dumps(rows).encode())),
    ".csv": _damaged(_TABLE.map(_csv)) | st.just(b'a,b\n"' + b"x" * 200_000 + b'",y\n'),
    ".parquet": _damaged(_TABLE.map(_parquet)),
    ".jsonl.gz": _damaged(_TABLE.map(_json_lines).map(gzip.compress)),
    ".arrow": _damaged(_TABLE.map(_parquet)),
    ".txt": st.binary(max_size=10),
}
_STEMS = st.sampled_from(
    (
        "train",
        "train-00000-of-00002",
        "validation",
        "test",
        "hotpot_dev_v1",
        "other",
        "train_test",
        "train/a/1",
        "a/test",
    )
)
_FILE = st.sampled_from([*CONTENTS]).flatmap(
    lambda suffix: st.tuples(_STEMS.map(lambda stem: stem + suffix), CONTENTS[suffix])
)
_SAVED = st.tuples(
    st.sampled_from(
        (
            "dataset_dict.json",
            "dataset_info.json",
            "state.json",
            "train/state.json",
            "train/dataset_info.json",
        )
    ),
    RAW_JSON
    | st.just(b'{"splits": ["train", "../.."]}')
    | VALUES.map(lambda value: json.dumps(value).encode()),
)
FILES = st.lists(_FILE, min_size=1, max_size=2) | st.lists(_FILE | _SAVED, min_size=1, max_size=3)

SETTINGS = st.one_of(
    st.builds(dict, name=st.just("math"), prompt_format=st.sampled_from(("instruct", "chat"))),
    st.builds(dict, name=st.just("hotpotqa"), paragraphs=st.sampled_from(("all", "supporting"))),
    st.builds(
        dict,
        name=st.just("own"),
        prompt=st.sampled_from(TEMPLATES),
        completion=st.sampled_from(TEMPLATES),
        difficulty=st.sampled_from((None, "score", "missing")),
    ),
)
ROWS = st.tuples(SETTINGS, _ANY_ROW | VALUES.filter(lambda value: isinstance(value, dict)))
PREPARATIONS = st.tuples(
    SETTINGS,
    st.sampled_from((".jsonl", ".json", ".csv", ".parquet")).flatmap(
        lambda suffix: st.tuples(st.just(f"train{suffix}"), CONTENTS[suffix])
    ),
    st.sampled_from((8, 200)),
)


@cache
def _tokenizer() -> Any:
    tokenizer = _byte_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}<|user|>{{ message['content'] }}{% endfor %}"
    return tokenizer


def check_files(files: list[tuple[str, bytes]]) -> None:
    """A file and a directory of files are rows by split, or a TaskError."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files:
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for path in (Path(folder), Path(folder) / files[0][0], Path(folder) / "absent"):
            with own_errors():
                splits = read_path(path)
                assert len(splits.train) > 0
                assert all(isinstance(splits.train[index], dict) for index in range(len(splits.train)))


def check_rows(example: tuple[dict[str, Any], Any]) -> None:
    """A row is an example whose text can be tokenised and hashed, or a TaskError."""
    values, row = example
    settings = _settings(values, Path("/"))
    with own_errors():
        item = find_task(settings).read_item(row, settings=settings)
        worded = word_example(item, settings=settings, tokenizer=_tokenizer())
        for text in (worded.prompt, worded.completion, worded.level, worded.type):
            assert text is None or text.encode("utf-8") is not None
        assert worded.completion


def check_preparation(example: tuple[dict[str, Any], tuple[str, bytes], int]) -> None:
    """A file is a prepared task, or a TaskError."""
    values, (name, content), max_length = example
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            task = prepare_task(_settings(values, path), tokenizer=_tokenizer(), max_length=max_length)
        except TaskError:
            return
        assert len(task.train) == len(task.validation) == 1
        assert max(task.train.lengths.max(), task.validation.lengths.max()) <= max_length


def _settings(values: dict[str, Any], path: Path) -> TaskSettings:
    return TaskSettings.model_validate({"path": path, "train": 1, "validation": 1, **values})
