"""Sources whose data lie on S3, on real Spark and moto, with a lake on this machine: what is read again, what is refused, what is seen."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from feature_definitions import layout
from feature_definitions.errors import InputRefused
from headwater import inputs
from lake import delta, delta_files, storage, versions
from spark_jobs.ingest import events, files, formats, landing, whereabouts
from spark_jobs.ingest.samples import NothingToSee
from spark_jobs.training import spine_files
from tests import projects
from tests.conftest import reached
from tests.s3_proxy import Counting, counting
from tests.tables_in_place import on
from tests.tables_in_place import rows as arrow_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from headwater import Project
    from spark_jobs.ingest.journal import IngestReport
    from tests.s3 import Server

CATALOG = """
from feature_definitions import DeltaTable, Files, Query, Source

steps = Source("steps", Files(("s3a://steps/in/**/*.csv", "data/*.csv")), timezone="UTC", event_timestamp="at",
               columns={"walker_id": "int64", "taken": "int64", "at": "timestamp"})
whole = Source("whole", Files("s3a://steps/whole/date=*/*.csv", complete="_SUCCESS"), columns={"x": "int64", "at": "timestamp"},
               timezone="UTC", event_timestamp="at")
gone = Source("gone", Files("s3a://no-such-bucket/*.csv"), columns={"x": "int64", "at": "timestamp"}, timezone="UTC", event_timestamp="at")
clicks = Source("clicks", DeltaTable("s3a://steps/tables/a b/clicks"), columns={"x": "int64", "at": "timestamp"}, event_timestamp="at")
busy = Source("busy", Query("SELECT x, at FROM clicks WHERE x > 1", sources=(clicks,)), columns={"x": "int64", "at": "timestamp"},
              event_timestamp="at")
"""
HEADER = "walker_id,taken,at\n"


@dataclass
class World:
    """A project with sources on S3, and the proxy that its requests go through."""

    project: Project
    server: Server
    proxy: Counting
    bucket: str = "steps"

    def put(self, key: str, text: str | bytes) -> None:
        content = text.encode() if isinstance(text, str) else text
        self.server.client().put_object(Bucket=self.bucket, Key=key, Body=content)

    def ingest(self, name: str) -> IngestReport:
        """One ingest, before which nothing is known of what S3 holds."""
        whereabouts._part.cache_clear()
        self.proxy.clear()
        (report,) = self.project.ingest(name)
        return report

    def taken(self) -> dict[str, int]:
        """The values in the source's table, by the file that they are known by."""
        held = delta.load(layout.source_table(self.project.settings.lake, "steps")).to_pylist()
        return {row["_hw_file"]: row["taken"] for row in held if row["_hw_live"]}

    @property
    def read(self) -> list[str]:
        """The objects of which any bytes were asked for."""
        return [one.key for one in self.proxy.requests if one.verb == "GET" and "range" in one.headers]

    @property
    def listed(self) -> list[str]:
        return [one.query["prefix"] for one in self.proxy.requests if "prefix" in one.query]


