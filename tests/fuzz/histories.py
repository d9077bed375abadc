"""The importer of training histories, the original script's among them."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from analysis.histories.read import group_replicates, read_histories
from tests.fuzz.values import RAW_JSON, mutations

GOOD = {
    "name": "Random 10%",
    "selection_method": "random",
    "mix_percentage": 10.0,
    "seed": 0,
    "steps": [0, 10, 20],
    "math_loss": [1.0, 1.1, None],
    "hotpot_loss": [1.9, 1.8, 1.7],
}
HISTORIES = st.lists(
    mutations(GOOD).map(lambda value: json.dumps(value).encode()) | RAW_JSON, min_size=1, max_size=3
)


def check(contents: list[bytes]) -> None:
    """Every file is a history or a line that names it; what is read can be grouped for a legend."""
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(contents):
            (Path(folder) / f"{number}.json").write_bytes(content)
        histories, problems = read_histories([f"{folder}/*.json"])
        assert len(histories) + len(problems) == len(contents)
        assert all(problem.startswith(folder) for problem in problems)
        groups = group_replicates(histories)
        assert sum(map(len, groups.values())) == len(histories)
        for history in histories:
            _check_numbers(history.losses)


def _check_numbers(losses: Any) -> None:
    assert len(losses) > 0
    assert losses.index.is_monotonic_increasing
    assert (losses.isna() | (losses.abs() < float("inf"))).all(axis=None)
