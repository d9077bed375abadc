"""The forms of the ledger's records: what a sealed file must hold before the sweep goes by it.

A seal says that a file is as it was published; not that this version, or the sweep at all, published it.
"""

from typing import Annotated, Any

from pydantic import Field, ValidationError

from trainables.ledger import schema
from trainables.ledger.cell_result import Form
from trainables.ledger.manifest import split_name
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Storage

Finite = Annotated[float, Field(allow_inf_nan=False)]
Plain = Annotated[str, Field(max_length=1000)] | int | Finite | bool | None
Name = Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]*\z", max_length=100)]


class DeclarationForm(Form):
    inference: dict[str, Plain]
    looks: list[int]
    finished_cells: int
    date: str


class StartForm(Form):
    date: str
    command: list[str]
    revision: str | None


class StudyForm(Form):
    name: Name
    task_a: Name
    task_b: Name
    axes: list[Name]
    dtype: Name
    config: dict[str, Any]
    fingerprint: dict[str, dict[str, Any]]
    declarations: list[DeclarationForm] = Field(default_factory=list)
    starts: list[StartForm] = Field(default_factory=list)


class ExamplesForm(Form):
    """A validation set, one entry an example in each list."""

    id: list[str]
    level: list[str | None]
    type: list[str | None]
    tokens: list[int]


class ValidationForm(Form):
    task_a: ExamplesForm
    task_b: ExamplesForm


class PlanEntryForm(Form):
    labels: dict[str, Plain]
    key: str | None  # the ledger holds it to be a digest


class PlanForm(Form):
    cells: list[PlanEntryForm]


class RowForm(Form):
    step: int
    task_a_loss: float | None
    task_b_loss: float | None


class RowsForm(Form):
    rows: list[RowForm]


class FailureForm(Form):
    error: str
    log: str
    attempts: int


class StopForm(Form):
    step: int
    reason: str


class RatesForm(Form):
    """`tune.json`; the rates' outcomes stand beside these fields."""

    mix: Finite
    seeds: list[int]
    steps: int


class CellForm(Form):
    """`cell.json`; the labels stand beside these fields."""

    strategy: str
    mix: Finite
    seed: int
    hyperparameters: dict[str, Any]


FORMS: dict[str, type[Form]] = {
    schema.STUDY_FILE: StudyForm,
    schema.VALIDATION_FILE: ValidationForm,
    schema.PLAN_FILE: PlanForm,
    schema.ROWS_FILE: RowsForm,
    schema.FAILURE_FILE: FailureForm,
    schema.CELL_FILE: CellForm,
    schema.STOPPED_FILE: StopForm,
    schema.RATES_FILE: RatesForm,
}


def read_checked(storage: Storage, name: str) -> dict[str, Any] | None:
    """Return the record in a file called as one of FORMS, whoever's attempt it is; None where there is none.

    Raises DamagedError if it is damaged or does not have that form; one of another schema is not looked at.
    """
    record = storage.read_record(name)
    if record is not None and record.get("schema", schema.SCHEMA_VERSION) == schema.SCHEMA_VERSION:
        check_form(record, name=split_name(name)[1], place=storage.describe(name))
    return record


def check_form(record: dict[str, Any], *, name: str, place: str) -> None:
    """Raise DamagedError if `record` does not have the form of the file called `name`, found at `place`."""
    try:
        FORMS[name].model_validate(record)
        if name == schema.PLAN_FILE:
            _check_labels(record)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise DamagedError(f"{place} is damaged: {where[:200]}: {fault['msg']}") from error
    except ValueError as error:
        raise DamagedError(f"{place} is damaged: {error}") from error


def _check_labels(record: dict[str, Any]) -> None:
    for entry in record["cells"]:
        labels = entry["labels"]
        absent = [name for name in schema.LABEL_COLUMNS if name not in labels]
        if absent:
            raise ValueError(f"a label lacks {', '.join(absent)}")
        if not isinstance(labels[schema.STRATEGY], str) or isinstance(
            labels[schema.MIX], (str, bool, type(None))
        ):
            raise ValueError("a label's strategy must be text and its mix a number")
