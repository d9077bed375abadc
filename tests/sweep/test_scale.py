"""Large studies: each cell is listed and read once a pass, shared work is done once, nothing else changes."""

import io
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from sweep.config.study import StudyConfig, validate_study
from sweep.console.tables import print_plan, print_status
from sweep.ledger.ledger import CellStatus, Ledger
from sweep.planning import cells as cells_module
from sweep.planning import study_record
from sweep.planning.cells import Label, Origin, PlannedCell, plan_cells, plan_record, study_labels
from sweep.planning.inputs import PHASE_B_BOOKKEEPING, Prepared, prepare, without_later
from sweep.planning.plan import Plan, make_plan
from trainables.ledger import schema
from trainables.ledger.digests import digest_json
from trainables.ledger.manifest import FileSet
from trainables.ledger.schema import AA
from trainables.ledger.storage.location import open_storage
from trainables.replay import strategies
from trainables.replay.batch_order import Slots, lay_out_slots
from trainables.replay.pool import Indices, Pool
from trainables.replay.realisation import realise
from trainables.replay.strategies import ORIGINAL, STRATEGIES

SEEDS, MIXES = list(range(6)), [0, 0.25, 0.5]
GRIDS: dict[str, dict[str, Any]] = {
    "add": {},
    "substitute": {"mix": [0, 0.25, 0.9], "mix_mode": ["substitute"]},
    "a whole pool": {"mix": [1.0]},
    "mixes that round alike": {"mix": [0, 0.01, 0.5, 0.51]},
    "further axes": {"lr": [0.01, 0.02], "batch_size": [3, 5], "seed": [0, 1]},
    "steps": {"steps": [1, 5, 40], "seed": [0]},
}

_opened: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event in ("open", "os.scandir") and isinstance(arguments[0], str):
        _opened.append(arguments[0])


sys.addaudithook(_hook)  # sees every open() and scandir(), however it is called


@contextmanager
def reads(root: Path) -> Iterator[Counter[str]]:
    """Count how often each file and folder of a study is opened while the block runs, by its path there."""
    global _opened
    counts: Counter[str] = Counter()
    _opened = []
    try:
        yield counts
    finally:
        opened, _opened = _opened, None
        counts.update(str(Path(name).relative_to(root)) for name in opened if name.startswith(f"{root}/"))


@pytest.fixture
def values(study_values: dict[str, Any]) -> dict[str, Any]:
    search = {"strategy": [*ORIGINAL, AA], "mix": MIXES, "seed": SEEDS}
    return {**study_values, "search": search}


def prepared_study(values: dict[str, Any]) -> tuple[StudyConfig, Prepared]:
    study = validate_study(values, origin="test")
    return study, prepare(study)


def root_of(ledger: Ledger) -> Path:
    return Path(ledger.storage.location)


def losses_of(prepared: Prepared) -> np.ndarray:
    return np.random.default_rng(0).random(len(prepared.task_a.train)).round(1)  # with ties


def planned(study: StudyConfig, prepared: Prepared) -> list[PlannedCell]:
    return plan_cells(study, prepared, origins={0: Origin("a", losses_of(prepared))})


