"""Building blocks for tests that train: prepared tasks, a model with an adapter, a Phase A job."""

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel

from sweep.configuration import Study
from sweep.preparation import Prepared, prepare
from trainables.adapters import initialise_adapter
from trainables.cell_store import CellStore
from trainables.compute import Compute
from trainables.phase_a import PhaseAJob, load_artifact, make_artifact
from trainables.phase_b import Shared
from trainables.replay import CellSpec, realise
from trainables.strategies import Pool
from trainables.trainee import load_trainee


@dataclass(frozen=True)
class Learning:
    """A prepared study with its model, ready to train without Ray."""

    study: Study
    prepared: Prepared

    @property
    def job(self) -> PhaseAJob:
        prepared = self.prepared
        return PhaseAJob(
            prepared.setup, self.study.phase_a, prepared.task_a, prepared.task_b, prepared.artifact
        )

    def trainee(self, *, seed: int = 0) -> tuple[PeftModel, Compute]:
        """Return the model with an adapter that already does something (B is not zero)."""
        model, compute = load_trainee(self.prepared.setup)
        initialise_adapter(model, seed=seed)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "lora_B" in name:
                    value.normal_(0, 0.05)
        return model, compute

    def shared(self) -> Shared:
        """Make the Phase A artifact if need be, and return what every cell shares."""
        make_artifact(self.job)
        artifact = load_artifact(self.prepared.artifact)
        return Shared(self.prepared.setup, artifact, self.prepared.task_a, self.prepared.task_b)

    def spec(self, strategy: str | None = "random", *, mix: float = 0.5, seed: int = 0) -> CellSpec:
        train = self.prepared.task_a.train
        pool = Pool(len(train), train.difficulty, self.shared().artifact.pool_losses)
        training, size = self.study.phase_b, len(self.prepared.task_b.train)
        realised = realise(strategy, mix=mix, seed=seed, pool=pool, task_b_size=size, training=training)
        return CellSpec(f"{strategy}-{mix}-{seed}", strategy, mix, seed, training, realised.stream.digest)

    def store(self, name: str) -> CellStore:
        return CellStore(Path(self.study.storage) / "cells" / name)


def learn(study: Study) -> Learning:
    return Learning(study, prepare(study))