@pytest.fixture(scope="module")
def world(spark: SparkSession, moto: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    moto.bucket("steps")
    folder = projects.make(tmp_path_factory.mktemp("sources"), catalog=CATALOG)
    with counting(moto) as proxy, reached(spark, proxy.environment), closing(projects.opened(folder)) as p:
        yield World(p, moto, proxy)


def line(walker: int, taken: int, day: int = 5) -> str:
    return f"{walker},{taken},2026-01-{day:02}T06:00:00Z\n"


@pytest.fixture(scope="module")
def history(world: World) -> dict[str, Any]:
    """What each ingest of the files found, step by step."""
    name = "in/2026/ü #1 %20+.csv"
    world.put(name, HEADER + line(1, 10))
    world.put("in/b.csv", HEADER + line(2, 20) + "x,1,2026-01-05T06:00:00Z\n")
    world.put("in/_hidden.csv", HEADER + line(9, 90))
    world.put("in/c.csv.part", HEADER + line(9, 90))
    projects.write(world.project.settings.root, "data/here.csv", HEADER + line(3, 30))
    steps: dict[str, Any] = {}
    for step, do in {
        "first": lambda: None,
        "same": lambda: None,
        "changed": lambda: world.put("in/b.csv", HEADER + line(2, 21)),
        "renamed": lambda: (world.put("in/moved.csv", HEADER + line(1, 10)), world.server.client().delete_object(Bucket="steps", Key=name)),
        "renamed, seen": lambda: None,
        "new": lambda: world.put("in/d.csv", HEADER + line(4, 40)),
    }.items():
        do()
        steps[step] = world.ingest("steps"), world.taken(), list(world.read), list(world.listed)
    return steps


FIRST = "s3a://steps/in/2026/ü #1 %20+.csv"


def test_files_on_s3_and_on_this_machine_are_brought_together(history: dict[str, Any]) -> None:
    report, taken, read, listed = history["first"]
    assert (report.failed, report.files, report.rows, report.quarantined) == (None, 3, 3, 1)
    assert taken == {FIRST: 10, "s3a://steps/in/b.csv": 20, "data/here.csv": 30}
    assert sorted(set(read)) == ["in/2026/ü #1 %20+.csv", "in/b.csv"]
    assert set(listed) == {"in/"}


def test_files_that_are_known_by_their_tags_are_not_read_again(history: dict[str, Any]) -> None:
    report, taken, read, listed = history["same"]
    assert (report.files, read, listed) == (0, [], ["in/"])
    assert taken == history["first"][1]


def test_a_file_that_was_written_anew_alone_is_read(history: dict[str, Any]) -> None:
    report, taken, read, _ = history["changed"]
    assert (report.files, set(read)) == (1, {"in/b.csv"})
    assert taken["s3a://steps/in/b.csv"] == 21


def test_a_file_that_was_renamed_brings_nothing_and_is_known_from_then_on(history: dict[str, Any]) -> None:
    report, taken, read, _ = history["renamed"]
    assert (report.files, report.renamed, set(read)) == (0, {"s3a://steps/in/moved.csv": FIRST}, {"in/moved.csv"})
    assert taken[FIRST] == 10
    assert history["renamed, seen"][2] == []


def test_of_many_files_the_new_one_alone_is_read(history: dict[str, Any]) -> None:
    report, taken, read, listed = history["new"]
    assert (report.files, set(read), listed) == (1, {"in/d.csv"}, ["in/"])
    assert taken["s3a://steps/in/d.csv"] == 40


def test_a_bucket_that_is_not_there_costs_its_source_alone(world: World) -> None:
    world.put("whole/date=2026-01-04/a.csv", "x,at\n1,2026-01-04T06:00:00Z\n")
    world.put("whole/date=2026-01-04/_SUCCESS", b"")
    world.put("whole/date=2026-01-05/b.csv", "x,at\n2,2026-01-05T06:00:00Z\n")
    gone, whole = world.project.ingest("gone", "whole")
    assert "there is no bucket no-such-bucket" in str(gone.failed)
    assert (whole.failed, whole.rows) == (None, 1)
    assert whole.waiting == {"s3a://steps/whole/date=2026-01-05/b.csv": "there is no _SUCCESS beside it yet"}
    done = projects.within("ingest", "gone", "whole", project=world.project.settings.root)
    assert (done.code, "no-such-bucket" in done.err) == (2, True)


def test_a_file_that_is_written_while_it_is_read_is_left_for_the_next_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("in/e.csv", HEADER + line(5, 50))
    read = formats.read

    def overtaken(path: Any, *given: Any, **named: Any) -> Any:
        world.put("in/e.csv", HEADER + line(5, 51))
        whereabouts._part.cache_clear()
        return read(path, *given, **named)

    monkeypatch.setattr(formats, "read", overtaken)
    report = world.ingest("steps")
    assert (report.files, report.refused, report.waiting) == (0, (), {"s3a://steps/in/e.csv": "somebody is writing it"})
    monkeypatch.undo()
    assert world.ingest("steps").rows == 1
    assert world.taken()["s3a://steps/in/e.csv"] == 51


def test_a_file_that_s3_does_not_give_is_refused_and_the_others_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("in/f.csv", HEADER + line(6, 60))
    world.put("in/g.csv", HEADER + line(7, 70))
    hashed = landing._hashed

    def denied(found: Any, source: Any) -> Any:
        if found.name.endswith("f.csv"):
            raise PermissionError(13, "S3 denies the access to it", found.name)
        return hashed(found, source)

    monkeypatch.setattr(landing, "_hashed", denied)
    report = world.ingest("steps")
    assert report.refused == ("s3a://steps/in/f.csv cannot be read: S3 denies the access to it",)
    assert report.rows == 1


def test_spark_s_workers_read_large_files_on_s3(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_SMALL", 0)
    world.put("in/h.csv", HEADER + line(8, 80))
    workers = world.project._spark.sparkContext.environment
    monkeypatch.setattr(world.project._spark.sparkContext, "environment", workers | world.proxy.environment)
    report = world.ingest("steps")
    assert report.failed is None
    assert world.taken()["s3a://steps/in/h.csv"] == 80


TABLE = "s3a://steps/tables/a b/clicks"


def write(*values: tuple[int, datetime], mode: Any = "append") -> None:
    write_deltalake(TABLE, arrow_rows("clicks", *values), mode=mode, storage_options=storage.options(TABLE))


@pytest.fixture(scope="module")
def seen(world: World) -> World:
    """The table on S3 has three versions; two of them were seen by an ingest."""
    write((1, on(3)), (2, on(4)))
    world.project.ingest("clicks", "busy")
    write((3, on(5)))
    world.project.ingest("clicks", "busy")
    write((4, on(5)))
    return world


def xs(world: World, name: str) -> list[int]:
    return sorted(row["x"] for row in events.read(world.project.catalog.sources[name], world.project._context).collect())


def test_a_delta_table_on_s3_is_read_in_the_version_that_was_seen_last(seen: World) -> None:
    source, lake = seen.project.catalog.sources["clicks"], seen.project.settings.lake
    pin = versions.pinned(source, lake)["clicks"]
    assert (pin.place, pin.version, pin.is_remote) == (TABLE, 1, False)
    assert (xs(seen, "clicks"), xs(seen, "busy")) == ([1, 2, 3], [2, 3])


def test_the_log_of_a_table_on_s3_tells_which_dates_changed_and_what_is_read(seen: World) -> None:
    source, lake = seen.project.catalog.sources["clicks"], seen.project.settings.lake
    revised = [r.date.day for r in seen.project._registry.revisions("clicks") if r.revision == 2]
    assert revised == [5]
    files, size = versions.footprint(source, lake, dates=[on(5).date()], opened={})
    assert (files, size > 0) == (1, True)


def test_a_version_of_a_table_on_s3_that_was_deleted_is_no_more_readable(seen: World) -> None:
    path = "s3a://steps/tables/ü/k"
    for number in (1, 2):
        held = pa.table({"k": ["a b", "c%d"], "n": [number, number]})
        write_deltalake(path, held, partition_by=["k"], mode="overwrite", storage_options=storage.options(path))
    assert delta_files.readable(path, 0)
    (first, *_) = (each.path for each in storage.files(path, suffix=".parquet"))
    before = delta.opened(path, version=0).get_add_actions(flatten=True).column("path").to_pylist()
    storage.delete(first if any(part.rpartition("/")[2] in first for part in before) else storage.files(path, suffix=".parquet")[1].path)
    assert not delta_files.readable(path, 0)


def test_check_data_and_drafts_of_sources_look_at_s3(world: World, history: dict[str, Any]) -> None:
    assert history
    done = projects.within("check", "--data", project=world.project.settings.root)
    assert done.code == 2
    assert "there is no bucket no-such-bucket" in done.err
    found = world.project.sample("s3a://steps/in")
    assert (found.at.path, list(found.columns)) == ("s3a://steps/in/*.csv", ["walker_id", "taken", "at"])  # type: ignore[union-attr]
    write((1, on(3)), mode="append")
    assert list(world.project.sample(TABLE).columns) == ["x", "at", "beside"]
    with pytest.raises(NothingToSee, match="write s3a:"):
        world.project.sample("s3://steps/in")


def test_a_spine_may_lie_on_s3_in_a_file_a_folder_or_a_table(world: World, tmp_path: Path) -> None:
    said = spine_files.declared({"walker_id": "int64"}, {}, None)
    held = pa.table({"walker_id": [2], "event_timestamp": pa.array([on(6)], pa.timestamp("us", "UTC"))})
    file = pa.BufferOutputStream()
    pq.write_table(held, file)
    world.put("spines/one.csv", "walker_id,event_timestamp\n2,2026-01-06T12:00:00Z\n")
    world.put("spines/parts/day=5/a.parquet", file.getvalue().to_pybytes())
    write_deltalake("s3a://steps/spines/table", held, storage_options=storage.options("s3a://steps/spines/table"))
    for path in ("s3a://steps/spines/one.csv", "s3a://steps/spines/parts/", "s3a://steps/spines/table"):
        (row,) = spine_files.read(inputs.path(path, tmp_path), said, name=path).to_pylist()
        assert row == {"walker_id": 2, "event_timestamp": on(6)} | ({"day": "5"} if "parts" in path else {})
    with pytest.raises(InputRefused, match=r"there is no spine at s3a://steps/none\.csv"):
        inputs.path("s3a://steps/none.csv", tmp_path)
    with pytest.raises(InputRefused, match="write s3a:"):
        inputs.path("s3://steps/spines/one.csv", tmp_path)
