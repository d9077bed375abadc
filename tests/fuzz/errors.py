"""Which errors are our own: those that the command lines turn into one readable block."""

import contextlib
from collections.abc import Iterator

from trainables.ledger.errors import RunEndedError, UserError

LONGEST_MESSAGE = 20_000  # characters: a message is for a reader


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
    """Let errors of our own pass, as the command lines do; any other goes on up."""
    try:
        yield
    except (UserError, RunEndedError) as error:
        check_message(str(error))


def check_message(message: str) -> None:
    """Hold that an error says something, and no more than a reader will read."""
    assert message.strip(), "an error without a message"
    assert len(message) < LONGEST_MESSAGE, f"a message of {len(message)} characters: {message[:200]}"
