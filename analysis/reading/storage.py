"""Reads a study's files by name, from a directory or from a prefix of an object store. Writes nothing.

What the bytes mean is not its business. Credentials come from the environment, never from the location.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, urlsplit

from analysis.reading.errors import AnalysisError
from analysis.reading.regular_file import read_regular

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

READERS = 24  # files read at a time: an object store answers many at once; pyarrow keeps 25 connections
BATCH = 16  # items that are taken at a time: handing each over by itself takes as long as reading it
PATIENCE = 3  # batches that are waited for, one after the other, before threads are started
SECRET_PARAMETERS = {"access_key", "secret_key", "session_token"}

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Entries:
    """What is in one folder and those below it: `files` by name, and symbolic `links`, which are not followed.

    "" is the folder itself. Hidden files are not the study's.
    """

    files: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class StudyFiles(ABC):
    """The files of the study at `location`, by names such as 'cells/<key>/rows.json'."""

    location: str

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises FileNotFoundError where it is absent, another OSError where this file cannot be read, and
        AnalysisError where the place as a whole cannot.
        """

    @abstractmethod
    def entries(self, folder: str) -> dict[str, Entries]:
        """Return what is in each of the folders that `folder` holds, by their names; none where it is absent."""

    @abstractmethod
    def describe(self, name: str = "") -> str:
        """Return where a file is, as messages name it."""

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return `function` of every item, in order; it reads, and may be called from several threads."""
        known = list(items)
        size = max(1, min(BATCH, len(known) // READERS))
        batches = [known[start : start + size] for start in range(0, len(known), size)]

        def read(batch: list[T]) -> list[R]:
            return [function(item) for item in batch]

        done, waited = [], 0
        for batch in batches[
            :-READERS
        ]:  # until several are waited for, threads would only wait for each other
            began, computing = time.perf_counter(), time.thread_time()
            done.append(read(batch))
            computed = time.thread_time() - computing
            waited = waited + 1 if time.perf_counter() - began > 2 * computed else 0
            if waited == PATIENCE:
                break
        with ThreadPoolExecutor(READERS) as readers:
            done += readers.map(read, batches[len(done) :])
        return list(chain.from_iterable(done))


class DirectoryFiles(StudyFiles):
    """`location` is a directory's path."""

    def read(self, name: str) -> bytes:
        try:
            return read_regular(os.path.join(self.location, name), follow=False)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(self.describe(name)) from None

    def entries(self, folder: str) -> dict[str, Entries]:
        place, found = os.path.join(self.location, folder), Entries()
        names = _scan(place, "", found)
        below = self.each(lambda name: _scan_deep(os.path.join(place, name)), names)
        return dict(zip(names, below, strict=True)) | {name: Entries(links={""}) for name in found.links}

    def describe(self, name: str = "") -> str:
        return str(Path(self.location, name))


class ObjectFiles(StudyFiles):
    """`location` is s3://bucket/prefix, with pyarrow's options as its query."""

    def read(self, name: str) -> bytes:
        filesystem, root = self._opened
        try:
            with filesystem.open_input_stream(f"{root}/{name}") as stream:
                content: bytes = stream.read()
        except FileNotFoundError:
            raise
        except OSError as err:  # refused or out of reach, as every other object will be
            raise AnalysisError(f"{self.describe(name)} cannot be read: {err}") from err
        return content

    def entries(self, folder: str) -> dict[str, Entries]:
        from pyarrow.fs import FileSelector, FileType

        filesystem, root = self._opened
        place, found = f"{root}/{folder}", dict[str, Entries]()
        try:
            listed = filesystem.get_file_info(FileSelector(place, recursive=True, allow_not_found=True))
        except OSError as err:
            raise AnalysisError(f"{self.describe(folder)} cannot be listed: {err}") from err
        for info in listed:
            if info.type == FileType.File:
                name, _, file = info.path.removeprefix(f"{place}/").partition("/")
                found.setdefault(name, Entries()).files.add(file)
        return found

    def describe(self, name: str = "") -> str:
        plain, _, query = self.location.partition("?")
        if name:
            return f"{plain}/{name}"
        return f"{plain}?{query}" if query else plain

    @cached_property
    def _opened(self) -> "tuple[FileSystem, str]":
        from pyarrow.fs import FileSystem

        try:
            filesystem, path = FileSystem.from_uri(self.location)
        except (OSError, ValueError) as err:
            raise AnalysisError(f"{self.describe()} cannot be opened: {err}") from err
        return filesystem, path.rstrip("/")


def open_study(location: str | os.PathLike[str]) -> StudyFiles:
    """Return the files at a directory's path or s3://bucket/prefix; raises AnalysisError for other schemes."""
    place = os.fspath(location)
    scheme, separator, _ = place.partition("://")
    if not separator:
        return DirectoryFiles(place)
    if scheme != "s3":
        raise AnalysisError(f"unknown scheme {scheme!r}: give a directory or s3://bucket/prefix")
    return ObjectFiles(_checked(place))


def _scan_deep(folder: str) -> Entries:
    """List a folder and all below it, one operation each."""
    found, folders = Entries(), [""]
    while folders:
        inner = folders.pop()
        folders += [f"{name}/" for name in _scan(os.path.join(folder, inner), inner, found)]
    return found


def _scan(folder: str, prefix: str, found: Entries) -> list[str]:
    """Add what is in one folder to `found`; return the folders in it, all names after `prefix`."""
    folders = []
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    for entry in entries:
        if entry.is_symlink():
            found.links.add(prefix + entry.name)
        elif entry.is_dir(follow_symlinks=False):
            folders.append(prefix + entry.name)
        elif not entry.name.startswith("."):
            found.files.add(prefix + entry.name)
    return folders


def is_directory_location(location: str | os.PathLike[str]) -> bool:
    """Return whether a location is a path, below which a report can be written."""
    return "://" not in os.fspath(location)


def _checked(location: str) -> str:
    """Return an object store's location without a trailing slash; what it is refused for is not a secret."""
    try:
        parts = urlsplit(location)
        options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    except ValueError as err:
        raise AnalysisError(f"not a location: {err}") from err
    path = parts.path.strip("/")
    if "@" in parts.netloc or SECRET_PARAMETERS & options:
        raise AnalysisError(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{path} must hold no credentials: set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use the machine's role"
        )
    if not parts.netloc or any(part in ("", ".", "..") for part in path.split("/")):
        raise AnalysisError(f"must name a bucket and a prefix, s3://bucket/prefix; got {location!r}")
    return f"{parts.scheme}://{parts.netloc}/{path}" + (f"?{parts.query}" if parts.query else "")
