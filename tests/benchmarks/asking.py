"""Asks a server over sockets, many requests under way at once, and reads what its processes used of CPU and memory."""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from serving.messages import message

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = "sesame"
"""The API key that every request brings."""
CONNECT = "/headwater.v1.Features/BatchGet"
"""Connect's unary protocol, in protobuf."""
FEAST, GRPC = "/get-online-features", "gRPC BatchGet"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table: what is asked, and how long epoch records are believed."""

    features: int
    entities: int
    trust: float
    known: int
    """Of how many entities are asked for: few are near after the first requests, all of them hardly."""
    path: str = "/v1/features"


def asked_of(case: Case, chance: random.Random) -> list[int]:
    """The entities of one request, drawn."""
    return [chance.randrange(case.known) for _ in range(case.entities)]


def call_of(case: Case, entities: Sequence[int]) -> bytes:
    """The message that asks for entities by gRPC and Connect."""
    column = message("Column")(name="customer_id", integers=entities)
    data: bytes = message("BatchGetRequest")(service=f"of_{case.features}", entities=[column]).SerializeToString()
    return data


def request_of(case: Case, asked: Sequence[int]) -> bytes:
    """One request for entities."""
    kind = b"application/json"
    if case.path == CONNECT:
        data, kind = call_of(case, asked), b"application/proto"
    elif case.path == FEAST:
        data = json.dumps({"feature_service": f"of_{case.features}", "entities": {"customer_id": asked}}).encode()
    elif case.path == "GET":
        head = f"GET /v1/features/of_{case.features}?customer_id={asked[0]} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n"
        return head.encode()
    else:
        data = json.dumps({"service": f"of_{case.features}", "entities": [{"customer_id": each} for each in asked]}).encode()
    return b"POST %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        case.path.encode(), KEY.encode(), kind, len(data), data,
    )  # fmt: skip


def connected(port: int, count: int) -> list[socket.socket]:
    """So many connections."""
    return [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(count)]


def ask(connections: list[socket.socket], case: Case, *, times: int) -> int:
    """Ask so often for entities that are drawn; returns the bytes of the last answer."""
    chance = random.Random(times)
    return send(connections, [request_of(case, asked_of(case, chance)) for _ in range(times)])


def ask_for_all(connections: list[socket.socket], case: Case) -> int:
    """Ask for each of the known entities once; returns the bytes of the last answer."""
    starts = range(0, case.known, case.entities)
    return send(connections, [request_of(case, [*range(start, start + case.entities)]) for start in starts])


def send(connections: list[socket.socket], requests: Sequence[bytes]) -> int:
    """Send requests, one at a time on each connection, the next when its answer is here; returns the bytes of the last answer."""
    waiting, size = iter(requests), 0
    with selectors.DefaultSelector() as selector:
        for connection, request in zip(connections, waiting, strict=False):
            connection.sendall(request)
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map():
            for found, _ in selector.select(timeout=60):
                connection = cast("socket.socket", found.fileobj)
                size, answer = answered(connection)
                assert answer == 200, answer
                request = next(waiting, b"")
                if request:
                    connection.sendall(request)
                else:
                    selector.unregister(connection)
    return size


def answered(connection: socket.socket) -> tuple[int, int]:
    """Read one whole answer; returns its bytes and its status."""
    answer = connection.recv(1 << 18)
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1 << 18)
    head, _, rest_of_it = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    left = length - len(rest_of_it)
    while left:
        left -= len(connection.recv(left))
    return len(head) + 4 + length, int(head.split(b" ", 2)[1])


def cpu_of(pid: int) -> float:
    """The CPU seconds that a process and its children have used, to the nanosecond where the system tells."""
    return sum(_seconds(each) for each in _family(pid))


def memory_of(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def _family(pid: int) -> list[int]:
    found = [pid]
    with suppress(FileNotFoundError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [one for child in (task / "children").read_text().split() for one in _family(int(child))]
    return found


def _seconds(pid: int) -> float:
    threads = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
    if threads:
        return sum(int(each.read_text().split()[0]) for each in threads) / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def by_grpc(port: int, case: Case, *, times: int, at_once: int) -> None:
    """Call so often, so many calls under way at once."""
    import grpc

    chance: Any = random.Random(times)
    bearer = [("authorization", f"Bearer {KEY}")]
    calls = [call_of(case, asked_of(case, chance)) for _ in range(times)]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/headwater.v1.Features/BatchGet")
        waiting: list[Any] = []
        for data in calls:
            if len(waiting) >= at_once:
                waiting.pop(0).result(timeout=60)
            waiting.append(call.future(data, timeout=60, metadata=bearer, wait_for_ready=True))
        for each in waiting:
            each.result(timeout=60)
