"""Building blocks for tests that train: prepared tasks, a model with an adapter, a Phase A job."""

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sweep.config.study import StudyConfig
from sweep.planning.inputs import Prepared, prepare
from trainables.artifact import MANIFEST_FILE, Artifact, load_artifact
from trainables.cell import Shared
from trainables.engine.cell_folder import CellStore, Row
from trainables.engine.interruption import Heartbeat, StoppedError
from trainables.engine.session import ModelSession, load_session
from trainables.ledger import schema
from trainables.ledger.cell_reader import current_attempt
from trainables.ledger.manifest import stored_name
from trainables.ledger.storage.base import Storage
from trainables.ledger.storage.directory import DirectoryStorage
from trainables.ledger.storage.location import open_storage
from trainables.model.lora import AdapterStack
from trainables.phase_a import PhaseAJob, make_artifact
from trainables.phase_b import run_cells
from trainables.replay.batch_order import CellSpec
from trainables.replay.pool import open_pool
from trainables.replay.realisation import realise
from trainables.replay.selection import reselects
from trainables.settings import PhaseBSettings

_MADE: dict[str, Path] = {}  # where the artifact of each key was first made in this process


@dataclass(frozen=True)
class Learning:
    """A prepared study with its model, ready to train without Ray."""

    study: StudyConfig
    prepared: Prepared

    @property
    def job(self) -> PhaseAJob:
        prepared = self.prepared
        return PhaseAJob(
            prepared.setup,
            self.study.phase_a,
            prepared.task_a,
            prepared.task_b,
            batch_size=self.study.phase_b.batch_size,
            tokens=1000.0,
            storage=prepared.artifacts[0],
            adapter=prepared.fingerprint["phase_a"].get("adapter"),
            evaluation=self.study.evaluation,
            watched=self.prepared.watched,
            own_scores=self.prepared.own_scores,
        )

    def session(self) -> ModelSession:
        return load_session(self.prepared.setup)

    def stack(self, *seeds: int) -> AdapterStack:
        """Return adapters that already do something (B is not zero), one a seed."""
        model = self.session().model
        stack = model.new_stack(len(seeds))
        for row, seed in enumerate(seeds):
            drawn = torch.randn(model.size, generator=torch.Generator().manual_seed(seed))
            stack.weights[row] = 0.05 * drawn
        return stack

    def shared(self) -> Shared:
        """Make the Phase A artifact if need be, and return what every cell shares.

        An equal one that another test has made is copied.
        """
        place = folder_of(self.prepared.artifacts[0])
        made = _MADE.setdefault(place.name, place)
        if made != place and (made / MANIFEST_FILE).exists() and not place.exists():
            shutil.copytree(made, place)
        make_artifact(self.job)
        artifact = load_artifact(self.prepared.artifacts[0])
        assert artifact is not None
        prepared = self.prepared
        tasks = prepared.task_a, prepared.task_b
        own = prepared.own_scores
        return Shared(prepared.setup, artifact, *tasks, self.study.evaluation, prepared.watched, own)

    def spec(
        self,
        strategy: str | None = "random",
        *,
        mix: float = 0.5,
        seed: int = 0,
        training: PhaseBSettings | None = None,
    ) -> CellSpec:
        train = self.prepared.task_a.train
        pool = open_pool(train, losses=self.shared().artifact.pool_losses)
        training, size = training or self.study.phase_b, len(self.prepared.task_b.train)
        realised = realise(strategy, mix=mix, seed=seed, pool=pool, task_b_size=size, training=training)
        key, digest = f"{strategy}-{mix}-{seed}", realised.stream.digest
        again = training.reselect_every is not None and strategy is not None and reselects(strategy)
        return CellSpec(key, strategy, mix, seed, training, digest, reselects=again)

    def store(self, name: str) -> CellStore:
        return CellStore(open_storage(self.study.storage).inside(f"cells/{name}"))


def learn(study: StudyConfig) -> Learning:
    open_storage(study.storage).make()
    return Learning(study, prepare(study))


def run_cell(
    spec: CellSpec, *, shared: Shared, store: CellStore, heartbeat: Heartbeat = lambda: None
) -> Iterator[Row]:
    """Run one cell by itself and yield its rows."""
    for _, row in run_cells([spec], shared=shared, stores={spec.key: store}, heartbeat=heartbeat):
        yield row


def stop_at(count: int) -> Heartbeat:
    """Return a pulse that asks to stop when it is called for the `count`-th time."""
    calls = itertools.count(1)

    def heartbeat() -> None:
        if next(calls) == count:
            raise StoppedError

    return heartbeat


def folder_of(store: CellStore | Storage) -> Path:
    """Return the directory behind a cell's store or a storage."""
    storage = store.storage if isinstance(store, CellStore) else store
    assert isinstance(storage, DirectoryStorage)
    return storage.path


def path_of(store: CellStore | Storage, name: str) -> Path:
    """Return where a file of a cell or an artifact is that counts, by its name without an attempt's."""
    storage = store.storage if isinstance(store, CellStore) else store
    record = storage.read_record(schema.RESULT_FILE) or storage.read_record(MANIFEST_FILE)
    attempt = record[schema.ATTEMPT] if record else current_attempt(storage.listing())
    own = name in (schema.RESULT_FILE, MANIFEST_FILE)
    return folder_of(storage) / (name if own else stored_name(name, attempt))


def read_json(store: CellStore, name: str) -> dict[str, Any]:
    """Return one of a cell's records."""
    record = store.storage.read_record(path_of(store, name).name)
    assert record is not None
    return record


def result_of(store: CellStore) -> dict[str, Any] | None:
    """Return the result of a finished cell, None for any other."""
    return store.storage.read_record(schema.RESULT_FILE)


def artifact_of(learning: Learning) -> Artifact:
    """Return the finished artifact."""
    artifact = load_artifact(learning.prepared.artifacts[0])
    assert artifact is not None
    return artifact
