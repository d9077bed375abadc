"""Errors that the command line turns into a readable block, raised where Ray is at work."""


class PhaseAError(RuntimeError):
    """Phase A failed on its worker; the message holds the worker's error."""


class ClusterLostError(RuntimeError):
    """The cluster went away under a driver; the ledger keeps what is done."""
