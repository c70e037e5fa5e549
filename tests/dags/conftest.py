"""Airflow in processes of its own, as it runs: with a home, and with what it warns of, of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
DAGS = ROOT / "dags"

SHOP = """
from feature_definitions import Derived, Entity, Feature, FeatureService, Files, Join, Label
from feature_definitions import ObservationGroup, SnapshotGroup, Source, TrainingSet, TransformGroup, WindowedGroup

customer = Entity("customer", keys={"customer_id": "int64"})
columns = {"customer_id": "int64", "amount": "double", "paid_at": "timestamp", "left": "boolean"}
payments = Source("payments", Files("data/*.csv"), columns=columns, event_timestamp="paid_at", timezone="UTC", ready_after="2h")
people = Source("people", Files("people/*.csv"), columns={"customer_id": "int64", "city": "string"}, id=("customer_id",), shape="static")

spend = WindowedGroup(
    "spend", customer, payments, every="1d", ttl="2d", owner="payments_team", tags=("gold", "daily"),
    features=(Feature("spend", "sum", "amount", windows=("1d", "7d")), Derived("share", "spend_1d / spend_7d")),
)
pace = WindowedGroup("pace", customer, payments, every="1h", ttl="3h", features=(Feature("payments", "count", windows=("1h",)),))
burst = WindowedGroup("burst", customer, payments, every="5m", ttl="1h", features=(Feature("payments", "count", windows=("5m",)),))
paid = ObservationGroup("paid", customer, payments, columns=("amount",), ttl="6h", every="6h", warnings="approve")
home = SnapshotGroup("home", customer, people, columns=("city",), assume_always_known=True)
level = TransformGroup(
    "level", customer, (spend, payments), lookback="7d", ttl="2d", schema={"level": "int64"},
    sql="SELECT p.customer_id, count(*) AS level FROM payments p JOIN spend s ON p.customer_id = s.customer_id GROUP BY p.customer_id",
)
shop_v1 = FeatureService("shop_v1", joins=(Join(spend), Join(home)))
churn = TrainingSet("churn", payments, shop_v1, label=Label("left", "1d"))
"""


@dataclass(frozen=True)
class Airflow:
    """Runs Python and the `airflow` command beside a project, each in a fresh process."""

    home: Path

    def environment(self, project: Path, **more: str) -> dict[str, str]:
        """The caller's environment without what it says of Airflow and of the project."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW") and name != "HEADWATER_PROJECT"}
        airflow = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        }
        return {**ours, **airflow, "HEADWATER_PROJECT": str(project), **more}

    def python(self, program: str, *, project: Path, **more: str) -> Any:
        """What the program puts into `answer`."""
        ending = "\nimport json as _json, sys as _sys\n_sys.stdout.write('\\nANSWER ' + _json.dumps(answer))"
        done = subprocess.run(
            [sys.executable, "-c", program + ending], env=self.environment(project, **more), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.rpartition("\nANSWER ")[2])

    def command(self, *arguments: str, project: Path) -> subprocess.CompletedProcess[str]:
        """The `airflow` command, with what it says on both streams."""
        command = [str(Path(sys.executable).with_name("airflow")), *arguments]
        return subprocess.run(
            command, env=self.environment(project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """Airflow with a home of its own, without a database until someone makes one."""
    return Airflow(tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a group of every kind and cadence, in a domain's folder; it has no data."""
    return project(tmp_path_factory.mktemp("shop"), SHOP)


def project(folder: Path, catalog: str) -> Path:
    """A project whose catalog is one file of the domain `retail`."""
    (folder / "catalog" / "retail").mkdir(parents=True)
    (folder / "headwater.toml").write_text('[project]\nname = "shop"\n', encoding="utf-8")
    (folder / "catalog" / "retail" / "groups.py").write_text(catalog, encoding="utf-8")
    return folder
