"""The two kinds of error that a command line turns into one readable block: what a user can mend, and what
ended a run.
"""


class UserError(ValueError):
    """What was asked cannot be done; the message names the rule, the actual value and what to do."""


class RunEndedError(RuntimeError):
    """What was asked could not go on; what was done before is kept, and the same command goes on from
    there.
    """
