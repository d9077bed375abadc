"""What became of each learning rate of a search: where its cells stand, and the losses that they have
reached.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sweep.ledger.ledger import CellStatus, Ledger
from sweep.lr_search.search import RATE
from trainables.ledger import schema
from trainables.ledger.forms import read_checked
from trainables.ledger.sealed_json import DamagedError

CSV_FILE = "tune.csv"
# Of a rate, what the worst of its cells came to.
SEVERITY = (schema.FAILED, schema.DIVERGED, schema.STOPPED, schema.PARTIAL, schema.MISSING, schema.DONE)

Losses = tuple[float, float]  # of task A and task B
Points = dict[int, Losses]  # by step


@dataclass(frozen=True)
class RateOutcome:
    """What became of a rate: the state of the worst of its cells, and the last point that all have reached.

    Losses are means over the seeds, in nats a token; None before the first point.
    """

    lr: float
    state: str
    step: int
    task_a_loss: float | None
    task_b_loss: float | None


def rate_outcomes(ledger: Ledger) -> list[RateOutcome]:
    """Return what became of every rate ever searched here, in rising order."""
    found = ledger.planned_statuses()
    cells = cells_by_rate(entry for entry, _ in found)
    statuses = {entry["key"]: status for entry, status in found}
    return [_outcome(lr, keys, statuses, ledger) for lr, keys in sorted(cells.items())]


def _outcome(
    lr: float, keys: Sequence[str | None], statuses: dict[str | None, CellStatus], ledger: Ledger
) -> RateOutcome:
    states = {statuses[key].state for key in keys}
    points = mean_points({key: cell_points(ledger, key) for key in keys if key is not None})
    step = max(points, default=0)
    losses = points.get(step, (None, None))
    return RateOutcome(lr, next(state for state in SEVERITY if state in states), step, *losses)


def cells_by_rate(entries: Iterable[dict[str, Any]]) -> dict[float, list[str]]:
    """Return the keys of the planned cells of each rate, one a seed."""
    cells: dict[float, list[str]] = {}
    for entry in entries:
        cells.setdefault(entry["labels"][RATE], []).append(entry["key"])
    return cells


def cell_points(ledger: Ledger, key: str) -> Points:
    """Return a cell's losses at every evaluation point so far; none where they cannot be read."""
    try:
        rows = ledger.rows(key)
    except DamagedError:
        return {}
    return {row[schema.STEP]: (row[schema.TASK_A_LOSS], row[schema.TASK_B_LOSS]) for row in rows}


def mean_points(cells: dict[str, Points]) -> Points:
    """Return the mean losses at the steps that all of the cells have reached, in rising order."""
    common = set.intersection(*(set(points) for points in cells.values())) if cells else set()
    return {step: _mean([points[step] for points in cells.values()]) for step in sorted(common)}


def _mean(losses: Sequence[Losses]) -> Losses:
    task_a, task_b = (math.fsum(values) / len(values) for values in zip(*losses, strict=True))
    return task_a, task_b


def best_rate(outcomes: Iterable[RateOutcome]) -> RateOutcome | None:
    """Return the rate that learnt task B best, of those that reached their end on every seed."""
    ended = [each for each in outcomes if each.state == schema.DONE and each.task_b_loss is not None]
    return min(ended, key=lambda each: (each.task_b_loss, each.lr), default=None)


def at_edge(best: RateOutcome, outcomes: Sequence[RateOutcome]) -> bool:
    """Return whether a better rate may lie beyond those tried."""
    rates = [each.lr for each in outcomes]
    return best.lr in (min(rates), max(rates))


def write_outcomes(ledger: Ledger) -> None:
    """Publish what became of the rates, as JSON and as CSV."""
    outcomes = rate_outcomes(ledger)
    best = best_rate(outcomes)
    record = read_checked(ledger.storage, schema.RATES_FILE)
    assert record is not None
    told = {"best": best and best.lr, "rates": [asdict(each) for each in outcomes]}
    ledger.write(schema.RATES_FILE, record | {"metric": schema.TASK_B_LOSS} | told)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(field.name for field in fields(RateOutcome))
    writer.writerows(asdict(each).values() for each in outcomes)
    ledger.storage.write(CSV_FILE, table.getvalue().encode())
