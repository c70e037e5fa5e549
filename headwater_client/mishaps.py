"""What can go wrong: each error is a `ClientError`."""


class ClientError(Exception):
    """Features were not got."""


class ServerRefused(ClientError):
    """The server refuses what was asked; `status` is HTTP's, `field` says where in the request."""

    def __init__(self, message: str, *, status: int, field: str | None) -> None:
        """Keep the status and the field beside the message."""
        super().__init__(message)
        self.status, self.field = status, field


class ServerAway(ClientError):
    """No answer in time, though it was tried again."""


class FeaturesMissing(ClientError):
    """Values for a prediction that are not known, and have no default."""


class ContractBroken(ClientError):
    """A service does not ask or answer what is expected of it."""
