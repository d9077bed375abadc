"""The two kinds of error that a command line turns into one readable block: what a user can mend, and what
ended a run.
"""

# What a user's function may raise, and what his file may as it is read, that his code is to blame for.
FAULTS_OF_A_CALL = (LookupError, ArithmeticError, AttributeError, NameError, TypeError, ValueError)
FAULTS_OF_A_FILE = (SyntaxError, ImportError, *FAULTS_OF_A_CALL)


class UserError(ValueError):
    """What was asked cannot be done; the message names the rule, the actual value and what to do."""


class RunEndedError(RuntimeError):
    """What was asked could not go on; what was done before is kept, and the same command goes on from
    there.
    """
