"""The Phase A artifact as files: a directory named by its content key, its manifest written last.

Reading it needs neither torch nor PEFT.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from trainables.adapters import AdapterWeights, load_adapter
from trainables.averages import token_weighted
from trainables.columns import ADAPTER_DIRECTORY
from trainables.digests import digest_files
from trainables.tuning import Tuning

MANIFEST_FILE = "manifest.json"
LOSSES_FILE = "losses.safetensors"
Losses = npt.NDArray[np.float64]


class ArtifactError(ValueError):
    """A Phase A artifact that cannot be read back whole."""


@dataclass(frozen=True)
class Artifact:
    """What Phase A leaves behind. Losses are summed nll per example (nats), tokens are supervised.

    `pool_nll`, `pool_tokens`: over task A's training pool, with the finished adapter.
    `validation_nll`, `validation_tokens`: over both validation sets (step 0 of every Phase B run).
    `base_nll`: over both validation sets, before Phase A. `tuning`: how it was computed.
    """

    adapter: AdapterWeights
    pool_nll: Losses
    pool_tokens: npt.NDArray[np.int64]
    validation_nll: tuple[Losses, Losses]
    validation_tokens: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    base_nll: tuple[Losses, Losses]
    tuning: Tuning

    @property
    def pool_losses(self) -> Losses:
        """Mean nll a token of each training example: what `loss_*` strategies order by."""
        return self.pool_nll / self.pool_tokens

    def summary(self) -> dict[str, float]:
        """Return the token-weighted validation losses before and after Phase A."""
        both = zip(
            ("task_a", "task_b"), self.base_nll, self.validation_nll, self.validation_tokens, strict=True
        )
        summary = {}
        for name, before, after, tokens in both:
            summary[f"{name}_loss_before"] = token_weighted(before, tokens)
            summary[f"{name}_loss_after"] = token_weighted(after, tokens)
        return summary


def artifact_exists(folder: Path) -> bool:
    """Say whether a finished artifact is at `folder`."""
    return (folder / MANIFEST_FILE).is_file()


def artifact_content(folder: Path) -> list[Path]:
    """Return the files that the manifest's digest covers."""
    return [folder / LOSSES_FILE, *(folder / ADAPTER_DIRECTORY).iterdir()]


def load_artifact(folder: Path) -> Artifact:
    """Read a finished artifact. Raises ArtifactError if its files are not those it was published with."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
        if digest_files(artifact_content(folder)) != manifest["content"]:
            raise ArtifactError(
                f"{folder} is damaged: its files differ from its manifest; delete it to train it again"
            )
        arrays = load_file(folder / LOSSES_FILE)
        return Artifact(
            adapter=load_adapter(folder / ADAPTER_DIRECTORY),
            pool_nll=arrays["pool_nll"],
            pool_tokens=arrays["pool_tokens"],
            validation_nll=(arrays["task_a_nll"], arrays["task_b_nll"]),
            validation_tokens=(arrays["task_a_tokens"], arrays["task_b_tokens"]),
            base_nll=(arrays["task_a_base_nll"], arrays["task_b_base_nll"]),
            tuning=Tuning(**manifest["tuning"]),
        )
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder} is not a whole Phase A artifact: {error}; delete it to train it again"
        ) from error
