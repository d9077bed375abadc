"""The report of a long run: one record as JSON, and the page made of it. Nothing in it is typed by hand."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from tests.chaos.faults import FAULTS
from tests.chaos.outcome import PROMISE, Outcome
from trainables.ledger.atomic_write import publish_bytes

COLUMNS = (
    "fault",
    "injected",
    "cells lost",
    "cells repeated",
    "rows lost or doubled",
    "steps recomputed",
    "tables equal",
)
INTRODUCTION = f"""# Reliability

> {PROMISE}

Held against real faults: real processes, signals, nodes, disks and files, on a Ray cluster of two nodes, or a local
one that dies with its driver. Each fault hits a tiny study (a two-layer model, 3 to 9 cells that train one to a worker,
fp32), which is then run to its end and compared with a twin that nothing disturbed: every evaluation row, every
example's loss, every selection and every final adapter. Steps are counted by the workers themselves, in a journal
outside of the study. "steps recomputed" is followed by how many the promise allows.

This page and `benchmarks/results/chaos.json` are written by the commands below; of every fault a short version
(`tests/sweep/test_faults.py`) or a test of the same promise beside what it tests is part of the tests.
"""  # noqa: E501


@dataclass(frozen=True)
class Verdict:
    """What came of one fault: an outcome, why it could not be tried here, or the error it ended in."""

    outcome: Outcome | None = None
    untried: str | None = None
    error: str | None = None

    @property
    def broken(self) -> list[str]:
        """Return what of the promise was broken."""
        return [self.error] if self.error else self.outcome.broken() if self.outcome else []


def describe(verdicts: dict[str, Verdict], *, seed: int) -> dict[str, Any]:
    """Return a run's record: machine, versions, command, date, and every fault with what came of it."""
    machine, date = describe_machine(), datetime.now(UTC).isoformat(timespec="minutes")
    run = {"date": date, "seed": seed, "revision": machine["revision"], "command": machine["command"]}
    faults = {
        name: {"what": str(FAULTS[name].__doc__), "broken": verdict.broken, **asdict(verdict), "run": run}
        for name, verdict in verdicts.items()
    }
    return {"machine": machine, "date": date, "seed": seed, "promise": PROMISE, "faults": faults}


def add_earlier(record: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Return a run's record with the faults of an earlier one that it did not try again."""
    faults = earlier["faults"] | record["faults"]
    return record | {"faults": {name: faults[name] for name in FAULTS if name in faults}}


def write_report(path: Path, record: dict[str, Any]) -> None:
    """Write the page of a run's record, whole or not at all."""
    blocks = [INTRODUCTION, _summary(record), _machine(record), _details(record)]
    publish_bytes(path, "\n".join(blocks).encode())


def _summary(record: dict[str, Any]) -> str:
    rows = [_cells(name, fault) for name, fault in record["faults"].items()]
    outcomes = [fault["outcome"] for fault in record["faults"].values() if fault["outcome"]]
    broken = [name for name, fault in record["faults"].items() if fault["broken"]]
    verdict = f"broken by {', '.join(broken)}" if broken else "kept by all"
    count = sum(outcome["injections"] for outcome in outcomes)
    return f"{count} faults of {len(outcomes)} kinds; the promise was {verdict}.\n\n{_table(COLUMNS, rows)}"


def _cells(name: str, fault: dict[str, Any]) -> list[str]:
    outcome = fault["outcome"]
    if outcome is None:
        return [name, "0", *[""] * (len(COLUMNS) - 3), "broken" if fault["broken"] else "not tried"]
    counts = [
        outcome[field] for field in ("injections", "cells_lost", "cells_repeated", "rows_lost_or_doubled")
    ]
    steps = f"{outcome['steps_recomputed']} (at most {outcome['bound']})"
    return [name, *map(str, counts), steps, "yes" if outcome["tables_equal"] else "NO"]


def _table(header: Sequence[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _machine(record: dict[str, Any]) -> str:
    machine = record["machine"]
    commands = "\n".join(dict.fromkeys(fault["run"]["command"] for fault in record["faults"].values()))
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"```\n{commands}\n```\n\n"
        f"{record['date']}, seed {record['seed']}, the last of them on {machine['cpu']}, {machine['cores']} "
        "cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}; {versions}; revision {machine['revision']}.\n"
    )


def _details(record: dict[str, Any]) -> str:
    lines = ["## What was done", ""]
    for name, fault in record["faults"].items():
        found = fault["outcome"]["note"] if fault["outcome"] else fault["untried"] or fault["error"]
        when = f"{fault['run']['date']}, revision {fault['run']['revision']}"
        lines.append(f"- **{name}**: {fault['what'].rstrip('.')}. Found: {found}. ({when})")
    return "\n".join(lines) + "\n"
