"""The Ray cluster: starting or joining one, quietly, and how much of it there is."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from sweep.configuration import ResourceSettings

# glibc gives large blocks back to the kernel after each microbatch and page-faults them in again, one
# 4 KiB page at a time. Huge pages make 512 times fewer faults; keeping up to 1 GiB makes next to none.
ALLOCATOR = {
    "GLIBC_TUNABLES": ":".join(
        [
            "glibc.malloc.hugetlb=1",
            f"glibc.malloc.trim_threshold={1 << 30}",
            f"glibc.malloc.mmap_threshold={256 << 20}",
        ]
    )
}
WORKER_ENVIRONMENT = ALLOCATOR | {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
# Read by Tune when it is imported or run: no loggers of its own, signals are the driver's, and no
# snapshots of all trials, which stop the scheduling while they are written: the ledger replaces them.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class ClusterError(ValueError):
    """A cluster that cannot be reached or cannot serve the study."""


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Start a local cluster, or join the one at `address`; leave it when the block ends.

    A cluster that is already connected is used as it is and left open. Raises ClusterError.
    """
    os.environ.update(TUNE_ENVIRONMENT)
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": WORKER_ENVIRONMENT},
            _temp_dir=None if address else _temporary_directory(),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _temporary_directory() -> str | None:
    chosen = os.environ.get("RAY_TMPDIR")
    return str(Path(chosen).absolute()) if chosen else None


def check_capacity(resources: ResourceSettings) -> int:
    """Return how many trials fit on the cluster at once.

    Raises ClusterError if not even one does, or Phase A fits on no node.
    """
    phase_a = resources.phase_a_cpus or resources.cpus
    for what, cpus in (("Phase A", phase_a), ("a trial", resources.cpus)):
        fitting = sum(_fitting(node, cpus=cpus, gpus=resources.gpus) for node in _nodes())
        if fitting == 0:
            total = ray.cluster_resources()  # type: ignore[no-untyped-call]
            raise ClusterError(
                f"resources: {what} asks for cpus={cpus:g}, gpus={resources.gpus:g} on one node; the cluster has "
                f"in all cpus={total.get('CPU', 0):g}, gpus={total.get('GPU', 0):g}"
            )
    return fitting


def _nodes() -> list[dict[str, float]]:
    """Return what each node that is alive has, by resource."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _fitting(node: dict[str, float], *, cpus: float, gpus: float) -> int:
    slots = [node.get("CPU", 0) / cpus] + ([node.get("GPU", 0) / gpus] if gpus else [])
    return int(min(slots) + 1e-9)
