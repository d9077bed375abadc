"""The model that a worker trains: base weights and adapter, kept loaded from one cell to the next.

The driver imports this module for `Setup` alone, so torch is imported where the model is built.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from trainables.models import ModelSource, load_base_model
from trainables.settings import ModelSettings

if TYPE_CHECKING:
    from peft import PeftModel

    from trainables.compute import Compute


@dataclass(frozen=True)
class Setup:
    """What a worker needs to build the model: the same for every cell of a study."""

    source: ModelSource
    settings: ModelSettings
    use_gpu: bool

    @property
    def base_model(self) -> str:
        """The name written into adapter files, as PEFT looks it up."""
        return self.source.location


@lru_cache(maxsize=1)
def load_trainee(setup: Setup) -> "tuple[PeftModel, Compute]":
    """Return the model on its device, with an adapter whose weights the caller must set.

    A process keeps the last one: the base weights are frozen, so cells may follow each other on it.
    """
    from trainables.adapters import attach_adapter
    from trainables.compute import open_compute

    compute = open_compute(setup.settings.dtype, use_gpu=setup.use_gpu)
    base = load_base_model(setup.source, dtype=setup.settings.dtype, attention=setup.settings.attention)
    return attach_adapter(base, setup.settings.lora).to(compute.device), compute
