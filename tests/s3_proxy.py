"""A small HTTP proxy on loopback, in front of an S3 server: it counts requests, lets each wait, and does to some what a network does.

Clients sign what they send with the proxy's host, and it hands everything on as it came: signatures stay right.
deltalake holds Python's lock in some calls until S3 answers, so tests that call all of it have the proxy in a process of its own (`apart`).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from tests import s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OWN = "/-/proxy"
"""What is asked of the proxy itself."""
_HEAD = 1 << 20
_PIECE = 1 << 16
_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Fault(Enum):
    """What may become of a request."""

    BUSY = "the proxy answers 503, and the server never sees it"
    LOST = "the connection is cut, and the server never sees it"
    UNANSWERED = "the server carries it out, and the connection is cut before its answer"


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked: the verb, `/bucket/key`, the query, and the headers in small letters, but for the signature."""

    verb: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def bucket(self) -> str:
        """The bucket asked."""
        return self.path.strip("/").partition("/")[0]

    @property
    def key(self) -> str:
        """The key asked for; empty for what is asked of the bucket."""
        return self.path.removeprefix("/").partition("/")[2]

    @property
    def creates(self) -> bool:
        """Whether it puts a key only where there is none: how a commit is made."""
        return self.verb == "PUT" and self.headers.get("if-none-match") == "*"

    @property
    def actions(self) -> tuple[str, ...]:
        """What a policy must allow for it, in the names of IAM."""
        match self.verb, sorted(self.query.keys() & _SUBRESOURCES):
            case ("GET", ["uploads"]):
                return ("s3:ListBucketMultipartUploads",)
            case ("GET", ["location"]):
                return ("s3:GetBucketLocation",)
            case ("GET", ["uploadId"]):
                return ("s3:ListMultipartUploadParts",)
            case ("DELETE", ["uploadId"]):
                return ("s3:AbortMultipartUpload",)
            case ("POST", ["delete"]):
                return ("s3:DeleteObject",)
            case (("PUT" | "POST"), _) if self.key:
                return ("s3:GetObject", "s3:PutObject") if "x-amz-copy-source" in self.headers else ("s3:PutObject",)
            case (("GET" | "HEAD"), []):
                return ("s3:GetObject",) if self.key else ("s3:ListBucket",)
            case ("DELETE", []) if self.key:
                return ("s3:DeleteObject",)
        return (f"unknown: {self.verb} {self.path} {sorted(self.query)}",)


_SUBRESOURCES = {"acl", "cors", "delete", "lifecycle", "location", "policy", "tagging", "uploadId", "uploads", "versioning", "versions"}


@dataclass
class Counting:
    """The proxy: what it was asked; how many seconds each request waits first; which requests fare badly."""

    upstream: int
    port: int
    delay: float = 0.0
    fault: Callable[[Request], Fault | None] = field(default=lambda _: None)
    requests: list[Request] = field(default_factory=list, repr=False)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables by which every client asks the server through the proxy."""
        return s3.variables(self.endpoint)

    def verbs(self) -> Counter[str]:
        """How many requests there were of each verb."""
        return Counter(one.verb for one in self.requests)

    def clear(self) -> None:
        """Forget what was asked so far."""
        self.requests.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on one client's requests, one after the other, on a connection of its own to the server."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            there, to = await asyncio.open_connection("127.0.0.1", self.upstream, limit=_HEAD)
            try:
                while await self._one(reader, writer, there, to):
                    pass
            finally:
                to.close()
        writer.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: asyncio.StreamReader, to: asyncio.StreamWriter
    ) -> bool:
        """Hand on one request and its answer; False if the connection ends with it."""
        head = await reader.readuntil(b"\r\n\r\n")
        request = _request(head)
        if request.path.startswith(_OWN):
            self._told(request, writer)
            await writer.drain()
            return False
        self.requests.append(request)
        if self.delay:
            await asyncio.sleep(self.delay)
        fault = self.fault(request)
        if fault is Fault.LOST:
            return False
        if "expect" in request.headers:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"".join(line for line in head.splitlines(keepends=True) if not line.lower().startswith(b"expect:"))
        if fault is Fault.BUSY:
            await _body(reader, None, request.headers)
            answer = f"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {len(_BUSY)}\r\n\r\n"
            writer.write(answer.encode() + (b"" if request.verb == "HEAD" else _BUSY))
            await writer.drain()
            return True
        to.write(head)
        await _body(reader, to, request.headers)
        return await _answer(there, None if fault is Fault.UNANSWERED else writer, request.verb)

    def _told(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """Do what the process says that started this one, and answer with what was asked since it said so last."""
        if "delay" in request.query:
            self.delay = float(request.query["delay"])
        if "fault" in request.query:
            module, _, name = request.query["fault"].partition(":")
            self.fault = getattr(importlib.import_module(module), name)() if name else lambda _: None
        answer = json.dumps([asdict(one) for one in self.requests]).encode()
        self.clear()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)


@dataclass(frozen=True, slots=True)
class Apart:
    """The proxy in a process of its own."""

    port: int

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables by which every client asks the server through the proxy."""
        return s3.variables(f"http://127.0.0.1:{self.port}")

    def tell(self, **said: str | float) -> list[Request]:
        """Set its `delay`, or the `fault`, a function `module:name` that makes what decides; what was asked since it was told last."""
        words = "&".join(f"{name}={value}" for name, value in said.items())
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{_OWN}?{words}", timeout=60) as answer:
            return [Request(**one) for one in json.load(answer)]


