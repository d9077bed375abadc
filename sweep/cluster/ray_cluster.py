"""The Ray cluster: starting or joining one, quietly, and how much of it there is."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ray
from ray._private import ray_constants
from ray._private.accelerators import get_accelerator_manager_for_resource
from ray._private.utils import get_num_cpus
from ray.exceptions import AuthenticationError, RayError

from sweep.cluster.joining import (
    MODE_VARIABLE,
    find_cluster,
    head_answers,
    own_node_answers,
    token_refused,
    watched,
)
from sweep.cluster.local_ray import daemons_live, local_cluster, ray_directory, read_token_settings, variables
from sweep.cluster.ray_log import ray_log
from sweep.config.errors import ClusterError, ClusterLostError
from sweep.config.sections import ResourceSettings

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
# Microbatches differ in length: a GPU's memory fragments unless its segments can grow. torch before 2.9 goes
# by the second name.
GPU_ALLOCATOR = dict.fromkeys(("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"), "expandable_segments:True")
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
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray hands to the driver of a submitted job
UV_VARIABLE = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
HEAD_PATIENCE = 20.0  # seconds; Ray itself may wait minutes for a head that is gone
NODE_PATIENCE = 2.0  # its raylet runs on this machine
LOCAL_PATIENCE = 0.0  # a process of this machine that has ended does not come back
Say = Callable[[str], None]


@contextmanager
def connected(address: str | None, *, say: Say = lambda message: None) -> Iterator[None]:
    """Start a local cluster, or join the one at `address`; leave it when the block ends.

    A cluster that is already connected is used as it is and left open. What Ray prints goes to a file that
    every loss of the cluster names. Raises ClusterError and ClusterLostError.
    """
    _prepare_environment()
    if ray.is_initialized():
        yield
        return
    place = address or "this machine"
    with ray_log() as log, ExitStack() as stack:
        say(
            f"{'joining the cluster at ' + address if address else 'starting a local cluster'} (Ray's log: "
            f"{log})"
        )
        _init(address, log, stack=stack, say=say)
        if address:
            stack.enter_context(watched(head_answers(), patience=HEAD_PATIENCE, loss=_loss(place, log)))
            ours = _loss(f"{place}, or its node that this driver runs on,", log)
            stack.enter_context(watched(own_node_answers(), patience=NODE_PATIENCE, loss=ours))
        else:
            stack.enter_context(watched(daemons_live(), patience=LOCAL_PATIENCE, loss=_loss(place, log)))
        try:
            yield
        except RayError as error:
            raise ClusterLostError(f"{_loss(place, log)} ({type(error).__name__})") from error


def _init(address: str | None, log: Path, *, stack: ExitStack, say: Say) -> None:
    """Start or join Ray; it is left when the stack is unwound."""
    if address is None:
        settings = stack.enter_context(local_cluster(say=say))
    else:
        head, mode = find_cluster(address)
        stack.enter_context(variables({MODE_VARIABLE: mode}))
        read_token_settings()
        settings = {"address": head}
    stack.callback(ray.shutdown)
    try:
        ray.init(**settings, log_to_driver=False, runtime_env={"env_vars": _worker_environment()})
    except AuthenticationError as error:
        raise ClusterError(token_refused(settings["address"])) from error
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = "lets this driver in at " + address if address else "could be started on this machine"
        raise ClusterError(f"no Ray cluster {where}: {error}\nRay's log: {log}") from error


def _loss(place: str, log: Path) -> str:
    return (
        f"the Ray cluster at {place} is gone; what is finished and checkpointed is kept: run the same "
        f"command on a new cluster. Ray's log: {log}"
    )


def _prepare_environment() -> None:
    """Set what Tune and Ray read, but nothing that the user has set."""
    for name, value in TUNE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if UV_VARIABLE not in os.environ:  # else `uv run` sends every worker the checkout, to install it anew
        ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False


def _worker_environment() -> dict[str, str]:
    """Return what workers find in their environment: the user's own values, where they set any.

    Those that the job sets in which this driver runs are left out: Ray refuses to have them set twice.
    """
    job = json.loads(os.environ.get(JOB_VARIABLE) or "{}")
    inherited = (job.get("runtime_env") or {}).get("env_vars") or {}
    ours = dict(WORKER_ENVIRONMENT)
    if not any(name in os.environ or name in inherited for name in GPU_ALLOCATOR):
        ours |= GPU_ALLOCATOR
    return {name: os.environ.get(name, value) for name, value in ours.items() if name not in inherited}


def check_place(address: str | None, resources: ResourceSettings) -> None:
    """Check, before Ray is started or joined, that a cluster is at the address, or that this machine will do.

    Raises ClusterError.
    """
    if ray.is_initialized():
        return
    if address is None:
        ray_directory(say=lambda message: None)
        _check_fit(resources, [_own_resources()], whose="this machine")
    else:
        with ray_log():
            find_cluster(address)


def _own_resources() -> dict[str, float]:
    """Return what Ray would find here."""
    found = get_accelerator_manager_for_resource("GPU")
    gpus = found.get_current_node_num_accelerators() if found else 0
    visible = found.get_current_process_visible_accelerator_ids() if found else None
    return {"CPU": get_num_cpus(), "GPU": gpus if visible is None else min(gpus, len(visible))}


def check_capacity(resources: ResourceSettings) -> int:
    """Return how many trials fit on the cluster at once.

    Raises ClusterError if not even one does, or Phase A fits on no node.
    """
    return _check_fit(resources, _nodes(), whose="the cluster")


def _check_fit(resources: ResourceSettings, nodes: list[dict[str, float]], *, whose: str) -> int:
    phase_a = resources.phase_a_cpus or resources.cpus
    for what, cpus in (("Phase A", phase_a), ("a trial", resources.cpus)):
        fitting = sum(_fitting(node, cpus=cpus, gpus=resources.gpus) for node in nodes)
        if fitting == 0:
            cpus_in_all, gpus_in_all = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
            raise ClusterError(
                f"resources: {what} asks for cpus={cpus:g}, gpus={resources.gpus:g} on one node; {whose} has "
                f"in all cpus={cpus_in_all:g}, gpus={gpus_in_all:g}"
            )
    return fitting


def _nodes() -> list[dict[str, float]]:
    """Return what each node that is alive has, by resource."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _fitting(node: dict[str, float], *, cpus: float, gpus: float) -> int:
    slots = [int(node.get("CPU", 0) / cpus + 1e-9)]
    if gpus:
        slots.append(int(node.get("GPU", 0)) * int(1 / gpus + 1e-9))  # a part of a GPU is of one GPU
    return min(slots)
