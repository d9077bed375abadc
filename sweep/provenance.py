"""Where a result comes from: versions, machine, and which weights were used."""

import platform
import sys
from importlib.metadata import version
from typing import Any

from trainables.models import ModelSource

PACKAGES = ("forgetting-sweep", "torch", "transformers", "peft", "ray", "accelerate", "datasets", "numpy")


def provenance(source: ModelSource) -> dict[str, Any]:
    """Return what a reader needs to repeat the study, as JSON."""
    return {
        "model_source": source.record(),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        "command": sys.argv[1:],
    }
