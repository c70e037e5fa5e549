"""What a request for features costs the server in CPU: by the Starlette endpoint, and by raw ASGI in its place.

python -m tests.benchmarks.bench_serving --requests 4000
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from starlette.routing import Route

from feature_definitions import Entity, Feature, FeatureService, Join, Source, WindowedGroup
from feature_definitions.layout import KeySpace
from online_sync import embedded
from online_sync.store import AsyncStore
from serving import rest, server
from tests.serving.processes import ROOT, fill

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

WAYS = ("starlette", "raw")
_TICKS = os.sysconf("SC_CLK_TCK")

customer = Entity("customer", {"customer_id": "int64"})
payments = Source("payments", columns={"customer_id": "int64", "paid": "double", "at": "timestamp"}, event_timestamp="at")
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(Feature("paid", "sum", "paid", windows=("1d",)),))
service = FeatureService("by_customer", joins=(Join(spend),))


class Raw:
    """The hot route as raw ASGI; what it raises still becomes Starlette's answer."""

    def __init__(self, answers: rest._Answers) -> None:
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        data = msgspec.json.encode({"results": await self._answers._results(body)})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})


def serve(way: str, url: str) -> None:
    """Serve in this process, and print the port."""
    app = rest.app(
        {"by_customer": service},
        space=lambda: KeySpace("shop", "lakelake"),
        store=AsyncStore(url),
        clock=lambda: datetime(2026, 1, 5, 6, tzinfo=UTC),
    )
    if way == "raw":
        hot: Any = app.routes[0]
        app.router.routes[0] = Route(hot.path, Raw(hot.endpoint.__self__), methods=["POST"])
    server.run(app, ready=lambda port: print(port, flush=True), port=0)


def cpu_of(way: str, url: str, *, entities: int, requests: int) -> float:
    """Microseconds of the server's CPU per request, after a tenth of the requests warmed it."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_serving", "--serve", way, url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with socket.create_connection(("127.0.0.1", int(process.stdout.readline())), timeout=30) as connection:
                ask(connection, entities=entities, times=requests // 10)
                before = ticks(process.pid)
                ask(connection, entities=entities, times=requests)
                return (ticks(process.pid) - before) / _TICKS / requests * 1e6
        finally:
            process.terminate()


def ask(connection: socket.socket, *, entities: int, times: int) -> None:
    """Send the request again and again on one connection, each when the answer to the one before is here."""
    body = json.dumps({"service": "by_customer", "entities": [{"customer_id": 42}] * entities}).encode()
    request = b"POST /v1/features HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    for _ in range(times):
        connection.sendall(request)
        answer = connection.recv(1 << 20)
        head, _, rest_of_it = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert head.startswith(b"HTTP/1.1 200"), answer
        while len(rest_of_it) < length:
            rest_of_it += connection.recv(1 << 20)


def ticks(pid: int) -> int:
    """The user and system ticks that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def main() -> None:
    """Print the table: a row for each number of entities, the least of three rounds for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--serve", nargs=2, metavar=("WAY", "URL"))
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    shown = Table("entities", *(f"{way} µs" for way in WAYS), "raw saves", title="server CPU per request of POST /v1/features")
    with tempfile.TemporaryDirectory() as folder:
        url = embedded.ensure(Path(folder))
        fill(url)
        for entities, requests in ((1, options.requests), (100, options.requests // 4)):
            found = {way: min(cpu_of(way, url, entities=entities, requests=requests) for _ in range(3)) for way in WAYS}
            saved = 1 - found["raw"] / found["starlette"]
            shown.add_row(str(entities), *(f"{found[way]:.0f}" for way in WAYS), f"{saved:.0%}")
        embedded.stop(Path(folder))
    Console(width=100).print(shown)


if __name__ == "__main__":
    main()
