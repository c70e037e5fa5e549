"""HTTP/1.1 on one connection: what is near is answered as its request is read, all else by the ASGI application, as uvicorn does.

uvicorn parses (httptools), keeps the order of pipelined requests, and holds back who reads too slowly. Added are bounds for heads and for
connections on which nothing goes on, and refusals in our own words. A client says the same head again and again: one that was parsed
before, byte by byte, is not parsed again.
"""

import re
from collections.abc import Iterable
from time import monotonic
from typing import Any, NamedTuple, Protocol

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD = 32 * 1024
"""Bytes of a request's line and headers that are waited for at most."""
SLOW, IDLE = 15.0, 75.0
"""Seconds in which a request must have arrived and an answer be read, and for which a connection is kept on which nothing is asked."""

_MOST_BODY = 128 * 1024
"""Bytes of a body that are collected here; with a longer one uvicorn holds the sender back."""
_PLAIN = {b"accept": (b"*/*", b"application/json"), b"connect-protocol-version": (b"1",)}
_NEVER_PLAIN = frozenset((b"expect", b"upgrade", b"x-deadline-ms", b"content-encoding", b"connect-timeout-ms"))
_UPGRADE = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n|$)", re.IGNORECASE)
_MOST_HEADS, _LONGEST_HEAD = 500, 1024
"""How many heads are known at most, and how many bytes such a head has at most."""
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b"


class PlainRequest(NamedTuple):
    """A plain request with its whole body."""

    path: bytes
    authorization: bytes
    content_type: bytes
    body: bytes


class AtOnce(NamedTuple):
    """The answer to a plain request and its type, or none where the ASGI application has to find it; and the key that was brought."""

    data: bytes | None
    kind: bytes
    key: object


class _Head(NamedTuple):
    """What a head said when it was parsed: of a plain request with a body of so many bytes."""

    path: bytes
    authorization: bytes
    content_type: bytes
    length: int


NOT_AT_ONCE = AtOnce(None, b"", None)


class Quick(Protocol):
    """An application that answers some plain requests at once."""

    def is_quick(self, method: bytes, path: bytes) -> bool:
        """Whether requests by a method for a path, which may have a query, may be answered at once."""

    def at_once(self, asked: PlainRequest) -> AtOnce:
        """What can be answered without waiting."""

    def refused(self, status: int) -> None:
        """Count a request that was refused before it reached the application."""


