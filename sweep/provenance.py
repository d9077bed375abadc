"""Where a result comes from: versions, machine, and which weights were used. Holds no secrets."""

import os
import platform
import sys
from importlib.metadata import version
from typing import Any

from trainables.models import ModelSource
from trainables.redaction import redact, redact_argument

PACKAGES = ("forgetting-sweep", "torch", "transformers", "peft", "ray", "accelerate", "datasets", "numpy")
VARIABLES = (
    "RAY_ADDRESS",
    "CUDA_VISIBLE_DEVICES",
    "SLURM_JOB_ID",
    "OMP_NUM_THREADS",
)  # no others are recorded


def provenance(source: ModelSource) -> dict[str, Any]:
    """Return what a reader needs to repeat the study, as JSON, credentials taken out."""
    return {
        "model_source": {
            name: redact(value) if isinstance(value, str) else value
            for name, value in source.record().items()
        },
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        "command": [redact_argument(argument) for argument in sys.argv[1:]],
        "environment": {name: redact(os.environ[name]) for name in VARIABLES if name in os.environ},
    }
