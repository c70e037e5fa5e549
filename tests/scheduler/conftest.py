"""A real Airflow beside a small project, as `make up` starts it: scheduler, API and triggerer on loopback, asked by REST."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests import postgresql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0

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
HEADER = "customer_id,amount,refunded,paid_at\n"
TODAY = datetime.now(UTC).date()
DAYS = 40
"""So many days have payments, one file each; yesterday's is the last."""


def day(back: int) -> date:
    """The day so many days ago."""
    return TODAY - timedelta(days=back)


def payments(at: date, *amounts: float) -> str:
    """The file of one day."""
    return HEADER + "".join(f"{n},{amount},false,{at}T0{n}:00:00Z\n" for n, amount in enumerate(amounts, 1))


class ServerError(AssertionError):
    """An answer that says that the server failed, not the request."""


@dataclass(frozen=True)
class System:
    """A project and the Airflow that runs it."""

    folder: Path
    port: int
    token: str

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Airflow's answer to a request below /api/v2."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        url = f"http://127.0.0.1:{self.port}/api/v2{path}"
        for _ in range(3 if method == "GET" else 1):  # what only looks is asked again where Airflow's server stumbles
            try:
                return _asked(url, method=method, body=body, headers=headers)
            except ServerError as error:
                failed = error
                time.sleep(2)
        raise failed

    def runs(self, dag: str) -> dict[str | None, dict[str, Any]]:
        """The newest run of each partition key of a DAG."""
        found = self.ask("GET", f"/dags/{dag}/dagRuns?limit=200&order_by=start_date")["dag_runs"]
        return {run["partition_key"]: run for run in found}

    def states(self, run: Mapping[str, Any]) -> dict[str, str | None]:
        """What became of a run's tasks."""
        path = f"/dags/{run['dag_id']}/dagRuns/{quote(run['dag_run_id'])}/taskInstances"
        return {each["task_id"]: each["state"] for each in self.ask("GET", path)["task_instances"]}

    def log(self, run: Mapping[str, Any], task: str, number: int = 1) -> list[str]:
        """The lines of a task's log."""
        path = f"/dags/{run['dag_id']}/dagRuns/{quote(run['dag_run_id'])}/taskInstances/{task}/logs/{number}?full_content=true"
        return [str(each.get("event", "")) for each in self.ask("GET", path)["content"]]

    def ended(self, dag: str, key: str | None) -> dict[str, Any]:
        """The newest run of a key, once it has ended."""
        return self.until(lambda: (run := self.runs(dag).get(key)) and run["state"] in ("success", "failed") and run)

    def until(self, found: Callable[[], Any], *, patience: float = PATIENCE) -> Any:
        """What is found as soon as it is something."""
        deadline = time.monotonic() + patience
        while not (answer := found()):
            assert time.monotonic() < deadline, f"nothing came in {patience:.0f} s"
            time.sleep(1)
        return answer

    def backfill(self, dag: str, first: date, last: date, *, reprocess: str = "none") -> dict[str, Any]:
        """Start Airflow's own backfill, once the one before is over: a DAG has one at a time."""
        self.until(lambda: all(each["completed_at"] for each in self.ask("GET", f"/backfills?dag_id={dag}")["backfills"]))
        body = {
            "dag_id": dag, "from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z", "reprocess_behavior": reprocess,
            "max_active_runs": 3,
        }  # fmt: skip
        answer: dict[str, Any] = self.ask("POST", "/backfills", body)
        return answer

    def clear_failed(self, run: Mapping[str, Any]) -> None:
        """Clear the failed tasks of a run, as its button does."""
        body = {"dry_run": False, "only_failed": True, "dag_run_id": run["dag_run_id"], "reset_dag_runs": True}
        self.ask("POST", f"/dags/{run['dag_id']}/clearTaskInstances", body)

    def status(self, group: str) -> dict[str, str]:
        """The ledger's status of each day of a group."""
        command = [ROOT / ".venv/bin/headwater", "status", group, "--json", "--project", self.folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return {each["interval_start"][:10]: each["status"] for each in json.loads(done.stdout)["intervals"]}

    def pay(self, at: date, *amounts: float) -> None:
        """Bring a day's file, whole."""
        file = self.folder / "data" / "payments" / f"{at}.csv"
        beside = file.with_suffix(".part")
        beside.write_text(payments(at, *amounts), encoding="utf-8")
        beside.replace(file)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The system of a shop with 40 days of payments, of which nothing is computed yet; Airflow keeps its state in PostgreSQL."""
    folder = tmp_path_factory.mktemp("airflow") / "shop"
    (folder / "catalog").mkdir(parents=True)
    (folder / "data" / "payments").mkdir(parents=True)
    (folder / "headwater.toml").write_text('[project]\nname = "shop"\n', encoding="utf-8")
    (folder / "catalog" / "shop.py").write_text(CATALOG, encoding="utf-8")
    for back in range(1, DAYS + 1):
        (folder / "data" / "payments" / f"{day(back)}.csv").write_text(payments(day(back), 10, 20), encoding="utf-8")
    with postgresql.running() as database:
        yield from _running(folder, database.create("airflow").replace("postgresql://", "postgresql+psycopg://"))


def _running(folder: Path, database: str) -> Iterator[System]:
    port, serving = _free(), _free()
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "HEADWATER_"))}
    settings = {"AIRFLOW_PORT": str(port), "SERVING_PORT": str(serving), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database}
    small = {"HEADWATER_SPARK_MASTER": "local[2]", "HEADWATER_DRIVER_MEMORY": "1g"}
    cache = {name: os.environ[name] for name in ("HEADWATER_CACHE",) if name in os.environ}
    try:
        subprocess.run([ROOT / "docker/up", folder], env={**ours, **settings, **small, **cache}, check=True)
        password = json.loads((folder / ".headwater/up/passwords").read_text(encoding="utf-8"))["admin"]
        login = _asked(f"http://127.0.0.1:{port}/auth/token", method="POST", body={"username": "admin", "password": password}, headers={})
        yield System(folder, port, login["access_token"])
    finally:
        subprocess.run([ROOT / "docker/down", folder], env=ours, check=True)


def _asked(url: str, *, method: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, method=method, data=data, headers={"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        kind = ServerError if error.code >= 500 else AssertionError
        raise kind(f"{method} {url}: {error.code} {error.read().decode()}") from None


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
