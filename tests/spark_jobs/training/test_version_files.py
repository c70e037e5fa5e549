"""What workers read of a group's files is what Spark gives of its tables, for corrections, rows that were taken back, and any clock."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from feature_definitions import Entity, Feature, Join, ObservationGroup, Source, WindowedGroup, layout
from feature_definitions.intervals import DAY, Interval
from feature_definitions.records import Publish
from feature_definitions.sql.column_types import column_types_of
from lake.readable import AsOf, Published
from spark_jobs import point_in_time
from spark_jobs.point_in_time import Dates
from spark_jobs.training import join, packed_files, version_files
from spark_jobs.training.join import JoinAsked
from spark_jobs.training.kernel import AT, EMPTIES, ORDER, TAG, TIME
from spark_jobs.training.packed_files import FilesRead
from spark_jobs.training.parcels import Kind

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIRST, DAYS = datetime(2026, 1, 1, tzinfo=UTC), 5
user = Entity("user", {"user": "string", "shop": "int64"})
clicks = Source(
    "clicks", columns={"user": "string", "shop": "int64", "at": "timestamp", "page": "string", "paid": "double", "pages": "array<string>"},
    event_timestamp="at",
)  # fmt: skip
GROUPS = (
    WindowedGroup("spent", user, clicks, ttl="3d", features=(Feature("paid", "sum", "paid", windows=("1d",)),)),
    ObservationGroup("seen", user, clicks, columns=("page", "paid", "pages"), ttl="3d"),
)
CLOCKS = (AsOf(), AsOf(strict=True), AsOf("event_time"), AsOf("event_time", strict=True))


def published(group: Any, folder: Path) -> Published:
    """Rows of a few publishes, one of which never was one; some were replaced, and some of these taken back."""
    draw, lake = random.Random(3), str(folder / "lake")

    def row(*, history: bool) -> dict[str, Any]:
        at = FIRST + draw.randrange(DAYS) * DAY + (DAY if group.row_time == "end" else timedelta(hours=draw.randrange(24)))
        day = at - DAY if group.row_time == "end" else at
        found = {
            "user": draw.choice(["u1", "u2"]), "shop": draw.randrange(3), "event_timestamp": at, "created_timestamp": at,
            "publish_id": draw.choice(["p1", "p2", "never"]), "held": draw.random() < 0.2, "date": day.date(),
            "empties_at": at + DAY if group.row_time == "end" and draw.random() < 0.5 else None,
        }  # fmt: skip
        values = {"page": "p", "pages": ["a", None], "paid": 0.5, "paid_1d": 2.5}
        found |= {name: values[name] if draw.random() < 0.8 else None for name in group.outputs}
        return found | ({"retracted": draw.random() < 0.5, "replaced_by": "p2"} if history else {})

    for place, history in ((layout.feature_table, False), (layout.history_table, True)):
        path = place(lake, group.name, 1)
        Path(path).mkdir(parents=True)
        kinds = {"event_timestamp": pa.timestamp("us", tz="UTC"), "created_timestamp": pa.timestamp("us", tz="UTC"), "paid": pa.float64()}
        kinds |= {"empties_at": pa.timestamp("us", tz="UTC"), "page": pa.string(), "pages": pa.list_(pa.string()), "paid_1d": pa.float64()}
        rows = pa.Table.from_pylist([row(history=history) for _ in range(60)])
        rows = pa.table({name: rows[name].cast(kinds[name]) if name in kinds else rows[name] for name in rows.column_names})
        write_deltalake(path, rows, partition_by=["date"])
    days = [Interval(FIRST + n * DAY, FIRST + (n + 1) * DAY) for n in range(DAYS)]
    publishes = [Publish("p1", group.name, 1, day, day.end + timedelta(hours=2), "MODELLED") for day in days]
    publishes += [Publish("p2", group.name, 1, day, day.end + 3 * DAY, "OBSERVED") for day in days[1:]]
    return Published(group, 1, lake, column_types_of(group), tuple(publishes))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_workers_read_the_versions_that_spark_gives(group: Any, spark: SparkSession, tmp_path: Path) -> None:
    of, dates = published(group, tmp_path), Dates(first=date(2026, 1, 2), last=date(2026, 1, 4))
    values = tuple((name, f"v{number}") for number, name in enumerate(group.outputs))
    wanted = version_files.WantedVersions(4, (("user", "_hw_key0"), ("shop", "_hw_key1")), values)
    for clock in CLOCKS:
        files = version_files.of(of, clock, wanted, dates=dates, spark=spark)
        assert files is not None
        listed = [(0, path) for path, _ in files.files]
        found = pa.concat_tables([rows for _, rows in packed_files._tables(listed, [FilesRead(files, Kind())])])
        rows = point_in_time.versions(of, clock, spark=spark, columns=group.outputs, dates=dates)
        rows = rows.withColumnsRenamed({"user": "_hw_key0", "shop": "_hw_key1"})
        expected = join._tagged(rows, 4, JoinAsked(Join(group), of, clock), dict(values)).toArrow()
        names = [TAG, "_hw_key0", "_hw_key1", AT, TIME, ORDER, *([EMPTIES] if group.row_time == "end" else []), *dict(values).values()]
        assert sorted(found.column_names) == sorted(expected.column_names) == sorted(names)
        texts = [sorted(map(repr, each.select(names).to_pylist())) for each in (found, expected)]
        assert texts[0] == texts[1]
        assert len(texts[0]) > 15


def test_files_of_other_dates_are_not_read_and_what_lies_elsewhere_is_left_to_spark(spark: SparkSession, tmp_path: Path) -> None:
    of = published(GROUPS[1], tmp_path)
    wanted = version_files.WantedVersions(1, (("user", "k0"), ("shop", "k1")), ())
    files = version_files.of(of, AsOf(), wanted, dates=Dates(last=FIRST.date()), spark=spark)
    assert files is not None
    assert {path.split("date=")[1][:10] for path, _ in files.files} == {"2026-01-01"}
    past = replace(of, past=True)
    assert version_files.of(past, AsOf("event_time"), wanted, dates=Dates(), spark=spark) is None
