"""The Ray cluster: starting or joining one, quietly, and how much of it there is."""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import ray
from ray.exceptions import AuthenticationError, RayError

from sweep.configuration import ResourceSettings
from sweep.errors import ClusterLostError

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
HEAD_PATIENCE = 20.0  # seconds; Ray itself may wait minutes for a head that is gone
EXIT_FAILED = 1


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
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(_refusal(address, error)) from error
    try:
        with _head_watched(address) if address else nullcontext():
            yield
    except RayError as error:
        raise ClusterLostError(f"{_loss(address)} ({type(error).__name__})") from error
    finally:
        ray.shutdown()


def _refusal(address: str | None, error: Exception) -> str:
    reason = str(error).partition(". Ensure")[0]
    if address is None:
        return f"no Ray cluster could be started on this machine: {reason}"
    return (
        f"no Ray cluster lets this driver in at {address}: {reason}\n"
        "Is its head running? If its nodes have a token, set RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN "
        "(or RAY_AUTH_TOKEN_PATH) here"
    )


def _loss(address: str | None) -> str:
    return (
        f"the Ray cluster at {address or 'this machine'} is gone; what is finished and checkpointed is kept: "
        "run the same command on a new cluster"
    )


@contextmanager
def _head_watched(address: str) -> Iterator[None]:
    """End the process, readably, once the head has been out of reach for HEAD_PATIENCE; Ray's calls then hang."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    ended = threading.Event()

    def watch() -> None:
        seen = time.monotonic()
        while not ended.wait(1.0):
            try:
                socket.create_connection((host, int(port)), timeout=1.0).close()
                seen = time.monotonic()
            except OSError:
                if time.monotonic() > seen + HEAD_PATIENCE:
                    sys.stderr.write(f"error: {_loss(address)}\n")
                    sys.stderr.flush()
                    os._exit(EXIT_FAILED)  # an orderly end would wait for the head as well

    watcher = threading.Thread(target=watch, daemon=True, name="head")
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


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
