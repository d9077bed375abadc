"""Building blocks for tests that train: prepared tasks, a model with an adapter, a Phase A job."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from sweep.configuration import Study
from sweep.preparation import Prepared, prepare
from trainables.artifact import load_artifact
from trainables.cell import Shared
from trainables.cell_store import CellStore, Row
from trainables.lora import AdapterBank
from trainables.phase_a import PhaseAJob, make_artifact
from trainables.phase_b import run_cells
from trainables.replay import CellSpec, realise
from trainables.settings import PhaseBSettings
from trainables.strategies import Pool
from trainables.trainee import Trainee, load_trainee


@dataclass(frozen=True)
class Learning:
    """A prepared study with its model, ready to train without Ray."""

    study: Study
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
            folder=prepared.artifact,
        )

    def trainee(self) -> Trainee:
        return load_trainee(self.prepared.setup)

    def bank(self, *seeds: int) -> AdapterBank:
        """Return adapters that already do something (B is not zero), one a seed."""
        model = self.trainee().model
        bank = model.new_bank(len(seeds))
        for row, seed in enumerate(seeds):
            drawn = torch.randn(model.size, generator=torch.Generator().manual_seed(seed))
            bank.weights[row] = 0.05 * drawn
        return bank

    def shared(self) -> Shared:
        """Make the Phase A artifact if need be, and return what every cell shares."""
        make_artifact(self.job)
        artifact = load_artifact(self.prepared.artifact)
        return Shared(self.prepared.setup, artifact, self.prepared.task_a, self.prepared.task_b)

    def spec(
        self,
        strategy: str | None = "random",
        *,
        mix: float = 0.5,
        seed: int = 0,
        training: PhaseBSettings | None = None,
    ) -> CellSpec:
        train = self.prepared.task_a.train
        pool = Pool(len(train), train.difficulty, self.shared().artifact.pool_losses)
        training, size = training or self.study.phase_b, len(self.prepared.task_b.train)
        realised = realise(strategy, mix=mix, seed=seed, pool=pool, task_b_size=size, training=training)
        return CellSpec(f"{strategy}-{mix}-{seed}", strategy, mix, seed, training, realised.stream.digest)

    def store(self, name: str) -> CellStore:
        return CellStore(Path(self.study.storage) / "cells" / name)


def learn(study: Study) -> Learning:
    return Learning(study, prepare(study))


def run_cell(
    spec: CellSpec, *, shared: Shared, store: CellStore, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Row]:
    """Run one cell by itself and yield its rows."""
    stores = {spec.key: store}
    for _, row in run_cells([spec], shared=shared, stores=stores, should_stop=should_stop):
        yield row
