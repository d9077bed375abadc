"""What a run writes into the ledger about the study itself: its configuration, its meaning, its plan.

Also what was declared of its inference, and when; and what its validation examples are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from sweep.config.study import StudyConfig
from sweep.ledger.ledger import CellStatuses, Entry, Ledger
from sweep.planning.inputs import LATER, Prepared
from trainables.ledger import schema
from trainables.ledger.forms import LedgerError, read_checked
from trainables.ledger.manifest import stored_name
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.location import split_options
from trainables.settings import Precision
from trainables.tasks.tokenised import TokenisedExamples

Say = Callable[[str], None]
Fingerprint = dict[str, Any]
# Sections of a fingerprint of which only what two have in common is compared: searched settings are part of
# cells' keys instead, strategies may be added and left out, and the modules of early records are provenance.
OPEN_SECTIONS = {"phase_b", "strategies", "code"}


NO_OTHER = {
    "baseline": schema.DEFAULT_BASELINE,
    "growth": 0.1,
    "baseline_draws": 1,
}  # what early studies declared without saying so


class OtherStudyError(LedgerError):
    """The storage holds finished cells that mean something else than the configuration."""


def mend(ledger: Ledger, *, say: Say) -> None:
    """Clear away the study's own files where they are damaged; what cells know of the plan is kept."""
    there = {}
    for name in (schema.STUDY_FILE, schema.PLAN_FILE, schema.VALIDATION_FILE):
        try:
            there[name] = read_checked(ledger.storage, name) is not None
        except DamagedError as error:
            say(f"{error}; it is written anew, no cell is lost")
            ledger.storage.delete(name)
    if not there.get(schema.PLAN_FILE):
        known = [_described(key, record) for key, record in ledger.described_cells()]
        if known:
            ledger.write(schema.PLAN_FILE, _plan_record(known))


def _described(key: str, description: dict[str, Any]) -> Entry:
    return {"labels": {name: description[name] for name in schema.LABEL_COLUMNS}, "key": key}


def check_meaning(ledger: Ledger, fingerprint: Fingerprint) -> None:
    """Raise OtherStudyError if finished cells of this study mean something else than `fingerprint`.

    A strategy's function is compared where a cell of that strategy has finished.
    """
    record = ledger.study_record()
    differences = [] if record is None else list(_differences(record["fingerprint"], fingerprint))
    if not differences:
        return
    assert record is not None
    finished = finished_strategies(ledger)
    known = _of_strategies(record["fingerprint"], finished)
    differences = list(_differences(known, fingerprint))
    if differences and finished:
        lines = "\n".join(f"  {line}" for line in differences)
        raise OtherStudyError(
            f"{ledger.storage.describe()} holds finished cells of another configuration:\n{lines}\n"
            "Undo the change, or keep both: `run --new-study` keeps this one beside it, --set storage=PLACE "
            "elsewhere"
        )


def finished_strategies(ledger: Ledger, *, known: CellStatuses | None = None) -> set[str]:
    """Return the strategies of the labels on record whose cells are final, as `known` if given."""
    planned = ledger.planned_statuses(known=known)
    return {
        entry["labels"][schema.STRATEGY] for entry, status in planned if status.state in schema.FINAL_STATES
    }


def _of_strategies(fingerprint: Fingerprint, names: set[str]) -> Fingerprint:
    """Return a fingerprint of which only those strategies are known."""
    known = fingerprint.get("strategies", {})
    return fingerprint | {"strategies": {name: known[name] for name in sorted(known.keys() & names)}}


def check_labels(
    ledger: Ledger, recorded: Iterable[Entry], *, planned: Iterable[Entry], known: CellStatuses
) -> None:
    """Raise OtherStudyError if a `recorded` label that has finished is planned as another run.

    A digest tells of a strategy's own function; keys tell of all that it calls, too. `known` holds the status
    of every cell on record.
    """
    keys: dict[tuple[Any, ...], str | None] = {}
    axes: list[str] = []
    for entry in planned:
        axes = axes or [name for name in entry["labels"] if name not in schema.LABEL_COLUMNS]
        keys[_label(entry, axes)] = entry["key"]
    there = set(keys.values())
    for entry in recorded:
        status = known[entry["key"]]
        if entry["key"] in there or status.state not in schema.FINAL_STATES:
            continue
        try:
            finished = _with_axes(ledger, entry, axes, attempt=status.attempt)
        except DamagedError:
            continue  # it is left out of the plan, and `status --check` names it
        if keys.get(_label(finished, axes)) is not None:
            name, mix, seed = (entry["labels"][each] for each in schema.LABEL_COLUMNS)
            raise OtherStudyError(
                f"{ledger.storage.describe()} holds a finished cell of {name!r} at mix {mix:g}, seed {seed}, "
                f"and {name!r} now replays other examples there, or in another order: what its function "
                "calls or is given has changed. Undo the change, or give the new strategy a name of its own"
            )


