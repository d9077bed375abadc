"""Errors that the command line turns into a readable block, of those that several modules know."""

from trainables.ledger.errors import RunEndedError, UserError

EXIT_FAILED, EXIT_USER_ERROR = 1, 2  # of a command that could not go on, and of what a user can mend


class PhaseAError(RunEndedError):
    """Phase A failed on its worker; the message holds the worker's error."""


class ClusterError(UserError):
    """A cluster that cannot be reached or cannot serve the study."""


class ClusterLostError(RunEndedError):
    """The cluster went away under a driver; the ledger keeps what is done."""


class ConfigurationError(UserError):
    """A configuration that cannot be run; the message names each field, its value and the choices."""


class WorkersRefusedError(UserError):
    """Nodes of a cluster that compute with something else than the driver; the message names each."""
