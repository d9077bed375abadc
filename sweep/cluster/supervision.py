"""The driver's end of the mailbox: it forwards a stop, passes on what workers say, and ends those that are
silent.

Imports Ray.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.cluster.agreement import Node, faults_by_node, refuse
from sweep.cluster.mailbox import Mailbox
from sweep.cluster.nodes import Nodes, alive_nodes
from sweep.config.errors import PhaseAError
from trainables.watchdog import WorkerBeat, end_process
from trainables.worker_identity import Requirement

POLL_SECONDS = 0.5
MARGIN_SECONDS = 30.0  # that a worker has beyond its own watchdog, which is the first to end it
END_SECONDS = 20.0  # that a node may take to end a process


class Supervisor:
    """What the driver does while its workers work: passes on what they say, forwards a stop, ends the
    silent.
    """

    def __init__(
        self, mailbox: "ActorHandle[Any]", nodes: Nodes, *, stop_requested: threading.Event, timeout: float
    ) -> None:
        self.mailbox, self.nodes, self.stop_requested = mailbox, nodes, stop_requested
        self.limit = timeout + MARGIN_SECONDS
        self.required: Requirement | None = None  # until the nodes that are there have agreed on it
        self.refused: list[str] = []
        self.stopping = False  # and the user knows

    def pass_on(self, say: Callable[[str], None]) -> None:
        """Do all of it once. A worker that differs from the driver stops the run."""
        if self.required is not None:
            self._judge(self.nodes.answers())
        self.refused = self.refused or ray.get(self.mailbox.refusals.remote())
        if self.refused:
            self.stop_requested.set()
        if self.stop_requested.is_set():
            if not self.stopping:
                say(
                    "stopping: what is running writes a checkpoint first; a second Ctrl-C does not wait for "
                    "it"
                )
            self.stopping = True
            ray.get(self.mailbox.stop.remote())  # each time: a mailbox that was restarted has forgotten it
        messages: list[str] = ray.get(self.mailbox.take_messages.remote())
        for message in messages:
            say(f"  {message}")
        silent: list[tuple[WorkerBeat, bool]] = ray.get(self.mailbox.silent.remote(self.limit))
        for worker, at_work in silent:
            self._end(worker, say if at_work else lambda message: None)

    def look_again(self, say: Callable[[str], None]) -> None:
        """Wait for what nodes that have just joined answer: a failure may be theirs."""
        if self.required is not None:
            self._judge(self.nodes.all_answers(stop=threading.Event(), say=say))

    def _judge(self, nodes: list[Node]) -> None:
        assert self.required is not None
        for line in faults_by_node(nodes, self.required):
            ray.get(self.mailbox.refuse.remote(line))

    def _end(self, worker: WorkerBeat, say: Callable[[str], None]) -> None:
        """Kill a process that is silent: its watchdog would have, were it able to."""
        there = NodeAffinitySchedulingStrategy(worker.node, soft=False)
        task: Any = ray.remote(end_process)  # type: ignore[arg-type]
        task = task.options(num_cpus=0, scheduling_strategy=there)
        try:
            ended = ray.get(task.remote(worker.pid, mark=worker.mark), timeout=END_SECONDS)
        except RayError:
            if any(node["NodeID"] == worker.node for node in alive_nodes()):
                return  # out of reach; the process is silent once more later
            ended = False
        if ended:
            say(
                f"  {worker.host}: {worker.work}: no heartbeat for {self.limit:g} s: its process was ended, "
                "to be tried again from the last checkpoint"
            )
        ray.get(self.mailbox.forget.remote(worker))


@contextmanager
def open_mailbox(
    stop_requested: threading.Event, nodes: Nodes, *, say: Callable[[str], None], timeout: float
) -> Iterator[Supervisor]:
    """Yield who forwards between the driver and its mailbox, on this node, until the block ends.

    Raises WorkersRefusedError at the end where a worker did not compute with what the driver has.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox: Any = (
        ray.remote(Mailbox)
        .options(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1)
        .remote()
    )
    supervisor = Supervisor(mailbox, nodes, stop_requested=stop_requested, timeout=timeout)
    closing = threading.Event()

    def keep_passing_on() -> None:
        while not closing.wait(POLL_SECONDS):
            supervisor.pass_on(say)

    thread = threading.Thread(target=keep_passing_on, daemon=True, name="mailbox")
    thread.start()
    failure: PhaseAError | None = None
    try:
        yield supervisor
    except PhaseAError as error:
        failure = error
    finally:
        closing.set()
        thread.join()
    if failure is not None:
        supervisor.look_again(say)
    supervisor.pass_on(say)
    ray.kill(mailbox)  # else it stays for as long as this process, which may run further studies
    refuse(supervisor.refused)
    if failure is not None:
        raise failure