def _label(entry: Entry, axes: list[str]) -> tuple[Any, ...]:
    return tuple(entry["labels"][name] for name in (*schema.LABEL_COLUMNS, *axes))


def open_study(
    ledger: Ledger,
    study: StudyConfig,
    *,
    fingerprint: Fingerprint,
    details: dict[str, Any],
    precision: str,
    finished: int = 0,
    known: CellStatuses | None = None,
) -> None:
    """Record the study as it will run now; `precision` is "auto" until a worker has settled it.

    `finished` counts the cells whose outcome can be known already: what is declared now is dated by it.
    `known` holds the status of every cell on record, if they were looked at.
    """
    earlier = ledger.study_record() or {"fingerprint": {}}
    strategies: dict[str, str] = {}  # one that is left out now may come back
    if earlier["fingerprint"].get("strategies"):
        names = finished_strategies(ledger, known=known)
        strategies = _of_strategies(earlier["fingerprint"], names)["strategies"]
    record = {
        "schema": schema.SCHEMA_VERSION,
        "name": study.study,
        "task_a": study.task_a.name,
        "task_b": study.task_b.name,
        "axes": searched_axes(ledger, study),
        "dtype": precision,
        "model": study.model.name,
        "mix_mode": study.phase_b.mix_mode,
        "config": study.recorded(),
        "fingerprint": fingerprint | {"strategies": strategies | fingerprint["strategies"]},
        "declarations": declarations(ledger, study, finished=finished),
        "provenance": details,
        "starts": _starts(ledger, details),
    }
    ledger.write(schema.STUDY_FILE, record)


def write_costs(
    ledger: Ledger, costs: Iterable[dict[str, Any]], *, strategies: Mapping[str, Iterable[str]]
) -> None:
    """Record how the columns that strategies choose by were computed; those on record stay there."""
    costs = list(costs)
    if not costs:
        return
    try:
        earlier = read_checked(ledger.storage, schema.COSTS_FILE) or {}
    except DamagedError:
        earlier = {}
    known = {(each["column"], each["phase_a_seed"]): each for each in (*earlier.get("columns", []), *costs)}
    record = {
        "schema": schema.SCHEMA_VERSION,
        "columns": list(known.values()),
        "strategies": earlier.get("strategies", {}) | {name: list(each) for name, each in strategies.items()},
    }
    if record.items() != {name: earlier.get(name) for name in record}.items():
        ledger.write(schema.COSTS_FILE, record)


def declarations(ledger: Ledger, study: StudyConfig, *, finished: int) -> list[dict[str, Any]]:
    """Return what has been declared of the inference, oldest first, with what `study` declares now."""
    record = ledger.study_record()
    earlier: list[dict[str, Any]] = record.get("declarations", []) if record else []
    search = study.search
    asked = {
        "inference": study.inference.model_dump(mode="json"),
        "looks": list(search.looks),
        "search": {
            "strategy": sorted(search.strategy),
            "mix": sorted(search.mix),
            "seeds": list(search.seed),
            "axes": search.axes,
        },
    }
    if earlier and asked.items() <= _in_full(earlier[-1], asked).items():
        return earlier
    return [*earlier, asked | {"finished_cells": finished, "date": _now()}]


