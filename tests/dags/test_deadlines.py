"""When somebody is told of a run that takes long, decided without Airflow's scheduler, and what is said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Airflow

PROGRAM = """
import asyncio, logging
from dags.deadlines import allowed, missed
from dags.schedule import schedule_of
from feature_definitions import Entity, Feature, Source, WindowedGroup

said = []
logging.getLogger("dags.deadlines").error = lambda text, *values: said.append(text % values)
customer = Entity("customer", {"customer_id": "int64"})

def hours(every, ttl, ready):
    payments = Source("payments", columns={"customer_id": "int64", "at": "timestamp"}, event_timestamp="at", ready_after=ready)
    windows = (every,)
    group = WindowedGroup("spend", customer, payments, every=every, ttl=ttl, features=(Feature("n", "count", windows=windows),))
    return allowed(group, schedule_of(group)).total_seconds() / 3600

asyncio.run(missed(group="spend", within="13:00:00", ttl="2d", context={"dag_run": {"partition_key": "2026-01-05"}}))
asyncio.run(missed(group="spend", within="13:00:00", ttl="2d"))
answer = [hours("1d", "2d", "2h"), hours("1d", "1d", "2h"), hours("1h", "7h", "0s"), *said]
"""


def test_a_run_has_half_the_time_in_which_readers_still_have_values_and_some_in_any_case(airflow: Airflow, shop: Path) -> None:
    daily, tight, hourly, said, unnamed = airflow.python(PROGRAM, project=shop)
    assert (daily, tight, hourly) == (13.0, 5.0, 3.0)
    assert said == "spend 2026-01-05 is not published within 13:00:00; readers lose its values 2d after the newest one that is"
    assert "spend its newest run is not published" in json.dumps(unnamed)
