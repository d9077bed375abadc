"""The page of strategies names what there is, and where it is from."""

from pathlib import Path

import pytest

from trainables.replay.batch_order import SCHEDULES
from trainables.replay.controls import CONTROLS
from trainables.replay.pool import COLUMNS
from trainables.replay.strategies import STRATEGIES

PAGE = (Path(__file__).parents[3] / "docs" / "strategies.md").read_text()


@pytest.mark.parametrize("name", [*STRATEGIES, *CONTROLS, *COLUMNS, *SCHEDULES])
def test_everything_that_can_be_asked_for_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", [name for name, rule in STRATEGIES.items() if rule.source])
def test_a_published_rule_is_beside_its_source_and_columns(name: str) -> None:
    named = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
    (row,) = (line for line in named if STRATEGIES[name].source in line)
    assert all(f"`{column}`" in row for column in STRATEGIES[name].columns)
    doc = STRATEGIES[name].order.__doc__ or ""
    assert STRATEGIES[name].source.split()[0] in doc
