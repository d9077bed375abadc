"""The errors and warnings of analysis that a user can cause."""

from trainables.ledger.errors import UserError


class AnalysisError(UserError):
    """What was asked cannot be done: names the rule, the actual value and what to do."""


class NothingToShowError(AnalysisError):
    """The request is fine, but there is no data for it yet."""


class LedgerWarning(UserWarning):
    """A file of a study could not be used; the message names it."""
