"""What every mistake of a user's has in common, and those that more than one stage finds."""

TRANSIENT = "this may pass by itself"
"""What a sentence holds whose cause is away for a while: who runs commands by a schedule tries again, and gives up on all others."""


class UserError(ValueError):
    """The caller's mistake: the message says what is wrong, where, and what to write instead. The command ends with exit code 2."""


class InputRefused(UserError):
    """A frame, a spine or data for a source that cannot be taken."""


class Unknown(UserError):
    """A name that the catalog does not have, or a generation that was never computed."""


class NotCovered(UserError):
    """A generation that does not hold all that readers see now, so that promoting it would take something from them."""
