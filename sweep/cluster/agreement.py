"""What the nodes of a cluster must agree on before anything is computed: code, versions, devices, precision.

Pure functions of what each node answered; `nodes` asks them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sweep.config.errors import WorkersRefusedError
from trainables.settings import Precision
from trainables.worker_identity import Device, Requirement, WorkerIdentity

VARIABLE_LENGTH = (2, 11)  # the torch with a causal attention kernel over examples of several lengths
REMEDY = (
    "Give them what the driver has (the same forgetting-sweep, torch, transformers, peft and numpy; for "
    "resources.gpus a torch with CUDA and a driver for it), or take them out of the cluster. To reserve GPUs "
    "and compute on the CPU: resources.device=cpu"
)


@dataclass(frozen=True)
class Node:
    """What a node answered: who it is, or why it could not say."""

    name: str
    identity: WorkerIdentity | None = None
    fault: str = ""

    def faults(self, required: Requirement) -> list[str]:
        return [self.fault] if self.identity is None else required.faults(self.identity)


@dataclass(frozen=True)
class Begun:
    """What a study's earlier runs settled, as far as they did."""

    precision: Precision | None = None
    device: str | None = None


def agree(
    nodes: Sequence[Node], required: Requirement, *, asked: Literal["auto", "bf16", "fp32"], begun: Begun
) -> Requirement:
    """Return what every worker must compute with, the precision among it.

    What was begun is gone on with; else "auto" is bf16 where every device has it in hardware, fp32 where none
    has. Raises WorkersRefusedError naming every node that differs, or those that "auto" would slow down.
    """
    if not nodes:
        raise WorkersRefusedError("no node that a trial fits on is left in the cluster")
    refuse(faults_by_node(nodes, required), of=len(nodes))
    settled = asked if asked != "auto" else begun.precision
    required = replace(required, precision=settled or _precision(nodes))
    refuse(faults_by_node(nodes, required), of=len(nodes))
    return required


def refuse(faults: Sequence[str], *, of: int | None = None) -> None:
    """Raise WorkersRefusedError for nodes that differ, one line each; nothing where there are none."""
    if faults:
        which = f"{len(faults)} of {of} nodes" if of else "a worker"
        lines = "\n".join(f"  {line}" for line in faults)
        done = "nothing was computed" if of else "the others checkpointed; what is done is kept"
        raise WorkersRefusedError(f"{which} cannot compute this study; {done}:\n{lines}\n{REMEDY}")


def faults_by_node(nodes: Sequence[Node], required: Requirement) -> list[str]:
    """Return one line for each node that does not compute with what is required; two may share a name."""
    found = [(node.name, node.faults(required)) for node in nodes]
    return [f"{name}: {'; '.join(faults)}" for name, faults in found if faults]


def _precision(nodes: Sequence[Node]) -> Precision:
    devices = [(node.name, device) for node in nodes for device in _devices(node)]
    with_bf16 = [each for each in devices if each[1].bf16]
    if 0 < len(with_bf16) < len(devices):
        lines = dict.fromkeys(
            f"  {name}: {device.describe()} {'has' if device.bf16 else 'lacks'} bf16"
            for name, device in devices
        )
        raise WorkersRefusedError(
            "model.dtype: auto cannot be settled: the devices differ, and fp32 on all would slow down those "
            "that compute bf16:\n"
            + "\n".join(lines)
            + "\nSet model.dtype to fp32, which all compute, or take the "
            "others out of the cluster"
        )
    return "bf16" if with_bf16 else "fp32"


def remarks(nodes: Sequence[Node], required: Requirement, *, begun: Begun) -> list[str]:
    """Return what the user should know of the devices, one line each: nothing of it stops the study."""
    devices = Counter(device.describe() for node in nodes for device in _devices(node))
    names = {device.name for node in nodes for device in _devices(node)}
    said = []
    if required.on_gpu:
        summary = ", ".join(f"{count} x {name}" for name, count in sorted(devices.items()))
        said.append(f"devices: {summary}; computed in {required.precision}")
        if _numbers(required.versions["torch"]) < VARIABLE_LENGTH:
            said.append(
                f"torch {required.versions['torch']} has no attention kernel for examples of several "
                "lengths; 2.11 and later have: this study runs slower without"
            )
    if len(names) > 1:
        said.append(
            "the devices are of several kinds: cells computed on different ones agree to rounding only"
        )
    if begun.precision == "fp32" and all(map(_has_bf16, nodes)):
        said.append(
            "computed in fp32, as it was begun, though the devices have bf16: --new-study starts anew"
        )
    if begun.device is not None and begun.device not in names:
        said.append(
            f"begun on {begun.device}, goes on on {', '.join(sorted(names))}: cells agree to rounding only"
        )
    slow = [node.name for node in nodes if required.precision == "bf16" and not _has_bf16(node)]
    if slow:
        said.append(f"{', '.join(slow)}: computes bf16 without hardware for it, slowly")
    return said


def _has_bf16(node: Node) -> bool:
    return all(device.bf16 for device in _devices(node))


def _devices(node: Node) -> tuple[Device, ...]:
    return node.identity.devices if node.identity else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
