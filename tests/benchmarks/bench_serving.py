"""What the server costs in CPU by request, beside a bare protocol and `feast serve`; latency, memory, and how much is near.

python -m tests.benchmarks.bench_serving --only cpu --near
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import uvloop
from rich.console import Console
from rich.table import Table

from feature_definitions import Entity, Feature, FeatureService, Join, Source, WindowedGroup, layout
from feature_definitions.layout import KeySpace
from online_sync import embedded
from online_sync.codec import EpochRecord, Row, RowSchema, encode, encode_epoch
from online_sync.store import AsyncStore, Store
from serving import rest, server
from serving.desk import Desk, Limits
from serving.keys import Keys
from serving.request import Wanted
from tests.benchmarks import feast_serve
from tests.benchmarks.asking import (
    CONNECT,
    FEAST,
    GRPC,
    KEY,
    Case,
    answered,
    ask,
    ask_for_all,
    asked_of,
    by_grpc,
    connected,
    cpu_of,
    memory_of,
    request_of,
)
from tests.serving.processes import COVERAGE, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SPACE = KeySpace("shop", "lakelake")
NOW = datetime(2026, 1, 5, 6, tzinfo=UTC)
ENTITIES = 20_000
CONNECTIONS = 50
"""On which as many requests are under way at once."""
OFFERED, SECONDS = 10_000, 5
"""Requests a second that a thousand connections offer, and for how long."""
_AT_FEASTS = 2000
"""Entities that Feast's store holds."""
PARTS = ("cpu", "feast", "latency", "hits")

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


CASES = [
    *(
        Case(features, entities, trust, known)
        for features in (6, 20)
        for entities in (1, 100)
        for trust, known in ((0.0, ENTITIES), (0.0, 500), (0.1, 500))
    ),
    *(Case(20, entities, 0.1, 500, path) for path in (FEAST, CONNECT, GRPC) for entities in (1, 100)),
    Case(20, 1, 0.1, 500, "GET"),
]


# ---------------------------------------------------------------------------------------------------------------- what is served


def record_of(features: int) -> EpochRecord:
    """The epoch record of the group with so many features."""
    columns = tuple((f"f{i}_1d", "double" if i % 2 else "int64") for i in range(features))
    return EpochRecord(
        project="shop", lake="lakelake", group=f"spend_{features}", generation=1, epoch=1, kind="windowed", columns=columns,
        synced_at=0, coverage=COVERAGE, ttl=172_800_000_000, empty=(None,) * features,
    )  # fmt: skip


def row_of(features: int, chance: random.Random, epoch: int) -> bytes:
    """A row, drawn."""
    values = tuple(chance.random() * 1000 if i % 2 else chance.randrange(10**6) for i in range(features))
    row = Row(event_timestamp=COVERAGE, empties_at=None, held=False, tombstone=False, epoch=epoch, values=values)
    return encode(RowSchema(record_of(features).columns), row)


def sync(url: str, features: int, chance: random.Random) -> None:
    """Write all rows of a group, and say so."""
    with closing(Store(url)) as store:
        begun = store.begin_epoch(record_of(features))
        group = record_of(features).group
        for start in range(0, ENTITIES, 500):
            keys = [layout.row_key(SPACE, group, 1, str(entity)) for entity in range(start, start + 500)]
            store.put_rows([(key, row_of(features, chance, begun.epoch)) for key in keys])
        assert store.publish_epoch(begun)


def serve(url: str, trust: float, keys: Path, *, ways: str) -> None:
    """Serve in this process by keys, HTTP and maybe gRPC, and print the ports, that of HTTP last."""
    guard = rest.Guard(Keys(keys), lambda _: None)
    app = rest.app(SERVICES, space=lambda: SPACE, store=AsyncStore(url), clock=lambda: NOW, limits=Limits(trust=trust), guard=guard)
    calls = server.Calls(0, told=lambda port: print(port, end=" ")) if ways == GRPC else None
    server.run(lambda: app, ready=lambda port: print(port, flush=True), port=0, processes=server.Processes(calls=calls))


def floor() -> None:
    """Answer every request with as many bytes as its path says, by a bare protocol, and print the port."""

    class Bare(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.read = transport, b""

        def data_received(self, data: bytes) -> None:
            self.read += data
            head, ended, body = self.read.partition(b"\r\n\r\n")
            if ended and len(body) >= int(head.rpartition(b"content-length: ")[2]):
                self.read = b""
                self.transport.write(_ANSWERS[int(head.split(b" ", 2)[1])])

    async def run() -> None:
        made = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0)
        print(made.sockets[0].getsockname()[1], flush=True)
        await made.serve_forever()

    uvloop.run(run())


class _Answers(dict[int, bytes]):
    def __missing__(self, size: int) -> bytes:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %07d\r\n\r\n"
        length = max(0, size - len(head % 0))
        self[size] = head % length + b"x" * length
        return self[size]


_ANSWERS = _Answers()


