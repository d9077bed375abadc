"""Code digests: what a computer runs counts, what a reader sees does not."""

from pathlib import Path

import pytest

from trainables import loaded_files, source_code
from trainables.machine_cache import cache_directory
from trainables.source_code import deciding_code, digest_source, module_digests
from trainables.worker_identity import WorkerIdentity, requirement

PACKAGE = Path(source_code.__file__).parent
MODULE = '''"""Losses."""

RATE = 0.5


class Loss:
    """A loss."""

    def value(self, x: float) -> float:
        """Return it."""
        return x * RATE


async def wait() -> None:
    """Wait."""
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""Losses."""', '"""What a token costs."""'),
        ('"""Losses."""\n', ""),
        ('    """A loss."""\n\n', ""),
        ('        """Return it."""\n', "        # the product\n"),
        ('"""Wait."""', "'''Wait\n    long.'''"),
        ("x * RATE", "(x *\n            RATE)  # nats"),
        ("RATE = 0.5", "RATE = 0.50"),
    ],
)
def test_comments_docstrings_and_formatting_leave_the_digest(before: str, after: str) -> None:
    assert before in MODULE
    assert digest_source(MODULE.replace(before, after)) == digest_source(MODULE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("RATE = 0.5", "RATE = 0.25"),
        ("RATE = 0.5", "RATE = '0.5'"),
        ("x * RATE", "x + RATE"),
        ("x * RATE", "RATE * x"),
        ("x: float", "y: float"),
        ("return x * RATE", 'return x * RATE\n        """Not a docstring."""'),
        ("RATE = 0.5", "RATE = None"),
        ("RATE = 0.5", "RATE: float"),
    ],
)
def test_whatever_else_changes_changes_the_digest(before: str, after: str) -> None:
    assert before in MODULE
    assert digest_source(MODULE.replace(before, after)) != digest_source(MODULE)


def test_every_module_counts_unless_it_keeps_books_or_is_compared_by_value() -> None:
    found = deciding_code()
    assert found.keys() <= module_digests().keys()
    for name in ("losses", "training", "lora", "replay", "strategies", "models", "tasks/tokenised"):
        path = f"trainables/{name}.py"
        assert found[path] == digest_source((PACKAGE.parent / path).read_bytes())
    apart = {"publish", "cell_store", "columns", "settings", "tasks/sources", "source_code", "machine_cache"}
    assert not {f"trainables/{name}.py" for name in apart} & found.keys()


def test_a_new_module_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trainables").mkdir()
    (tmp_path / "trainables" / "novel.py").write_text("RATE = 1")
    monkeypatch.setattr(source_code, "PACKAGE", tmp_path / "trainables")
    monkeypatch.setattr(source_code, "module_digests", module_digests.__wrapped__)
    assert deciding_code() == {"trainables/novel.py": digest_source("RATE = 1")}
    (tmp_path / "trainables" / "novel.py").write_text("RATE = 2")
    assert deciding_code() == {"trainables/novel.py": digest_source("RATE = 2")}


def test_kept_digests_are_those_of_the_source_even_after_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path))
    made = module_digests.__wrapped__()
    assert module_digests.__wrapped__() == made
    (entry,) = (cache_directory() / "code").iterdir()
    entry.write_bytes(entry.read_bytes().replace(made["trainables/losses.py"].encode(), b"0" * 12))
    assert module_digests.__wrapped__() == made


def test_a_file_that_changed_since_it_was_loaded_is_no_code_of_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of a worker that was started before an installation, and is first asked after it."""
    name = "trainables/losses.py"
    ours = requirement(on_gpu=False)
    assert loaded_files.changed_files() == set()
    seconds, size, number = loaded_files.LOADED[name]
    monkeypatch.setitem(loaded_files.LOADED, name, (seconds - 1, size, number))
    assert loaded_files.changed_files() == {name}
    source_code.loaded_digests.cache_clear()
    stale = requirement(on_gpu=False)
    source_code.loaded_digests.cache_clear()
    worker = WorkerIdentity(stale.modules, stale.versions)
    assert ours.faults(worker) == [f"{name}: changed while a worker started"]
    mended = WorkerIdentity(ours.modules, ours.versions)
    said = [f"{name}: changed since the driver was started; start it again"]
    assert stale.faults(mended) == said
    assert stale.faults(worker) != []  # both changed: alike, or not
