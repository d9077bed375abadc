"""From runs to the table: what is scaled and what is not, ratios, and losses side by side."""

from io import StringIO

import pytest
from rich.console import Console

from benchmarks.comparison import Run, compare, print_comparison
from trainables.ledger.schema import TASK_A_LOSS, TASK_B_LOSS


def rows(task_a: float, task_b: float) -> list[dict[str, float]]:
    return [{TASK_A_LOSS: 9.0, TASK_B_LOSS: 9.0}, {TASK_A_LOSS: task_a, TASK_B_LOSS: task_b}]


def run(
    way: str, wall: float, *, cells: dict[str, tuple[float, float]], planned: int = 2, **record: float
) -> Run:
    defaults = {
        "cells_planned": planned,
        "cells_run": len(cells),
        "steps_planned": 10 * planned,
        "steps_run": 10 * len(cells),
        "cells_seconds": 0.0,
        "cells_start_up_seconds": 0.0,
        "phase_a": {"rows": rows(1.0, 2.0)},
        "cells": [{"cell": name, "rows": rows(*losses)} for name, losses in cells.items()],
    }
    return Run(way, wall, 1.5, defaults | record)


OURS = run("ours", 100.0, cells={"one": (1.0, 2.0), "two": (1.1, 2.1)})


def test_a_whole_run_is_not_scaled() -> None:
    whole = run("padded", 50.0, cells={"one": (1, 2), "two": (1, 2)}, cells_seconds=40.0)
    assert whole.seconds == 50.0
    assert whole.measured == "whole"


def test_only_the_cells_are_scaled_work_by_steps_and_starting_up_by_cells() -> None:
    part = run(
        "padded",
        50.0,
        cells={"one": (1, 2)},
        planned=3,
        steps_run=10,
        steps_planned=40,
        cells_seconds=30.0,
        cells_start_up_seconds=6.0,
    )
    assert part.seconds == pytest.approx(20 + 6 * 3 + 24 * 4)
    assert part.measured == "extrapolated from 1 of 3 cells"


def test_ratios_are_of_medians_over_rounds() -> None:
    cells = {"one": (1.0, 2.0), "two": (1.1, 2.1)}
    walls = [("ours", 100.0), ("padded", 300.0), ("ours", 200.0), ("padded", 900.0), ("ours", 120.0)]
    ways = compare([run(way, wall, cells=cells) for way, wall in walls])["ways"]
    assert ways["ours"]["seconds"] == 120.0
    assert ways["ours"]["ratio_to_ours"] == 1.0
    assert ways["padded"]["ratio_to_ours"] == pytest.approx(600 / 120)
    assert ways["padded"]["seconds_by_round"] == [300.0, 900.0]


def test_losses_are_beside_each_other_and_differences_are_over_shared_cells() -> None:
    padded = run("padded", 300.0, cells={"one": (1.2, 1.9)})
    comparison = compare([OURS, padded])
    assert comparison["final_losses"][0]["padded"] == {TASK_A_LOSS: 1.2, TASK_B_LOSS: 1.9}
    assert comparison["final_losses"][1] == {"cell": "two", "ours": {TASK_A_LOSS: 1.1, TASK_B_LOSS: 2.1}}
    difference = comparison["largest_difference_from_ours"]["padded"]
    assert difference == {TASK_A_LOSS: pytest.approx(0.2), TASK_B_LOSS: pytest.approx(0.1)}


def test_without_ours_there_is_no_ratio_and_no_difference() -> None:
    comparison = compare([run("tune", 300.0, cells={"one": (1.0, 2.0)})])
    assert comparison["ways"]["tune"]["ratio_to_ours"] is None
    assert comparison["largest_difference_from_ours"] == {}


def test_the_table_says_what_was_extrapolated_and_not_run() -> None:
    page = StringIO()
    console = Console(width=160, file=page)
    part = run("padded", 50.0, cells={"one": (1.2, 1.9)}, planned=2, cells_seconds=30.0)
    print_comparison(compare([OURS, part]), title="a study", console=console)
    text = page.getvalue()
    assert "extrapolated from 1 of 2 cells" in text
    assert "80.0" in text
    assert "0.80" in text
    assert "1.2000 / 1.9000" in text
    assert "not run" in text
