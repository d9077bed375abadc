"""Raw rows by split, from the Hugging Face hub or from a local file or directory; no meaning is read here."""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainables.tasks.examples import TaskError
from trainables.tasks.files import READERS, data_stem, is_readable, read_file
from trainables.tasks.folders import MOST_NAMED, SIDECARS, VALIDATION_SPLITS, DataFile, survey

SAVED = {"dataset_dict.json", "dataset_info.json", "state.json"}  # what `save_to_disk` writes beside tables
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_SECONDS = 5.0  # that the hub has to answer


class Rows(Protocol):
    """A table read one row at a time: a list of dicts or a `datasets.Dataset`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class HubDataset:
    """Where a data set is on the hub; `parts` are the folders that a copy of it may be cut into."""

    id: str
    subset: str | None = None
    parts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Splits:
    """A source's rows; `validation` is None where the source has no such split.

    `notes`: what of the source is not used, one line each.
    """

    train: Rows
    validation: Rows | None
    source: str
    notes: tuple[str, ...] = ()


def read_hub(hub: HubDataset) -> Splits:
    """Download (or find in Hugging Face's cache) a data set's splits.

    A hub that does not answer is asked once: `datasets` would go on for half a minute.
    """
    import datasets

    away = _why_away(hub)
    try:
        with _quiet_progress(), _offline() if away else contextlib.nullcontext():
            loaded = datasets.load_dataset(hub.id, hub.subset)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = f"; the hub does not answer: {away}" if away else ""
        raise TaskError(
            f"cannot load {hub.id!r} from the hub ({error}{reason}): connect this machine, "
            f"fill its cache (HF_HOME), or set path to a local copy"
        ) from error
    name = hub.id if hub.subset is None else f"{hub.id} ({hub.subset})"
    return _choose_splits(loaded, source=f"hub {name}{name_commit(_commit_of(loaded))}")


def _why_away(hub: HubDataset) -> str | None:
    """Return why the hub cannot be reached; None where it answers, be it with a refusal."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    try:
        HfApi().dataset_info(hub.id, timeout=HUB_SECONDS)
    except HfHubHTTPError:
        return None
    except (HTTPError, OSError) as error:
        return str(error) or type(error).__name__
    return None


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Have Hugging Face's libraries look into their caches alone, as HF_HUB_OFFLINE does from the start."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


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


def read_path(path: Path, *, hub: HubDataset | None = None) -> Splits:
    """Read a file (all of it is the train split), a folder of files that name their split or lie in a folder
    that does, or a directory written by `datasets.save_to_disk`. `hub` is what a folder may be a copy of."""
    if path.is_file():
        notes = _name_neighbours(path)
        return Splits(read_file(path), None, f"file {path.name} {_content_of([path])}", notes)
    if not path.is_dir():
        raise TaskError(f"path must be a file or a directory, {str(path)!r} {_what_is_there(path)}")
    if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        source = f"directory {path.name} {_content_of(files)}"
        return _choose_splits(_read_saved_dataset(path), source=source, notes=_name_strangers(path))
    folder = survey(path, subset=hub.subset if hub else None, parts=hub.parts if hub else ())
    used = sorted(path / file.path for files in folder.splits.values() for file in files)
    rows = {
        split: [row for file in files for row in _read_placed(path, file)]
        for split, files in folder.splits.items()
    }
    return _choose_splits(rows, source=f"directory {path.name} {_content_of(used)}", notes=folder.notes)


def _read_placed(folder: Path, file: DataFile) -> list[Any]:
    try:
        return read_file(folder / file.path, one_object=file.alone)
    except TaskError as error:
        raise TaskError(f"{file.path.parent}/{error}" if file.path.parent.name else str(error)) from error


def _what_is_there(path: Path) -> str:
    return "is neither" if path.exists() else "does not exist"


def neighbours(file: Path) -> list[str]:
    """Return the names of the files beside a train file that its folder would have as validation splits."""
    if "train" not in data_stem(file):
        return []
    splits = {*VALIDATION_SPLITS}
    try:
        entries = sorted(file.parent.iterdir())
    except OSError:  # a folder may be closed to looking and open to reading
        return []
    return [
        other.name
        for other in entries
        if is_readable(other) and splits & {*re.split(r"[^a-z]+", data_stem(other))} and other.is_file()
    ]


def _name_neighbours(file: Path) -> tuple[str, ...]:
    names = ", ".join(neighbours(file)[:MOST_NAMED])
    if not names:
        return ()
    return (f"validation is drawn from {file.name}; not used, as path names one file: {names}",)


def _name_strangers(folder: Path) -> tuple[str, ...]:
    """Say what lies in a saved dataset's directory beside what `datasets` writes there."""
    strangers = [
        entry.name
        for entry in sorted(folder.iterdir())
        if not (entry.name.startswith(SIDECARS) or entry.name in SAVED or entry.suffix == ".arrow")
        and not (entry / "dataset_info.json").exists()
    ]
    return (f"not used of {folder.name}: {', '.join(strangers[:MOST_NAMED])}",) if strangers else ()


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


def _choose_splits(splits: Mapping[str, Rows], *, source: str, notes: tuple[str, ...] = ()) -> Splits:
    if "train" not in splits:
        found = ", ".join(splits) or f"no file ending in {', '.join(READERS)}"
        raise TaskError("; ".join([f"{source} must have a train split, it has {found}", *notes]))
    validation = next((name for name in VALIDATION_SPLITS if name in splits), None)
    unused = [name for name in splits if name not in ("train", validation)]
    if unused:
        notes = (*notes, f"not used: split {', '.join(unused)}")
    return Splits(splits["train"], splits[validation] if validation is not None else None, source, notes)


def _content_of(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
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
