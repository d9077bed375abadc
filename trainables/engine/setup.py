"""What a worker needs to build the model. The driver makes it, and loads neither torch nor the model for
it.
"""

import os
from dataclasses import dataclass

from trainables.model.base_name import base_name
from trainables.model.sources import ModelSource
from trainables.settings import ModelSettings


@dataclass(frozen=True)
class Setup:
    """What a worker needs to build the model: the same for every cell of a study.

    `cpus` and `gpus` are what a cell is given: a worker counts on that part of its machine's memory, or of
    its GPU's, and on no more.
    """

    source: ModelSource
    settings: ModelSettings
    gpus: float
    cpus: float

    @property
    def use_gpu(self) -> bool:
        """Whether a cell is given a GPU or a part of one."""
        return self.gpus > 0

    @property
    def memory_share(self) -> float:
        """The part of the GPU's memory, or without one of the machine's, that a worker may count on."""
        return min(1.0, self.gpus if self.use_gpu else self.cpus / (os.cpu_count() or 1))

    @property
    def base_model(self) -> str:
        """The name written into adapter files, as PEFT looks it up."""
        source = self.source
        return base_name(
            self.settings.name, origin=source.origin, location=source.location, revision=source.revision
        ).name
