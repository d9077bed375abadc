"""Files as people have them: compressed, marked, renamed, with long fields."""

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.trainables.tasks.test_sources import ROWS, WRITERS
from trainables.tasks.examples import TaskError
from trainables.tasks.files import read_file


def zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("ending", COMPRESSORS)
@pytest.mark.parametrize("suffix", WRITERS)
def test_a_compressed_file_is_known_by_its_content_whatever_its_ending(
    tmp_path: Path, suffix: str, ending: str
) -> None:
    plain = tmp_path / f"plain{suffix}"
    WRITERS[suffix](plain, ROWS)
    content = COMPRESSORS[ending](plain.read_bytes())
    for name in (f"a{suffix}{ending}", f"A{suffix.upper()}{ending.upper()}", f"b{suffix}"):
        (tmp_path / name).write_bytes(content)
        assert read_file(tmp_path / name) == ROWS
    unpacked = tmp_path / f"c{suffix}{ending}"  # what some downloads leave: unpacked under the packed name
    unpacked.write_bytes(plain.read_bytes())
    assert read_file(unpacked) == ROWS


@pytest.mark.parametrize("ending", COMPRESSORS)
def test_a_compressed_file_that_was_cut_short_is_an_error(tmp_path: Path, ending: str) -> None:
    content = COMPRESSORS[ending](json.dumps(ROWS * 50).encode())
    (tmp_path / f"a.json{ending}").write_bytes(content[: len(content) // 2])
    with pytest.raises(TaskError, match=r"a\.json.*(not a whole|cannot be read|not valid)"):
        read_file(tmp_path / f"a.json{ending}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"x": "1"}\n\ufeff{"x": "2"}\n'),
        ("a.NDJSON", '{"x": "1"}\n{"x": "2"}\n'),
        ("a.json", '[{"x": "1"}, {"x": "2"}]'),
        ("lines.json", '{"x": "1"}\n{"x": "2"}\n'),
        ("a.csv", "x\n1\n2\n"),
        ("a.tsv", "x\n1\n2\n"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, name: str, text: str) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / name).write_bytes(mark + text.encode())
        assert read_file(tmp_path / name) == [{"x": "1"}, {"x": "2"}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_text_in_utf_16_is_refused_as_such(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x", encoding="utf-16")
    with pytest.raises(TaskError, match=rf"{name}: the text must be UTF-8 \(UTF-16\)"):
        read_file(tmp_path / name)


def test_a_csv_field_may_be_long_and_the_limit_of_others_stays(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["q", "a"], ["w " * 200_000, "007"]])
    assert read_file(tmp_path / "a.csv") == [{"q": "w " * 200_000, "a": "007"}]
    assert csv.field_size_limit() == before


def test_tabs_separate_the_fields_of_a_tsv_file(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("q\ta\nwhat, then?\tNA\n")
    assert read_file(tmp_path / "a.tsv") == [{"q": "what, then?", "a": "NA"}]


@pytest.mark.parametrize("new", [pyarrow.ipc.new_file, pyarrow.ipc.new_stream], ids=["file", "stream"])
def test_both_kinds_of_arrow_file_are_read(tmp_path: Path, new: Any) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    with new(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert read_file(tmp_path / "a.arrow") == ROWS


def test_a_folder_called_key_equals_value_adds_no_column(tmp_path: Path) -> None:
    (tmp_path / "lang=en").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "lang=en" / "a.parquet")
    assert read_file(tmp_path / "lang=en" / "a.parquet") == ROWS
