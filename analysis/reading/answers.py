"""Generated answers, item by item: which were right at the end of each done run; damage is named and left
out.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.reading.cells import READERS
from analysis.reading.study import CELL, STATE, RecordedStudy
from trainables.ledger import schema
from trainables.ledger.forms import check_form, read_checked
from trainables.ledger.manifest import FILES, read_listed_record, stored_name
from trainables.ledger.reading import read_each
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Storage, StorageError

Right = npt.NDArray[np.float64]


class AnsweredItems(NamedTuple):
    """Exact matches (items,) at the end, by task and cell; and what could not be used."""

    right: dict[str, dict[str, Right]]
    problems: tuple[str, ...]


def read_answered(study: RecordedStudy) -> AnsweredItems:
    """Read the answers of every done cell; nothing where the study generates none."""
    asked = [task for task in schema.TASKS if f"{task}_{schema.EXACT_MATCH}" in study.rows]
    right: dict[str, dict[str, Right]] = {task: {} for task in asked}
    if study.storage is None or not asked:
        return AnsweredItems(right, ())
    done = study.cells.loc[study.cells[STATE] == schema.DONE, CELL].dropna().unique().tolist()
    read = read_each(partial(_read_cell, study.storage), done, readers=READERS)
    for key, (found, _) in zip(done, read, strict=True):
        for task in asked:
            if task in found:
                right[task][key] = found[task]
    return AnsweredItems(right, tuple(problem for _, problems in read for problem in problems))


def _read_cell(storage: Storage, key: str) -> tuple[dict[str, Right], list[str]]:
    """Return a cell's exact matches at its last step, by task, and what is wrong with its file."""
    cell = storage.inside(f"{schema.CELLS_DIRECTORY}/{key}")
    try:
        result = read_checked(cell, schema.RESULT_FILE)
        if result is None or schema.ANSWERS_FILE not in result[FILES]:
            return {}, []
        record = read_listed_record(cell, result, schema.ANSWERS_FILE)
        place = cell.describe(stored_name(schema.ANSWERS_FILE, result.get(schema.ATTEMPT)))
        check_form(record, name=schema.ANSWERS_FILE, place=place)
    except (DamagedError, StorageError) as error:
        return {}, [str(error)]
    at_end = [point for point in record["points"] if point[schema.STEP] == result["step"]]
    return {
        task: np.array(point[task]["scores"][schema.EXACT_MATCH], float)
        for point in at_end
        for task in schema.TASKS
        if task in point
    }, []
