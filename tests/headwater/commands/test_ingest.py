"""`ingest`: what it takes, refuses and puts aside."""

from __future__ import annotations

import functools
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest

from feature_definitions.errors import UserError
from headwater.project import Project
from spark_jobs.ingest import files, landing
from spark_jobs.ingest.journal import Ingest, IngestReport
from tests import projects
from tests.projects import Shop, within


def test_ingest_ends_with_3_when_rows_went_to_quarantine(shop: Shop) -> None:
    assert shop.ingest.code == 3
    payments, visits, accounts = shop.ingest.json["sources"]
    assert payments == {
        "source": "payments", "files": 2, "rows": 4, "quarantined": 1, "reasons": {"amount: is not a double": 1}, "dates_changed": 3,
        "revision": 1, "refused": [], "renamed": {}, "copies": {}, "waiting": {}, "failed": None, "hints": [],
    }  # fmt: skip
    assert (visits["files"], visits["revision"]) == (0, None)
    assert (accounts["rows"], accounts["dates_changed"]) == (3, 1)
    assert "payments: 1 row in quarantine: amount: is not a double" in shop.ingest.err


def test_a_refused_row_lies_in_quarantine_with_file_line_reason_and_its_columns(shop: Shop) -> None:
    (row,) = projects.table(shop.folder / "lake/quarantine/payments").to_dict("records")
    assert row.pop("quarantined_at") == projects.NOW
    assert row == {
        "file": "data/payments/second.csv", "line": 2, "reason": "amount: 'much' is not a double", "column": "amount", "value": "much",
        "payment_id": "p9", "customer_id": "1", "amount": "much", "refunded": "no", "paid_at": "2026-01-05T09:00:00Z",
        "arrived": "2026-01-05T09:00:00Z",
    }  # fmt: skip


