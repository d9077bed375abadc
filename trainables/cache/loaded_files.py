"""This package's files as they were when a process began to load them: the code in memory is theirs.

Imported before any other module of the package, so that a change in between is seen.
"""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
State = tuple[int, int, int]


def file_states(package: Path = PACKAGE) -> dict[str, State]:
    """Return what no change leaves as it is of each module's file, by its name."""
    found = {path.relative_to(package.parent).as_posix(): path.stat() for path in package.rglob("*.py")}
    return {name: (stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in found.items()}


LOADED = file_states()


def changed_files() -> set[str]:
    """Return the modules whose files are not, or no more, those that this process began to load."""
    now = file_states()
    return {name for name in LOADED.keys() | now.keys() if LOADED.get(name) != now.get(name)}
