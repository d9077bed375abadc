"""Fixtures of the analysis tests: synthetic studies on disk and the data folder, where there is one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.analysis.studies import write_study

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
