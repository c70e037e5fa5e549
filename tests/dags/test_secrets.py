"""A day's run of a group over a database, by a connection of Airflow's: nothing that the run leaves or says holds the password."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from feature_definitions import layout
from tests.dags.conftest import project as make
from tests.postgresql import PASSWORD

if TYPE_CHECKING:
    from conftest import Airflow

    from tests.postgresql import Server

CATALOG = """
from feature_definitions import Entity, Feature, Jdbc, Source, WindowedGroup

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source("payments", Jdbc("payments", connection="shop"), columns={"customer_id": "int64", "paid_at": "timestamp"},
                  event_timestamp="paid_at")
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(Feature("payments", "count", windows=("1d",)),))
"""


def test_no_log_xcom_commit_or_record_holds_the_password_of_a_connection(airflow: Airflow, postgresql: Server, tmp_path: Path) -> None:
    shop, day = make(tmp_path, CATALOG), f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"
    url = postgresql.emptied("secrets")
    postgresql.run(
        "CREATE TABLE payments (customer_id int8, paid_at timestamptz)",
        f"INSERT INTO payments VALUES (1, '{day} 09:00+00'), (2, '{day} 10:00+00')",
        database="secrets",
    )
    assert airflow.command("db", "migrate", project=shop).returncode == 0
    variables = {"AIRFLOW_CONN_SHOP": url, "HEADWATER_CONNECTION_SHOP": "airflow://shop"}
    command = [str(Path(sys.executable).with_name("airflow")), "dags", "test", layout.group_dag("spend"), day]
    done = subprocess.run(
        command, env=airflow.environment(shop, **variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert f"spend {day} is published: 2 rows" in done.stdout, done.stdout
    assert PASSWORD not in done.stdout
    left = [file for folder in (shop, airflow.home) for file in folder.rglob("*") if file.is_file()]
    assert any(file.name == "airflow.db" for file in left)
    assert any("_delta_log" in file.parts for file in left)
    assert [str(file) for file in left if PASSWORD.encode() in file.read_bytes()] == []


def test_a_password_that_a_command_says_is_hidden_in_its_tasks_log_and_a_missing_connection_is_named(
    airflow: Airflow, shop: Path, tmp_path: Path
) -> None:
    program = f"""
import io, sys
from pathlib import Path
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.log import redact
from dags import process
process.COMMAND = Path({str(tmp_path)!r}) / "headwater"
process.COMMAND.write_text("#!/bin/sh\\necho said $HEADWATER_CONNECTION_SHOP >&2\\n")
process.COMMAND.chmod(0o755)
ended = process.Running("/shop").run("status")
import os
os.environ["HEADWATER_CONNECTION_SHOP"] = "airflow://nowhere"
try:
    process.Running("/shop").run("status")
    refused = ""
except AirflowFailException as error:
    refused = str(error)
answer = [list(ended.said), redact(ended.said[0]), refused]
"""
    variables = {"AIRFLOW_CONN_SHOP": f"postgresql://ada:{PASSWORD}@db/shop", "HEADWATER_CONNECTION_SHOP": "airflow://shop"}
    said, shown, refused = airflow.python(program, project=shop, **variables)
    assert said == [f"said postgres://ada:{PASSWORD}@db/shop"]
    assert shown == "said postgres://ada:***@db/shop"
    assert "Airflow has no connection 'nowhere', which a HEADWATER_CONNECTION_... variable names" in refused