def _in_full(earlier: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return a declaration as it would be written today, where it may mean what is `asked`."""
    search, seeds = earlier.get("search"), asked["search"]["seeds"]
    if search and search.get("seeds") == len(seeds):  # early ones tell how many
        search = search | {"seeds": seeds}
    return earlier | {"inference": NO_OTHER | earlier["inference"], "search": search}


def _starts(ledger: Ledger, details: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the commands that the study was started with, oldest first; one that is repeated counts once."""
    record = ledger.study_record()
    earlier: list[dict[str, Any]] = record.get("starts", []) if record else []
    this = {"command": details.get("command", []), "revision": details.get("revision")}
    if earlier and this.items() <= earlier[-1].items():
        return earlier
    return [*earlier, this | {"date": _now()}]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def changed_looks(ledger: Ledger, study: StudyConfig) -> list[int] | None:
    """Return the looks that were declared before, if `study` declares others and there were any."""
    record = ledger.study_record()
    earlier = record.get("declarations", []) if record else []
    before: list[int] = earlier[-1]["looks"] if earlier else []
    return before if before and before != list(study.search.looks) else None


def is_of_other_code(ledger: Ledger, details: dict[str, Any]) -> bool:
    """Say whether the study was last opened by other code than `details` tell of."""
    record = ledger.study_record()
    return record is not None and record.get("provenance", {}).get("code") != details["code"]


def write_validation(ledger: Ledger, prepared: Prepared) -> None:
    """Record the examples of both validation sets, unless they are recorded as they are.

    Tokens are the supervised ones: validation measures the completion, whatever training is on.
    """
    record = {
        "schema": schema.SCHEMA_VERSION,
        "task_a": _examples(prepared.task_a.validation),
        "task_b": _examples(prepared.task_b.validation),
    }
    if ledger.storage.read_record(schema.VALIDATION_FILE) != record:
        ledger.write(schema.VALIDATION_FILE, record)


def _examples(examples: TokenisedExamples) -> dict[str, Any]:
    return {
        "id": list(examples.ids),
        "level": list(examples.levels),
        "type": list(examples.types),
        "tokens": examples.supervised_counts("completion").tolist(),
    }


def record_precision(ledger: Ledger, precision: str) -> None:
    """Record what "auto" became: the precision that the study is computed in."""
    record = ledger.study_record()
    assert record is not None
    if record["dtype"] != precision:
        ledger.write(schema.STUDY_FILE, record | {"dtype": precision})


def settled_precision(ledger: Ledger, fingerprint: Fingerprint) -> Precision | None:
    """Return the precision that an earlier run of this model settled, None if there was none."""
    record = ledger.study_record()
    if record is None or record["fingerprint"].get("model") != fingerprint["model"]:
        return None
    settled: Precision | None = record["dtype"] if record["dtype"] in ("bf16", "fp32") else None
    return settled


def searched_axes(ledger: Ledger, study: StudyConfig) -> list[str]:
    """Return the further axes that this study or an earlier run of it searched."""
    record = ledger.study_record()
    return sorted(set(study.search.axes) | set(record["axes"] if record else []))


def publish_plan(
    ledger: Ledger,
    entries: Iterable[Entry],
    *,
    known: CellStatuses | None = None,
    say: Say = lambda message: None,
) -> None:
    """Record the plan, and keep the labels of cells that an earlier plan has finished."""
    ledger.write(schema.PLAN_FILE, _plan_record(whole_plan(ledger, entries, known=known, say=say)))


def whole_plan(
    ledger: Ledger,
    entries: Iterable[Entry],
    *,
    known: CellStatuses | None = None,
    say: Say = lambda message: None,
) -> list[Entry]:
    """Return the plan that is to be on record: `entries`, and the labels that an earlier plan has finished.

    Their statuses are looked up in `known` if given; `say` is told of those that are left out because a file
    of theirs is damaged.
    """
    planned = list(entries)
    labels: dict[str | None, list[dict[str, Any]]] = {}
    for entry in planned:
        labels.setdefault(entry["key"], []).append(entry["labels"])

    def dropped(entry: Entry) -> bool:
        return entry["labels"] not in labels.get(entry["key"], [])

    axes = [name for name in planned[0]["labels"] if name not in schema.LABEL_COLUMNS]
    earlier = [entry for entry in ledger.plan() if dropped(entry)]
    if known is None or any(entry["key"] not in known for entry in earlier):
        known = ledger.statuses(entry["key"] for entry in earlier) if earlier else {}
    kept = []
    for entry in earlier:
        status = known[entry["key"]]
        try:
            if status.state in schema.FINAL_STATES:
                kept.append(_with_axes(ledger, entry, axes, attempt=status.attempt))
            elif status.damage:
                raise DamagedError(status.damage)
        except DamagedError as error:
            say(f"{error}: {entry['labels']}, which is no longer planned, is left out")
    return planned + [entry for entry in kept if dropped(entry)]


def _plan_record(entries: list[Entry]) -> dict[str, Any]:
    return {"schema": schema.SCHEMA_VERSION, "cells": entries}


def _with_axes(ledger: Ledger, entry: Entry, axes: list[str], *, attempt: str | None) -> Entry:
    """Return a finished cell's entry, its label completed by axes that were searched only later."""
    values = entry["labels"]
    if not all(name in values for name in axes):
        cell, name = ledger.cell(entry["key"]), stored_name(schema.CELL_FILE, attempt)
        record = read_checked(cell, name)
        if record is None:
            raise DamagedError(f"{cell.describe(name)} is missing")
        values = LATER | record["hyperparameters"] | values  # an early cell tells nothing of later fields
    return {"labels": {name: values[name] for name in axes} | entry["labels"], "key": entry["key"]}


def place_beside(location: str, *, suffix: int | str) -> str:
    """Return the location of what is kept beside a study: results/demo-2, results/demo-tune."""
    plain, options = split_options(location)
    return f"{plain}-{suffix}{options}"


def place_inside(location: str, *, folder: str) -> str:
    """Return the location of a folder of a study: results/demo/phase_a."""
    plain, options = split_options(location)
    return f"{plain}/{folder}{options}"


def _differences(old: Fingerprint, new: Fingerprint) -> Iterator[str]:
    """Yield one line for each field of two fingerprints that differs."""
    for section in sorted(old.keys() | new.keys()):
        before, after = old.get(section, {}), new.get(section, {})
        alone = before.keys() ^ after.keys() if section in OPEN_SECTIONS else set()
        for field in sorted((before.keys() | after.keys()) - alone):
            if before.get(field) != after.get(field):
                yield f"{section}.{field}: finished with {before.get(field)!r}, now {after.get(field)!r}"