class HttpConnection(HttpToolsProtocol):
    """One connection; `quick` is what answers at once, if anything does, and `heads` are those that were parsed already."""

    quick: Quick | None = None
    heads: dict[bytes, _Head]
    _dates: tuple[object, bytes] = (None, b"")

    def __init__(self, *positional: Any, **named: Any) -> None:
        """Nothing was asked yet."""
        super().__init__(*positional, **named)
        self._waits_since: float | None = monotonic()
        self._stuck_since: float | None = None
        self._idle_since: float | None = None
        self._heading, self._head_bytes = True, 0
        self._body: list[bytes] | None = None
        self._body_bytes = 0
        self._is_plain, self._authorization, self._type = True, b"", b""
        self._key: object = None
        self._between, self._missed = True, False
        self._head: bytes | None = None
        self._chunk = 0

    def data_received(self, data: bytes) -> None:
        """Read some bytes of a request."""
        self._idle_since = self._head = None
        if self._between:
            data = self._after_known_heads(data)
            if not data:
                return
            if b"h2c" in data:
                data = _without_upgrade(data)
        if self._waits_since is None:
            self._waits_since = monotonic()
        super().data_received(data)
        if self._heading:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD and not self.transport.is_closing():
                self._refuse(431, f"the request's line and headers are longer than {MOST_HEAD:,} bytes")

    def on_message_begin(self) -> None:
        """A request begins; what ASGI needs of it is made only if ASGI is asked."""
        if self._waits_since is None:  # it came together with the one before
            self._waits_since, self._idle_since = monotonic(), None
        self._between = False
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._heading, self._head_bytes = True, 0
        self._is_plain, self._authorization, self._type = True, b"", b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, and see whether the request is still a plain one."""
        name = name.lower()
        self.headers.append((name, value))
        if name == b"authorization":
            self._authorization = value
        elif name == b"content-type":
            self._type = value
        elif name in _NEVER_PLAIN or value not in _PLAIN.get(name, (value,)):
            self._is_plain = False
            self.expect_100_continue = self.expect_100_continue or (name == b"expect" and value.lower() == b"100-continue")

    def on_headers_complete(self) -> None:
        """Decide who answers."""
        self._heading, missed = False, self._missed
        self._missed = False
        quick = self.quick
        if quick is not None and self._is_plain and not missed and not self._waits() and quick.is_quick(self.parser.get_method(), self.url):
            self._body, self._body_bytes = [], 0
            return
        self._hand_over()

    def on_body(self, body: bytes) -> None:
        """Collect the body, unless it is long."""
        if self._body is None:
            super().on_body(body)
            return
        self._body.append(body)
        self._body_bytes += len(body)  # counted as it grows: a body may come in single bytes
        if self._body_bytes > _MOST_BODY:
            self._hand_over()

    def on_message_complete(self) -> None:
        """Answer what is near; ask the application for all else."""
        self._waits_since = None
        if self._body is not None and not self._answered():
            self._hand_over()
        if self._body is None:
            super().on_message_complete()
        self._body, self._between = None, True

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._idle_since = monotonic()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, f"this is no HTTP/1.1 request: {msg}")

    def shutdown(self) -> None:
        """End once the request under way is answered."""
        if self._body is not None:
            self._hand_over()
        super().shutdown()

    def pause_writing(self) -> None:
        """The other side reads too slowly."""
        self._stuck_since = monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The other side has read."""
        self._stuck_since = None
        super().resume_writing()

    def end_if_late(self, now: float) -> None:
        """Close the connection if its request should have arrived by now, its answer been read, or if it was idle for long."""
        if self._stuck_since is not None and now - self._stuck_since > SLOW:
            self.transport.abort()
        elif self._waits_since is not None and now - self._waits_since > SLOW:
            self._refuse(408, f"no whole request arrived within {SLOW:.0f} s")
        elif self._idle_since is not None and now - self._idle_since > IDLE:
            self.transport.close()

    def _answered(self) -> bool:
        """Whether the request was answered at once."""
        if self.quick is None or self._body is None or self.flow.write_paused or not self.parser.should_keep_alive():
            return False
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        answer = self.quick.at_once(PlainRequest(self.url, self._authorization, self._type, body))
        if answer.data is None:
            self._key = answer.key
            return False
        self._send(answer.data, answer.kind)
        self._learn(len(body))
        return True

    def _after_known_heads(self, data: bytes) -> bytes:
        """Answer the requests that are there as a whole and whose heads are known; what is left has to be parsed."""
        while data and self.quick is not None and not self._waits() and not self.flow.write_paused:
            start = data.find(b"\r\n\r\n") + 4
            known = self.heads.get(data[:start])
            if known is None or len(data) - start < known.length:
                self._head, self._chunk = data[:start] if 4 <= start <= _LONGEST_HEAD else None, len(data)
                return data
            rest = start + known.length
            answer = self.quick.at_once(PlainRequest(*known[:3], data[start:rest]))
            if answer.data is None:
                self._missed, self._key = True, answer.key
                return data
            self._waits_since = None
            self._unset_keepalive_if_required()
            self._send(answer.data, answer.kind)
            data = data[rest:]
        return data

    def _learn(self, length: int) -> None:
        """Know the head from now on if it came, with a body of so many bytes and nothing else, at once: then that is its stated length."""
        if self._head is None or len(self._head) + length != self._chunk or b"?" in self.url:
            return
        if len(self.heads) >= _MOST_HEADS:
            self.heads.clear()
        self.heads[self._head] = _Head(self.url, self._authorization, self._type, length)

    def _send(self, data: bytes, kind: bytes) -> None:
        self.transport.write(_OK % (kind, len(data), self._date(), data))
        self._idle_since = monotonic()

    def _waits(self) -> bool:
        """Whether an answer is still to come, which must not be overtaken."""
        cycle: Any = self.cycle  # None before the first, whatever uvicorn's types say
        return cycle is not None and not cycle.response_complete

    def _hand_over(self) -> None:
        """Let uvicorn and the ASGI application go on with the request, as far as it was read."""
        url, headers, expected, body = self.url, self.headers, self.expect_100_continue, self._body
        self._body = None
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expected
        self.headers += headers
        if self._key is not None:
            self.scope["key"], self._key = self._key, None  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
        for part in body or ():
            super().on_body(part)

    def _date(self) -> bytes:
        """The headers that every answer has, as uvicorn has them now."""
        seen, text = HttpConnection._dates
        now = self.server_state.default_headers
        if seen is not now:
            text = b"".join(b"%b: %b\r\n" % each for each in now)
            HttpConnection._dates = now, text
        return text

    def _refuse(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        if self.quick is not None:
            self.quick.refused(status)
        data = msgspec.json.encode({"error": {"field": None, "message": message}})
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, _REASONS[status], len(data)) + data)
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """A request without its wish to go on by HTTP/2, which may be ignored: the parser would take its body for what comes after."""
    head, blank, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"", head) + blank + rest if blank else data


_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


def for_application(app: object) -> type[HttpConnection]:
    """The kind of connections of an application, which is asked first if it answers at once."""
    return type("HttpConnection", (HttpConnection,), {"quick": app if hasattr(app, "at_once") else None, "heads": {}})


def end_late_ones(connections: Iterable[object], now: float) -> None:
    """Close those connections on which nothing goes on for too long."""
    for each in list(connections):
        if isinstance(each, HttpConnection):
            each.end_if_late(now)
