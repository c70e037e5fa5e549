"""Connect's unary protocol: how a call lies in an HTTP request, and its answer or error in an answer."""

import zlib
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from serving import messages
from serving.refusals import MOST_BYTES, TooLong, UnknownType, Unsupported, refusal
from serving.request import RequestError

PROTO, JSON = b"application/proto", b"application/json"
PATHS = {f"/{messages.SERVICE}/{method}": method for method in messages.METHODS}
_GZIP = 31
"""What zlib calls gzip's frame."""


class ConnectCall(NamedTuple):
    """A call: its method, the request in bytes, and in which of the two types it came and is answered."""

    method: str
    data: bytes
    kind: bytes


def call(method: str, headers: Mapping[bytes, bytes], body: bytes) -> ConnectCall:
    """The call that a request is."""
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind not in (PROTO, JSON):
        raise UnknownType(f"a call is {PROTO.decode()} or {JSON.decode()}, not {kind.decode(errors='replace')!r}", field="content-type")
    version = headers.get(b"connect-protocol-version", b"1")
    if version != b"1":
        raise RequestError(f"connect-protocol-version is 1, not {version.decode(errors='replace')!r}", field="connect-protocol-version")
    data = unpacked(headers, body, otherwise=Unsupported)
    return ConnectCall(method, messages.from_json(method, data) if kind == JSON else data, kind)


def answer(asked: ConnectCall, data: bytes) -> bytes:
    """An answer as the call wants it."""
    return messages.to_json(asked.method, data) if asked.kind == JSON else data


def timeout(headers: Mapping[bytes, bytes]) -> int | None:
    """In how many milliseconds a call must be answered, if it says so."""
    said = headers.get(b"connect-timeout-ms")
    if said is None:
        return None
    if not said.isdigit() or len(said) > 10:
        raise RequestError("connect-timeout-ms is a whole number of at most ten digits", field="connect-timeout-ms")
    return int(said)


def error(found: Exception) -> bytes:
    """An error in Connect's words."""
    return msgspec.json.encode({"code": refusal(found).code, "message": str(found)})


def unpacked(headers: Mapping[bytes, bytes], body: bytes, *, otherwise: type[RequestError]) -> bytes:
    """A body as it was before it was packed; `otherwise` is raised where it is packed in another way than by gzip."""
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding == b"identity":
        return body
    if encoding not in (b"gzip", b"x-gzip"):
        raise otherwise(f"content-encoding is gzip or identity, not {encoding.decode(errors='replace')!r}", field="content-encoding")
    unpacking = zlib.decompressobj(_GZIP)
    try:
        data = unpacking.decompress(body, MOST_BYTES + 1)
    except zlib.error as wrong:
        raise RequestError(f"the body is no gzip: {wrong}", field=None) from None
    if len(data) > MOST_BYTES:
        raise TooLong(f"the body is longer than {MOST_BYTES:,} bytes; ask for fewer entities at once", field=None)
    if not unpacking.eof:
        raise RequestError("the body is no whole gzip", field=None)
    return data
