"""Data files as rows: every format that is read, compressed or not. Nothing of splits or folders is known
here.
"""

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from trainables.settings import LARGEST
from trainables.tasks.examples import TaskError

BYTE_ORDER_MARK = "\ufeff"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how such a text begins
POINTERS = {
    b"version https://git-lfs.github.com/spec/": (
        "a git-lfs pointer, not the data: run `git lfs pull` in its folder"
    ),
    b"/annex/objects/": "a git-annex pointer, not the data: run `git annex get` in its folder",
}


def _open_zstd(stream: Any) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(stream, "zstd")


# By how the content begins, whatever the file is called.
COMPRESSIONS: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda stream: gzip.GzipFile(fileobj=stream)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMAFile),
    b"\x28\xb5\x2f\xfd": ("zstd", _open_zstd),
}
COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zstd")


def data_ending(path: Path) -> str:
    """Return a file's ending in lower case, without one that says how it is compressed."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED_ENDINGS else path
    return inner.suffix.lower()


def data_stem(path: Path) -> str:
    """Return a file's name without its endings, in lower case."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED_ENDINGS else path
    return inner.stem.lower()


def is_readable(path: Path) -> bool:
    """Say whether a file's ending is one of a format that is read."""
    return data_ending(path) in READERS


def read_file(path: Path, *, one_object: bool = False) -> list[Any]:
    """Return a file's rows, one dict each; with `one_object` a .json file may be a single row."""
    ending = data_ending(path)
    if ending not in READERS:
        raise TaskError(f"{path.name}: a data file must end in {', '.join(READERS)}, got {path.suffix!r}")
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise TaskError(f"{path.name} is no regular file")
    how = ""
    try:
        with path.open("rb") as raw:
            head = raw.peek(64)[:64]
            _refuse_pointer(head, name=path.name)
            how, opened = _decompress(raw, head=head)
            with opened as stream:
                rows = READERS[ending](stream, path.name)
    except UnicodeDecodeError as error:
        found = "UTF-16" if error.object[:2] in UTF_16 else str(error)
        raise TaskError(f"{path.name}: the text must be UTF-8 ({found})") from error
    except RecursionError as error:
        raise TaskError(f"{path.name}: not valid, it is nested too deeply") from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise TaskError(f"{path.name}: not a whole {how} file ({error})") from error
    except OSError as error:
        raise TaskError(f"{path.name} cannot be read ({error})") from error
    if isinstance(rows, dict):
        if not one_object:
            raise TaskError(f"{path.name}: a .json file must hold a list of objects, got dict")
        rows = [rows]
    if not rows:
        raise TaskError(f"{path.name} holds no rows")
    listed: list[Any] = rows
    return listed


def _refuse_pointer(head: bytes, *, name: str) -> None:
    for opening, what in POINTERS.items():
        if head.startswith(opening):
            raise TaskError(f"{name} is {what}")


def _decompress(raw: BinaryIO, *, head: bytes) -> tuple[str, BinaryIO]:
    for opening, (how, opened) in COMPRESSIONS.items():
        if head.startswith(opening):
            return how, opened(raw)
    return "", raw


def _text(stream: BinaryIO, *, newline: str | None = None) -> TextIO:
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline)


def _read_json_lines(stream: BinaryIO, name: str) -> list[Any]:
    with _text(stream) as lines:
        return _parse_lines(lines, name=name)


def _parse_lines(lines: Iterable[str], *, name: str) -> list[Any]:
    rows = []
    for number, line in enumerate(lines, start=1):
        line = line.lstrip(BYTE_ORDER_MARK)  # files that begin with a mark were put one after the other
        if line.strip():
            rows.append(_parse_object(line, place=f"{name}, line {number}"))
    return rows


def _parse_object(line: str, *, place: str) -> Any:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise TaskError(f"{place}: not valid JSON ({error.msg} at column {error.colno})") from error
    except ValueError as error:  # an integer of thousands of digits
        raise TaskError(f"{place}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise TaskError(f"{place}: a row must be a JSON object, got {type(value).__name__}")
    return value


def _read_json(stream: BinaryIO, name: str) -> Any:
    """Return a list of objects, whether written as one or as one object a line, or the file's only object."""
    with _text(stream) as file:
        text = file.read()
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return _parse_lines(io.StringIO(text), name=name)
        raise TaskError(f"{name}, line {error.lineno}: not valid JSON ({error.msg})") from error
    except ValueError as error:  # an integer of thousands of digits
        raise TaskError(f"{name}: not valid JSON ({error})") from error
    if isinstance(value, dict):
        return value
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise TaskError(f"{name}: a .json file must hold a list of objects, got {type(value).__name__}")
    return value


def _read_csv(stream: BinaryIO, name: str, *, delimiter: str = ",") -> list[Any]:
    # Every value stays the text it is: "007", "NA" and "1.50" must reach the prompt unchanged.
    with _text(stream, newline="") as lines, _long_fields():
        reader = csv.DictReader(lines, strict=True, delimiter=delimiter)
        try:
            columns = list(reader.fieldnames or ())
            rows = list(reader)
        except csv.Error as error:
            raise TaskError(f"{name}, line {reader.reader.line_num}: not valid CSV ({error})") from error
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise TaskError(f"{name}: the header names column {twice[0]!r} twice")
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise TaskError(f"{name}, row {number}: must have the header's {len(columns)} fields")
    return rows


_FIELD_LIMIT = threading.Lock()


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Lift the csv module's limit of 128 KiB a field, which is the whole process's, and put it back."""
    with _FIELD_LIMIT:
        limit = csv.field_size_limit(LARGEST)
        try:
            yield
        finally:
            csv.field_size_limit(limit)


def _read_tsv(stream: BinaryIO, name: str) -> list[Any]:
    return _read_csv(stream, name, delimiter="\t")


def _read_parquet(stream: BinaryIO, name: str) -> list[Any]:
    from pyarrow import ArrowException, parquet

    try:
        rows: list[Any] = parquet.read_table(_seekable(stream)).to_pylist()
    except UnicodeDecodeError:
        raise
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        raise TaskError(f"{name}: not a valid Parquet file ({error})") from error
    return rows


def _read_arrow(stream: BinaryIO, name: str) -> list[Any]:
    """Read Arrow's own format: as a file with an index, or as the stream that `datasets` writes."""
    from pyarrow import ArrowException, ipc

    content = _seekable(stream)
    try:
        indexed = content.read(6) == b"ARROW1"
        content.seek(0)
        table = ipc.open_file(content) if indexed else ipc.open_stream(content)
        rows: list[Any] = table.read_all().to_pylist()
    except UnicodeDecodeError:
        raise
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        raise TaskError(f"{name}: not a valid Arrow file ({error})") from error
    return rows


def _seekable(stream: BinaryIO) -> BinaryIO:
    return stream if isinstance(stream, io.BufferedReader) else io.BytesIO(stream.read())


READERS: dict[str, Callable[[BinaryIO, str], Any]] = {
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".ndjson": _read_json_lines,
    ".tsv": _read_tsv,
    ".arrow": _read_arrow,
}