def test_a_file_that_can_not_be_taken_ends_ingest_with_2_and_leaves_what_was_there(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    projects.write(folder, "data/payments/third.csv", "payment_id,customer_id\nx,1\n")
    done = within("ingest", "payments", "--json", project=folder)
    assert done.code == 2
    (report,) = done.json["sources"]
    assert (report["files"], report["revision"]) == (0, None)
    assert "data/payments/third.csv has no column 'amount'" in report["refused"][0]
    assert "refused data/payments/third.csv" in done.err


LOST = """
from feature_definitions import Files, Source

columns = {"id": "string", "at": "timestamp"}
payments = Source("payments", Files("data/*.csv", "csv"), columns=columns, event_timestamp="at", timezone="UTC", id=("id",))
"""


def test_what_a_sources_table_lost_is_read_again_once(tmp_path: Path) -> None:
    folder = projects.make(tmp_path, catalog=LOST, files={"data/a.csv": "id,at\na,2026-01-05T09:00:00Z\n"})
    within("ingest", project=folder)
    projects.write(folder, "data/b.csv", "id,at\nb,2026-01-05T10:00:00Z\n")
    within("ingest", project=folder, now=projects.NOW + timedelta(minutes=1))
    max((folder / "lake/sources/payments/_delta_log").glob("*.json")).unlink()
    later = projects.NOW + timedelta(minutes=2)
    done, again = (within("ingest", "--json", project=folder, now=later).json["sources"][0] for _ in range(2))
    assert [(each["rows"], each["dates_changed"]) for each in (done, again)] == [(2, 1), (0, 0)]
    assert sorted(projects.table(folder / "lake/sources/payments")["id"]) == ["a", "b"]


def test_an_ingest_that_takes_no_rows_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = projects.make(tmp_path, catalog=LOST)
    minutes = iter(range(9))

    def said(*, waiting: str | None = None) -> list[str]:
        done = within("ingest", "--json", project=folder, now=projects.NOW + timedelta(minutes=next(minutes)))
        report = done.json["sources"][0]
        assert (done.code, report["rows"], list(report["waiting"])) == (0, 0, [] if waiting is None else [waiting])
        return [line for line in done.err.splitlines() if line.startswith("payments: ")]

    nowhere = f"payments: no file is at data/*.csv in {tmp_path}"
    assert said() == [nowhere]
    projects.write(folder, "data/_a.csv", "id,at\n")
    hidden = "_a.csv is no data by its name, which begins with `_`, `.` or `~$` or ends as what is unfinished does: rename it"
    assert said() == [nowhere, f"payments: {hidden}"]
    (folder / "data/_a.csv").rename(folder / "data/a.csv")
    assert said() == ["payments: no rows are in data/a.csv"]
    projects.write(folder, "data/a.csv", "id,at\na,2026-01-05T09:00:00Z\n")
    with monkeypatch.context() as moving:
        moving.setattr(landing, "has_moved", lambda _: True)
        assert said(waiting="data/a.csv") == ["payments: data/a.csv is left for the next time: somebody is writing it"]
    assert within("ingest", "--json", project=folder).json["sources"][0]["rows"] == 1
    (folder / "data/a.csv").rename(folder / "data/b.csv")
    assert said() == ["payments: data/b.csv is data/a.csv under another name: the rows are there already"]
    (folder / "data/b.csv").unlink()
    assert said() == [f"{nowhere}; the rows of 1 file that were there stay, until files without rows lie under these names"]


SOURCES = """
from feature_definitions import DeltaTable, Files, Query, Source

columns = {"x": "int64", "at": "timestamp"}
gone = Source("a_gone", DeltaTable("data/none"), columns=columns, event_timestamp="at")
over = Source("b_over", Query("SELECT x, at FROM a_gone", sources=(gone,)), columns=columns, event_timestamp="at")
here = Source("c_here", Files("data/here.csv"), columns=columns, event_timestamp="at", timezone="UTC")
"""
BROKEN = """
from feature_definitions import Files, Source

columns = {"x": "int64", "at": "timestamp"}
broken = Source("a_broken", Files("data/here.csv"), columns=columns, event_timestamp="at", timezone="UTC")
here = Source("c_here", Files("data/here.csv"), columns=columns, event_timestamp="at", timezone="UTC")
"""
HERE = "x,at\n1,2026-01-05T09:00:00Z\nmany,2026-01-05T09:00:00Z\n"


@pytest.fixture(scope="module")
def unreadable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A project of which one source cannot be read, with what its ingest printed; a receiver of OpenLineage events was set."""
    folder = projects.make(tmp_path_factory.mktemp("unreadable") / "shop", catalog=SOURCES, files={"data/here.csv": HERE})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEADWATER_LINEAGE_FILE", str(folder / "events.jsonl"))
        return folder, within("ingest", "--json", project=folder)


def test_each_source_that_is_brought_is_told_in_openlineages_words(unreadable: tuple[Path, Any]) -> None:
    events = [json.loads(line) for line in (unreadable[0] / "events.jsonl").read_text().splitlines()]
    told = [(event["job"]["name"], event["eventType"]) for event in events]
    over, here = "ingest.b_over", "ingest.c_here"
    assert told == [(over, "START"), (over, "FAIL"), (here, "START"), (here, "COMPLETE")]


def test_a_source_that_can_not_be_read_costs_itself_and_the_queries_over_it_alone(unreadable: tuple[Path, Any]) -> None:
    _, done = unreadable
    gone, over, here = done.json["sources"]
    assert done.code == 2
    assert "there is no table at data/none" in gone["failed"]
    assert over["failed"] == "source b_over waits: it reads a_gone, which failed"
    assert (here["rows"], here["quarantined"], here["failed"]) == (1, 1, None)
    assert "error: source a_gone: there is no table at data/none" in done.err


def test_what_nobody_foresaw_of_one_source_is_told_when_the_others_are_done(tmp_path: Path) -> None:
    folder = projects.make(tmp_path / "shop", catalog=BROKEN, files={"data/here.csv": HERE})
    real = files.ingest

    def ingest(job: Ingest) -> Any:
        return 1 // 0 if job.source.name == "a_broken" else real(job)

    with patch.object(files, "ingest", ingest):
        done = within("ingest", "--json", project=folder)
    assert done.code == 1
    assert [(s["source"], s["rows"], s["failed"]) for s in done.json["sources"]] == [
        ("a_broken", 0, "integer division or modulo by zero"),
        ("c_here", 1, None),
    ]
    assert "failed: integer division or modulo by zero" in done.err


def test_quarantine_shows_what_was_put_aside_by_reason_with_an_example(shop: Shop) -> None:
    done = within("quarantine", "--json", project=shop.folder)
    assert done.code == 0
    payments, spend = done.json["aside"]
    assert (payments["name"], payments["of"], payments["reason"], payments["rows"]) == ("payments", "source", "amount: is not a double", 1)
    (example,) = payments["examples"]
    assert (example["file"], example["line"], example["column"], example["value"]) == ("data/payments/second.csv", 2, "amount", "much")
    assert (spend["name"], spend["of"], spend["rows"], spend["intervals"]) == ("spend", "group", 1, 1)
    (example,) = spend["examples"]
    assert (example["interval_start"], example["row"]["customer_id"], example["row"]["paid_1d"]) == ("2026-01-05T00:00:00Z", 2, -5.0)
    shown = within("quarantine", "payments", project=shop.folder).out
    assert "amount: is not a double" in shown
    assert "data/payments/second.csv:2: amount='much'" in shown


def test_status_counts_the_rows_that_are_put_aside(shop: Shop) -> None:
    assert within("status", "--json", project=shop.folder).json["quarantined"] == {"payments": 1, "spend": 1}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_all_rows_that_are_put_aside_are_written_to_a_file(shop: Shop, tmp_path: Path, ending: str) -> None:
    file = tmp_path / "new" / f"aside.{ending}"
    done = within("quarantine", "payments", "--export", str(file), "--json", project=shop.folder)
    assert (done.code, done.json["exported"], done.json["exported_rows"]) == (0, str(file), 1)
    read = {"csv": pd.read_csv, "jsonl": functools.partial(pd.read_json, lines=True), "parquet": pd.read_parquet}[ending]
    (row,) = read(file).to_dict("records")
    assert (row["file"], row["line"], row["value"]) == ("data/payments/second.csv", 2, "much")


def test_an_export_names_one_source_or_group_and_a_format(shop: Shop, tmp_path: Path) -> None:
    done = within("quarantine", "--export", "x.csv", project=shop.folder)
    assert (done.code, "--export writes the rows of one source or group" in done.err) == (2, True)
    done = within("quarantine", "payments", "--export", str(tmp_path / "x.xlsx"), project=shop.folder)
    assert (done.code, "write a name that ends in .csv, .jsonl or .parquet" in done.err) == (2, True)


def test_after_a_fix_of_the_definitions_what_was_put_aside_is_judged_again(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    catalog = (folder / "catalog/shop.py").read_text(encoding="utf-8")
    projects.write(folder, "catalog/shop.py", catalog.replace(", expect=(at_least(0),)", ""))
    projects.write(folder, "data/payments/third.csv", projects.rows("p5,1,1,no,2026-01-03T10:00:00Z,2026-01-03T10:00:00Z"))
    done = within("quarantine", "--retry", "--json", project=folder)
    assert done.code == 3
    assert done.json["retried"] == [
        {"name": "payments", "rows_before": 1, "rows_after": 1, "intervals_before": 0, "intervals_after": 0, "failed": None},
        {"name": "spend", "rows_before": 1, "rows_after": 0, "intervals_before": 1, "intervals_after": 0, "failed": None},
    ]
    assert [each["name"] for each in done.json["aside"]] == ["payments"]


def test_what_cannot_be_judged_again_says_why_and_the_others_are(shop: Shop, tmp_path: Path) -> None:
    folder = shop.copied(tmp_path)
    catalog = (folder / "catalog/shop.py").read_text(encoding="utf-8")
    projects.write(folder, "catalog/shop.py", catalog.replace(", expect=(at_least(0),)", ""))

    def unreadable(_: Ingest) -> Any:
        raise UserError("source payments: there is no place")

    with patch.object(files, "ingest", unreadable):
        done = within("quarantine", "--retry", "--json", project=folder)
    assert (done.code, "error: source payments: there is no place" in done.err) == (2, True)
    assert [(each["name"], each["rows_after"], each["failed"]) for each in done.json["retried"]] == [
        ("payments", 1, "source payments: there is no place"),
        ("spend", 0, None),
    ]
    done = within("quarantine", "spend", "--retry", "--json", project=folder)
    assert (done.code, done.json["retried"]) == (0, [])


def test_of_a_copy_is_said_what_becomes_of_its_rows(tmp_path: Path) -> None:
    catalog = BROKEN.replace('event_timestamp="at", timezone="UTC")', 'event_timestamp="at", timezone="UTC", id=("x",))', 1)
    folder = projects.make(tmp_path / "shop", catalog=catalog)
    reports = [IngestReport(name, copies={"b.csv": "a.csv"}) for name in ("a_broken", "c_here")]
    with patch.object(Project, "ingesting", lambda _, *__: iter(reports)):
        done = within("ingest", project=folder)
    assert done.err.splitlines() == [
        "a_broken: b.csv is a copy of a.csv: rows of one id count once; delete one if it is a mistake",
        "c_here: b.csv is a copy of a.csv: its rows count twice; delete one if it is a mistake",
    ]
