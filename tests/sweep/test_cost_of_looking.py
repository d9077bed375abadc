"""What it costs to look at a finished study: operations a cell on a directory, pages and reads of an object
store.
"""

import io
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.console.progress import Progress
from sweep.console.tables import print_status
from sweep.ledger.ledger import Ledger
from sweep.session import run_study
from tests.sweep.fake_study import FakeStudy
from tests.sweep.object_store import ObjectStore, object_store  # noqa: F401 (a fixture)
from trainables.ledger import schema
from trainables.ledger.storage.location import open_storage
from trainables.ledger.storage.s3 import ObjectStorage

MOST = 3  # operations a finished cell: its folder's listing, its result, its adapter's folder

_counted: Counter[str] | None = None
CALLS = ("stat", "lstat", "unlink", "mkdir", "rename", "replace", "link", "utime")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _counted is not None and event in ("open", "os.scandir", "os.listdir") and arguments:
        _counted[str(arguments[0])] += 1


sys.addaudithook(_hook)  # sees every open() and scandir(), however it is called


@contextmanager
def operations(root: Path, patch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count the operations on each cell's folder while the block runs, by the cell's key."""
    global _counted
    by_cell: Counter[str] = Counter()
    _counted = Counter()
    with patch.context() as patched:
        for name in CALLS:
            patched.setattr(os, name, _noted(getattr(os, name)))
        patched.setattr(os, "scandir", _scanned(os.scandir))
        yield by_cell
    counted, _counted = _counted, None
    cells = f"{root}/{schema.CELLS_DIRECTORY}/"
    for path, count in counted.items():
        if path.startswith(cells):
            by_cell[path.removeprefix(cells).partition("/")[0]] += count


def _noted(call: Any) -> Any:
    def noted(path: Any, *arguments: Any, **named: Any) -> Any:
        if _counted is not None:
            _counted[str(path)] += 1
        return call(path, *arguments, **named)

    return noted


class _Entry:
    """A directory entry whose stat() counts, and of which the listing says what it is."""

    def __init__(self, entry: "os.DirEntry[str]") -> None:
        self.entry, self.name, self.path = entry, entry.name, entry.path
        self.is_symlink, self.is_dir, self.is_file = entry.is_symlink, entry.is_dir, entry.is_file
        self.stat = lambda **named: _noted(lambda path, **named: entry.stat(**named))(entry.path, **named)


class _Entries(list[_Entry]):
    def __enter__(self) -> "_Entries":
        return self

    def __exit__(self, *_: object) -> None: ...


def _scanned(scandir: Any) -> Any:
    return lambda *arguments: _Entries(_Entry(entry) for entry in scandir(*arguments))


@pytest.fixture
def finished(study_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeStudy:
    study_values["search"] = {"strategy": ["random", "difficulty_hard"], "mix": [0, 0.5], "seed": [0, 1, 2]}
    fake = FakeStudy(study_values, monkeypatch)
    fake.phase_a()
    fake.end(lambda label: 0.1)
    for cell in fake.whole().cells:
        assert cell.spec is not None
        adapter = fake.root / schema.CELLS_DIRECTORY / cell.spec.key / schema.ADAPTER_DIRECTORY
        adapter.mkdir()
    return fake


def test_looking_at_a_finished_cell_takes_three_operations_at_most(
    finished: FakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {cell.spec.key for cell in finished.whole().cells if cell.spec}
    assert len(keys) == 9
    with operations(finished.root, monkeypatch) as by_cell:
        print_status(finished.ledger, thorough=False, console=Console(file=io.StringIO()))
    assert by_cell == dict.fromkeys(keys, MOST)
    with operations(finished.root, monkeypatch) as by_cell:
        outcome = run_study(finished.study, address=None, progress=Progress(Console(file=io.StringIO())))
    assert outcome.states == {schema.DONE: 9}
    assert by_cell == dict.fromkeys(keys, MOST)


def test_a_run_sweeps_what_kills_left_behind_and_nothing_that_counts(
    finished: FakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = [cell.spec.key for cell in finished.whole().cells if cell.spec][:2]
    cells = finished.root / schema.CELLS_DIRECTORY
    counts = {path.relative_to(finished.root) for path in finished.root.rglob("*") if path.is_file()}
    orphans = [
        cells / key / ".writing-abc",
        cells / key / schema.ADAPTER_DIRECTORY / ".writing-abc",
        cells / key / "checkpoint-00000008.safetensors",
        cells / key / "000002-00000000-checkpoint-00000008.safetensors",
        cells / key / "000002-00000000-rows.json",
        cells / key / "000002-00000000-adapter" / "adapter_model.safetensors",
        cells / key / schema.CLAIM_FILE,
        finished.root / ".writing-study",
        finished.root / "probe",
        finished.root / schema.LEASES_DIRECTORY / ".writing-lease",
    ]
    kept = [cells / key / "notes.txt", cells / other / schema.CLAIM_FILE, cells / other / ".writing-at-work"]
    (cells / other / schema.RESULT_FILE).unlink()  # at work in a worker of a driver that was lost
    for path in (*orphans, *kept):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    plan = finished.whole()
    finished.ledger.sweep(plan.known)
    assert not [path for path in orphans if path.exists()]
    assert not [path for path in kept if not path.exists()]
    left = {path.relative_to(finished.root) for path in finished.root.rglob("*") if path.is_file()}
    gone = {(cells / other / schema.RESULT_FILE).relative_to(finished.root)}
    assert left == (counts - gone) | {path.relative_to(finished.root) for path in kept}


def test_an_object_stores_results_are_read_once_and_then_only_where_a_listing_shows_a_change(
    study_values: dict[str, Any],
    object_store: ObjectStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path / "cache"))
    study_values |= {"storage": object_store.uri()}
    study_values["search"] = {"strategy": ["random"], "mix": [0, 0.5], "seed": [0]}
    fake = FakeStudy(study_values, monkeypatch)
    fake.phase_a()
    fake.end(lambda label: 0.1)
    keys = [cell.spec.key for cell in fake.whole().cells if cell.spec]
    read: list[str] = []
    listed: list[str] = []
    plain_read, plain_listing = ObjectStorage._read, ObjectStorage._listing

    def reading(self: ObjectStorage, name: str) -> bytes:
        read.append(f"{self.prefix}/{name}")
        return plain_read(self, name)

    def listing(self: ObjectStorage, folder: str, *, deep: bool) -> Any:
        listed.append(folder)
        return plain_listing(self, folder, deep=deep)

    monkeypatch.setattr(ObjectStorage, "_read", reading)
    monkeypatch.setattr(ObjectStorage, "_listing", listing)
    ledger = Ledger(open_storage(fake.study.storage))
    first = ledger.statuses(keys)
    read.clear()
    listed.clear()
    assert ledger.statuses(keys) == first
    assert (read, listed) == ([], [schema.CELLS_DIRECTORY])
    rows = f"{schema.CELLS_DIRECTORY}/{keys[0]}"
    ledger.cell(keys[0]).write(schema.ROWS_FILE, b"{")
    found = ledger.statuses(keys)
    assert found[keys[0]].state == schema.PARTIAL
    assert "rows.json is damaged: it has 1 of" in str(found[keys[0]].damage)
    assert read == [f"{rows}/{schema.RESULT_FILE}"]
    assert found[keys[1]] == first[keys[1]]
    assert ledger.statuses(keys, thorough=True)[keys[1]] == first[keys[1]]
    assert len(read) > 4
