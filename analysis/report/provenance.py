"""Where a study's numbers come from, as facts to print: what was declared, digests, versions, hardware."""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from analysis.findings.findings import Findings
from analysis.reading.cells import READERS
from analysis.reading.study import CELL, STATE, RecordedStudy
from analysis.report.figure_files import PACKAGES
from analysis.wording.conditioning import count_text
from trainables.ledger import schema
from trainables.ledger.forms import read_checked
from trainables.ledger.reading import read_each
from trainables.ledger.sealed_json import DamagedError, Record
from trainables.ledger.storage.base import StorageError

UNKNOWN = "not recorded"
NOTHING = "none"


class Facts(NamedTuple):
    """A group of facts under a title; a long one is folded away until it is asked for."""

    title: str
    rows: list[tuple[str, str]]
    folded: bool = False


def provenance(findings: Findings) -> list[Facts]:
    """Return what a reader needs to trust or repeat the study, read from its ledger."""
    study = findings.study
    description = study.description
    recorded = _section(description, "provenance")
    machines, artifacts = _computed(study)
    return [
        Facts("Inference", _inference(findings)),
        Facts("Digests", _digests(description, artifacts)),
        Facts("Hardware", _hardware(recorded, machines)),
        Facts("Versions when it ran", _flat(_section(recorded, "versions")) or [("versions", UNKNOWN)]),
        Facts("Versions of this analysis", analysis_versions(), True),
        Facts("How it was started", _started(description, recorded), True),
        Facts("Configuration", _flat(_section(description, "config")) or [("configuration", UNKNOWN)], True),
    ]


def analysis_versions() -> list[tuple[str, str]]:
    """Return the packages that made the report."""
    return [("python", platform.python_version()), *((name, version(name)) for name in PACKAGES)]


def _inference(findings: Findings) -> list[tuple[str, str]]:
    settings = findings.settings
    effect = settings.smallest_effect
    return [
        ("primary measure", settings.primary),
        ("smallest effect of interest", NOTHING if effect is None else f"{effect:g}"),
        ("level", f"{100 * settings.level:g} %"),
        ("order of judgement", _words(settings.order)),
        ("power planned for", f"{100 * settings.power:g} %"),
        ("looks, in seeds", _looks(findings)),
        ("kept for growth", f"{100 * settings.growth:g} % of alpha"),
        ("signal gate", "on" if settings.gate else "off"),
        *_declarations(findings.study.description),
    ]


def _looks(findings: Findings) -> str:
    """Return the numbers of seeds at which the contrasts are judged, as they were declared."""
    planned = {each.batch.planned for each in findings.judgements.values()}
    return "; ".join(", ".join(map(str, counts)) for counts in sorted(planned)) or NOTHING


def _declarations(description: Record) -> Iterator[tuple[str, str]]:
    declared = description.get("declarations")
    for entry in declared if isinstance(declared, list) else []:
        if isinstance(entry, dict):
            yield f"declared {_text(entry.get('date', ''))}".strip(), _declared(entry)


def _declared(entry: Record) -> str:
    """Return a declaration in words: 'primary forgetting, smallest effect 0.002; looks 3, 5; 13 cells
    finished by then'.
    """
    inference = _section(entry, "inference")
    parts = [", ".join(f"{_words(name)} {_text(value)}" for name, value in inference.items())]
    parts.append(f"looks {_text(entry.get('looks'))}")
    parts += [f"{_words(name)} {value}" for name, value in _flat(_section(entry, "search"))]
    cells = entry.get("finished_cells")
    if isinstance(cells, int):
        parts.append(f"{count_text([cells], 'cell')} finished by then")
    return "; ".join(filter(None, parts))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _digests(description: Record, artifacts: Counter[str]) -> list[tuple[str, str]]:
    fingerprint = _section(description, "fingerprint")
    facts = [
        (f"data of {name}", _text(_section(fingerprint, name).get("content", UNKNOWN)))
        for name in ("task_a", "task_b")
    ]
    facts.append(("model", _text(_section(fingerprint, "model").get("fingerprint", UNKNOWN))))
    facts += [
        ("Phase A adapter", f"{key} ({count_text([cells], 'cell')})")
        for key, cells in sorted(artifacts.items())
    ]
    if not artifacts:
        facts.append(("Phase A adapter", UNKNOWN))
    facts.append(("code", _text(_section(description, "provenance").get("code", UNKNOWN))))
    facts.append(("configuration", _digest(_section(description, "config"))))
    return facts


def _digest(record: Record) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:20]


def _hardware(recorded: Record, machines: Counter[str]) -> list[tuple[str, str]]:
    facts = [(name, count_text([cells], "cell")) for name, cells in sorted(machines.items())]
    return [*(facts or [("cells computed on", UNKNOWN)]), *_flat(_section(recorded, "machine"))]


def _started(description: Record, recorded: Record) -> list[tuple[str, str]]:
    facts = [("last started by", _command(recorded)), *_starts(description)]
    facts += _flat(_section(recorded, "model_source"))
    facts += [
        (name, _text(value))
        for name, value in sorted(recorded.items())
        if name not in ("command", "model_source", "versions", "machine", "environment", "code")
    ]
    return [*facts, *_flat(_section(recorded, "environment"))]


def _computed(study: RecordedStudy) -> tuple[Counter[str], Counter[str]]:
    """Return how many finished cells each machine computed, and each adapter began; from their results."""
    machines: Counter[str] = Counter()
    artifacts: Counter[str] = Counter()
    storage = study.storage
    if storage is None:
        return machines, artifacts
    ended = study.cells[study.cells[STATE].isin(schema.FINISHED)]

    def read(key: str) -> Record:
        try:
            return read_checked(storage.inside(f"{schema.CELLS_DIRECTORY}/{key}"), schema.RESULT_FILE) or {}
        except (DamagedError, StorageError):
            return {}

    for result in read_each(read, list(ended[CELL].drop_duplicates()), readers=READERS):
        for counter, name in ((machines, "computed_on"), (artifacts, "artifact")):
            if isinstance(result.get(name), str):
                counter[result[name]] += 1
    return machines, artifacts


def _section(record: Record, *names: str) -> Record:
    found: Any = record
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _starts(description: Record) -> Iterator[tuple[str, str]]:
    """Yield every command that the study was started with, when, and at which revision of the code."""
    starts = description.get("starts")
    for start in starts if isinstance(starts, list) else []:
        if isinstance(start, dict):
            revision = _text(start.get("revision") or UNKNOWN)
            yield (
                f"started {_text(start.get('date', ''))}".strip(),
                f"{_command(start)} (revision {revision})",
            )


def _command(record: Record) -> str:
    words = record.get("command")
    return " ".join(map(str, words)) if isinstance(words, list) else UNKNOWN


def _flat(record: Record, *, prefix: str = "") -> list[tuple[str, str]]:
    """Return a nested record as dotted names with texts."""
    rows: list[tuple[str, str]] = []
    for name, value in record.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, prefix=f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _text(value)))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value or NOTHING
    if value is None or value in ([], {}):
        return NOTHING
    if isinstance(value, Sequence) and all(isinstance(part, (str, int, float)) for part in value):
        return ", ".join(map(str, value))
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
