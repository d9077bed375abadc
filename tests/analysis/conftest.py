"""Fixtures of the analysis tests: synthetic studies on disk, an object store, and the data folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.analysis.studies import write_study
from tests.sweep.object_store import object_store  # noqa: F401 (a fixture)

HISTORIES = Path(__file__).parents[3] / "shared" / "data" / "histories"


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Return a builder of study directories; see `write_study` for its options."""
    return lambda **options: write_study(tmp_path / "study", **options)


@pytest.fixture
def real_histories() -> Path:
    if not HISTORIES.is_dir():
        pytest.skip("shared/data/histories is not here")
    return HISTORIES
