"""Housekeeping: fewer files with the same rows, nothing deleted that somebody needs, nothing stale by it."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from feature_definitions import layout
from feature_definitions.language import Entity, Feature, SnapshotGroup, Source, WindowedGroup
from lake import delta, delta_commits, delta_files, optimize, storage
from lake.optimize import Needed

CUSTOMER = Entity("customer", {"customer_id": "int64"})
PAYMENTS = Source("payments", columns={"customer_id": "int64", "paid_at": "timestamp"}, event_timestamp="paid_at", timezone="UTC")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def group(retain: str | None = None) -> WindowedGroup:
    """A group of daily rows, which it may retain for a while (the language may still refuse to say so)."""
    made = WindowedGroup("spend", CUSTOMER, PAYMENTS, ttl="2d", features=(Feature("n", "count", windows=("1d",)),))
    object.__setattr__(made, "retain", retain)
    return made


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Four dates of two rows in two files each."""
    path = str(tmp_path / "spend")
    for n in range(2):
        rows = pa.table({"x": list(range(4 * n, 4 * n + 4)), "date": [date(2026, 1, d) for d in range(1, 5)]})
        write_deltalake(path, rows, mode="append", partition_by=["date"])
    return path


def rows(path: str) -> list[tuple[int, date]]:
    return sorted((row["x"], row["date"]) for row in delta.load(path).to_pylist())


def test_small_files_of_a_date_become_one_and_no_row_changes(table: str) -> None:
    before = rows(table)
    done = optimize.optimize(table)
    assert (done.files_before, done.files_after, done.deleted_files, done.deleted_before) == (8, 4, 0, None)
    assert rows(table) == before
    assert optimize.optimize(table).files_after == 4


