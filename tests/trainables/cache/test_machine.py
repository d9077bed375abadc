"""What a machine keeps: entries come back whole or not at all, and files are read again when they change."""

import errno
import os
from pathlib import Path

import pytest

from trainables.cache import file_digests, machine
from trainables.cache.file_digests import remembered_digest
from trainables.cache.machine import cache_directory, keep, recall
from trainables.ledger.digests import digest_file


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read to digest them; every file counts as settled at once."""
    paths: list[Path] = []

    def counting(path: Path) -> str:
        paths.append(path)
        return digest_file(path)

    monkeypatch.setattr(file_digests, "digest_file", counting)
    monkeypatch.setattr(file_digests, "SETTLING_NS", -(10**12))
    return paths


@pytest.mark.parametrize("payload", [b"", b"\n", b"one\ntwo", bytes(range(256))])
def test_an_entry_comes_back_as_it_was_kept_under_its_own_key_alone(payload: bytes) -> None:
    keep("kind", "key", payload)
    assert recall("kind", "key") == payload
    assert recall("kind", "other") is recall("other", "key") is None


def test_an_entry_with_a_flipped_bit_or_a_part_missing_is_absent(cache: Path) -> None:
    keep("kind", "key", b"payload")
    path = cache / "kind" / "key"
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [
        whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]
        for place in range(len(whole))
        for bit in range(8)
    ]
    for content in damaged:
        path.write_bytes(content)
        assert recall("kind", "key") is None
    (cache / "kind" / "moved").write_bytes(whole)
    assert recall("kind", "moved") is None


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_text("")
    with monkeypatch.context() as patched:
        patched.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path / "file" / "cache"))
        keep("kind", "key", b"payload")
        assert recall("kind", "key") is None
    monkeypatch.setattr(machine, "publish_bytes", full)
    keep("kind", "key", b"payload")
    assert recall("kind", "key") is None


def test_a_file_is_read_once_while_it_stays_as_it_is(tmp_path: Path, read: list[Path]) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    assert remembered_digest(path) == remembered_digest(path) == digest_file(path)
    assert read == [path]


def rewrite(path: Path) -> None:
    path.write_bytes(b"WEIGHTS")


def rewrite_with_the_old_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_another(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"WEIGHTS")
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite, rewrite_with_the_old_time, replace_by_another])
def test_a_file_that_changed_is_read_again(tmp_path: Path, read: list[Path], change: object) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    before = remembered_digest(path)
    until_the_clock_ticks(tmp_path)
    assert callable(change)
    change(path)
    assert remembered_digest(path) == digest_file(path) != before
    assert len(read) == 2


def until_the_clock_ticks(folder: Path) -> None:
    """Return once the file system gives new files a later time."""
    probe = folder / "probe"
    probe.write_bytes(b"")
    first = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == first:
        probe.write_bytes(b"")


def test_a_file_that_changed_a_moment_ago_is_not_taken_for_settled(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    remembered_digest(path)
    assert not (cache_directory() / file_digests.KIND).exists()


def test_a_damaged_digest_is_made_again(tmp_path: Path, read: list[Path], cache: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    expected = remembered_digest(path)
    (entry,) = (cache / file_digests.KIND).iterdir()
    entry.write_bytes(entry.read_bytes().replace(b'"sha256": "', b'"sha256": "0'))
    assert remembered_digest(path) == expected
    assert len(read) == 2
