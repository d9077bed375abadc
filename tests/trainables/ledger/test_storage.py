"""Storage: one contract for a directory and an object store, and what happens when either fails."""

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sweep.object_store import CREDENTIALS, ObjectStore, object_store  # noqa: F401 (a fixture)
from tests.sweep.slow_store import Delay, proxied
from trainables.ledger.sealed_json import DamagedError, seal, unseal
from trainables.ledger.storage import s3
from trainables.ledger.storage.base import Listing, Storage, StorageError, StoragePausedError
from trainables.ledger.storage.directory import DirectoryStorage
from trainables.ledger.storage.location import LocationError, check_location, open_storage


@pytest.fixture(params=["directory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "directory":
        place = str(tmp_path / "study")
    else:
        store: ObjectStore = request.getfixturevalue("object_store")
        place = store.uri()
    opened = open_storage(check_location(place), patience=0.3)
    opened.make()
    return opened


def test_a_file_reads_back_as_it_was_written_last(storage: Storage) -> None:
    storage.write("a/b.bin", b"first")
    storage.write("a/b.bin", b"second")
    assert storage.read("a/b.bin") == b"second"
    assert storage.inside("a").read("b.bin") == b"second"


def test_files_are_listed_with_their_sizes_below_any_folder(storage: Storage) -> None:
    for name in ("top", "cells/k1/rows", "cells/k1/adapter/w", "cells/k2/rows"):
        storage.write(name, b"12345")
    assert set(storage.files()) == {"top", "cells/k1/rows", "cells/k1/adapter/w", "cells/k2/rows"}
    assert set(storage.inside("cells").files("k1")) == {"rows", "adapter/w"}
    assert {info.size for info in storage.files().values()} == {5}
    assert storage.files("absent") == {}


def test_a_listing_names_the_files_below_a_folder_or_only_those_in_it(storage: Storage) -> None:
    for name in ("top", "cells/k1/rows", "cells/k1/adapter/w", "cells/k2/rows"):
        storage.write(name, b"12345")
    assert set(storage.listing().files) == set(storage.files())
    assert set(storage.listing(deep=False).files) == {"top"}
    folders = storage.listing("cells").by_folder()
    assert {key: set(found.files) for key, found in folders.items()} == {
        "k1": {"rows", "adapter/w"},
        "k2": {"rows"},
    }
    assert storage.listing("absent") == Listing()


def test_what_is_deleted_is_gone_and_what_is_absent_may_be_deleted(storage: Storage) -> None:
    storage.write("folder/file", b"x")
    storage.write("folder/inner/file", b"x")
    storage.write("kept", b"x")
    storage.delete("folder/file")
    storage.delete("folder/file")
    assert set(storage.files()) == {"folder/inner/file", "kept"}
    storage.delete_folder("folder")
    storage.delete_folder("folder")
    assert set(storage.files()) == {"kept"}
    with pytest.raises(FileNotFoundError):
        storage.read("folder/file")


def test_a_record_is_created_only_once(storage: Storage) -> None:
    assert storage.create_record("leases/1", {"owner": "first"})
    assert not storage.create_record("leases/1", {"owner": "second"})
    assert storage.read_record("leases/1") == {"owner": "first"}
    assert storage.read_record("leases/2") is None


def test_a_record_whose_answer_was_lost_is_known_to_be_created(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, lost = s3._put_unless_there, [1]

    def answer_lost(location: str, path: str, content: bytes) -> bool:
        created = put(location, path, content)
        if lost:
            lost.clear()
            raise OSError(errno.ETIMEDOUT, "no answer")
        return created

    monkeypatch.setattr(s3, "_put_unless_there", answer_lost)
    assert storage.create_record("leases/1", {"owner": "first"})
    assert not storage.create_record("leases/1", {"owner": "second"})


def test_a_store_that_puts_over_what_is_there_is_refused(object_store: ObjectStore) -> None:  # noqa: F811
    with proxied(object_store, lambda request: Delay(), unsent=b"If-None-Match") as careless:
        storage = open_storage(check_location(careless.uri()), patience=0.3)
        with pytest.raises(StorageError, match="puts objects over those that are there"):
            storage.make()


def test_an_object_store_says_what_it_needs_where_that_is_not_installed(
    object_store: ObjectStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "botocore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    storage = open_storage(check_location(object_store.uri()))
    with pytest.raises(
        StorageError, match=r"needs botocore: pip install 'forgetting-sweep\[s3\]' on every node"
    ):
        storage.make()


def test_wrong_credentials_are_not_tried_for_a_minute(
    object_store: ObjectStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    storage = open_storage(check_location(object_store.uri()))
    with pytest.raises(StorageError, match="Unable to locate credentials"):
        storage.create_record("record", {"a": 1})


def test_a_storage_travels_to_a_worker(storage: Storage) -> None:
    storage.write("file", b"x")
    assert pickle.loads(pickle.dumps(storage.inside(""))).read("file") == b"x"


@pytest.mark.parametrize("position", range(0, 60, 7))
def test_any_flipped_bit_of_a_record_is_noticed(storage: Storage, position: int) -> None:
    storage.write_record("record.json", {"loss": 1.25, "name": "a longer value to flip a bit of"})
    content = bytearray(storage.read("record.json"))
    content[position] ^= 1 << (position % 8)
    storage.write("record.json", bytes(content))
    with pytest.raises(DamagedError, match=r"record\.json is damaged"):
        storage.read_record("record.json")


def test_every_single_bit_of_a_sealed_record_counts() -> None:
    sealed = seal({"a": [1, 2.5, None], "b": {"c": "\u00e9 text"}})
    assert unseal(sealed) == {"a": [1, 2.5, None], "b": {"c": "\u00e9 text"}}
    for place in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[place] ^= 1 << bit
            with pytest.raises(DamagedError):
                unseal(bytes(flipped))
        with pytest.raises(DamagedError):
            unseal(sealed[:place])


class Failing(DirectoryStorage):
    """A directory whose writes fail a number of times before they work."""

    failures: list[OSError]

    def _write(self, name: str, content: bytes) -> None:
        if self.failures:
            raise self.failures.pop()
        super()._write(name, content)


def failing(folder: Path, *codes: int, patience: float) -> Failing:
    storage = Failing(str(folder), patience=patience)
    object.__setattr__(storage, "failures", [OSError(code, os.strerror(code)) for code in codes])
    return storage


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_storage_that_refuses_what_it_took_before_pauses_and_one_never_usable_is_refused(
    tmp_path: Path, code: int
) -> None:
    storage = failing(tmp_path, code, patience=30)
    with pytest.raises(StorageError) as refused:
        storage.write("file", b"x")
    assert not isinstance(refused.value, StoragePausedError)
    made = storage.make()
    object.__setattr__(made, "failures", [OSError(code, os.strerror(code))])
    with pytest.raises(StoragePausedError, match="is refused, where it was not before"):
        made.write("file", b"x")
    made.write("file", b"x")


def test_a_failure_that_passes_is_tried_again(tmp_path: Path) -> None:
    storage = failing(tmp_path, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, patience=30)
    storage.write("file", b"x")
    assert storage.read("file") == b"x"


def test_a_failure_that_stays_pauses_and_leaves_the_old_file(tmp_path: Path) -> None:
    storage = failing(tmp_path, patience=0.2)
    storage.write("file", b"old")
    storage.failures.extend(OSError(errno.EIO, "input/output error") for _ in range(100))
    with pytest.raises(StoragePausedError, match=r"file did not answer for 0\.2 s"):
        storage.write("file", b"new")
    assert storage.read("file") == b"old"


def test_a_failure_that_cannot_pass_is_not_tried_again(tmp_path: Path) -> None:
    storage = failing(tmp_path, errno.EACCES, errno.EACCES, patience=30)
    with pytest.raises(StorageError, match="PermissionError"):
        storage.write("file", b"x")
    assert len(storage.failures) == 1


@pytest.mark.parametrize("unmounted", [False, True])
def test_a_directory_that_is_gone_is_an_outage_and_not_an_empty_study(
    tmp_path: Path, unmounted: bool
) -> None:
    place = tmp_path / "mounted"
    storage = DirectoryStorage(str(place), patience=0.2).make().inside("cells")
    storage.write("file", b"x")
    place.rename(tmp_path / "away")
    if unmounted:
        place.mkdir()
    actions: list[Callable[[], object]] = [
        lambda: storage.read("file"),
        lambda: storage.read("absent"),
        lambda: storage.write("deep/file", b"x"),
        lambda: storage.create_record("record", {"a": 1}),
        storage.files,
    ]
    for action in actions:
        with pytest.raises(StoragePausedError, match="the study's directory is not there"):
            action()
    assert not list(place.iterdir()) if unmounted else not place.exists()
    if unmounted:
        place.rmdir()
    (tmp_path / "away").rename(place)
    assert storage.read("file") == b"x"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_pauses_with_the_room_it_needs_and_tears_nothing(small_disk: Path) -> None:
    storage = DirectoryStorage(str(small_disk))
    storage.write("checkpoint", b"old")
    with pytest.raises(StoragePausedError, match=r"it needs 2\.0 MiB, and 1\.0 MiB are free") as caught:
        storage.write("checkpoint", b"x" * (2 << 20))
    assert caught.value.needed == 2 << 20
    assert pickle.loads(pickle.dumps(caught.value)).needed == 2 << 20
    assert storage.read("checkpoint") == b"old"
    assert [path.name for path in small_disk.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("gs://bucket/prefix", "unknown scheme 'gs'"),
        ("s3://bucket", "must name a bucket and a prefix"),
        ("s3://bucket/a/../b", "must name a bucket and a prefix"),
        ("s3://AKIAKEY:secret@bucket/prefix", "must hold no credentials"),
        ("s3://bucket/prefix?secret_key=abc", "must hold no credentials"),
    ],
)
def test_a_location_that_names_no_place_is_refused_without_its_secrets(location: str, message: str) -> None:
    with pytest.raises(LocationError, match=message) as caught:
        check_location(location)
    assert "secret@" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_an_error_that_names_it(object_store: ObjectStore) -> None:  # noqa: F811
    location = object_store.uri().replace("s3://studies/", "s3://other-bucket/")
    with pytest.raises(StorageError, match="there is no bucket 'other-bucket'"):
        open_storage(check_location(location), patience=0.2).make()
