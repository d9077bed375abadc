"""What was replayed: the realised selections, and how much two strategies' selections overlap."""

from functools import lru_cache, partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.findings.outcomes import strategy_rank
from analysis.reading.cells import READERS
from analysis.reading.study import CELL, STATE, RecordedStudy
from trainables.ledger import schema
from trainables.ledger.forms import read_checked
from trainables.ledger.manifest import stored_name
from trainables.ledger.reading import read_each
from trainables.ledger.sealed_json import DamagedError, Record
from trainables.ledger.storage.base import Storage, StorageError

SELECTION_COLUMNS = ("id", "level", "type", "tokens")
OVERLAP_COLUMNS = ("n", "jaccard", "expected")


class Selected(NamedTuple):
    """The frame of `read_selections`, why it is empty, and the files that could not be used."""

    frame: pd.DataFrame
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def read_selections(study: RecordedStudy) -> Selected:
    """Read what every done run replayed: strategy, mix, seed, *axes, SELECTION_COLUMNS, a row an example."""
    labels = [*schema.LABEL_COLUMNS, *study.axes]
    empty = pd.DataFrame(columns=[*labels, *SELECTION_COLUMNS])
    storage = study.storage
    if storage is None:
        return Selected(empty, ("Selections: this input does not say what was replayed.",), ())
    runs = study.cells[(study.cells[STATE] == schema.DONE) & (study.cells[schema.MIX] > 0)]
    keys = runs[CELL].unique().tolist()
    read = dict(zip(keys, read_each(partial(_read_cell, storage), keys, readers=READERS), strict=True))
    problems = tuple(problem for _, found in read.values() for problem in found)
    usable = {key: record for key, (record, _) in read.items() if record is not None}
    runs = runs[runs[CELL].isin(list(usable))]
    if runs.empty:
        return Selected(empty, ("Selections: no done run that replays has a usable one.",), problems)
    chosen = [usable[key] for key in runs[CELL]]
    repeated = runs[labels].loc[np.repeat(runs.index, [len(record["id"]) for record in chosen])]
    values = {name: [value for record in chosen for value in record[name]] for name in SELECTION_COLUMNS}
    return Selected(repeated.reset_index(drop=True).assign(**values), (), problems)


def _read_cell(storage: Storage, key: str) -> tuple[Record | None, list[str]]:
    """Return one cell's selection, checked, and what is wrong with it."""
    cell = storage.inside(f"{schema.CELLS_DIRECTORY}/{key}")
    try:
        result = read_checked(cell, schema.RESULT_FILE) or {}
        name = stored_name(schema.SELECTION_FILE, result.get(schema.ATTEMPT))
        return read_checked(cell, name), []
    except (DamagedError, StorageError) as err:
        return None, [str(err)]


def pool_size(study: RecordedStudy) -> int | None:
    """Return the number of examples that strategies chose from; None where the study does not say."""
    record: Any = study.description
    for name in ("fingerprint", "task_a", "train"):
        record = record.get(name) if isinstance(record, dict) else None
    return record if type(record) is int and record > 0 else None


def overlaps(selections: pd.DataFrame, *, pool_size: int | None) -> pd.DataFrame:
    """Return how much two strategies replay the same: strategy, other, mix, *axes, OVERLAP_COLUMNS.

    `jaccard` is |A and B| / |A or B| of the same seed, averaged over the `n` seeds that both have. `expected`
    is its mean for sets of these sizes drawn apart from a pool of `pool_size`; NaN where that is unknown.
    """
    axes = [name for name in selections.columns if name not in (*schema.LABEL_COLUMNS, *SELECTION_COLUMNS)]
    keys = [schema.MIX, *axes]
    sets = selections.groupby([*keys, schema.STRATEGY, schema.SEED], sort=True)["id"].agg(frozenset)
    rows = []
    for values, part in sets.groupby(level=keys, sort=True) if len(sets) else ():
        by_strategy = {
            str(strategy): group.droplevel([*keys, schema.STRATEGY]).to_dict()
            for strategy, group in part.groupby(level=schema.STRATEGY)
        }
        label = dict(zip(keys, values if isinstance(values, tuple) else (values,), strict=True))
        for first, second in combinations(sorted(by_strategy, key=strategy_rank), 2):
            overlap = _overlap(by_strategy[first], by_strategy[second], pool_size=pool_size)
            rows.append({schema.STRATEGY: first, "other": second, **label, **overlap})
    return pd.DataFrame(rows, columns=[schema.STRATEGY, "other", *keys, *OVERLAP_COLUMNS])


def _overlap(first: dict[Any, Any], second: dict[Any, Any], *, pool_size: int | None) -> dict[str, float]:
    """Return the mean overlap over the seeds that both have."""
    seeds = [seed for seed in first if seed in second]
    found = [(len(first[seed] & second[seed]), len(first[seed]), len(second[seed])) for seed in seeds]
    shares = [both / (one + other - both) for both, one, other in found]
    chance = [expected_jaccard(one, other, pool_size=pool_size) for _, one, other in found]
    return {
        "n": len(seeds),
        "jaccard": float(np.mean(shares)) if seeds else float("nan"),
        "expected": float(np.mean(chance)) if seeds else float("nan"),
    }


@lru_cache(maxsize=4096)  # the seeds of a study replay as many
def expected_jaccard(first: int, second: int, *, pool_size: int | None) -> float:
    """Return the mean Jaccard overlap of two sets drawn apart from one pool: hypergeometric, exact.

    NaN where the pool is unknown, or smaller than what was drawn.
    """
    if pool_size is None or max(first, second) > pool_size:
        return float("nan")
    from scipy.stats import hypergeom

    both = np.arange(max(0, first + second - pool_size), min(first, second) + 1)
    shares = both / (first + second - both)
    return float(np.sum(hypergeom.pmf(both, pool_size, first, second) * shares))
