"""A shop with six weeks of payments, and the Airflow that runs it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests import airflow

if TYPE_CHECKING:
    from collections.abc import Iterator

CATALOG = """
from feature_definitions import (
    Entity, Feature, FeatureService, Files, Join, Label, Source, TrainingSet, TransformGroup, WindowedGroup, at_least,
)

customer = Entity("customer", keys={"customer_id": "int64"})
columns = {"customer_id": "int64", "amount": "double", "refunded": "boolean", "paid_at": "timestamp"}
payments = Source("payments", Files("data/payments/*.csv"), columns=columns, event_timestamp="paid_at", timezone="UTC", ready_after="0s")
spend = WindowedGroup("spend", customer, payments, ttl="3d", features=(
    Feature("spent", "sum", "amount", windows=("1d",), expect=(at_least(0),)),
))
pace = WindowedGroup("pace", customer, payments, ttl="3d", features=(Feature("payments", "count", windows=("1d",)),))
level = TransformGroup(
    "level", customer, (spend,), lookback="1d", ttl="3d", schema={"level": "double"},
    sql="SELECT customer_id, max(spent_1d) AS level FROM spend GROUP BY customer_id",
)
shop_v1 = FeatureService("shop_v1", joins=(Join(spend), Join(pace)))
refunds = TrainingSet("refunds", payments, shop_v1, label=Label("refunded", "1d"))
"""
ASKING = """
from .shop import columns, customer
from feature_definitions import Feature, Files, Source, TransformGroup, WindowedGroup, at_most

charges = Source("charges", Files("data/charges/*.csv"), columns=columns, event_timestamp="paid_at", timezone="UTC", ready_after="0s")
fees = WindowedGroup("fees", customer, charges, ttl="3d", restate_within="0s", warnings="approve", features=(
    Feature("charged", "sum", "amount", windows=("1d",), expect=(at_most(100, severity="warning"),)),
))
burden = TransformGroup(
    "burden", customer, (fees,), lookback="1d", ttl="3d", restate_within="0s", schema={"burden": "double"},
    sql="SELECT customer_id, max(charged_1d) AS burden FROM fees GROUP BY customer_id",
)
"""
"""Groups that ask a person and that read such a group, in a file of their own, which comes later."""
HEADER = "customer_id,amount,refunded,paid_at\n"
TODAY = datetime.now(UTC).date()
TOMORROW = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC) + timedelta(days=1)
DAYS, CAUGHT_UP, BAD, FILLED = 43, 5, 3, 13
"""So many days have payments, one file each; yesterday's is the last. Airflow makes up for the last five; a payment of three days ago is
bad. What a scheduled run restates, and five days before that, ends so many days ago."""


def day(back: int) -> date:
    """The day so many days ago."""
    return TODAY - timedelta(days=back)


def payments(at: date, *amounts: float) -> str:
    """The file of one day."""
    return HEADER + "".join(f"{n},{amount},false,{at}T00:00:0{n}Z\n" for n, amount in enumerate(amounts, 1))


@dataclass(frozen=True)
class Shop(airflow.System):
    """The system of the shop, and what it has told HEADWATER_ALERT_URL."""

    alerts: list[str]

    def pay(self, at: date, *amounts: float, into: str = "payments") -> None:
        """Bring a day's file of a source, whole."""
        file = self.folder / "data" / into / f"{at}.csv"
        beside = file.with_suffix(".part")
        beside.write_text(payments(at, *amounts), encoding="utf-8")
        beside.replace(file)


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """An address on loopback, and the texts that are posted to it."""
    texts = list[str]()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/key", texts
        server.shutdown()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The system of the shop, of whose payments nothing is ingested yet; Airflow keeps its state in PostgreSQL."""
    if datetime.now(UTC).date() != TODAY or datetime.now(UTC) + timedelta(minutes=30) >= TOMORROW:
        pytest.skip("it would be another day before the tests end")
    folder = tmp_path_factory.mktemp("airflow") / "shop"
    (folder / "catalog").mkdir(parents=True)
    for source in ("payments", "charges"):
        (folder / "data" / source).mkdir(parents=True)
    (folder / "headwater.toml").write_text('[project]\nname = "shop"\n', encoding="utf-8")
    (folder / "catalog" / "shop.py").write_text(CATALOG, encoding="utf-8")
    for back in range(1, DAYS + 1):
        text = payments(day(back), 10, -20 if back == BAD else 20)
        (folder / "data" / "payments" / f"{day(back)}.csv").write_text(text, encoding="utf-8")
    quick = {
        "HEADWATER_CATCH_UP_FROM": str(day(CAUGHT_UP)),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20",  # each time costs a second of CPU
    }
    with listening() as (url, alerts), airflow.running(folder, HEADWATER_ALERT_URL=url, **quick) as running:
        shop = Shop(running.folder, running.port, running.token, running.environment, alerts)
        shop.quiet("reconcile")
        shop.switch("reconcile", paused=True)  # at half past an hour it would do what a test is about
        yield shop