@contextmanager
def started(*words: str) -> Iterator[tuple[list[int], int]]:
    """This program in a process of its own: the ports that it prints, and its process id."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.bench_serving", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as p:
        try:
            assert p.stdout is not None
            yield [int(each) for each in p.stdout.readline().split()], p.pid
        finally:
            p.terminate()


# ------------------------------------------------------------------------------------------------------------------------- costs


def cost(case: Case, words: Sequence[str], bare: tuple[int, int], *, requests: int) -> tuple[float, float]:
    """Microseconds of the server's CPU per request, after some that warm it, and then of a bare protocol's."""
    with started(*words, *(["--grpc"] if case.path == GRPC else [])) as (ports, pid):
        if case.path == GRPC:
            by_grpc(ports[0], case, times=requests // 5, at_once=CONNECTIONS)
            before = cpu_of(pid)
            by_grpc(ports[0], case, times=requests, at_once=CONNECTIONS)
            return (cpu_of(pid) - before) / requests * 1e6, 0.0
        connections = connected(ports[-1], CONNECTIONS)
        size = ask_for_all(connections, case) if case.known < ENTITIES else ask(connections, case, times=requests // 5)
        before = cpu_of(pid)
        ask(connections, case, times=requests)
        spent = (cpu_of(pid) - before) / requests * 1e6
    return spent, least(bare, case, size, requests=requests)


def least(bare: tuple[int, int], case: Case, size: int, *, requests: int) -> float:
    """What a bare protocol needs to read a request like the case's and to write as many bytes."""
    port, pid = bare
    connections = connected(port, CONNECTIONS)
    body = request_of(case, [*range(case.entities)]).partition(b"\r\n\r\n")[2]
    request = b"POST %d HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (size, len(body), body)
    before = cpu_of(pid)
    for start in range(0, requests, CONNECTIONS):
        some = connections[: min(CONNECTIONS, requests - start)]
        for each in some:
            each.sendall(request)
        for each in some:
            answered(each)
    return (cpu_of(pid) - before) / requests * 1e6


def costs(url: str, keys: Path, options: argparse.Namespace) -> dict[Case, float]:
    """Print the table: the least of some rounds of each case, each round beside one of the bare protocol."""
    shown = Table("path", "features", "entities", "records read", "asked for", "µs", "bare µs", "ratio", title="server CPU per request")
    found: dict[Case, float] = {}
    with started("--floor") as ((port,), pid):
        for case in [each for each in CASES if each.trust or not options.near]:
            requests = options.requests if case.entities == 1 else options.requests // 4
            words = ["--serve", url, str(case.trust), str(keys)]
            rounds = [cost(case, words, (port, pid), requests=requests) for _ in range(options.rounds)]
            found[case], bare = (min(each) for each in zip(*rounds, strict=True))
            shown.add_row(
                case.path, str(case.features), str(case.entities), f"every {case.trust} s" if case.trust else "each time",
                f"{case.known:,}", f"{found[case]:.0f}", f"{bare:.0f}" if bare else "", f"{found[case] / bare:.1f}" if bare else "",
            )  # fmt: skip
    Console(width=120).print(shown)
    return found


