"""Per-example validation losses of task A: read only when a frame needs them, damage named and left out.

A cell's losses count if they are the file that its result lists, over the examples of VALIDATION_FILE.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.reading.cells import READERS
from analysis.reading.study import CELL, STATE, RecordedStudy
from trainables.ledger import schema
from trainables.ledger.errors import UserError
from trainables.ledger.forms import read_checked
from trainables.ledger.manifest import FILES, read_listed, stored_name
from trainables.ledger.reading import read_each
from trainables.ledger.sealed_json import DamagedError, Record
from trainables.ledger.storage.base import Storage, StorageError

Values = npt.NDArray[np.float64]

TASK_A = "task_a"
TASK_A_NLL, TASK_A_TOKENS = "task_a_nll", "task_a_tokens"
GROUPS = ("level", "type")


class PerExampleError(UserError):
    """A file of single examples that is not what was published; the message says in what."""


@dataclass(frozen=True)
class Validation:
    """Task A's validation examples: `tokens` (V,) supervised tokens, `groups` the value of each, None
    unknown.
    """

    tokens: Values
    groups: dict[str, list[str | None]]


class Changes(NamedTuple):
    """How task A's examples changed: `rises` (V,) nats from step 0 to the end, by cell; `tokens` (V,).

    `validation` is None where the study does not say what its examples are; `tokens` where no cell does.
    """

    validation: Validation | None
    tokens: Values | None
    rises: dict[str, Values]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


class _Losses(NamedTuple):
    rise: Values
    tokens: Values | None
    place: str  # of the file, as messages name it


def read_changes(study: RecordedStudy) -> Changes:
    """Read every done cell's losses of single examples; what cannot be used is named and left out."""
    storage = study.storage
    if storage is None:
        return Changes(None, None, {}, ("Losses of single examples: this input has none.",), ())
    validation, notes, problems = _read_validation(storage)
    done = study.cells.loc[study.cells[STATE] == schema.DONE, CELL].dropna().unique().tolist()
    read = read_each(partial(_read_cell, storage), done, readers=READERS)
    problems = [*problems, *(problem for _, found in read for problem in found)]
    losses = {key: found for key, (found, _) in zip(done, read, strict=True) if found is not None}
    if done and not losses:
        notes = [*notes, f"Losses of single examples: no done cell has a usable {schema.LOSSES_FILE}."]
    tokens = _common_tokens(validation, losses)
    rises: dict[str, Values] = {}
    for key, found in losses.items():
        fault = _mismatch(found, tokens=tokens)
        if fault is None:
            rises[key] = found.rise
        else:
            problems.append(f"{found.place}: {fault}")
    return Changes(validation, tokens, rises, tuple(notes), tuple(problems))


def _common_tokens(validation: Validation | None, losses: dict[str, _Losses]) -> Values | None:
    """Return the tokens that every cell's losses are over: the study's, else the first cell's."""
    if validation is not None:
        return validation.tokens
    return next((found.tokens for found in losses.values() if found.tokens is not None), None)


def _mismatch(found: _Losses, *, tokens: Values | None) -> str | None:
    """Return why a cell's losses are not over the common examples; None if they are."""
    if tokens is None or len(found.rise) != len(tokens):
        examples = "an unknown number" if tokens is None else str(len(tokens))
        return f"it has {len(found.rise)} examples of task A, the study {examples}"
    if found.tokens is not None and not np.array_equal(found.tokens, tokens):
        return "its supervised tokens of task A are not those of the study's validation examples"
    return None


def _read_validation(storage: Storage) -> tuple[Validation | None, list[str], list[str]]:
    """Return the validation examples, a note where the study has none, and what is wrong with them."""
    why = f"Forgetting per level and type: the study has no usable {schema.VALIDATION_FILE}"
    try:
        record = read_checked(storage, schema.VALIDATION_FILE)
    except (DamagedError, StorageError) as err:
        return None, [f"{why}."], [str(err)]
    if record is None:
        return None, [f"{why}; `run` with the study's configuration writes it, no cell runs again."], []
    return make_validation(record), [], []


def make_validation(record: Record) -> Validation:
    """Return task A's examples from the record of VALIDATION_FILE."""
    examples = record[TASK_A]
    return Validation(np.array(examples["tokens"], dtype=float), {name: examples[name] for name in GROUPS})


def _read_cell(storage: Storage, key: str) -> tuple[_Losses | None, list[str]]:
    """Return one cell's rise of each example, and what is wrong with its file."""
    cell = storage.inside(f"{schema.CELLS_DIRECTORY}/{key}")
    try:
        result = read_checked(cell, schema.RESULT_FILE)
        if result is None or schema.LOSSES_FILE not in result[FILES]:
            return None, []  # a run that kept no losses is no damage
        content = read_listed(cell, result, schema.LOSSES_FILE)
    except (DamagedError, StorageError) as err:
        return None, [str(err)]
    place = cell.describe(stored_name(schema.LOSSES_FILE, result.get(schema.ATTEMPT)))
    try:
        return _make_losses(content, place), []
    except PerExampleError as err:
        return None, [f"{place}: {err}"]


def _make_losses(content: bytes, place: str) -> _Losses:
    """Return the rise of each example from a file's bytes. Raises PerExampleError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as err:
        raise PerExampleError(f"unreadable ({err})") from err
    nll = arrays.get(TASK_A_NLL)
    if nll is None or nll.ndim != 2 or not nll.size or not np.issubdtype(nll.dtype, np.floating):
        shape = "nothing" if nll is None else f"{nll.dtype} of shape {nll.shape}"
        raise PerExampleError(f"{TASK_A_NLL} must be numbers of shape (points, examples), got {shape}")
    ends = nll[[0, -1]].astype(float)
    if not np.isfinite(ends).all():
        raise PerExampleError(f"{TASK_A_NLL} is not finite at step 0 or at the end")
    tokens = arrays.get(TASK_A_TOKENS)
    return _Losses(ends[1] - ends[0], None if tokens is None else tokens.astype(float), place)
