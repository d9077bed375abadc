"""The forms of a study's records: what a sealed file must hold before anyone goes by it.

A seal says that a file is as it was published; not that this version, or the sweep at all, published it.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from trainables.ledger import schema
from trainables.ledger.digests import KEY_LENGTH
from trainables.ledger.errors import UserError
from trainables.ledger.manifest import split_name
from trainables.ledger.sealed_json import DamagedError, Record
from trainables.ledger.storage.base import Storage
from trainables.ledger.values import check_rows, shortened

KEY = re.compile(rf"[0-9a-f]{{{KEY_LENGTH}}}")


class LedgerError(UserError):
    """A study that cannot be used as asked; the message says why and what to do."""


class Form(BaseModel):
    """A record's form: these fields, of exactly these types; others are nobody's business."""

    model_config = ConfigDict(strict=True, frozen=True)


def _one_length(lists: list[list[Any]]) -> None:
    if len({len(values) for values in lists}) > 1:
        raise ValueError("its lists must be of one length")


def _of_the_study(log: str) -> str:
    path = PurePosixPath(log)
    if not log.isprintable() or path.is_absolute() or ".." in path.parts or "\\" in log:
        raise ValueError(f"must be a path inside the study, got {shortened(log)}")
    return log


Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1000)]
Plain = Text | int | Finite | bool | None


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
    name: Text
    task_a: Text
    task_b: Text
    axes: list[Text]
    dtype: Text
    config: dict[str, Any]
    fingerprint: dict[str, dict[str, Any]]
    declarations: list[DeclarationForm] = Field(default_factory=list)
    starts: list[StartForm] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_axes(self) -> Self:
        if len(set(self.axes)) < len(self.axes):
            raise ValueError(f"an axis is named twice: {', '.join(self.axes)}")
        return self


class ExamplesForm(Form):
    """A validation set, one entry an example in each list; `tokens` are its supervised tokens."""

    id: list[str]
    level: list[str | None]
    type: list[str | None]
    tokens: list[Annotated[int, Field(gt=0, lt=2**53)]]

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        _one_length([self.id, self.level, self.type, self.tokens])
        if not self.id:
            raise ValueError("there are none")
        return self


class ValidationForm(Form):
    task_a: ExamplesForm
    task_b: ExamplesForm


class LabelsForm(Form):
    """What a cell is asked for by; the study's further axes stand beside these."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Plain | list[Plain]]
    strategy: Text
    mix: Finite
    seed: int


class PlanEntryForm(Form):
    labels: LabelsForm
    key: Annotated[str, Field(pattern=rf"\A{KEY.pattern}\z")] | None


class PlanForm(Form):
    cells: list[PlanEntryForm]


class RowsForm(Form):
    rows: Annotated[list[dict[str, Any]], AfterValidator(check_rows)]


class FailureForm(Form):
    error: str
    log: Annotated[str, AfterValidator(_of_the_study)]
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

    key: str
    strategy: str
    mix: Finite
    seed: int
    slots_hash: str | None = None
    hyperparameters: dict[str, Any]


class SelectionForm(Form):
    """What a cell replays, one entry an example in each list."""

    id: list[str]
    level: list[str | None]
    type: list[str | None]
    tokens: list[int]

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        _one_length([self.id, self.level, self.type, self.tokens])
        return self


Share = Annotated[float, Field(ge=0, le=1)]


class AnsweredTaskForm(Form):
    """Generated answers of one task, one entry an example in each list; `length` counts tokens before EOS."""

    text: list[str]
    length: list[int]
    ended: list[bool]
    scores: dict[str, list[Share]]

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        _one_length([self.text, self.length, self.ended, *self.scores.values()])
        return self


class AnswersAtForm(Form):
    step: int
    task_a: AnsweredTaskForm | None = None
    task_b: AnsweredTaskForm | None = None


class AnswersForm(Form):
    """`answers.json`: a validation set's first examples, at some evaluation points."""

    points: list[AnswersAtForm]


class ColumnCostForm(Form):
    """One column of one Phase A artifact: what its computation held, and for how many seconds."""

    column: Text
    phase_a_seed: int
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cpus: Finite | int
    gpus: Finite | int
    computed_on: Text


class CostsForm(Form):
    """`columns.json`; `strategies`: the computed columns that each takes."""

    columns: list[ColumnCostForm]
    strategies: dict[str, list[str]]


class FileForm(Form):
    size: int
    checksum: str


class ResultForm(Form):
    state: Annotated[str, Field(pattern=rf"\A({schema.DONE}|{schema.DIVERGED})\z")]
    step: int
    seconds: Finite | None
    artifact: str | None
    attempt: Annotated[str, Field(pattern=rf"\A{schema.ATTEMPT_FORM}\z")] | None = None
    files: dict[str, FileForm]


FORMS: dict[str, type[Form]] = {
    schema.STUDY_FILE: StudyForm,
    schema.VALIDATION_FILE: ValidationForm,
    schema.PLAN_FILE: PlanForm,
    schema.ROWS_FILE: RowsForm,
    schema.FAILURE_FILE: FailureForm,
    schema.CELL_FILE: CellForm,
    schema.SELECTION_FILE: SelectionForm,
    schema.RESULT_FILE: ResultForm,
    schema.ANSWERS_FILE: AnswersForm,
    schema.STOPPED_FILE: StopForm,
    schema.RATES_FILE: RatesForm,
    schema.COSTS_FILE: CostsForm,
}


def read_checked(storage: Storage, name: str) -> Record | None:
    """Return the record in a file called as one of FORMS, whoever's attempt it is; None where there is none.

    Raises DamagedError if it is damaged or does not have that form; one of another schema is not looked at.
    """
    record = storage.read_record(name)
    if record is not None and record.get("schema", schema.SCHEMA_VERSION) == schema.SCHEMA_VERSION:
        check_form(record, name=split_name(name)[1], place=storage.describe(name))
    return record


def check_form(record: Record, *, name: str, place: str) -> None:
    """Raise DamagedError if `record` does not have the form of the file called `name`, found at `place`."""
    try:
        FORMS[name].model_validate(record)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where, said = ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")
        got = "" if fault["type"] in ("value_error", "missing") else f", got {shortened(fault['input'])}"
        raise DamagedError(f"{place} is damaged: {where[:200]}: {said}{got}") from error


def read_own_file(storage: Storage, name: str) -> Record | None:
    """Return one of the study's own records, None where there is none.

    Raises LedgerError where it is damaged, or of another version.
    """
    try:
        record = read_checked(storage, name)
    except DamagedError as error:
        raise LedgerError(
            f"{error}. No cell is lost: `run` with the study's configuration writes it anew"
        ) from error
    if record is not None and record.get("schema") != schema.SCHEMA_VERSION:
        raise LedgerError(
            f"{storage.describe(name)} has schema {shortened(record.get('schema'))}, this version reads "
            f"{schema.SCHEMA_VERSION}: use the version that wrote it, or another storage"
        )
    return record
