"""What every mistake of a user's has in common."""


class UserError(ValueError):
    """The caller's mistake: the message says what is wrong, where, and what to write instead. The command ends with exit code 2."""
