"""Where a result comes from: versions, revision, machine, and which weights were used. Holds no secrets."""

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from trainables.cache.code_identity import NUMERICS, package_digest
from trainables.ledger.redaction import redact, redact_argument
from trainables.model.sources import ModelSource

PACKAGES = ("forgetting-sweep", "torch", "transformers", "peft", "ray", "accelerate", "datasets", "numpy")
ROOT = Path(__file__).parents[2]
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
        "revision": code_revision(),
        "numerics": NUMERICS,
        "code": package_digest(),
        "command": [redact_argument(argument) for argument in sys.argv[1:]],
        "environment": {name: redact(os.environ[name]) for name in VARIABLES if name in os.environ},
    }


def code_revision() -> str | None:
    """Return the commit that this code is of, "-dirty" after it where files were changed; None if unknown.

    Known where it runs from a git checkout, or was installed from a repository's address.
    """
    installed = distribution("forgetting-sweep").read_text("direct_url.json")
    commit: str | None = (json.loads(installed) if installed else {}).get("vcs_info", {}).get("commit_id")
    return commit or _checked_out(ROOT)


def _checked_out(root: Path) -> str | None:
    """Return the commit of the git checkout whose top is `root`."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    asked = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    described = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 (no input)
    return described.stdout.strip() or None
