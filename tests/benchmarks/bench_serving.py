"""What a request for features costs the server in CPU, by how many features and entities it asks for, and by what is near.

python -m tests.benchmarks.bench_serving --requests 4000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table

from feature_definitions import Entity, Feature, FeatureService, Join, Source, WindowedGroup, layout
from feature_definitions.layout import KeySpace
from online_sync import embedded
from online_sync.codec import EpochRecord, Row, RowSchema, encode
from online_sync.store import AsyncStore, Store
from serving import rest, server
from serving.desk import Limits
from serving.messages import message
from tests.serving.processes import COVERAGE, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

SPACE = KeySpace("shop", "lakelake")
NOW = datetime(2026, 1, 5, 6, tzinfo=UTC)
ENTITIES = 20_000
CONNECTIONS = 50
"""On which as many requests are under way at once."""
CONNECT = "/headwater.v1.Features/BatchGet"
"""Connect's unary protocol, in protobuf."""
OFFERED, SECONDS = 10_000, 5
"""Requests a second that a thousand connections offer, and for how long."""
FEAST = {(20, 1): 1640, (20, 100): 13_100}
"""What `feast serve` 0.67 needs on like data (research, measured on the machine of the prototype), in microseconds."""
_TICKS = os.sysconf("SC_CLK_TCK")

customer = Entity("customer", {"customer_id": "int64"})
payments = Source(
    "payments",
    columns={"customer_id": "int64", **{f"paid_{i}": "double" if i % 2 else "int64" for i in range(20)}, "at": "timestamp"},
    event_timestamp="at",
)


def group_of(features: int) -> WindowedGroup:
    """A group with so many features, half of them doubles."""
    made = tuple(Feature(f"f{i}", "sum", f"paid_{i}", windows=("1d",)) for i in range(features))
    return WindowedGroup(f"spend_{features}", customer, payments, ttl="2d", features=made)


