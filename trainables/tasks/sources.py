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
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_SECONDS = 10.0  # that the hub has to name a commit


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
    return _choose_splits(loaded, source=f"hub {name}{name_commit(_commit_of(loaded))}")


def hub_commit(hub: HubDataset) -> str | None:
    """Return a data set's newest commit, or the last one seen while the hub cannot be reached.

    None where neither is known.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        return HfApi().dataset_info(hub.id, timeout=HUB_SECONDS).sha
    except (HTTPError, OSError):
        card = try_to_load_from_cache(hub.id, "README.md", repo_type="dataset")  # `datasets` fetched it
        return Path(card).parent.name if isinstance(card, str) else None


def name_commit(commit: str | None) -> str:
    """Return how the source of a data set ends that was read at `commit`."""
    return "" if commit is None else f" at {commit[:12]}"


def _commit_of(splits: Mapping[str, Any]) -> str | None:
    """Return the commit that downloaded splits are of: `datasets` keeps them in a folder of its name."""
    import datasets

    tables = [rows for rows in splits.values() if isinstance(rows, datasets.Dataset)]
    folders = {Path(file["filename"]).parent.name for table in tables for file in table.cache_files}
    commit = folders.pop() if len(folders) == 1 else ""
    return commit if COMMIT.fullmatch(commit) else None


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
    except RecursionError as error:
        raise TaskError(f"{path.name}: not valid, it is nested too deeply") from error
    except OSError as error:
        raise TaskError(f"{path.name} cannot be read ({error})") from error
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
    except ValueError as error:  # an integer of thousands of digits
        raise TaskError(f"{place}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise TaskError(f"{place}: a row must be a JSON object, got {type(value).__name__}")
    return value


def _read_json(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise TaskError(
            f"{path.name}, line {error.lineno}: not valid JSON ({error.msg}); "
            f"a file with one object per line must end in .jsonl"
        ) from error
    except ValueError as error:  # an integer of thousands of digits
        raise TaskError(f"{path.name}: not valid JSON ({error})") from error
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
    from pyarrow import ArrowException, parquet

    try:
        rows: list[Any] = parquet.read_table(path).to_pylist()
    except UnicodeDecodeError:
        raise
    except (ArrowException, OSError, ValueError, OverflowError) as error:
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
    from pyarrow import ArrowException

    try:
        loaded = datasets.load_from_disk(path)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        ArrowException,
    ) as error:
        # `datasets` takes what the directory's JSON files hold for granted
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
