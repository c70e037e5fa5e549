"""The mistakes that only the front door can see."""

from feature_definitions.errors import UserError


class Unknown(UserError):
    """A name that the catalog does not have."""


class NotEmpty(UserError):
    """A registry that holds something and would be replaced."""


class RegistryLost(UserError):
    """A registry that knows nothing of a lake with a past: it was lost, or is another one."""


class NotCovered(UserError):
    """A generation that does not hold all that readers see now, so that promoting it would take something from them."""
