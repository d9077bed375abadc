"""Whether the finished cells of a study were computed with the same code and versions: what their results
say.
"""

from collections.abc import Iterable
from typing import Any

from sweep.ledger.ledger import READERS, CellStatus, Entry, Ledger
from trainables.ledger import schema
from trainables.ledger.reading import read_each
from trainables.ledger.sealed_json import DamagedError

MOST_NAMED = 3  # cells that one line names


def mixed_code(ledger: Ledger, planned: Iterable[tuple[Entry, CellStatus]]) -> list[str]:
    """Return one line for each code that finished cells were computed with, where there are several; else
    none.

    Reads every result. Those of early studies, which do not say it, are left out.
    """
    ended = {entry["key"]: entry["labels"] for entry, each in planned if each.state in schema.FINISHED}
    found = read_each(lambda key: _worker(ledger, key), list(ended), readers=READERS)
    workers = dict(zip(ended, found, strict=True))
    cells: dict[str, list[str]] = {}
    for key, worker in workers.items():
        if worker is not None:
            label = ", ".join(f"{name} {value}" for name, value in ended[key].items())
            cells.setdefault(_describe(worker), []).append(label)
    return [f"{what}: {_name(labels)}" for what, labels in sorted(cells.items())] if len(cells) > 1 else []


def _worker(ledger: Ledger, key: str) -> dict[str, Any] | None:
    try:
        result = ledger.cell(key).read_record(schema.RESULT_FILE)
    except DamagedError:
        return None
    worker: dict[str, Any] | None = result.get(schema.WORKER) if result else None
    return worker


def _describe(worker: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(worker["versions"].items()))
    numerics = f" (numerics {worker['numerics']})" if "numerics" in worker else ""
    return f"code {worker['code']}{numerics}, {versions}"


def _name(labels: list[str]) -> str:
    more = f"; and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    return "; ".join(labels[:MOST_NAMED]) + more
