"""Columns of tables read in place: under other names than ours, with times in text and as counts, told to readers and to explain alike."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import write_deltalake

from feature_definitions.intervals import Interval
from lake import versions
from spark_jobs.ingest import events
from tests import projects

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

CATALOG = """
from feature_definitions import Column, DeltaTable, Query, Source

odd = Source("odd", DeltaTable("data/odd"), timezone="Europe/Berlin", event_timestamp="at", id=("customer_id",), columns={
    "customer_id": Column("int64", "Customer ID"), "dotted": Column("string", "a.b"), "umlaut": Column("double", "\u00fc"),
    "ticked": Column("boolean", "x`y"), "at": Column("timestamp", "At", format="%d.%m.%Y %H:%M"), "sent": Column("timestamp", epoch="ms"),
    "seen": Column("timestamp", epoch="s"), "iso": "timestamp", "opened": "timestamp", "day": Column("date", format="%Y%m%d"),
    "big": "double", "cost": "decimal(6,2)", "paid": "decimal(6,2)", "due": "date",
})
asked = Source("asked", Query("SELECT customer_id AS who, at AS time FROM odd", sources=(odd,)), event_timestamp="at",
               columns={"who": "int64", "at": Column("timestamp", "time")})
"""
MOST = 2**63 - 1
ROW = {
    "Customer ID": 1, "a.b": "x", "\u00fc": 1.5, "x`y": True, "At": "05.01.2026 06:00", "sent": 1767592800000,
    "seen": 1767592800.5, "iso": "2026-01-05 06:00:00 UTC", "day": "20260105", "opened": date(2026, 1, 5),
    "big": -(2**53), "cost": 9999, "paid": Decimal("12.5000"), "due": 0,
}  # fmt: skip
MEANT = {
    "customer_id": 1, "dotted": "x", "umlaut": 1.5, "ticked": True, "at": datetime(2026, 1, 5, 5, tzinfo=UTC),
    "sent": datetime(2026, 1, 5, 6, tzinfo=UTC), "seen": datetime(2026, 1, 5, 6, 0, 0, 500_000, tzinfo=UTC),
    "iso": datetime(2026, 1, 5, 6, tzinfo=UTC), "opened": datetime(2026, 1, 4, 23, tzinfo=UTC),
    "day": datetime(2026, 1, 5, tzinfo=UTC).date(), "big": -float(2**53), "cost": Decimal("9999.00"), "paid": Decimal("12.50"),
    "due": date(1970, 1, 1),
}  # fmt: skip
WRONG: list[tuple[dict[str, Any], str, str | None, str]] = [
    ({"At": "2026-01-05"}, "at", "2026-01-05", "at: '2026-01-05' is not written as \"%d.%m.%Y %H:%M\""),
    ({"At": None}, "at", None, "at is null"),
    ({"sent": 2**62}, "sent", str(2**62), f"sent: '{2**62}' is not between the years 1 and 9999 in UTC"),
    ({"iso": "soon"}, "iso", "soon", "iso: 'soon' is not a time like 2026-01-05T06:00:00Z"),
    ({"day": "2026-01-05"}, "day", "2026-01-05", "day: '2026-01-05' is not written as \"%Y%m%d\""),
    ({"big": 2**53 + 1}, "big", str(2**53 + 1), f"big: '{2**53 + 1}' is not exactly a double"),
    ({"big": MOST}, "big", str(MOST), f"big: '{MOST}' is not exactly a double"),
    ({"cost": 10_000}, "cost", "10000", "cost: '10000' does not fit a decimal(6,2)"),
    ({"paid": Decimal("0.0050")}, "paid", "0.0050", "paid: '0.0050' does not fit a decimal(6,2)"),
    ({"paid": Decimal("10000.0000")}, "paid", "10000.0000", "paid: '10000.0000' does not fit a decimal(6,2)"),
    ({"due": 2_933_532}, "due", "+10001-09-27", "due is not between the years 1 and 9999"),
    ({"\u00fc": float("inf")}, "umlaut", "Infinity", "umlaut is not a finite number"),
]


def test_columns_lie_in_a_table_under_their_own_names_with_times_as_the_definition_says(spark: SparkSession, tmp_path: Path) -> None:
    folder = projects.make(tmp_path / "p", catalog=CATALOG)
    bad = [{**ROW, "Customer ID": 10 + n, **change} for n, (change, *_) in enumerate(WRONG)]
    table = pa.Table.from_pylist([ROW, *bad])
    table = table.set_column(table.schema.get_field_index("paid"), "paid", table["paid"].cast(pa.decimal128(12, 4)))
    table = table.set_column(table.schema.get_field_index("due"), "due", table["due"].cast(pa.int32()).cast(pa.date32()))
    write_deltalake(folder / "data/odd", table)
    with closing(projects.opened(folder)) as p:
        odd, asked = p.catalog.sources["odd"], p.catalog.sources["asked"]
        reports = {report.source: report for report in p.ingest("asked")}
        assert (reports["odd"].rows, reports["odd"].quarantined) == (1, len(WRONG))
        (live,) = events.read(odd, p._context).drop("_hw_time", "_hw_date").toArrow().to_pylist()
        assert live == MEANT
        seen = versions.pinned(odd, p.settings.lake)
        refused = events.lying_in_place(odd, p._context, seen).where("_hw_reason IS NOT NULL").orderBy("customer_id").collect()
        assert [(row["_hw_column"], row["_hw_value"], row["_hw_reason"]) for row in refused] == [tuple(each[1:]) for each in WRONG]
        day = Interval(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC))
        found = versions.events(odd, p.settings.lake, entity={"customer_id": 1}, window=day)
        assert found is not None
        assert [{name: row[name] for name in MEANT} for row in found] == [MEANT]
        assert versions.events(odd, p.settings.lake, entity={"customer_id": 12}, window=day) == []
        (through,) = events.read(asked, p._context).collect()
        assert (through["who"], through["at"]) == (1, through["_hw_time"])
