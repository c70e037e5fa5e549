"""The service as it really runs: a process of its own on a free port, in front of a real Valkey."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_definitions import layout
from feature_definitions.intervals import micros
from online_sync.codec import EpochRecord, Row, RowSchema, encode
from online_sync.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
COVERAGE = micros(datetime(2026, 1, 5, tzinfo=UTC))
SCHEMA = RowSchema((("paid_1d", "double"),))
RECORD = EpochRecord(
    project="shop", lake="lakelake", group="spend", generation=1, epoch=1, kind="windowed", columns=SCHEMA.columns, synced_at=0,
    coverage=COVERAGE,
    ttl=172_800_000_000, empty=(0.0,),
)  # fmt: skip

SERVICE = """
import sys
from datetime import UTC, datetime
from feature_definitions import Entity, Feature, FeatureService, Join, Source, WindowedGroup
from feature_definitions.layout import KeySpace
from online_sync.store import AsyncStore
from pathlib import Path
from serving import rest
from serving.desk import Limits
from serving.keys import Keys
from serving.server import Calls, Processes, run

customer = Entity("customer", {"customer_id": "int64"})
payments = Source("payments", columns={"customer_id": "int64", "paid": "double", "at": "timestamp"}, event_timestamp="at")
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(Feature("paid", "sum", "paid", windows=("1d",)),))
services = (FeatureService("by_customer", joins=(Join(spend),)), FeatureService("offline", joins=(Join(spend),), online=False))
found = {service.name: service for service in services if "none" not in sys.argv}
space = KeySpace("shop", "lakelake")
more = dict(argument.split("=") for argument in sys.argv[2:] if "=" in argument)
guard = rest.Guard(Keys(Path(more["keys"])), lambda event: print(event, file=sys.stderr)) if "keys" in more else None

def made():
    return rest.app(
        found, space=lambda: space, store=AsyncStore(sys.argv[1]), clock=lambda: datetime(2026, 1, 5, 6, tzinfo=UTC),
        limits=Limits(trust=float(more.get("trust", 0))), guard=guard,
    )

calls = Calls(int(more["grpc"]), told=lambda port: print(port, end=" ")) if "grpc" in more else None
processes = Processes(count=int(more.get("workers", 1)), calls=calls)
run(made, ready=lambda port: print(port, flush=True), port=0, processes=processes)
"""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Service:
    port: int
    process: subprocess.Popen[str]
    calls: int | None = None

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def features(self, body: object) -> Answer:
        return self.ask("POST", "/v1/features", json.dumps(body).encode())

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, json.loads(response.read()), headers)


@contextmanager
def serving(url: str, *arguments: str) -> Iterator[Service]:
    """Run the service until the block ends."""
    with subprocess.Popen([sys.executable, "-c", SERVICE, url, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            *calls, port = map(int, process.stdout.readline().split())
            yield Service(port, process, *calls)
        finally:
            process.terminate()
            process.wait(timeout=60)


def fill(url: str) -> None:
    """One customer, 42, who paid 1.5, and the epoch record that makes it known."""
    key = layout.row_key(RECORD.space, "spend", 1, "42")
    row = Row(event_timestamp=COVERAGE, empties_at=None, held=False, tombstone=False, epoch=1, values=(1.5,))
    with closing(Store(url)) as store:
        begun = store.begin_epoch(RECORD)
        store.put_rows([(key, encode(SCHEMA, row))])
        assert store.publish_epoch(begun)
