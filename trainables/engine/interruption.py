"""How long work in a worker is ended early: a heartbeat between two pieces of it, which may raise."""

from collections.abc import Callable

Heartbeat = Callable[[], None]  # called after every microbatch; raises StoppedError to end the work there


class StoppedError(Exception):
    """The driver asked to stop; whoever catches this checkpoints the last completed step."""
