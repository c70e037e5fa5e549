"""What an error is to who asked: the only place where HTTP statuses and the codes of gRPC and Connect are chosen."""

from collections.abc import Mapping
from typing import NamedTuple

from online_sync.codec import CodecError
from online_sync.servers import StoreUnavailable
from serving.request import RequestError, UnknownService

MOST_BYTES = 1024 * 1024
"""Bytes of a body, at most."""


class UnknownGroup(RequestError):
    """A request for a group that there is not."""


class NoKey(RequestError):
    """A request without a key that is known and still holds."""


class NotAllowed(RequestError):
    """A request for what its key does not allow."""


class TooOften(RequestError):
    """More requests than a key allows."""


class Overloaded(RequestError):
    """More requests at once than are allowed."""


class TooSlow(RequestError):
    """A request whose time is over."""


class TooLong(RequestError):
    """A body that is longer than is allowed; it is not read to its end."""


class Unsupported(RequestError):
    """A way to ask that is not known here."""


class UnknownType(RequestError):
    """A body of a type that is not read here."""


class UnknownCoding(RequestError):
    """A body that is packed in a way that is not unpacked here."""


class UnknownModel(RequestError):
    """A request for a model that there is not."""


class ModelFailed(RequestError):
    """A model that raises."""


class HungUp(RequestError):
    """Who asked is gone."""


class Refusal(NamedTuple):
    """An HTTP status, the code of gRPC in Connect's spelling, and further headers."""

    status: int
    code: str
    headers: Mapping[str, str] = {}


_AGAIN = {"retry-after": "1"}
_REFUSALS: Mapping[type[Exception], Refusal] = {
    RequestError: Refusal(400, "invalid_argument"),
    UnknownService: Refusal(404, "not_found"),
    UnknownGroup: Refusal(404, "not_found"),
    UnknownModel: Refusal(404, "not_found"),
    ModelFailed: Refusal(500, "internal"),
    NoKey: Refusal(401, "unauthenticated", {"www-authenticate": "Bearer"}),
    NotAllowed: Refusal(403, "permission_denied"),
    TooOften: Refusal(429, "resource_exhausted", _AGAIN),
    Overloaded: Refusal(503, "unavailable", _AGAIN),
    TooSlow: Refusal(504, "deadline_exceeded"),
    TooLong: Refusal(413, "resource_exhausted"),
    Unsupported: Refusal(501, "unimplemented"),
    UnknownType: Refusal(415, "invalid_argument", {"accept-post": "application/proto, application/json"}),
    UnknownCoding: Refusal(415, "unimplemented", {"accept-encoding": "gzip, identity"}),
    HungUp: Refusal(400, "canceled"),
    CodecError: Refusal(500, "internal"),
    StoreUnavailable: Refusal(503, "unavailable", _AGAIN),
}
REFUSED = tuple(_REFUSALS)
"""The errors that are answers; all others are faults of ours."""


def refusal(error: Exception) -> Refusal:
    """What an error is; the class that is nearest to its own counts."""
    return next(_REFUSALS[each] for each in type(error).__mro__ if issubclass(each, Exception) and each in _REFUSALS)
