"""Tables read in place on real Spark: which state of them is read, queries over them, and what is refused."""

from __future__ import annotations

import itertools
import re
import shutil
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

import headwater as hw
from feature_definitions import layout
from feature_registry import rebuild
from lake import versions
from spark_jobs.ingest import events
from spark_jobs.ingest.in_place import TableRefused
from tests import projects
from tests.tables_in_place import CATALOG, ingested, ingested_alone, on, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from headwater import Project

CLICKS_AT = """
from feature_definitions import DeltaTable, Source, Table

clicks = Source("clicks", {at}, columns={{"x": "int64", "at": "timestamp"{more}}}, event_timestamp="at")
"""
HERE = "DeltaTable('data/clicks')"
NAIVE = CLICKS_AT.format(at="DeltaTable('data/local')", more="")
AS_FILES = """
from feature_definitions import Files, Source

clicks = Source("clicks", Files("data/*.csv"), columns={"x": "int64", "at": "timestamp"}, event_timestamp="at", timezone="UTC")
"""


@dataclass
class Fresh:
    """A project of its own, with one table that was ingested."""

    folder: Path
    project: Project

    @property
    def table(self) -> str:
        return str(self.folder / "data/clicks")

    def append(self, *values: tuple[Any, ...]) -> None:
        write_deltalake(self.table, rows("clicks", *values), mode="append")

    def read(self) -> list[int]:
        found = events.read(self.project.catalog.sources["clicks"], self.project._context)
        return sorted(row["x"] for row in found.collect())


@pytest.fixture
def fresh(spark: SparkSession, tmp_path: Path) -> Iterator[Fresh]:  # the project shares it
    folder = projects.make(tmp_path / "p", catalog=CATALOG)
    with closing(projects.opened(folder)) as p:
        made = Fresh(folder, p)
        made.append((1, on(3)), (2, on(4)))
        p.ingest("clicks")
        yield made


def test_readers_see_the_version_that_was_seen_last_until_the_next_ingest(fresh: Fresh) -> None:
    fresh.append((3, on(3)))
    DeltaTable(fresh.table).delete("x = 1")
    assert fresh.read() == [1, 2]
    fresh.project.ingest("clicks")
    assert fresh.read() == [2, 3]


def test_a_version_that_was_vacuumed_away_is_refused_until_the_next_ingest_whose_extents_are_whole_dates(fresh: Fresh) -> None:
    fresh.append((3, on(3, 20)))
    DeltaTable(fresh.table).optimize.compact()
    DeltaTable(fresh.table).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(TableRefused, match="was vacuumed away: run `headwater ingest`"):
        fresh.read()
    changed = ingested(fresh.project, "clicks")
    assert changed.extents == {3: (on(3), on(3, 20))}
    assert fresh.read() == [1, 2, 3]


def test_a_source_diff_reads_no_file_but_those_of_dates_that_changed(fresh: Fresh) -> None:
    fresh.append((3, on(5)))
    fresh.project.ingest("clicks")
    fresh.append((4, on(3)))
    for file in (name for name in DeltaTable(fresh.table).file_uris() if pq.read_table(name)["at"][0].as_py() == on(5)):
        Path(file).unlink()
    assert ingested_alone(fresh.project, "clicks").extents == {3: (on(3), on(3))}


def test_another_table_in_the_place_of_the_one_that_was_seen_last_is_refused_until_the_next_ingest(fresh: Fresh) -> None:
    shutil.rmtree(fresh.table)
    with pytest.raises(TableRefused, match=r"there is no table at .*clicks any more"):
        fresh.read()
    fresh.append((1, on(3)), (2, on(4)))
    with pytest.raises(TableRefused, match=r"another table lies at .*clicks now: run `headwater ingest`"):
        fresh.read()
    assert ingested(fresh.project, "clicks").extents == {}
    assert fresh.read() == [1, 2]


