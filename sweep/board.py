"""The driver's end of the board: it forwards a stop, and passes on what workers say."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

POLL_SECONDS = 0.5


class Board:
    """An actor through which the driver stops its workers, and they tell it what the user should know."""

    def __init__(self) -> None:
        self._stopping = False
        self._phase_a: dict[int, tuple[int, int]] = {}
        self._messages: list[str] = []
        self._pauses: list[tuple[str, int]] = []

    def stop(self) -> None:
        self._stopping = True

    def stopping(self) -> bool:
        return self._stopping

    def tell_phase_a(self, seed: int, step: int, steps: int) -> None:
        self._phase_a[seed] = (step, steps)

    def phase_a(self) -> tuple[int, int]:
        """Return the steps taken, and all, of every Phase A that has begun."""
        steps, totals = zip((0, 0), *self._phase_a.values(), strict=True)
        return sum(steps), sum(totals)

    def say(self, message: str) -> None:
        self._messages.append(message)

    def take_messages(self) -> list[str]:
        taken, self._messages = self._messages, []
        return taken

    def pause(self, message: str, needed: int) -> None:
        """Note that a worker left its cells because the storage failed; it needs so many bytes free."""
        self._pauses.append((message, needed))

    def take_pauses(self) -> list[tuple[str, int]]:
        taken, self._pauses = self._pauses, []
        return taken


@contextmanager
def open_board(
    stop_requested: threading.Event, *, say: Callable[[str], None]
) -> Iterator["ActorHandle[Any]"]:
    """Yield the board, on this node; once `stop_requested` is set, the board tells every worker."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = (
        ray.remote(Board)
        .options(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1)
        .remote()
    )
    closing = threading.Event()

    def pass_on() -> None:
        if stop_requested.is_set():
            ray.get(board.stop.remote())  # each time: a board that was restarted has forgotten it
        for message in ray.get(board.take_messages.remote()):
            say(f"  {message}")

    def keep_passing_on() -> None:
        while not closing.wait(POLL_SECONDS):
            pass_on()

    forwarder = threading.Thread(target=keep_passing_on, daemon=True, name="board")
    forwarder.start()
    try:
        yield board
        pass_on()
    finally:
        closing.set()
        forwarder.join()
