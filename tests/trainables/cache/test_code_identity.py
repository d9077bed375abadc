"""Code digests: what a computer runs counts, what a reader sees does not."""

from pathlib import Path

import pytest

from trainables.cache import code_identity, loaded_files
from trainables.cache.code_identity import digest_function, digest_source, module_digests
from trainables.cache.machine import cache_directory
from trainables.worker_identity import WorkerIdentity, requirement

PACKAGE = Path(code_identity.__file__).parents[1]
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


def test_every_module_counts() -> None:
    found = module_digests()
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE.parent).as_posix()
        assert found[name] == digest_source(path.read_bytes())


def test_a_function_is_known_by_its_own_source_alone(tmp_path: Path) -> None:
    def halve(value: float) -> float:
        """Half of it."""
        return value / 2

    def other(value: float) -> float:
        return value / 3

    first = digest_function(halve)
    assert first == digest_source("def halve(value: float) -> float:\n    return value / 2\n")
    assert first != digest_function(other)
    assert digest_function(abs) == digest_function(abs) != digest_function(len)


def test_kept_digests_are_those_of_the_source_even_after_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGETTING_SWEEP_CACHE", str(tmp_path))
    made = module_digests.__wrapped__()
    assert module_digests.__wrapped__() == made
    (entry,) = (cache_directory() / "code").iterdir()
    entry.write_bytes(entry.read_bytes().replace(made["trainables/model/loss.py"].encode(), b"0" * 12))
    assert module_digests.__wrapped__() == made


def test_a_file_that_changed_since_it_was_loaded_is_no_code_of_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of a worker that was started before an installation, and is first asked after it."""
    name = "trainables/model/loss.py"
    ours = requirement(on_gpu=False)
    assert loaded_files.changed_files() == set()
    seconds, size, number = loaded_files.LOADED[name]
    monkeypatch.setitem(loaded_files.LOADED, name, (seconds - 1, size, number))
    assert loaded_files.changed_files() == {name}
    code_identity.loaded_digests.cache_clear()
    stale = requirement(on_gpu=False)
    code_identity.loaded_digests.cache_clear()
    worker = WorkerIdentity(stale.modules, stale.versions)
    assert ours.faults(worker) == [f"{name}: changed while a worker started"]
    mended = WorkerIdentity(ours.modules, ours.versions)
    said = [f"{name}: changed since the driver was started; start it again"]
    assert stale.faults(mended) == said
    assert stale.faults(worker) != []  # both changed: alike, or not
