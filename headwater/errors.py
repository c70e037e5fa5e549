"""The mistakes that only the front door can see."""

from feature_definitions.errors import UserError


class NotEmpty(UserError):
    """A registry that holds something and would be replaced."""


class RegistryLost(UserError):
    """A registry that knows nothing of a lake with a past: it was lost, or is another one."""
