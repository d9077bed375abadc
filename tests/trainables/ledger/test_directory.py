"""A directory as storage: whose it is, links and what is no file, modes, and what outlives a crash."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainables.ledger.atomic_write import publish_directory
from trainables.ledger.storage.base import ForeignStorageError, Listing, StorageError
from trainables.ledger.storage.directory import MARKER, DirectoryStorage


@pytest.mark.parametrize("held", ["thesis.tex", "a", "b", "c", "d"])
def test_a_directory_of_other_files_is_refused_with_what_it_holds(tmp_path: Path, held: str) -> None:
    for name in {held, "a", "b", "c"}:
        (tmp_path / name).touch()
    with pytest.raises(
        ForeignStorageError, match="holds a, b, c.* and no study: .* an empty or a new directory"
    ):
        DirectoryStorage(str(tmp_path)).make()
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize(
    "held", [[], ["lost+found"], [".snapshot"], ["study.json", "cells"], [MARKER, "mine"]]
)
def test_an_empty_directory_an_early_study_and_a_marked_one_are_taken(
    tmp_path: Path, held: list[str]
) -> None:
    for name in held:
        (tmp_path / name).touch()
    DirectoryStorage(str(tmp_path)).make().write("file", b"x")


@pytest.mark.parametrize("name", ["link", "folder/link", "link/file"])
def test_a_link_inside_a_study_is_not_followed(tmp_path: Path, name: str) -> None:
    storage = DirectoryStorage(str(tmp_path / "study"), patience=0.2).make()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    storage.write("folder/file", b"x")
    place = tmp_path / "study" / name.removesuffix("/file")
    place.symlink_to(outside if name.endswith("/file") else outside / "file")
    assert name.removesuffix("/file") in storage.listing().links
    assert set(storage.files()) == {"folder/file"}
    for action in (lambda: storage.write("link/new", b"x"), lambda: storage.delete("link/file")):
        if name == "link/file":
            with pytest.raises(StorageError, match="no symbolic link inside it"):
                action()
            assert storage.inside("link").listing() == Listing(links={""})
        else:
            with pytest.raises(StorageError):
                storage.read(name)
    assert sorted(os.listdir(outside)) == ["file"]


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_what_is_no_file_is_an_error_and_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    storage = DirectoryStorage(str(tmp_path)).make()
    if kind == "pipe":
        os.mkfifo(tmp_path / "study.json")
    else:
        (tmp_path / "study.json").symlink_to("/dev/zero")
    with pytest.raises(StorageError, match=r"study\.json"):
        storage.read_record("study.json")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_who_may_read_what_is_published_follows_from_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        storage = DirectoryStorage(str(tmp_path / "study")).make()
        storage.write("cells/file", b"x")
        storage.create_record("cells/created", {"a": 1})
        with publish_directory(tmp_path / "folder") as folder:
            (folder / "file").touch()
    finally:
        os.umask(before)
    for name in ("study/cells/file", "study/cells/created", "folder/file"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask, name
    for name in ("study", "study/cells", "folder"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o777 & ~mask, name


def test_every_new_name_is_synced_in_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    plain = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        plain(handle)

    monkeypatch.setattr(os, "fsync", noted)
    root = tmp_path / "new" / "study"
    storage = DirectoryStorage(str(root)).make()
    assert {str(tmp_path), str(tmp_path / "new"), str(root)} <= set(synced)
    for action, folders in (
        (lambda: storage.write("cells/k/file", b"x"), ("", "cells", "cells/k")),
        (lambda: storage.create_record("leases/1", {"a": 1}), ("", "leases")),
    ):
        synced.clear()
        action()
        assert {str(root / name) for name in folders} <= set(synced)


@pytest.mark.parametrize("links", [True, False])
def test_a_record_is_created_once_whether_or_not_there_are_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    storage = DirectoryStorage(str(tmp_path)).make()
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda value: storage.create_record("record", {"v": value}), range(40)))
    assert sum(created) == 1
    assert storage.read_record("record") == {"v": created.index(True)}
    assert not storage.listing().temporary
