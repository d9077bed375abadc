"""Asking each node of the cluster what it computes with, also those that join later. Imports Ray.

The question is sent whole, so that a node without this package can answer it too.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, fields
from threading import Event
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.cluster.agreement import Node
from sweep.config.sections import ResourceSettings
from trainables.ledger.redaction import redact
from trainables.model.sources import ModelSource
from trainables.worker_identity import Device, WorkerIdentity

POLL_SECONDS = 0.2
LOOK_SECONDS = 2.0  # between two looks for nodes that have joined
WORDS_AFTER = 30.0  # seconds after which the user is told who has not answered
SHOWN_ALL = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
Answer = dict[str, Any]


def _question(*, on_gpu: bool, source: ModelSource) -> Callable[[], Answer]:
    """Return a function that Ray ships by its code, since no module has it by name."""

    model = asdict(source)  # plain values, which a node without this package can unpickle

    def ask() -> Answer:
        from importlib.util import find_spec

        from trainables.model.sources import ModelSource
        from trainables.worker_identity import identify

        if find_spec("sweep") is None:
            raise ModuleNotFoundError("No module named 'sweep'")
        return asdict(identify(on_gpu=on_gpu, source=ModelSource(**model)))

    return ask


class Nodes:
    """The nodes that a study's work may be placed on; each is asked once what it computes with."""

    def __init__(self, resources: ResourceSettings, source: ModelSource) -> None:
        self.resources = resources
        on_gpu = resources.on_gpu
        # It asks for no GPU, so as not to wait for a free one, and is shown all. A process that has looked at
        # a GPU holds memory of it, and is to leave.
        options: dict[str, Any] = {"max_calls": 1, "runtime_env": {"env_vars": SHOWN_ALL}} if on_gpu else {}
        remote: Any = ray.remote
        self._ask: Any = remote(num_cpus=0, **options)(_question(on_gpu=on_gpu, source=source))
        self._names: dict[str, str] = {}
        self._asked: dict[Any, str] = {}
        self._looked = float("-inf")

    def look(self) -> None:
        """Ask every node that was not there before."""
        self._looked = time.monotonic()
        for node in alive_nodes():
            if node["NodeID"] not in self._names and self._holds(node["Resources"]):
                self._names[node["NodeID"]] = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                self._asked[self._ask.options(scheduling_strategy=here).remote()] = node["NodeID"]

    def _holds(self, node: dict[str, float]) -> bool:
        """Whether a trial or Phase A may be placed on a node with these resources."""
        asked = self.resources
        cpus = min(asked.cpus, asked.phase_a_cpus or asked.cpus)
        return node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= asked.gpus

    def answers(self) -> list[Node]:
        """Return what has been answered since last asked for, without waiting; a node that left is left
        out.
        """
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self.look()
        if not self._asked:
            return []
        ready, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        return [node for reference in ready if (node := self._read(reference)) is not None]

    def all_answers(self, *, stop: Event, say: Callable[[str], None]) -> list[Node]:
        """Wait until every node has answered, or a stop is asked for."""
        self.look()
        found, began, told = self.answers(), time.monotonic(), False
        while self._asked and not stop.wait(POLL_SECONDS):
            found += self.answers()
            if not told and time.monotonic() - began > WORDS_AFTER:
                told = True
                say(f"waiting for {', '.join(self._names[each] for each in self._asked.values())}")
        return found

    def _read(self, reference: Any) -> Node | None:
        node = self._asked.pop(reference)
        try:
            return _node(self._names[node], ray.get(reference))
        except RayTaskError as error:
            cause = f"{type(error.cause).__name__}: {error.cause}".partition("\n")[0]
            return Node(self._names[node], fault=f"forgetting-sweep cannot be used there: {redact(cause)}")
        except RayError as error:
            if all(each["NodeID"] != node for each in alive_nodes()):
                return None
            return Node(self._names[node], fault=f"no answer: {type(error).__name__}")


def _node(name: str, answer: Answer) -> Node:
    """Return a node by its answer; another version of this package may answer in another form."""
    if answer.keys() != {each.name for each in fields(WorkerIdentity)}:
        return Node(name, fault="another version of trainables is installed there")
    devices = tuple(Device(**each) for each in answer["devices"])
    return Node(name, WorkerIdentity(**{**answer, "devices": devices}))


def alive_nodes() -> list[dict[str, Any]]:
    """Return Ray's records of the nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def unused_gpus(resources: ResourceSettings) -> list[str]:
    """Return one line where the cluster has GPUs that a study does not compute on."""
    gpus = sum(node["Resources"].get("GPU", 0) for node in alive_nodes())
    if resources.on_gpu or not gpus:
        return []
    why = "resources.device is cpu" if resources.gpus else "resources.gpus is 0"
    return [f"computing on the CPU: {why}, though the cluster has {gpus:g} GPUs"]
