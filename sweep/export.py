"""Writing finished cells in formats that other tools read."""

import re
from pathlib import Path
from typing import Any

from sweep.ledger.ledger import Ledger
from sweep.lr_search.search import check_kind
from trainables.ledger import schema
from trainables.ledger.atomic_write import publish_json
from trainables.ledger.storage.location import LocationError

LONGEST_NAME = 200  # characters: file systems take 255 bytes
ORIGINAL_METRICS = {"math": "math_loss", "hotpotqa": "hotpot_loss"}


def export_original(ledger: Ledger, output: Path) -> list[Path]:
    """Write one history JSON for each label of a finished cell; return the files.

    As the original script wrote them: parallel lists over evaluation points, plus the seed. Raises
    LedgerError for a learning-rate search, LocationError where `output` cannot be written to.
    """
    check_kind(ledger, early_stopping=False)
    record = ledger.study_record()
    assert record is not None
    planned = ledger.planned_statuses()
    several = len({entry["labels"][schema.SEED] for entry, _ in planned}) > 1
    further = [*([schema.SEED] if several else []), *record["axes"]]
    written = []
    for entry, status in planned:
        if status.state not in schema.FINISHED:
            continue
        path = output / _file_name(record, entry["labels"], further)
        history = _history(record, entry["labels"], ledger.rows(entry["key"], status=status))
        try:
            publish_json(path, history)
        except OSError as error:
            raise LocationError(
                f"the histories cannot be written to {output} ({error.strerror}): give another place with -o"
            ) from error
        written.append(path)
    return written


def _file_name(record: dict[str, Any], labels: dict[str, Any], further: list[str]) -> str:
    """Return the original's name, followed by the seed and further axes where a study has several.

    Whatever a label holds, it is the name of a file in one folder.
    """
    tasks = f"{record['task_a']}_to_{record['task_b']}"
    values = [f"{name}{labels[name]}" for name in further]
    parts = [tasks, labels[schema.STRATEGY], f"{labels[schema.MIX] * 100:g}pct", record["dtype"], *values]
    name = "_".join(["forgetting_history", *parts])
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)[:LONGEST_NAME] + ".json"


def _history(record: dict[str, Any], labels: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    metric_a, metric_b = (
        ORIGINAL_METRICS.get(record[task], f"{record[task]}_loss") for task in ("task_a", "task_b")
    )
    return {
        "name": f"{labels[schema.STRATEGY]} {labels[schema.MIX] * 100:g}%",
        "selection_method": labels[schema.STRATEGY],
        "mix_percentage": labels[schema.MIX] * 100,
        "seed": labels[schema.SEED],
        **{name: labels[name] for name in record["axes"]},
        "steps": [row[schema.STEP] for row in rows],
        metric_b: [row[schema.TASK_B_LOSS] for row in rows],
        metric_a: [row[schema.TASK_A_LOSS] for row in rows],
    }