@pytest.fixture
def finished(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[StudyConfig, Prepared, Ledger]:
    """A study whose every second cell is finished, every fourth half done, the others missing."""
    study, prepared = prepared_study(values)
    artifact = SimpleNamespace(pool_losses=losses_of(prepared), content="c")
    monkeypatch.setattr("sweep.planning.plan.load_artifact", lambda storage: artifact)
    ledger = Ledger(open_storage(study.storage))
    ledger.storage.make()
    key = prepared.artifacts[0].prefix.rpartition("/")[2]
    cells = plan_cells(study, prepared, origins={0: Origin(key, losses_of(prepared))})
    fingerprint = prepared.fingerprint
    study_record.open_study(ledger, study, fingerprint=fingerprint, details={}, precision="fp32")
    study_record.publish_plan(ledger, plan_record(cells, study=study, axes=[]))
    for number, cell in enumerate(cells):
        assert cell.spec is not None
        storage = ledger.cell(cell.spec.key)
        if number % 2 == 0:
            files = FileSet(storage)
            files.write_record(schema.ROWS_FILE, {"rows": []})
            result = {
                "state": schema.DONE,
                "step": 4,
                "seconds": 2.0,
                "artifact": "c",
                "files": files.manifest,
            }
            storage.write_record(schema.RESULT_FILE, result)
        elif number % 4 == 1:
            storage.write_record(schema.ROWS_FILE, {"rows": []})
    return study, prepared, ledger


def test_planning_reads_the_plan_and_every_cell_once(finished: tuple[StudyConfig, Prepared, Ledger]) -> None:
    study, prepared, ledger = finished
    with reads(root_of(ledger)) as counts:
        plan = make_plan(study, prepared, ledger, say=pytest.fail)
    assert set(counts.values()) == {1}
    finished_cells = [status for _, status in plan.planned if status.state == schema.DONE]
    files = {name for name in counts if name.endswith(".json")}
    own = {schema.PLAN_FILE, schema.STUDY_FILE}
    assert files == {name for name in files if name.endswith(schema.RESULT_FILE)} | own
    assert len(files) == len(finished_cells) + len(own)
    assert len(finished_cells) == len(plan.cells) / 2
    assert plan.seconds_a_cell == 2.0


def test_status_reads_every_file_once(finished: tuple[StudyConfig, Prepared, Ledger]) -> None:
    ledger = finished[2]
    with reads(root_of(ledger)) as counts:
        print_status(ledger, thorough=False, console=Console(file=io.StringIO()))
    states = Counter(status.state for _, status in ledger.planned_statuses())
    assert set(counts.values()) == {1}
    read = [name for name in counts if name.endswith(".json")]
    assert len(read) == 2 + states[schema.DONE] + states[schema.PARTIAL]  # study, plan, results, rows


def test_an_unchanged_plan_is_published_without_reading_a_cell(
    finished: tuple[StudyConfig, Prepared, Ledger],
) -> None:
    ledger = finished[2]
    before = ledger.plan()
    with reads(root_of(ledger)) as counts:
        study_record.publish_plan(ledger, before)
    assert not [name for name in counts if name.startswith(schema.CELLS_DIRECTORY)]
    assert ledger.plan() == before


def test_a_smaller_plan_keeps_what_was_finished_and_reads_only_that(
    finished: tuple[StudyConfig, Prepared, Ledger],
) -> None:
    ledger = finished[2]
    before = ledger.planned_statuses()
    entries = [entry for entry, _ in before[:5]]
    with reads(root_of(ledger)) as counts:
        study_record.publish_plan(ledger, entries)
    kept = [entry for entry, status in before[5:] if status.state == schema.DONE]
    assert set(counts.values()) == {1}
    assert len([name for name in counts if name.endswith(schema.RESULT_FILE)]) == len(kept)
    assert ledger.plan() == entries + kept


class _CountedLabels(dict[str, Any]):
    """Labels that count how often they are compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        _CountedLabels.compared += 1
        return super().__eq__(other)

    __hash__ = None


def test_publishing_compares_each_entry_with_its_own_cell_alone(tmp_path: Path) -> None:
    ledger = Ledger(open_storage(str(tmp_path)))
    seeds = range(200)

    def label(seed: int) -> dict[str, Any]:
        return {schema.STRATEGY: "random", schema.MIX: 0.1, schema.SEED: seed}

    study_record.publish_plan(ledger, ({"labels": label(seed), "key": f"{seed:020d}"} for seed in seeds))
    _CountedLabels.compared = 0
    study_record.publish_plan(
        ledger,
        ({"labels": _CountedLabels(label(seed)), "key": f"{seed:020d}"} for seed in reversed(seeds)),
    )
    assert 0 < _CountedLabels.compared <= 2 * len(seeds)


def test_the_pool_is_ordered_once_a_seed_and_slots_are_drawn_once_a_mix(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, prepared = prepared_study(values)
    ordered: Counter[str] = Counter()
    for name, strategy in list(STRATEGIES.items()):
        monkeypatch.setitem(strategies.STRATEGIES, name, _counting(strategy, name, ordered))
    drawn = []

    def counting_slots(count: int, *, seed: int, **given: Any) -> Slots:
        drawn.append((seed, count))
        return lay_out_slots(count, seed=seed, **given)

    monkeypatch.setattr(cells_module, "lay_out_slots", counting_slots)
    planned(study, prepared)
    assert len(drawn) == len(set(drawn)) == len(SEEDS) * len(MIXES)
    assert ordered == dict.fromkeys([*ORIGINAL, AA], len(SEEDS))


def _counting(strategy: strategies.Strategy, name: str, counts: Counter[str]) -> strategies.Strategy:
    def order(pool: Pool, generator: np.random.Generator) -> Indices:
        counts[name] += 1
        return strategy.order(pool, generator)

    return replace(strategy, order=order)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_every_cell_is_what_a_worker_realises_from_its_label_alone(
    values: dict[str, Any], grid: dict[str, Any]
) -> None:
    study, prepared = prepared_study({**values, "search": values["search"] | grid})
    expected = _one_by_one(study, prepared)
    found = planned(study, prepared)
    assert [(cell.labels, cell.spec.key, cell.steps, cell.tokens) for cell in found if cell.spec] == expected


def _one_by_one(study: StudyConfig, prepared: Prepared) -> list[tuple[Any, ...]]:
    """Plan without sharing anything between labels: the definition of a cell's key and size."""
    train, pool_b = prepared.task_a.train, prepared.task_b.train
    pool = Pool(len(train), train.difficulty, losses_of(prepared))
    cells: dict[str, tuple[Any, ...]] = {}
    for label in study_labels(study):
        training = study.training_at(dict(label.axes))
        strategy = None if label.strategy == schema.NO_REPLAY else label.strategy
        stream = realise(
            strategy, mix=label.mix, seed=label.seed, pool=pool, task_b_size=len(pool_b), training=training
        ).stream
        meaning = {
            "artifact": "a",
            "task_b": prepared.task_b.digest,
            "seed": label.seed,
            "order": stream.digest,
            "training": without_later(training.model_dump(mode="json", exclude=PHASE_B_BOOKKEEPING)),
        }
        key = digest_json(meaning)
        lengths = np.stack([train.lengths, pool_b.lengths])  # pools of equal size
        tokens = int(lengths[stream.sources, stream.indices].sum())
        labels = (*cells[key][0], label) if key in cells else (label,)
        cells[key] = (labels, key, stream.steps, tokens)
    return list(cells.values())


@pytest.mark.parametrize("width", [40, 60, 200])
def test_a_long_plan_prints_the_same_table_as_row_by_row(values: dict[str, Any], width: int) -> None:
    study, prepared = prepared_study(values)
    cells = [PlannedCell((Label("random", 0.5, seed),), None, 3, 10**6 + seed) for seed in range(207)]
    plan = Plan([(cell, CellStatus(schema.MISSING)) for cell in cells], {0: None}, 5, None, lambda seed: 0)
    shown = Console(file=io.StringIO(), width=width)
    print_plan(plan, study=study, prepared=prepared, console=shown)
    expected = Table("cell", "state", "steps", "tokens", "minutes", box=None)
    for cell in cells:
        expected.add_row(cell.name, schema.MISSING, "3", f"about {cell.tokens:,}", "")
    alone = Console(file=io.StringIO(), width=width)
    alone.print(expected)
    assert text_of(alone) in text_of(shown)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