def test_a_compaction_writes_no_bounds_of_what_may_be_no_number_by_which_spark_would_skip_it(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    for _ in range(2):
        write_deltalake(path, pa.table({"ratio": [1.0, float("nan")], "n": [1, 2]}), mode="append")
    optimize.optimize(path)
    (file,) = delta_files.files(delta.opened(path))
    group = pq.read_metadata(file).row_group(0)
    assert [group.column(number).is_stats_set for number in range(2)] == [False, True]


def test_a_compaction_says_that_it_changed_no_data(table: str) -> None:
    optimize.optimize(table)
    logged = [json.loads(line) for file in sorted(Path(table, "_delta_log").glob("*2.json")) for line in file.read_text().splitlines()]
    changes = [entry[kind]["dataChange"] for entry in logged for kind in ("add", "remove") if kind in entry]
    assert changes
    assert not any(changes)


@pytest.mark.parametrize(("age", "left"), [(timedelta(days=6), 12), (timedelta(days=8), 4)])
def test_files_that_were_replaced_stay_for_a_week_and_then_go(table: str, age: timedelta, left: int) -> None:
    optimize.optimize(table)
    _age(table, age)
    optimize.optimize(table)
    assert len(list(Path(table).glob("date=*/*.parquet"))) == left
    assert len(rows(table)) == 8


@pytest.mark.parametrize(("age", "left"), [(timedelta(days=6), True), (timedelta(days=8), False)])
def test_what_a_run_left_that_was_cut_off_before_its_commit_goes_after_a_week(table: str, age: timedelta, left: bool) -> None:
    run = layout.run_folder(table, "cut-off")
    for name in ("date=2026-01-01/part-0.parquet", "_temporary/0/part-1.parquet"):
        storage.write(f"{run}/{name}", b"half")
        os.utime(f"{run}/{name}", (time.time() - age.total_seconds(),) * 2)
    optimize.optimize(table)
    assert Path(run).exists() == left
    assert len(rows(table)) == 8


def test_the_files_of_a_run_that_was_committed_stay_however_old_they_are(table: str) -> None:
    run, found = layout.run_folder(table, "one"), DeltaTable(table)
    old = delta_files.in_partitions(found, ["2026-01-04"])
    Path(run, "date=2026-01-04").mkdir(parents=True)
    pq.write_table(pa.table({"x": [9]}), Path(run, "date=2026-01-04", "part-0.parquet"))
    delta_commits.commit(found, days=["2026-01-04"], old=old, new=delta_files.added(table, run)[0], commit_id="one")
    _age(table, timedelta(days=400))
    optimize.optimize(table)
    assert [x for x, day in rows(table) if day == date(2026, 1, 4)] == [9]


def test_a_shorter_time_than_a_week_is_a_week_and_a_longer_one_counts(table: str) -> None:
    optimize.optimize(table)
    _age(table, timedelta(days=8))
    optimize.optimize(table, keep=timedelta(days=10))
    assert len(list(Path(table).glob("date=*/*.parquet"))) == 12
    optimize.optimize(table, keep=timedelta(0))
    assert len(list(Path(table).glob("date=*/*.parquet"))) == 4


def _age(path: str, age: timedelta) -> None:
    """Make everything that a table's log and files say older."""
    past = time.time() - age.total_seconds()
    for file in Path(path, "_delta_log").glob("*checkpoint*"):  # it says what the files say that are made older below
        file.unlink()
    for file in Path(path).rglob("*"):
        os.utime(file, (past, past))
    for file in Path(path, "_delta_log").glob("*.json"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for entry in lines:
            if "remove" in entry:
                entry["remove"]["deletionTimestamp"] = int(past * 1000)
            if "commitInfo" in entry:
                entry["commitInfo"]["timestamp"] = int(past * 1000)
        file.write_text("\n".join(map(json.dumps, lines)))


def test_dates_past_their_time_are_deleted_whole(table: str) -> None:
    done = optimize.optimize(table, before=date(2026, 1, 3))
    assert (done.deleted_before, {day for _, day in rows(table)}) == (date(2026, 1, 3), {date(2026, 1, 3), date(2026, 1, 4)})
    version = DeltaTable(table).version()
    assert optimize.optimize(table, before=date(2026, 1, 3)).deleted_before is None
    assert DeltaTable(table).version() == version


def test_a_table_that_has_no_dates_loses_no_rows(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "plain", pa.table({"x": [1]}))
    assert optimize.optimize(str(tmp_path / "plain"), before=date(2099, 1, 1)).deleted_before is None
    assert delta.load(str(tmp_path / "plain")).num_rows == 1


# ------------------------------------------------------------------------------------------------------------ what may be deleted


def test_a_group_that_retains_everything_loses_nothing() -> None:
    assert optimize.deleted_before(group(), [], NOW) is None


def test_a_group_keeps_what_it_retains_in_whole_dates() -> None:
    assert optimize.deleted_before(group("30d"), [], NOW) == date(2026, 1, 30)
    assert optimize.deleted_before(group("36h"), [], NOW) == date(2026, 2, 28)


@pytest.mark.parametrize(
    ("name", "first", "before"),
    [
        ("spend", datetime(2026, 1, 10, 9, tzinfo=UTC), date(2026, 1, 7)),  # its first row may have been published by 8 January
        ("spend", datetime(2026, 2, 20, tzinfo=UTC), date(2026, 1, 30)),
        ("visits", datetime(2026, 1, 10, tzinfo=UTC), date(2026, 1, 30)),
        ("spend", datetime(1, 1, 1, tzinfo=UTC), date(1, 1, 1)),
    ],
)
def test_what_a_training_set_was_built_from_stays(name: str, first: datetime, before: date) -> None:
    assert optimize.deleted_before(group("30d"), [Needed("churn", name, first)], NOW) == before


def test_a_static_group_has_nothing_to_delete() -> None:
    planes = Source("planes", columns={"tailnum": "string", "seats": "int64"}, id=("tailnum",), shape="static")
    static = SnapshotGroup("planes", Entity("plane", {"tailnum": "string"}), planes, columns=("seats",), assume_always_known=True)
    assert optimize.deleted_before(static, [], NOW) is None


def test_the_manifests_of_training_sets_say_what_they_need(lake: str) -> None:
    file = layout.training_set_manifest(lake, "churn")
    manifest = {"name": "churn", "spine": {"first": "2026-01-10T09:00:00Z"}, "groups": {"spend": {"generation": 1}, "visits": {}}}
    storage.write(file, json.dumps(manifest).encode())
    first = datetime(2026, 1, 10, 9, tzinfo=UTC)
    assert optimize.needed(lake) == (Needed("churn", "spend", first), Needed("churn", "visits", first))
    assert optimize.needed(f"{lake}/nowhere") == ()
    storage.write(file, json.dumps(manifest | {"spine": {"first": None}}).encode())
    assert optimize.needed(lake) == ()
    storage.write(layout.training_set_build(lake, "churn", "p1"), json.dumps(manifest).encode())
    assert optimize.needed(lake) == (Needed("churn", "spend", first), Needed("churn", "visits", first))


def test_the_tables_of_a_lake_are_found_and_nothing_else(lake: str) -> None:
    places = [
        layout.feature_table(lake, "spend", 1),
        layout.feature_table(lake, "spend", 2),
        layout.history_table(lake, "spend", 2),
        layout.records_table(lake, "ledger"),
        layout.quarantine_table(lake, "spend"),
        layout.training_set_table(lake, "churn"),
    ]
    for place in places:
        write_deltalake(place, pa.table({"x": [1]}), storage_options=storage.options(lake))
    storage.write(f"{layout.records_table(lake, 'half')}/x", b"1")
    assert optimize.group_tables(lake, "spend", [1, 2]) == places[:3]
    assert optimize.other_tables(lake) == places[3:]


def test_after_it_a_table_is_known_by_one_file_of_its_log(table: str) -> None:
    optimize.optimize(table)
    newest = DeltaTable(table).version()
    assert json.loads(Path(table, "_delta_log", "_last_checkpoint").read_text())["version"] == newest
    optimize.optimize(table)
    assert DeltaTable(table).version() == newest
