"""The DAGs under a real scheduler, from the first run to a recovery; each test goes on where the one before it ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.scheduler.conftest import DAYS, day

if TYPE_CHECKING:
    from tests.scheduler.conftest import System

GREEN = {
    "wait": "success",
    "ingest": "success",
    "materialize": "success",
    "restate": "skipped",
    "warnings": "skipped",
    "publish": "success",
}
RED = {"wait": "success", "ingest": "success", "materialize": "failed", "warnings": "upstream_failed", "publish": "failed"}


def test_each_group_runs_for_yesterday_and_is_green_as_the_ledger_says(system: System) -> None:
    key = str(day(1))
    for group in ("spend", "pace", "level"):
        run = system.ended(f"fg__{group}", key)
        assert (run["state"], run["dag_run_id"].split("__")[2]) == ("success", key)
        assert system.status(group)[key] == "OK"
    assert system.states(system.runs("fg__spend")[key]) == GREEN
    assert any(line == f"the data day of this run: {key} of spend" for line in system.log(system.runs("fg__spend")[key], "ingest"))


def test_only_one_process_of_a_run_starts_java(system: System) -> None:
    run = system.ended("fg__spend", str(day(1)))
    started = {task: system.log(run, task).count("starting Spark") for task in ("ingest", "materialize", "publish")}
    assert started == {"ingest": 1, "materialize": 0, "publish": 0}


def test_what_was_published_triggers_the_sync_and_the_training_set(system: System) -> None:
    assert system.ended("ts__refunds", str(day(1)))["state"] == "success"
    assert system.ended("sync__published", "newest")["state"] == "success"
    events = system.ask("GET", "/assets/events?limit=100&order_by=timestamp")["asset_events"]
    (extra,) = [event["extra"] for event in events if event["name"] == "features.spend"]
    assert (extra["rows"], extra["verdict"]) == (2, "passed")


def test_a_backfill_computes_days_that_lie_side_by_side_in_one_job(system: System) -> None:
    days = [str(day(back)) for back in range(12, 7, -1)]  # yesterday's run restated those of the last days
    system.backfill("fg__spend", day(12), day(8))
    runs = [system.ended("fg__spend", key) for key in days]
    assert [run["state"] for run in runs] == ["success"] * 5
    assert {system.status("spend")[key] for key in days} == {"OK"}
    computed = [line for run in runs for line in system.log(run, "ingest") if re.fullmatch(r"spend: computing \d+ intervals", line)]
    assert computed == ["spend: computing 5 intervals"]
    assert system.status("spend")[str(day(13))] == "MISSING"


def test_a_rejected_day_is_red_says_why_and_recovers_by_only_failed(system: System) -> None:
    key = str(day(3))
    system.pay(day(3), 10, -20)
    system.backfill("fg__spend", day(3), day(3), reprocess="completed")
    run = system.until(lambda: (r := system.ended("fg__spend", key)) and r["state"] == "failed" and r)
    assert {task: state for task, state in system.states(run).items() if task in RED} == RED
    last = [line for line in system.log(run, "materialize") if not line.startswith("::")][-1]
    assert last.startswith(f"spend {key}: the gate rejected it: failed spent_1d:at_least(0); for example customer_id=2 ")
    assert "report: " in last
    assert "correct payments, or let later ones pass: headwater release spend " in last

    system.pay(day(3), 10, 21)
    system.clear_failed(run)
    again = system.until(lambda: (r := system.runs("fg__spend")[key]) and r["state"] == "success" and r)
    assert again["dag_run_id"] == run["dag_run_id"]
    assert system.status("spend")[key] == "OK"


def test_a_range_is_computed_in_one_job_and_all_its_partitions_are_marked(system: System) -> None:
    conf = {"groups": ["pace"], "from": str(day(DAYS)), "to": str(day(11)), "mode": "missing", "chunk_days": 90, "dry_run": False}
    system.ask("POST", "/dags/backfill__range/dagRuns", {"logical_date": None, "conf": conf})
    run = system.ended("backfill__range", None)
    assert run["state"] == "success"
    assert "pace: computing 30 intervals" in system.log(run, "materialize")
    events = system.ask("GET", "/assets/events?limit=100&order_by=-timestamp")["asset_events"]
    marked = {event["partition_key"] for event in events if event["name"] == "features.pace"}
    assert {str(day(back)) for back in range(11, DAYS + 1)} <= marked


def test_a_broken_file_is_an_import_error_and_the_other_dags_run_on(system: System) -> None:
    (system.folder / "catalog" / "broken.py").write_text("x = = 1\n", encoding="utf-8")
    errors = system.until(lambda: system.ask("GET", "/importErrors")["import_errors"])
    assert [error["filename"] for error in errors] == ["catalog_mistakes.py"]
    assert "broken.py:1: this is not Python" in errors[0]["stack_trace"]
    system.backfill("fg__pace", day(2), day(2))
    assert system.ended("fg__pace", str(day(2)))["state"] == "success"
    (system.folder / "catalog" / "broken.py").unlink()
    system.until(lambda: not system.ask("GET", "/importErrors")["import_errors"])