def beside_feast(url: str, folder: Path, ours: dict[Case, float], options: argparse.Namespace) -> None:
    """Print what `feast serve` needs for the same requests, and how many times that is ours."""
    repo = folder / "feast"
    feast_serve.filled(repo, url, features=20, entities=_AT_FEASTS)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with feast_serve.serving(repo, port) as pid:
        for entities in (1, 100):
            case = Case(20, entities, 0.1, 500, FEAST)
            rounds = [feast_serve.cost(port, pid, case, requests=max(20, options.requests // 20 // entities)) for _ in range(2)]
            for path in ("/v1/features", FEAST):
                mine = ours.get(Case(20, entities, 0.1, 500, path))
                ratio = f", {min(rounds) / mine:.0f} times our {mine:.0f} by {path}" if mine else ""
                print(f"feast serve, {entities} entities x 20 features: {min(rounds):,.0f} µs of CPU by request{ratio}")


# ----------------------------------------------------------------------------------------------------------------------- latency


class Waited(NamedTuple):
    """Seconds from when each request was due to its answer, in order, and in all; how many were refused; the memory of the server."""

    each: list[float]
    seconds: float
    refused: int
    memory: int


def latencies(words: Sequence[str], *, offered: int, slow: int, known: int = 500) -> Waited:
    """What so many requests a second wait for on 1,000 connections; beside them `slow` ones begin a request and say no more."""
    case, chance, found, refused = Case(20, 1, 0.1, known), random.Random(1), list[float](), 0
    requests = [request_of(case, asked_of(case, chance)) for _ in range(1000)]
    with started(*words) as ((port,), pid), ExitStack() as stack, selectors.DefaultSelector() as selector:
        for i in range(1000 + slow):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            if i < 1000:
                selector.register(connection, selectors.EVENT_READ)
            else:
                connection.sendall(requests[0][:30])
        connections = [cast("socket.socket", key.fileobj) for key in selector.get_map().values()]
        ask_for_all(connections[:50], case) if known < ENTITIES else ask(connections[:50], case, times=2000)
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
                refused += answered(cast("socket.socket", key.fileobj))[1] != 200
                found.append(time.monotonic() - due.pop(key.fd))
        return Waited(sorted(found), time.monotonic() - begun, refused, memory_of(pid))


def waits(url: str, keys: Path, options: argparse.Namespace) -> None:
    """Print what requests wait for that are offered evenly: alone, uncached, beside a sync, and beside slow connections."""
    near, far = ["--serve", url, "0.1", str(keys)], ["--serve", url, "0.0", str(keys)]
    offers = (("what is near", near, OFFERED, 0, 500), ("hardly anything near", far, OFFERED // 4, 0, ENTITIES))
    for told, words, offered, slow, known in (
        *offers,
        (f"{options.slow:,} slow connections beside", near, OFFERED // 10, options.slow, 500),
    ):
        say(told, offered, latencies(words, offered=offered, slow=slow, known=known))
    with subprocess.Popen([sys.executable, "-m", "tests.benchmarks.bench_serving", "--sync", url], cwd=ROOT) as syncing:
        try:
            say("a sync beside, again and again", OFFERED, latencies(near, offered=OFFERED, slow=0))
        finally:
            syncing.terminate()


def say(told: str, offered: int, found: Waited) -> None:
    """Print one line of latencies."""
    half, most = (found.each[int(len(found.each) * share)] * 1000 for share in (0.5, 0.99))
    print(
        f"1,000 connections, {told}, {offered:,} requests a second offered: {len(found.each) / found.seconds:,.0f} a second answered, "
        f"{found.refused:,} refused, p50 {half:.1f} ms, p99 {most:.1f} ms, resident memory {found.memory / 2**20:.0f} MB",
        flush=True,
    )


# ------------------------------------------------------------------------------------------------------------------ what is near


class _Alike:
    """A store in which every entity has the same row."""

    def __init__(self) -> None:
        self.record, self.row = encode_epoch(record_of(6)), row_of(6, random.Random(7), 1)

    async def mget(self, keys: Sequence[str]) -> list[bytes]:
        return [self.record if key.endswith(":epoch") else self.row for key in keys]


def hits(*, entities: int = 1_000_000, near: int = 100_000, skew: float = 1.2, draws: int = 1_000_000) -> float:
    """The share of entities that were near, of as many drawn by Zipf's law, after as many again."""
    import numpy as np

    bounds = np.fromiter(accumulate(rank**-skew for rank in range(1, entities + 1)), float, entities)
    drawn = np.searchsorted(bounds, np.random.default_rng(7).random(2 * draws) * bounds[-1])
    store: Any = _Alike()
    desk = Desk(SERVICES.values(), find=lambda: SPACE, store=store, clock=lambda: NOW, limits=Limits(trust=1e9, near=near))

    async def ask_all(some: Any) -> None:
        for part in np.split(some, len(some) // 100):
            asked = Wanted(desk.reading.plans["of_6"], [(int(each),) for each in part])
            if desk.at_once(asked) is None:
                await desk.answer(asked)

    asyncio.run(ask_all(drawn[:draws]))
    before = desk.counts.of("of_6").near
    asyncio.run(ask_all(drawn[draws:]))
    return (desk.counts.of("of_6").near - before) / draws


# -------------------------------------------------------------------------------------------------------------------------- main


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part, or several (default: all)")
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow", type=int, default=10_000, help="slow connections beside the others")
    parser.add_argument("--near", action="store_true", help="only what is asked of entities that are near")
    parser.add_argument("--serve", nargs=3, metavar=("URL", "TRUST", "KEYS"))
    parser.add_argument("--grpc", action="store_true")
    parser.add_argument("--sync", metavar="URL")
    parser.add_argument("--floor", action="store_true")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.serve:
        serve(options.serve[0], float(options.serve[1]), Path(options.serve[2]), ways=GRPC if options.grpc else "HTTP")
    elif options.floor:
        floor()
    elif options.sync:
        while True:
            sync(options.sync, 20, random.Random())
    else:
        report(options)


def report(options: argparse.Namespace) -> None:
    """Measure the parts that are asked for."""
    parts = options.only or PARTS
    with tempfile.TemporaryDirectory() as folder:
        url, keys = embedded.ensure(Path(folder)), Path(folder) / "keys.json"
        keys.write_text(json.dumps({"keys": [{"name": "bench", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]}))
        try:
            for features in (6, 20):
                sync(url, features, random.Random(7))
            ours = costs(url, keys, options) if "cpu" in parts else {}
            if "feast" in parts:
                beside_feast(url, Path(folder), ours, options)
            if "latency" in parts:
                waits(url, keys, options)
        finally:
            embedded.stop(Path(folder))
    if "hits" in parts:
        print(f"near of 1,000,000 entities by Zipf 1.2, where 100,000 are kept: {hits():.1%}")


if __name__ == "__main__":
    main()
