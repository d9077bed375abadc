"""What a study has to export, by label, and an adapter of it as a folder that PEFT loads, with its card.

Needs neither the model nor the data: everything is read from the study's storage.
"""

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from sweep.export import LONGEST_NAME
from sweep.ledger.ledger import CellStatus, Entry, Ledger
from sweep.lr_search.search import check_kind
from sweep.model_card import CardContent, Losses, model_card, nested
from sweep.planning.cells import Label
from trainables.artifact import LOSSES_FILE, MANIFEST_FILE, load_artifact
from trainables.ledger import schema
from trainables.ledger.atomic_write import publish_bytes, publish_text
from trainables.ledger.cell_reader import read_result
from trainables.ledger.digests import digest_json
from trainables.ledger.errors import UserError
from trainables.ledger.manifest import FILES, Record, read_listed, read_listed_record
from trainables.ledger.sealed_json import DamagedError
from trainables.ledger.storage.base import Storage
from trainables.ledger.storage.location import LocationError, open_storage
from trainables.model.base_name import BaseName, base_name
from trainables.model.lora_files import CONFIG_FILE, WEIGHTS_FILE

PHASE_A = "phase_a"
CARD_FILE = "README.md"
NEAREST, LISTED = 3, 12  # labels that an error names: alike ones, else so many of all
ENVIRONMENTS = {"site-packages", "dist-packages"}


class ExportError(UserError):
    """What cannot be exported; the message says why, and what can."""


@dataclass(frozen=True)
class Exportable:
    """An adapter that may be asked for: by `label`, or by `key`.

    `storage` is its folder, `record` what lists its files. `without` says why there is no adapter, if so.
    """

    label: str
    key: str
    storage: Storage
    record: Record | None = None
    labels: dict[str, Any] | None = None
    without: str | None = None


def exportables(ledger: Ledger) -> list[Exportable]:
    """Return Phase A's adapters and every planned cell, in the order of the plan.

    Raises LedgerError for a learning-rate search.
    """
    check_kind(ledger, early_stopping=False)
    planned = ledger.planned_statuses()
    return [*_phase_a(ledger, planned), *(_cell(ledger, entry, status) for entry, status in planned)]


def _cell(ledger: Ledger, entry: Entry, status: CellStatus) -> Exportable:
    labels, key = entry["labels"], entry["key"] or ""
    label = Label.of(labels).describe()
    storage = ledger.cell(key) if key else ledger.storage
    if status.state not in schema.FINISHED:
        why = status.damage or f"it is {status.state}: an adapter is kept when a cell is done"
        return Exportable(label, key, storage, None, labels, why)
    try:
        result = read_result(storage, storage.listing())
    except DamagedError as error:
        return Exportable(label, key, storage, None, labels, str(error))
    assert result is not None
    without = None
    if status.state != schema.DONE:
        without = "it diverged: there is no adapter worth keeping"
    elif _weights_name() not in result[FILES]:
        without = (
            "phase_b.keep_adapters was false when it ran, and a finished cell never runs again: run the "
            "study elsewhere with --set phase_b.keep_adapters=true --set storage=PLACE. Phase A's adapter is "
            f"always kept: --cell {PHASE_A}"
        )
    return Exportable(label, key, storage, result, labels, without)


def _weights_name() -> str:
    return f"{schema.ADAPTER_DIRECTORY}/{WEIGHTS_FILE}"


def _phase_a(ledger: Ledger, planned: list[tuple[Entry, CellStatus]]) -> list[Exportable]:
    """Return the artifacts that finished cells began from; before there are any, the study's own."""
    record = ledger.study_record()
    assert record is not None
    settings = nested(record, "config", "phase_a")
    cache = settings.get("cache")
    place = open_storage(cache) if cache else ledger.storage.inside(schema.ARTIFACTS_DIRECTORY)
    own_seeds = settings.get("seeds", "shared") == "per_replicate"
    seeds: dict[str | None, set[int]] = {}
    for entry, status in planned:
        if status.artifact is not None:
            seed = entry["labels"][schema.SEED] if own_seeds else settings.get("seed", 0)
            seeds.setdefault(status.artifact, set()).add(seed)
    found = []
    for key, listing in sorted(place.listing().by_folder().items()):
        manifest = place.inside(key).read_record(MANIFEST_FILE) if MANIFEST_FILE in listing.files else None
        if manifest is None:
            continue
        content = _content(manifest)
        if content in seeds or not (seeds or cache):
            found.append((key, manifest, sorted(seeds.get(content, []))))
    named = []
    for key, manifest, of in sorted(found, key=lambda each: (each[2], each[0])):
        which = f", seed {of[0]}" if of else f", artifact {key}"
        label = PHASE_A if len(found) == 1 else PHASE_A + which
        named.append(Exportable(label, key, place.inside(key), manifest))
    return named


def _content(manifest: Record) -> str | None:
    """Return the digest by which cells name the artifact that they began from."""
    files = manifest.get(FILES, {})
    if LOSSES_FILE not in files or _weights_name() not in files:
        return None
    return digest_json([files[name]["checksum"] for name in (LOSSES_FILE, _weights_name())])


