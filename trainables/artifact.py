"""The Phase A artifact as files: a folder named by its content key, its manifest created last and once.

Reading it needs neither torch nor PEFT.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load

from trainables.engine.compute_plan import ComputePlan
from trainables.ledger.digests import digest_json
from trainables.ledger.leftovers import leftovers_beside, sweep
from trainables.ledger.loss_means import Losses, token_weighted
from trainables.ledger.manifest import FILES, Record, read_listed, stored_name
from trainables.ledger.schema import (
    ADAPTER_DIRECTORY,
    ANSWERS_FILE,
    ATTEMPT,
    COLUMNS_DIRECTORY,
    LEASES_DIRECTORY,
    WATCHED,
)
from trainables.ledger.sealed_json import DamagedError, unseal
from trainables.ledger.storage.base import Storage
from trainables.model.lora_files import WEIGHTS_FILE, AdapterWeights

MANIFEST_FILE = "manifest.json"
LOSSES_FILE = "losses.safetensors"
PARTIAL = "partial"  # where Phase A's checkpoints are until the artifact is whole


class WatchedLosses(NamedTuple):
    """Summed nll of each example of a watched corpus (nats) before and after Phase A; supervised tokens."""

    base: Losses
    after: Losses
    tokens: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Artifact:
    """What Phase A leaves behind. Losses are summed nll per example (nats), tokens are supervised.

    `pool_nll`, `pool_tokens`: over task A's training pool, with the finished adapter.
    `validation_nll`, `validation_tokens`: over both validation sets (step 0 of every Phase B run).
    `base_nll`: over both validation sets, before Phase A. `compute_plan`: how it was computed. `answers`:
    what was generated "before" and "after" Phase A, where that was asked for. `watched`: by corpus.
    `content` is the digest of its numbers: two artifacts with the same one are the same, bit for bit.
    """

    content: str
    adapter: AdapterWeights
    pool_nll: Losses
    pool_tokens: npt.NDArray[np.int64]
    validation_nll: tuple[Losses, Losses]
    validation_tokens: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    base_nll: tuple[Losses, Losses]
    compute_plan: ComputePlan
    answers: dict[str, Any] | None = None
    watched: dict[str, WatchedLosses] = field(default_factory=dict)

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


def load_artifact(storage: Storage) -> Artifact | None:
    """Return the artifact in `storage`, None if it is not finished. Raises DamagedError naming the file."""
    manifest = storage.read_record(MANIFEST_FILE)
    if manifest is None:
        return None
    try:
        return _read(storage, manifest, ComputePlan(**manifest["tuning"]))
    except (KeyError, TypeError, AttributeError) as error:  # whole, but written by another version
        raise DamagedError(f"{storage.describe(MANIFEST_FILE)} lacks {error}") from error


def adapter_folder(storage: Storage) -> str:
    """Return the name of the PEFT folder in a whole artifact's. Raises DamagedError where there is none."""
    manifest = storage.read_record(MANIFEST_FILE)
    if manifest is None:
        raise DamagedError(f"{storage.describe(MANIFEST_FILE)} is missing")
    return stored_name(ADAPTER_DIRECTORY, manifest.get(ATTEMPT))


def sweep_artifact(storage: Storage) -> None:
    """Delete what a whole Phase A artifact needs no more: checkpoints, and files of attempts that did not
    end.
    """
    manifest, found = storage.read_record(MANIFEST_FILE), storage.listing()
    if manifest is None:
        return
    kept = {name for name in found.files if name.startswith(f"{LEASES_DIRECTORY}/")}
    kept |= {name for name in found.temporary if name.startswith(f"{COLUMNS_DIRECTORY}/")}  # in the making
    names = [name for name in leftovers_beside(manifest, found) if not name.startswith(f"{PARTIAL}/")]
    sweep(storage, tuple(name for name in names if name not in kept))
    if any(name.startswith(f"{PARTIAL}/") for name in (*found.files, *found.temporary)):
        storage.delete_folder(PARTIAL)


def _watched(arrays: Iterable[str]) -> list[str]:
    """Return the corpora of which there are losses, by the arrays' names."""
    ending = "_base_nll"
    return [
        each.removeprefix(WATCHED).removesuffix(ending)
        for each in arrays
        if each.startswith(WATCHED) and each.endswith(ending)
    ]


def _read(storage: Storage, manifest: Record, compute_plan: ComputePlan) -> Artifact:
    weights, files = f"{ADAPTER_DIRECTORY}/{WEIGHTS_FILE}", manifest[FILES]
    content = {
        name: read_listed(storage, manifest, name) for name in dict.fromkeys((*files, LOSSES_FILE, weights))
    }
    arrays = load(content[LOSSES_FILE])
    return Artifact(
        content=digest_json([files[name]["checksum"] for name in (LOSSES_FILE, weights)]),
        adapter=load(content[weights]),
        pool_nll=arrays["pool_nll"],
        pool_tokens=arrays["pool_tokens"],
        validation_nll=(arrays["task_a_nll"], arrays["task_b_nll"]),
        validation_tokens=(arrays["task_a_tokens"], arrays["task_b_tokens"]),
        base_nll=(arrays["task_a_base_nll"], arrays["task_b_base_nll"]),
        compute_plan=compute_plan,
        answers=unseal(content[ANSWERS_FILE]) if ANSWERS_FILE in content else None,
        watched={
            name: WatchedLosses(
                *(arrays[f"{WATCHED}{name}_{each}"] for each in ("base_nll", "nll", "tokens"))
            )
            for name in _watched(arrays)
        },
    )
