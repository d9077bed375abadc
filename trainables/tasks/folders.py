"""What a data folder holds: which file is of which split, and which files are not used. Reads no contents.

A split is named by a file or by a folder above it: `train.jsonl`, `train/algebra/1.json`,
`algebra/test-0.parquet`.
"""

import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainables.tasks.examples import TaskError
from trainables.tasks.files import data_ending, data_stem, is_readable

# The names a validation split goes by, the preferred one first.
VALIDATION_SPLITS = ("validation", "valid", "val", "dev", "test")
SPLITS = ("train", *VALIDATION_SPLITS)
OTHER_NAMES = {
    "training": "train",
    "eval": "validation",
    "evaluation": "validation",
    "development": "dev",
    "testing": "test",
}
SIDECARS = ("._", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX")  # what systems leave beside any file
METADATA = {"dataset_infos.json", "dataset_info.json", "state.json", "croissant.json"}
NO_DATA = {".md", ".py", ".sh", ".ipynb", ".yaml", ".yml", ".toml", ".lock", ".log", ".cff", ".rst", ".html"}
ALL_OF_IT = ("default", "all")  # the folder in which a data set is whole, beside those of its parts
PLAIN_FOLDER = "data"  # says nothing of what is in it
SHARD = re.compile(r"(.*-)(\d+)-of-(\d+)(\D.*)")
MOST_FILES = 200_000  # of one folder: more are somebody's home, not a data set
MOST_NAMED = 10  # files that one line names

Group = tuple[str, ...]  # the folders above what names the split


@dataclass(frozen=True)
class DataFile:
    """A file of a format that is read; `split` is None where neither it nor a folder above names one.

    `alone`: a folder names the split, so that a .json file may be a single row.
    """

    path: Path
    split: str | None
    group: Group
    alone: bool


@dataclass(frozen=True)
class Folder:
    """The files to read, by split, and lines about those that are not."""

    splits: dict[str, list[DataFile]]
    notes: tuple[str, ...]


def list_files(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder in order of names, and each hidden folder, which is not looked into.

    What systems leave beside any file is no file here. Raises TaskError for a folder that cannot be data.
    """
    count, seen, pending = 0, {os.path.realpath(folder)}, [folder]
    while pending:
        current = pending.pop()
        try:
            entries = sorted(current.iterdir())
        except OSError as error:
            raise TaskError(f"{current} cannot be read ({error})") from error
        inner = []
        for entry in entries:
            if entry.name.startswith(SIDECARS):
                continue
            if entry.is_dir() and not entry.name.startswith("."):
                real = os.path.realpath(entry)
                if real not in seen:  # a link back to a folder above would have no end
                    seen.add(real)
                    inner.append(entry)
                continue
            count += 1
            if count > MOST_FILES:
                raise TaskError(
                    f"{folder} holds more than {MOST_FILES:,} files: set path to the data's own folder"
                )
            yield entry
        pending += reversed(inner)


def survey(folder: Path, *, subset: str | None = None, parts: Collection[str] = ()) -> Folder:
    """Say which of a folder's files make which split.

    `subset` names the one to take of data sets that lie side by side, `parts` folders that together are one.
    Raises TaskError where that is not clear, or where a validation split is there that cannot be read.
    """
    data, others = [], []
    for path in list_files(folder):
        inner = path.relative_to(folder)
        if path.name.startswith(".") or path.name in METADATA or not is_readable(path):
            others.append(inner)
        else:
            data.append(_place(inner))
    if data and all(file.split is None and _is_part(file.path.parts[:-1], parts) for file in data):
        data = [DataFile(file.path, "train", (), True) for file in data]
    chosen = _choose_groups(data, folder=folder, subset=subset, parts=parts)
    used: dict[str, list[DataFile]] = {}
    for file in data:
        if file.group not in chosen or file.split is None:
            _refuse_unnamed(file, chosen, folder=folder)
            others.append(file.path)
        else:
            used.setdefault(file.split, []).append(file)
    for split, files in used.items():
        used[split], left = _of_subset(files, subset=subset)
        others += left
    splits = {split: files for split, files in used.items() if split in ("train", _validation_of(used))}
    _refuse_unread_validation(others, chosen=_validation_of(used), folder=folder)
    others += [file.path for split, files in used.items() if split not in splits for file in files]
    return Folder(splits, (*_name_unused(others, folder=folder), *_name_missing(splits)))


def _place(path: Path) -> DataFile:
    """Say which split a file is of: the one its name mentions, or a folder above is called or mentions."""
    folders, named = path.parts[:-1], _mentioned(data_stem(path))
    called = [index for index, name in enumerate(folders) if _split(name.lower()) is not None]
    found = named | {_split(folders[index].lower()) for index in called}
    if len(found) > 1:
        raise TaskError(f"{path}: a file in a data directory must name one split of {', '.join(SPLITS)}")
    if called:
        return DataFile(path, found.pop(), _group(folders[: called[0]]), not named)
    if named:
        return DataFile(path, found.pop(), _group(folders), False)
    for index in reversed(range(len(folders))):
        mentioned = _mentioned(folders[index].lower())
        if len(mentioned) == 1:
            return DataFile(path, mentioned.pop(), _group(folders[:index]), True)
    return DataFile(path, None, _group(folders), True)


def _mentioned(text: str) -> set[str | None]:
    return {_split(word) for word in re.split(r"[^a-z]+", text)} - {None}


def _split(word: str) -> str | None:
    return word if word in SPLITS else OTHER_NAMES.get(word)


def _group(folders: tuple[str, ...]) -> Group:
    return tuple(name for name in folders if name.lower() != PLAIN_FOLDER)


def _is_part(folders: Collection[str], parts: Collection[str]) -> bool:
    return any(name.lower().replace(" ", "_") in parts for name in folders)


def _choose_groups(
    data: list[DataFile], *, folder: Path, subset: str | None, parts: Collection[str]
) -> Collection[Group]:
    """Return the groups of files that are the data set."""
    groups = dict.fromkeys(file.group for file in data if file.split is not None)
    if len(groups) <= 1:
        return groups
    if any(file.split == "train" and file.group == () for file in data):
        return [()]
    for names in ((subset,) if subset else (), ALL_OF_IT):
        named = [group for group in groups if any(part.lower() in names for part in group)]
        if len(named) == 1:
            return named
    if all(_is_part(group, parts) for group in groups):
        return groups
    choices = ", ".join("/".join(group) or "." for group in groups)
    raise TaskError(
        f"{folder.name} holds several data sets side by side ({choices}): set path to one of them"
    )


def _refuse_unnamed(file: DataFile, chosen: Collection[Group], *, folder: Path) -> None:
    """Raise TaskError for a file that may belong to the data and does not say to which split."""
    beside = len(file.path.parts) == 1 or not chosen
    if file.split is None and beside:
        hint = f", or path the folder above {folder.name!r}" if _split(folder.name.lower()) else ""
        raise TaskError(
            f"{file.path}: a file in a data directory must name one split of {', '.join(SPLITS)}{hint}"
        )


def _of_subset(files: list[DataFile], *, subset: str | None) -> tuple[list[DataFile], list[Path]]:
    """Return the files of a split whose names mention the subset, if some do, and the paths of the others."""
    named = [file for file in files if subset and subset in re.split(r"[^a-z]+", data_stem(file.path))]
    kept = named or files
    return kept, [file.path for file in files if file not in kept] if named else []


def _validation_of(splits: Collection[str]) -> str | None:
    return next((name for name in VALIDATION_SPLITS if name in splits), None)


def _refuse_unread_validation(others: Iterable[Path], *, chosen: str | None, folder: Path) -> None:
    """Raise TaskError for a file that no reader reads and that names a split preferred to the one there
    is.
    """
    preferred = VALIDATION_SPLITS[: VALIDATION_SPLITS.index(chosen)] if chosen else VALIDATION_SPLITS
    for path in others:
        unread = not is_readable(path) and data_ending(path) not in NO_DATA and not path.name.startswith(".")
        found = _mentioned(path.name.lower()) | {_split(name.lower()) for name in path.parts[:-1]} - {None}
        if unread and len(found) == 1 and found <= set(preferred):
            instead = (
                f"the {chosen} split would be used" if chosen else "validation would be drawn from train"
            )
            raise TaskError(
                f"{folder.name}/{path} names the {found.pop()} split, and a file ending in {path.suffix} is "
                f"not read: {instead}. Convert it, or move it out of the folder"
            )


def _name_unused(others: Iterable[Path], *, folder: Path) -> Iterator[str]:
    """Say which files are not used: by name, or several of one folder together, of which others may be
    used.
    """
    held: dict[str, list[Path]] = {}
    for path in others:
        held.setdefault(path.parts[0], []).append(path)
    names = [_name_together(paths, folder=folder) for _, paths in sorted(held.items())]
    if names:
        more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
        yield f"not used of {folder.name}: {', '.join(names[:MOST_NAMED])}{more}"


def _name_together(paths: list[Path], *, folder: Path) -> str:
    first = paths[0]
    if len(paths) > 1:
        return f"{len(paths):,} files in {first.parts[0]}/"
    return f"{first}/" if (folder / first).is_dir() else str(first)


def _name_missing(splits: dict[str, list[DataFile]]) -> Iterator[str]:
    """Say which of a split's numbered parts are not there."""
    numbered: dict[tuple[str, ...], set[int]] = {}
    for file in itertools.chain.from_iterable(splits.values()):
        match = SHARD.fullmatch(file.path.as_posix())
        if match is not None:
            opening, number, total, ending = match.groups()
            numbered.setdefault((opening, total, ending), set()).add(int(number))
    for (opening, total, ending), numbers in numbered.items():
        missing = int(total) - len(numbers)
        if missing > 0:
            yield f"{missing:,} of the {int(total):,} parts {opening}...-of-{total}{ending} are not there"
