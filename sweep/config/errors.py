"""Errors that the command line turns into a readable block, of those that several modules know."""


class PhaseAError(RuntimeError):
    """Phase A failed on its worker; the message holds the worker's error."""


class ClusterError(ValueError):
    """A cluster that cannot be reached or cannot serve the study."""


class ClusterLostError(RuntimeError):
    """The cluster went away under a driver; the ledger keeps what is done."""


class ConfigurationError(ValueError):
    """A configuration that cannot be run; the message names each field, its value and the choices."""


class WorkersRefusedError(ValueError):
    """Nodes of a cluster that compute with something else than the driver; the message names each."""