def choose(found: list[Exportable], asked: str) -> Exportable:
    """Return what has this label or key. Raises ExportError where none has, several have, or it has no
    adapter.
    """
    wanted = _comparable(asked)
    chosen = [each for each in found if wanted in (_comparable(each.label), each.key)]
    if not chosen:
        raise ExportError(f"--cell: no cell is called {asked!r:.200}; {_choices(found, wanted)}")
    if len({each.key for each in chosen}) > 1:
        keys = ", ".join(f"{each.key} ({each.labels or each.label})" for each in chosen)
        raise ExportError(f"--cell: {asked!r:.200} is called more than one cell; give a key: {keys}")
    if chosen[0].without is not None:
        raise ExportError(f"--cell: {chosen[0].label} has no adapter: {chosen[0].without}")
    return chosen[0]


def _comparable(label: str) -> str:
    return re.sub(r"[\s,]+", " ", label).strip().casefold()


def _choices(found: list[Exportable], wanted: str) -> str:
    names = {_comparable(each.label): each.label for each in found}
    if not names:
        return "nothing of this study has been planned yet"
    near = difflib.get_close_matches(wanted, names, n=NEAREST, cutoff=0.5)
    if near:
        return f"the nearest: {'; '.join(names[each] for each in near)}"
    more = f"; and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"choose from: {'; '.join(list(names.values())[:LISTED])}{more}"


def describe_exports(ledger: Ledger, formats: dict[str, str]) -> Iterator[str]:
    """Yield what may be exported, a line each: the formats, then the adapters by label."""
    yield "formats (--format):"
    yield from (f"  {name}: {what}" for name, what in formats.items())
    found = exportables(ledger)
    ready = [each for each in found if each.without is None]
    yield f"adapters (--cell LABEL, with --format peft): {len(ready)} of {len(found)}"
    yield from (f"  {each.label}" for each in ready)
    reasons = Counter(each.without for each in found if each.without is not None)
    yield from (f"  {count} without one: {reason}" for reason, count in reasons.most_common(LISTED))


def export_adapter(ledger: Ledger, asked: str, output: Path | None, *, base: str | None) -> Path:
    """Write an adapter's folder: its weights as they are, its configuration, and a card; return the folder.

    `base` names the base model in place of what the study found it by. Raises ExportError, LedgerError,
    DamagedError, or LocationError where `output` cannot be written to.
    """
    found = exportables(ledger)
    chosen = choose(found, asked)
    record = ledger.study_record()
    assert record is not None
    assert chosen.record is not None
    name = BaseName(base) if base else _base_of(record)
    content = {
        file: read_listed(chosen.storage, chosen.record, f"{schema.ADAPTER_DIRECTORY}/{file}")
        for file in (CONFIG_FILE, WEIGHTS_FILE)
    }
    config = json.loads(content[CONFIG_FILE])
    config |= {"base_model_name_or_path": name.name, "revision": name.revision}
    content[CONFIG_FILE] = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
    card = model_card(record, _card_content(record, chosen, found, base=name, lora=config))
    folder = output or _default_place(ledger, chosen)
    try:
        for file, content_of in content.items():
            publish_bytes(folder / file, content_of)
        publish_text(folder / CARD_FILE, card)
    except OSError as error:
        raise LocationError(
            f"the adapter cannot be written to {folder} ({error.strerror}): give another place with -o"
        ) from error
    return folder


def _default_place(ledger: Ledger, chosen: Exportable) -> Path:
    place = ledger.storage.location
    root = Path("" if "://" in place else place, "export")
    return root / re.sub(r"[^A-Za-z0-9_.+-]+", "_", chosen.label)[:LONGEST_NAME]


def _base_of(record: Record) -> BaseName:
    """Return what the study's base model is found by. Raises ExportError for a file of an environment."""
    source = nested(record, "provenance", "model_source")
    asked = str(nested(record, "config", "model").get("name", record.get("model")))
    found = base_name(
        asked,
        origin=str(source.get("origin")),
        location=str(source.get("location", asked)),
        revision=source.get("revision"),
    )
    if ENVIRONMENTS & {*PurePath(found.name).parts}:
        raise ExportError(
            f"the base model is a file of a Python environment, {found.name:.300}, where nobody else finds "
            "it: name the model with --base-model OWNER/NAME"
        )
    return found


def _card_content(
    record: Record,
    chosen: Exportable,
    found: list[Exportable],
    *,
    base: BaseName,
    lora: Record,
) -> CardContent:
    if chosen.labels is None:
        artifact = load_artifact(chosen.storage)
        assert artifact is not None
        means = artifact.summary()
        pairs = ((means[f"{task}_loss_before"], means[f"{task}_loss_after"]) for task in schema.TASKS)
        training = nested(record, "config", "phase_a")
        shown = {name: value for name, value in training.items() if name not in ("cache", "adapter")}
        given = training.get("adapter") is not None
        return CardContent(
            chosen.label, Losses(*pairs), base, {"brought": "by the user"} if given else shown, lora
        )
    assert chosen.record is not None
    described = read_listed_record(chosen.storage, chosen.record, schema.CELL_FILE)
    rows = read_listed_record(chosen.storage, chosen.record, schema.ROWS_FILE)["rows"]
    pairs = ((rows[0][name], rows[-1][name]) for name in (schema.TASK_A_LOSS, schema.TASK_B_LOSS))
    others = [each.labels for each in found if each.labels is not None and each.record is not None]
    return CardContent(
        chosen.label,
        Losses(*pairs),
        base,
        nested(described, "hyperparameters"),
        lora,
        seeds=tuple(sorted(each["seed"] for each in others if _same_arm(each, chosen.labels))),
        labels=chosen.labels,
    )


def _same_arm(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return {**one, schema.SEED: None} == {**other, schema.SEED: None}
