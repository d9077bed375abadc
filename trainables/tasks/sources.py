"""Raw rows by split, from the Hugging Face hub or from a local file or directory; no meaning is read here."""

import contextlib
import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainables.tasks.records import TaskError

# The names a validation split goes by, the preferred one first.
VALIDATION_SPLITS = ("validation", "valid", "val", "dev", "test")
SPLITS = ("train", *VALIDATION_SPLITS)


class Rows(Protocol):
    """A table read one row at a time: a list of dicts or a `datasets.Dataset`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class HubDataset:
    """Where a data set is on the hub."""

    id: str
    subset: str | None = None


@dataclass(frozen=True)
class Splits:
    """A source's rows; `validation` is None where the source has no such split."""

    train: Rows
    validation: Rows | None
    source: str


def read_hub(hub: HubDataset) -> Splits:
    """Download (or find in Hugging Face's cache) a data set's splits."""
    import datasets

    try:
        with _quiet_progress():
            loaded = datasets.load_dataset(hub.id, hub.subset)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise TaskError(
            f"cannot load {hub.id!r} from the hub ({error}): connect this machine, "
            f"fill its cache (HF_HOME), or set path to a local copy"
        ) from error
    name = hub.id if hub.subset is None else f"{hub.id} ({hub.subset})"
    return _choose_splits(loaded, source=f"hub {name}")


def read_path(path: Path) -> Splits:
    """Read a file (all of it is the train split), a directory with one or more files per split, or a
    directory written by `datasets.save_to_disk`."""
    if path.is_file():
        return _choose_splits({"train": read_file(path)}, source=f"file {path.name} {_content_of(path)}")
    if not path.is_dir():
        raise TaskError(f"path must be a file or a directory, {str(path)!r} does not exist")
    source = f"directory {path.name} {_content_of(path)}"
    if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
        return _choose_splits(_read_saved_dataset(path), source=source)
    files: dict[str, list[Any]] = {}
    for file in sorted(path.iterdir()):
        if file.suffix in READERS:
            files.setdefault(_split_of(file), []).extend(read_file(file))
    return _choose_splits(files, source=source)


def read_file(path: Path) -> list[Any]:
    """Return a file's rows, one dict each."""
    if path.suffix not in READERS:
        raise TaskError(f"{path.name}: a data file must end in {', '.join(READERS)}, got {path.suffix!r}")
    try:
        rows = READERS[path.suffix](path)
    except UnicodeDecodeError as error:
        raise TaskError(f"{path.name}: the text must be UTF-8 ({error})") from error
    if not rows:
        raise TaskError(f"{path.name} holds no rows")
    return rows


def _read_json_lines(path: Path) -> list[Any]:
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                rows.append(_parse_object(line, place=f"{path.name}, line {number}"))
    return rows


def _parse_object(line: str, *, place: str) -> Any:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise TaskError(f"{place}: not valid JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(value, dict):
        raise TaskError(f"{place}: a row must be a JSON object, got {type(value).__name__}")
    return value


def _read_json(path: Path) -> list[Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise TaskError(
            f"{path.name}, line {error.lineno}: not valid JSON ({error.msg}); "
            f"a file with one object per line must end in .jsonl"
        ) from error
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise TaskError(f"{path.name}: a .json file must hold a list of objects, got {type(value).__name__}")
    return value


def _read_csv(path: Path) -> list[Any]:
    # Every value stays the text it is: "007", "NA" and "1.50" must reach the prompt unchanged.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            rows = list(reader)
        except csv.Error as error:
            raise TaskError(f"{path.name}, line {reader.reader.line_num}: not valid CSV ({error})") from error
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise TaskError(
                f"{path.name}, row {number}: must have the header's {len(reader.fieldnames or ())} fields"
            )
    return rows


def _read_parquet(path: Path) -> list[Any]:
    from pyarrow import ArrowInvalid, parquet

    try:
        rows: list[Any] = parquet.read_table(path).to_pylist()
    except ArrowInvalid as error:
        raise TaskError(f"{path.name}: not a valid Parquet file ({error})") from error
    return rows


READERS: dict[str, Callable[[Path], list[Any]]] = {
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}


def _read_saved_dataset(path: Path) -> Mapping[str, Rows]:
    import datasets

    try:
        loaded = datasets.load_from_disk(path)
    except (OSError, ValueError, KeyError) as error:
        raise TaskError(f"{path.name}: not a complete datasets.save_to_disk directory ({error})") from error
    return loaded if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}


def _split_of(file: Path) -> str:
    """Return the split a file's name mentions: `train.jsonl`, `hotpot_dev_v1.json`, `test-00000-of-00002.parquet`."""
    named = [word for word in re.split(r"[^a-z]+", file.stem.lower()) if word in SPLITS]
    if len(set(named)) != 1:
        raise TaskError(f"{file.name}: a file in a data directory must name one split of {', '.join(SPLITS)}")
    return named[0]


def _choose_splits(splits: Mapping[str, Rows], *, source: str) -> Splits:
    if "train" not in splits:
        found = ", ".join(splits) or f"no file ending in {', '.join(READERS)}"
        raise TaskError(f"{source} must have a train split, it has {found}")
    validation = next((name for name in VALIDATION_SPLITS if name in splits), None)
    return Splits(splits["train"], splits[validation] if validation is not None else None, source)


def _content_of(path: Path) -> str:
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"(sha256 {digest.hexdigest()[:12]})"


@contextlib.contextmanager
def _quiet_progress() -> Iterator[None]:
    import datasets

    were_enabled = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if were_enabled:
            datasets.enable_progress_bars()