SERVICES = {f"of_{n}": FeatureService(f"of_{n}", joins=(Join(group_of(n)),)) for n in (6, 20)}


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table: what is asked, and how long epoch records are believed."""

    features: int
    entities: int
    trust: float
    known: int
    """Of how many entities are asked for: few are near after the first requests, all of them hardly."""
    path: str = "/v1/features"


CASES = [
    *(
        Case(features, entities, trust, known)
        for features in (6, 20)
        for entities in (1, 100)
        for trust, known in ((0.0, ENTITIES), (0.0, 500), (0.1, 500))
    ),
    *(Case(20, entities, 0.1, 500, path) for path in ("/get-online-features", CONNECT) for entities in (1, 100)),
]


def fill(url: str) -> None:
    """Rows of all entities for both groups."""
    chance = random.Random(7)
    with closing(Store(url)) as store:
        for features in (6, 20):
            columns = tuple((f"f{i}_1d", "double" if i % 2 else "int64") for i in range(features))
            record = EpochRecord(
                project="shop", lake="lakelake", group=f"spend_{features}", generation=1, epoch=1, kind="windowed", columns=columns,
                synced_at=0, coverage=COVERAGE, ttl=172_800_000_000, empty=(None,) * features,
            )  # fmt: skip
            schema, begun = RowSchema(columns), store.begin_epoch(record)
            rows = []
            for entity in range(ENTITIES):
                values = tuple(chance.random() * 1000 if i % 2 else chance.randrange(10**6) for i in range(features))
                row = Row(event_timestamp=COVERAGE, empties_at=None, held=False, tombstone=False, epoch=1, values=values)
                rows.append((layout.row_key(SPACE, record.group, 1, str(entity)), encode(schema, row)))
            store.put_rows(rows)
            assert store.publish_epoch(begun)


def serve(url: str, trust: float) -> None:
    """Serve in this process, and print the port."""
    app = rest.app(SERVICES, space=lambda: SPACE, store=AsyncStore(url), clock=lambda: NOW, limits=Limits(trust=trust))
    server.run(lambda: app, ready=lambda port: print(port, flush=True), port=0)


@contextmanager
def served(url: str, trust: float) -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its port and its process id."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_serving", "--serve", url, str(trust)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()


def cpu_of(case: Case, url: str, *, requests: int) -> float:
    """Microseconds of the server's CPU per request, after a fifth of the requests warmed it."""
    with served(url, case.trust) as (port, pid):
        connections = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(CONNECTIONS)]
        ask(connections, case, times=requests // 5)
        before = ticks(pid)
        ask(connections, case, times=requests)
        spent = (ticks(pid) - before) / _TICKS / requests * 1e6
        for connection in connections:
            connection.close()
        return spent


def latencies(url: str, *, offered: int, slow: int) -> tuple[list[float], float, int]:
    """Seconds from when each of so many requests was due to its answer, on 1,000 connections; all seconds, and the memory of the server.

    Beside them are `slow` connections that begin a request and say no more.
    """
    case, chance, found = Case(20, 1, 0.1, 500), random.Random(1), list[float]()
    requests = [request_of(case, chance) for _ in range(1000)]
    with served(url, case.trust) as (port, pid), ExitStack() as stack, selectors.DefaultSelector() as selector:
        for i in range(1000 + slow):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            if i < 1000:
                selector.register(connection, selectors.EVENT_READ)
            else:
                connection.sendall(requests[0][:30])
        connections = [cast("socket.socket", key.fileobj) for key in selector.get_map().values()]
        ask(connections[:50], case, times=2000)
        for connection in connections[:50]:
            selector.modify(connection, selectors.EVENT_READ)
        due: dict[int, float] = {}
        begun, sent = time.monotonic(), 0
        while time.monotonic() - begun < SECONDS or due:
            while sent < min(offered * SECONDS, (time.monotonic() - begun) * offered) and connections[sent % 1000].fileno() not in due:
                due[connections[sent % 1000].fileno()] = begun + sent / offered
                connections[sent % 1000].sendall(requests[sent % 1000])
                sent += 1
            for key, _ in selector.select(timeout=0.001):
                answered(cast("socket.socket", key.fileobj))
                found.append(time.monotonic() - due.pop(key.fd))
        return sorted(found), time.monotonic() - begun, memory(pid)


def memory(pid: int) -> int:
    """The resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def ask(connections: list[socket.socket], case: Case, *, times: int) -> None:
    """Send requests, one at a time on each connection, the next when its answer is here."""
    chance = random.Random(times)
    waiting = iter([request_of(case, chance) for _ in range(times)])
    with selectors.DefaultSelector() as selector:
        for connection, request in zip(connections, waiting, strict=False):
            connection.sendall(request)
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map():
            for found, _ in selector.select(timeout=30):
                connection = cast("socket.socket", found.fileobj)
                answered(connection)
                request = next(waiting, b"")
                if request:
                    connection.sendall(request)
                else:
                    selector.unregister(connection)


def request_of(case: Case, chance: random.Random) -> bytes:
    """One request, of entities that are drawn."""
    asked: Any = [chance.randrange(case.known) for _ in range(case.entities)]
    if case.path == CONNECT:
        column = message("Column")(name="customer_id", integers=asked)
        data = message("BatchGetRequest")(service=f"of_{case.features}", entities=[column]).SerializeToString()
        return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\ncontent-length: %d\r\n\r\n%b" % (
            case.path.encode(), len(data), data,
        )  # fmt: skip
    if case.path == "/get-online-features":
        body = {"feature_service": f"of_{case.features}", "entities": {"customer_id": asked}}
    else:
        body = {"service": f"of_{case.features}", "entities": [{"customer_id": each} for each in asked]}
    data = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (case.path.encode(), len(data), data)


def answered(connection: socket.socket) -> None:
    """Read one whole answer."""
    answer = connection.recv(1 << 18)
    head, _, rest_of_it = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer
    left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(rest_of_it)
    while left:
        left -= len(connection.recv(left))


def ticks(pid: int) -> int:
    """The user and system ticks that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def main() -> None:
    """Print the table: the least of three rounds of each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow", type=int, default=10_000, help="slow connections beside the others")
    parser.add_argument("--near", action="store_true", help="only what is asked of entities that are near")
    parser.add_argument("--serve", nargs=2, metavar=("URL", "TRUST"))
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.serve:
        serve(options.serve[0], float(options.serve[1]))
        return
    shown = Table(
        "path", "features", "entities", "records read", "asked for", "µs", "feast serve µs", "ratio", title="server CPU per request"
    )
    with tempfile.TemporaryDirectory() as folder:
        url = embedded.ensure(Path(folder))
        fill(url)
        for case in [each for each in CASES if each.trust or not options.near]:
            requests = options.requests if case.entities == 1 else options.requests // 4
            least = min(cpu_of(case, url, requests=requests) for _ in range(options.rounds))
            feast = FEAST.get((case.features, case.entities))
            shown.add_row(
                case.path, str(case.features), str(case.entities), "each time" if not case.trust else f"every {case.trust} s",
                f"{case.known:,} entities", f"{least:.0f}", str(feast or ""), f"{feast / least:.0f}" if feast else "",
            )  # fmt: skip
        for offered, slow in ((OFFERED, 0), (OFFERED // 10, options.slow)):
            found, seconds, resident = latencies(url, offered=offered, slow=slow)
            half, most = (found[int(len(found) * share)] * 1000 for share in (0.5, 0.99))
            print(
                f"1,000 connections, {offered:,} requests a second offered, {slow:,} slow connections beside: {len(found) / seconds:,.0f} "
                f"a second answered, p50 {half:.1f} ms, p99 {most:.1f} ms, resident memory {resident / 2**20:.0f} MB"
            )
        embedded.stop(Path(folder))
    Console(width=110).print(shown)


if __name__ == "__main__":
    main()