@pytest.mark.parametrize("at", ["before it is said what is read", "before it is recorded"])
def test_a_crash_of_a_source_diff_is_repaired_by_the_next_ingest(fresh: Fresh, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    fresh.append((3, on(3, 20)))
    fresh.project.clock = lambda: projects.NOW + timedelta(hours=1)
    with monkeypatch.context() as crashing:
        if at == "before it is recorded":
            crashing.setattr(fresh.project._registry, "finish_ingest", Mock(side_effect=KeyboardInterrupt))
        else:
            crashing.setattr(versions, "keep", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fresh.project.ingest("clicks")
    assert fresh.project._registry.revisions("clicks")[-1].revision == 1
    fresh.project.clock = lambda: projects.NOW + timedelta(hours=2)
    fresh.project.ingest("clicks")
    last = fresh.project._registry.revisions("clicks")[-1]
    assert (last.revision, last.first, last.rows) == (2, on(3, 20), 2)
    assert fresh.read() == [1, 2, 3]
    assert rebuild.facts(fresh.project.settings.lake) == fresh.project._registry.facts()


@pytest.mark.parametrize(
    ("name", "catalog", "message"),
    [
        ("missing", CLICKS_AT.format(at="DeltaTable('data/none')", more=""), "there is no table at data/none"),
        ("files", CLICKS_AT.format(at="DeltaTable('catalog')", more=""), "is no Delta table; files are read by Files"),
        ("unknown", CLICKS_AT.format(at="Table('no.such')", more=""), "Spark's catalog has no table no.such"),
        ("column", CLICKS_AT.format(at=HERE, more=", 'y': 'string'"), "data/clicks has no column 'y'. It has: x, at, beside"),
        (
            "type",
            CLICKS_AT.format(at=HERE, more=", 'beside': 'double'"),
            "column 'beside' of data/clicks is a string, the source says double",
        ),
        ("files again", AS_FILES, "source clicks was read in place until now"),
        ("naive", NAIVE, "column 'at' of .* has times without zone; say where they were written down"),
    ],
)
def test_what_can_not_be_read_in_place_is_a_mistake_that_is_named(fresh: Fresh, name: str, catalog: str, message: str) -> None:
    write_deltalake(fresh.folder / "data/local", rows("local", (1, datetime(2026, 1, 5, 12))), mode="overwrite")  # noqa: DTZ001
    projects.write(fresh.folder, "catalog/shop.py", catalog)
    done = projects.within("ingest", project=fresh.folder)
    assert (done.code, done.out) == (2, ""), name
    assert re.search(message, done.err.replace("\n", " "))
    assert "Traceback" not in done.err


def test_what_is_read_in_place_can_not_be_written_to(fresh: Fresh) -> None:
    with pytest.raises(hw.InputRefused, match="source clicks is read in place; write to the table that it reads"):
        fresh.project.write("clicks", rows("clicks", (1, on(3))))


def test_housekeeping_leaves_the_table_alone(fresh: Fresh) -> None:
    before = DeltaTable(fresh.table).version(), sorted(Path(fresh.table).rglob("*"))
    done = fresh.project.optimize()
    assert (DeltaTable(fresh.table).version(), sorted(Path(fresh.table).rglob("*"))) == before
    assert layout.pins_table(fresh.project.settings.lake, "clicks") in {one.table for one in done}
    assert fresh.read() == [1, 2]


# ------------------------------------------------------------------------------------------------------------ queries and tables


QUERY = """
from feature_definitions import DeltaTable, Files, Query, Source

payments = Source("payments", Files("data/payments/*.csv"), columns={"id": "string", "currency": "string", "amount": "int64",
                  "at": "timestamp"}, event_timestamp="at", timezone="UTC", id=("id",), derive={"cents": "amount * 100"})
rates = Source("rates", DeltaTable("data/rates"), columns={"currency": "string", "rate": "int64"}, id=("currency",), shape="static")
large = Source("large", Query('''
    WITH known AS (SELECT currency, rate FROM rates WHERE rate > 0)
    SELECT id, at, cents * rate AS worth, '{' || p.currency AS text
    FROM payments AS p JOIN known USING (currency) WHERE cents * rate >= 1000
''', sources=(payments, rates), assume_always_known=True), columns={"id": "string", "at": "timestamp", "worth": "int64", "text": "string"},
               event_timestamp="at", id=("id",))
daily = Source("daily", Query('SELECT at, count(*) AS n FROM large GROUP BY at', sources=(large,)),
               columns={"at": "timestamp", "n": "int64"}, event_timestamp="at")
"""


@dataclass
class Sales:
    """What lies in the two tables that the query reads, and what it must give."""

    folder: Path
    payments: dict[str, tuple[str, int, datetime]]
    rates: dict[str, int]

    def written(self) -> Sales:
        lines = [f"{name},{currency},{amount},{at:%Y-%m-%dT%H:%M:%SZ}" for name, (currency, amount, at) in self.payments.items()]
        projects.write(self.folder, "data/payments/all.csv", projects.rows(*lines, header="id,currency,amount,at"))
        schema = pa.schema([("currency", pa.string()), ("rate", pa.int64())])
        rates = [{"currency": currency, "rate": rate} for currency, rate in self.rates.items()]
        write_deltalake(self.folder / "data/rates", pa.Table.from_pylist(rates, schema=schema), mode="overwrite")
        return self

    @property
    def large(self) -> dict[str, tuple[datetime, int]]:
        worth = {name: (at, amount * 100 * self.rates.get(currency, 0)) for name, (currency, amount, at) in self.payments.items()}
        return {name: found for name, found in worth.items() if found[1] >= 1000}


def test_a_query_gives_what_plain_python_does_and_changes_when_its_content_does(spark: SparkSession, tmp_path: Path) -> None:
    sales = Sales(tmp_path, {"p1": ("eur", 5, on(3)), "p2": ("sek", 50, on(3)), "p3": ("nok", 9, on(4))}, {"eur": 10, "sek": 1, "usd": 9})
    before = {view.name for view in spark.catalog.listTables()}

    def found(p: Project) -> dict[str, tuple[datetime, int]]:
        rows = events.read(p.catalog.sources["large"], p._context).toArrow().to_pylist()
        assert {row["text"] for row in rows} <= {"{eur", "{sek", "{nok", "{usd"}
        return {row["id"]: (row["at"], row["worth"]) for row in rows}

    def revised(p: Project, name: str) -> list[int]:
        last = p._registry.next_revision(name) - 1
        return [r.date.day for r in p._registry.revisions(name) if r.revision == last]

    projects.make(sales.written().folder, catalog=QUERY)
    hours = itertools.count(1)
    with closing(hw.open(tmp_path, clock=lambda: projects.NOW + timedelta(hours=next(hours)))) as p:
        order = [report.source for report in p.ingest()]
        assert max(order.index("payments"), order.index("rates")) < order.index("large") < order.index("daily")
        assert found(p) == sales.large
        assert (len(sales.large), revised(p, "large"), revised(p, "daily")) == (2, [3], [3])
        assert [report.files for report in p.ingest("daily")] == [0, 0, 0, 0]

        was = sales.large
        sales.rates |= {"usd": 11, "sek": 0}
        sales.payments["p4"] = ("eur", 7, on(5))
        sales.written()
        p.ingest("payments")
        assert found(p) == was
        p.ingest("large", "daily")
        assert found(p) == sales.large != was
        assert (revised(p, "large"), revised(p, "daily")) == ([3, 5], [3, 5])

        sales.rates["usd"] = 12
        sales.written()
        assert {report.source: report.revision for report in p.ingest()} == {"payments": None, "rates": 3, "large": None, "daily": None}
        assert rebuild.facts(p.settings.lake) == p._registry.facts()
    assert {view.name for view in spark.catalog.listTables()} == before


def test_a_query_whose_columns_have_other_types_than_its_source_says_is_refused(fresh: Fresh) -> None:
    text = CATALOG + (
        "up = Source('up', Query('SELECT at, cast(x AS string) AS x FROM clicks', sources=(clicks,)), "
        "columns={'at': 'timestamp', 'x': 'int64'}, event_timestamp='at')\n"
    )
    projects.write(fresh.folder, "catalog/shop.py", text)
    done = projects.within("ingest", "up", project=fresh.folder)
    assert (done.code, [line.split()[0] for line in done.out.splitlines()]) == (2, ["source", "clicks"])
    assert "source up: column 'x' of its query is a string, the source says int64" in done.err


TABLES = """
from feature_definitions import DeltaTable, Source, Table

kept = Source("kept", Table("in_place_kept"), columns={"x": "int64", "at": "timestamp"}, event_timestamp="at")
loose = Source("loose", Table("in_place_loose"), columns={"x": "int64", "at": "timestamp"}, event_timestamp="at")
far = Source("far", DeltaTable("URL"), columns={"x": "int64", "at": "timestamp"}, event_timestamp="at")
"""


@pytest.fixture
def catalogued(spark: SparkSession, tmp_path: Path) -> Iterator[Project]:
    """A Delta table and one without versions in Spark's catalog."""
    for name, kind in (("in_place_kept", "delta"), ("in_place_loose", "parquet")):
        spark.sql(f"CREATE TABLE {name} USING {kind} LOCATION '{tmp_path / name}' AS SELECT 1L AS x, TIMESTAMP'2026-01-03 12:00:00Z' AS at")
    catalog = TABLES.replace("URL", (tmp_path / "in_place_kept").as_uri())
    with closing(projects.opened(projects.make(tmp_path / "p", catalog=catalog))) as p:
        yield p
    for name in ("in_place_kept", "in_place_loose"):
        spark.sql(f"DROP TABLE {name}")


def test_a_table_of_the_catalog_is_read_as_it_was_seen_last_if_it_has_versions_else_as_it_is(catalogued: Project) -> None:
    spark, steps = catalogued._spark, {name: [ingested(catalogued, name)] for name in ("kept", "loose")}
    for name, taken in steps.items():
        taken.append(ingested(catalogued, name))
        spark.sql(f"INSERT INTO in_place_{name} VALUES (2L, TIMESTAMP'2026-01-04 12:00:00Z')")
        live = events.read(catalogued.catalog.sources[name], catalogued._context).count()
        assert live == (1 if name == "kept" else 2)
        taken.append(ingested(catalogued, name))
    for first, again, later in steps.values():
        assert (sorted(first.extents), again.extents, sorted(later.extents)) == ([3], {}, [4])
        assert [row["x"] for row in later.live] == [1, 2]
    assert steps["kept"][1].report.files == 0


def test_a_delta_table_may_lie_at_a_url(catalogued: Project) -> None:
    assert [row["x"] for row in ingested(catalogued, "far").live] == [1]
    catalogued._spark.sql("INSERT INTO in_place_kept VALUES (2L, TIMESTAMP'2026-01-04 12:00:00Z')")
    assert events.read(catalogued.catalog.sources["far"], catalogued._context).count() == 1
    assert sorted(ingested(catalogued, "far").extents) == [4]
    assert catalogued.ingest("far")[0].files == 0


def test_rows_far_from_all_others_are_not_read_in_place_until_they_lie_far_no_more(fresh: Fresh) -> None:
    over = "over = Source('over', Query('SELECT x, at FROM clicks', sources=(clicks,)), columns={'x': 'int64', 'at': 'timestamp'}, "
    projects.write(fresh.folder, "catalog/shop.py", CATALOG + over + "event_timestamp='at')\n")
    with closing(projects.opened(fresh.folder)) as project:
        source, context = project.catalog.sources, project._context
        old, end = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
        fresh.append((7, on(8)), (8, old), (9, end))

        def read(name: str) -> list[int]:
            return sorted(row["x"] for row in events.read(source[name], context).collect())

        clicks, query = project.ingest("over")
        assert (clicks.rows, clicks.quarantined, query.rows, query.quarantined) == (2, 3, 2, 0)
        assert clicks.reasons == {
            '1 row of 1970-01-01 lies 20,456 days before all others; write since="1970-01-01" if they are meant': 1,
            "rows of 2 dates from 2026-01-08 to 9999-12-31 lie more than a day after now": 2,
        }
        assert (read("clicks"), read("over")) == ([1, 2], [1, 2])
        assert [r.date.year for r in project._registry.revisions("clicks")] == [2026, 2026]
        project.clock = lambda: projects.NOW + timedelta(days=2)
        clicks, query = project.ingest("over")
        assert (clicks.dates_changed, query.dates_changed, read("clicks"), read("over")) == (1, 1, [1, 2, 7], [1, 2, 7])
        assert [r.dates_changed for r in project.ingest("over")] == [0, 0]