@contextlib.contextmanager
def apart(server: s3.Server) -> Iterator[Apart]:
    """The proxy in front of a server, in a process of its own, which ends with the block."""
    port = s3.free_port()
    command = [sys.executable, "-c", f"from tests.s3_proxy import main; main({server.port}, {port})"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield Apart(port)
        finally:
            process.stdin.close()


def now_and_then() -> Callable[[Request], Fault | None]:
    """Every 23rd request is refused; of every third version of a table the writer does not hear that it came to be."""
    asked, created = itertools.count(1), itertools.count(1)

    def fault(request: Request) -> Fault | None:
        if request.creates and next(created) % 3 == 0:
            return Fault.UNANSWERED
        return Fault.BUSY if next(asked) % 23 == 0 else None

    return fault


def main(upstream: int, port: int) -> None:
    """Be the proxy until nobody holds this process's input any more."""

    async def run() -> None:
        proxy = Counting(upstream, port)
        async with await asyncio.start_server(proxy.serve, "127.0.0.1", port, limit=_HEAD, backlog=1000):
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(run())


@contextlib.contextmanager
def counting(server: s3.Server, *, delay: float = 0.0) -> Iterator[Counting]:
    """The proxy in front of a server, in a thread of its own."""
    proxy = Counting(server.port, s3.free_port(), delay)
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def run() -> None:
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", proxy.port, limit=_HEAD, backlog=1000)
        ready.set()
        async with listening:
            await stopped.wait()
        mine = asyncio.all_tasks() - {asyncio.current_task()}
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
        await asyncio.sleep(0.05)  # the loop ends what is being closed: clients keep connections open

    stopped = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(60)
        loop.close()


def _request(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    verb, target, _ = first.split(" ")
    path, _, query = target.partition("?")
    pairs = (line.partition(":")[::2] for line in lines if line)
    headers = {name.lower(): value.strip() for name, value in pairs if name.lower() not in ("authorization", "x-amz-security-token")}
    return Request(verb, unquote(path), dict(parse_qsl(query, keep_blank_values=True)), headers)


async def _answer(there: asyncio.StreamReader, writer: asyncio.StreamWriter | None, verb: str) -> bool:
    """Hand on the server's answer, or take it and tell nobody; whether the connection can be used again."""
    head = await there.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    status = int(first.split(" ")[1])
    headers = {name.lower(): value.strip() for name, value in (line.partition(":")[::2] for line in lines if line)}
    if writer is not None:
        writer.write(head)
    if status == 100:
        return await _answer(there, writer, verb)
    sized = "content-length" in headers or "transfer-encoding" in headers
    if verb != "HEAD" and status not in (204, 304):
        await _body(there, writer, headers, to_the_end=not sized)
    if writer is not None:
        await writer.drain()
    bodiless = verb == "HEAD" or status in (204, 304)
    return writer is not None and (sized or bodiless) and headers.get("connection", "").lower() != "close"


async def _body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, headers: dict[str, str], *, to_the_end: bool = False
) -> None:
    """Hand on a message's body as it came."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        size = -1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            _hand_on(writer, line)
            await _piece(reader, writer, size + 2)
        return
    if to_the_end:
        while piece := await reader.read(_PIECE):
            _hand_on(writer, piece)
        return
    await _piece(reader, writer, int(headers.get("content-length", "0")))


async def _piece(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, size: int) -> None:
    while size:
        piece = await reader.read(min(size, _PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(piece, size)
        size -= len(piece)
        _hand_on(writer, piece)
        if writer is not None:
            await writer.drain()


def _hand_on(writer: asyncio.StreamWriter | None, piece: bytes) -> None:
    if writer is not None:
        writer.write(piece)
