"""What windows cost: a daily run and a backfill, beside what a user would write instead, on the same events with the same results.

python -m tests.benchmarks.bench_windows --only daily --events 400000
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from expectations import adapter
from feature_definitions import Entity, Feature, Source, WindowedGroup, layout
from feature_definitions.intervals import DAY, Interval, micros, split
from feature_definitions.records import Revision
from feature_registry import open_registry
from feature_registry.registry import PendingIngest
from spark_jobs import tables
from spark_jobs.files import FILE, LINE
from spark_jobs.session import delta_jars, jar_cache, session
from spark_jobs.sources import DATE, INGEST, LIVE, TIME
from tests.benchmarks.measured import Cost, measured, table
from tests.offline import Lake

COUNTED = {"spark.hadoop.parquet.hadoop.vectored.io.enabled": "false"}
"""Vectored reads happen in threads whose bytes Spark does not count."""
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
payments = Source("payments", columns={"customer": "int64", "at": "timestamp", "amount": "double", "kind": "int64"}, event_timestamp="at")
customer = Entity("customer", {"customer": "int64"})


def group(name: str, *windows: str) -> WindowedGroup:
    """Sums, counts, means and extremes over these windows."""
    features = (
        Feature("spend", "sum", "amount", windows=windows),
        Feature("payments", "count", windows=windows),
        Feature("mean", "mean", "amount", windows=windows),
        Feature("most", "max", "amount", windows=windows),
    )
    return WindowedGroup(name, customer, payments, every="1d", ttl="2d", features=features)


@dataclass(frozen=True)
class Size:
    """How many events a day, entities and days, and which share of the events one entity has."""

    events: int
    entities: int
    days: int
    hot: float = 0.0


SIZES = {
    "daily": Size(1_000_000, 20_000, 95),
    "length": Size(20_000, 5_000, 370),
    "backfill": Size(20_000, 5_000, 125),
    "hot": Size(150_000, 10_000, 61),
}
"""How much each comparison is made on, unless flags say otherwise."""


def plant(lake: Lake, size: Size) -> None:
    """Events as ingest would have left them, a date at a time, with their revisions."""
    path = layout.source_table(lake.path, payments.name)
    Path(path).mkdir(parents=True)
    draw = np.random.default_rng(7)
    for day in range(size.days):
        start = micros(FIRST + day * DAY)
        who = draw.integers(0, size.entities, size.events)
        who[draw.random(size.events) < size.hot] = 0
        at = pa.array(np.sort(start + draw.integers(0, 86_400_000_000, size.events)), pa.timestamp("us", tz="UTC"))
        rows = pa.table(
            {
                "customer": who,
                "at": at,
                "amount": np.round(draw.gamma(2.0, 20.0, size.events), 2),
                "kind": draw.integers(0, 9, size.events),
                TIME: at,
                DATE: pa.array([(FIRST + day * DAY).date()] * size.events, pa.date32()),
                FILE: pa.nulls(size.events, pa.string()),
                LINE: pa.nulls(size.events, pa.int64()),
                INGEST: pa.array([1] * size.events, pa.int64()),
                LIVE: pa.array([True] * size.events),
            }
        )
        write_deltalake(path, rows, mode="append", partition_by=[DATE])
    dates = [FIRST + day * DAY for day in range(size.days)]
    revisions = tuple(Revision(payments.name, 1, at.date(), at, at + DAY, "1", 1, lake.now) for at in dates)
    lake.registry.begin_ingest(PendingIngest("i1", payments.name, (), revisions, commits=True))
    lake.registry.finish_ingest("i1")


# ---------------------------------------------------------------------------------------------------------------------- rivals


def by_hand(spark: SparkSession, lake: Lake, of: WindowedGroup, at: datetime, path: str) -> None:
    """A daily job as people write it: the whole window's raw events, one conditional aggregate."""
    longest = of.longest
    events = spark.read.format("delta").load(layout.source_table(lake.path, payments.name))
    near = events.where(F.col(DATE).between((at - longest).date(), (at - DAY).date()))
    _by_hand(near, of, F.lit(at)).write.format("delta").mode("append").save(path)


def _by_hand(events: DataFrame, of: WindowedGroup, at: object) -> DataFrame:
    columns = []
    for window in of.aggregated[0].windows:
        inside = F.col("at") >= F.lit(at) - F.expr(f"interval {str(window)[:-1]} days")
        value = F.when(inside, F.col("amount"))
        columns += [
            F.sum(value).alias(f"spend_{window}"),
            F.count(value).alias(f"payments_{window}"),
            F.avg(value).alias(f"mean_{window}"),
            F.max(value).alias(f"most_{window}"),
        ]
    return events.groupBy("customer").agg(*columns).withColumn("event_timestamp", F.lit(at))


def by_range_windows(spark: SparkSession, lake: Lake, of: WindowedGroup, days: Sequence[Interval], path: str) -> None:
    """A backfill as people write it: grid rows beside raw events, and range windows over both."""
    events = spark.read.format("delta").load(layout.source_table(lake.path, payments.name))
    near = events.where(F.col(DATE).between((days[0].end - of.longest).date(), days[-1].start.date()))
    rows = near.select("customer", F.unix_micros("at").alias("t"), "amount", F.lit(0).alias("grid"))
    grid = rows.select("customer").distinct().crossJoin(
        spark.createDataFrame([(micros(day.end) - 1,) for day in days], "t bigint")
    )  # fmt: skip
    both = rows.unionByName(grid.select("customer", "t", F.lit(None).cast("double").alias("amount"), F.lit(1).alias("grid")))
    columns = []
    for window in of.aggregated[0].windows:
        span = timedelta(days=int(str(window)[:-1])) // timedelta(microseconds=1)
        over = Window.partitionBy("customer").orderBy("t").rangeBetween(-span + 1, 0)
        columns += [
            F.sum("amount").over(over).alias(f"spend_{window}"),
            F.count("amount").over(over).alias(f"payments_{window}"),
            F.avg("amount").over(over).alias(f"mean_{window}"),
            F.max("amount").over(over).alias(f"most_{window}"),
        ]
    found = both.select("customer", "t", "grid", *columns).where("grid = 1")
    found.write.format("delta").mode("append").save(path)


def by_sliding_windows(spark: SparkSession, lake: Lake, of: WindowedGroup, days: Sequence[Interval], path: str) -> None:
    """A backfill in Butterfree's way: a sliding `F.window` for each window, and a join of all."""
    events = spark.read.format("delta").load(layout.source_table(lake.path, payments.name))
    near = events.where(F.col(DATE).between((days[0].end - of.longest).date(), days[-1].start.date()))
    joined: DataFrame | None = None
    for window in of.aggregated[0].windows:
        found = near.groupBy("customer", F.window("at", f"{str(window)[:-1]} days", "1 day").alias("w")).agg(
            F.sum("amount").alias(f"spend_{window}"),
            F.count("amount").alias(f"payments_{window}"),
            F.avg("amount").alias(f"mean_{window}"),
            F.max("amount").alias(f"most_{window}"),
        )
        flat = found.withColumn("event_timestamp", F.col("w.end")).drop("w")
        flat = flat.where(F.col("event_timestamp").between(days[0].end, days[-1].end))
        joined = flat if joined is None else joined.join(flat, on=["customer", "event_timestamp"], how="full_outer")
    assert joined is not None
    joined.write.format("delta").mode("append").save(path)


def by_duckdb(lake: Lake, of: WindowedGroup, at: datetime) -> object:
    """One process over the same Parquet files, as the limit of what one machine needs."""
    import duckdb

    files = f"{layout.source_table(lake.path, payments.name)}/*/*.parquet"
    inside = {
        w: f"FILTER (WHERE \"at\" >= TIMESTAMPTZ '{(at - timedelta(days=int(str(w)[:-1]))).isoformat()}')" for w in of.aggregated[0].windows
    }
    values = {"spend": "sum(amount)", "payments": "count(*)", "mean": "avg(amount)", "most": "max(amount)"}
    columns = ", ".join(f"{value} {filtered} AS {name}_{w}" for w, filtered in inside.items() for name, value in values.items())
    low = (at - of.longest).date().isoformat()
    source = f"read_parquet('{files}', hive_partitioning = true)"
    near = f"{DATE} >= DATE '{low}' AND \"at\" < TIMESTAMPTZ '{at.isoformat()}'"
    query = f"SELECT customer, {columns} FROM {source} WHERE {near} GROUP BY 1"
    with duckdb.connect() as connection:
        return connection.sql(query).fetchnumpy()


# ------------------------------------------------------------------------------------------------------------------------ runs


def ours(lake: Lake, of: WindowedGroup, days: Sequence[Interval]) -> Callable[[], object]:
    """The whole run: tiles, rows, Great Expectations, publish."""
    return lambda: lake.materialize(of, intervals=days, judge=adapter.judge)


def checked(lake: Lake, of: WindowedGroup, spark: SparkSession, path: str, at: datetime) -> None:
    """Refuse to compare what is not equal: the sums of all values at one time."""
    names = [c for c in of.outputs if not c.startswith("mean")]
    sums = [F.round(F.sum(F.coalesce(F.col(c), F.lit(0))), 2).alias(c) for c in names]
    mine = tables.read(spark, layout.feature_table(lake.path, of.name, 1)).where(F.col("event_timestamp") == at).agg(*sums).first()
    other = spark.read.format("delta").load(path)
    time = F.col("event_timestamp") == at if "event_timestamp" in other.columns else F.col("t") == micros(at) - 1
    theirs = other.where(time).agg(*sums).first()
    assert mine is not None
    assert theirs is not None
    if any(abs(a - b) > 1e-6 * max(1.0, abs(a)) for a, b in zip(mine, theirs, strict=True)):
        raise SystemExit(f"the results differ:\n{mine}\n{theirs}")


def main() -> None:
    """Run every comparison and print it."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--events", type=int, help="events a day")
    asked.add_argument("--entities", type=int)
    asked.add_argument("--days", type=int, help="days of history; 370 or more shows a window of 365 days")
    asked.add_argument("--backfill", type=int, default=90, help="days to fill in one run")
    asked.add_argument("--only", nargs="*", choices=tuple(SIZES), default=tuple(SIZES))
    said = asked.parse_args()
    given = {name: value for name in ("events", "entities", "days") if (value := getattr(said, name)) is not None}
    with tempfile.TemporaryDirectory() as folder:
        spark = session(jars=delta_jars(jar_cache()), scratch=Path(folder) / "spark", driver_memory="6g", conf=COUNTED)
        for name in said.only:
            size = replace(SIZES[name], **given)
            print(f"{name}: {size.events:,} events a day, {size.entities:,} entities, {size.days} days", file=sys.stderr)
            _run(name, Path(folder, name), spark, size, said.backfill)


def _run(name: str, folder: Path, spark: SparkSession, size: Size, backfill: int) -> None:
    folder.mkdir()
    if name == "hot":
        _hot(spark, folder, size)
        return
    end = FIRST + size.days * DAY
    last = Interval(end - DAY, end)
    with open_registry(f"sqlite:///{folder / 'registry.db'}") as registry:
        lake = Lake(spark, folder, registry, now=end + DAY)
        plant(lake, size)
        match name:
            case "daily":
                _daily(spark, lake, folder, last)
            case "length":
                _length(spark, lake, last, size.days)
            case _:
                _backfill(spark, lake, folder, [*split(Interval(end - backfill * DAY, end), DAY)])


def _daily(spark: SparkSession, lake: Lake, folder: Path, last: Interval) -> None:
    of = group("daily", "7d", "90d")
    for warm in (of, replace(of, name="warm")):
        ours(lake, warm, [Interval(last.start - DAY, last.start)])()
    cost = measured("ours: tiles, rows, gate, publish", spark, ours(lake, of, [last]))
    path = str(folder / "by_hand")
    by_hand(spark, lake, of, last.start, path)
    hand = measured("by hand: the window's raw events", spark, lambda: by_hand(spark, lake, of, last.end, path))
    checked(lake, of, spark, path, last.end)
    costs = [cost, hand]
    if find_spec("duckdb"):
        costs.append(measured("DuckDB: the same, in one process", spark, lambda: by_duckdb(lake, of, last.end)))
    else:
        print("DuckDB is not installed, so it is left out: uv pip install duckdb")
    table("A daily run of windows of 7 and 90 days", costs, ours=cost)


def _length(spark: SparkSession, lake: Lake, last: Interval, days: int) -> None:
    groups = {window: group(f"over_{window}", window) for window in ("7d", "90d", "365d") if int(window[:-1]) < days}
    for of in groups.values():
        ours(lake, of, [Interval(last.start - DAY, last.start)])()
    costs = [measured(f"a daily run of a window of {window}", spark, ours(lake, of, [last])) for window, of in groups.items()]
    table("A daily run by the length of its window", costs, ours=costs[0])


def _backfill(spark: SparkSession, lake: Lake, folder: Path, days: Sequence[Interval]) -> None:
    of, rivals = group("backfill", "7d", "30d"), {"range windows": by_range_windows, "Butterfree's way": by_sliding_windows}
    # Each way is run over a few days first, so that none pays for a cold JVM; then our tiles are thrown away.
    ours(lake, replace(of, name="warm"), days[:8])()
    for name, rival in rivals.items():
        rival(spark, lake, of, days[:8], str(folder / f"warm {name}"))
    shutil.rmtree(Path(lake.path) / "tiles")
    cost = measured(f"ours: {len(days)} days in one run, and the tiles for them", spark, ours(lake, of, days))
    again = measured("ours: the same for another group, over the same tiles", spark, ours(lake, replace(of, name="again"), days))
    one = replace(of, name="one_by_one")
    ours(lake, one, days[:1])()
    few = measured("", spark, lambda: [ours(lake, one, [day])() for day in days[1:6]])
    single = few.times(len(days) / 5, name=f"{len(days)} daily runs, tiles there (five, times {len(days) / 5:.0f})")
    costs = [cost, again, single]
    for name, rival in rivals.items():
        path = str(folder / name)
        costs.append(measured(f"by hand: {name}, over raw events", spark, partial(rival, spark, lake, of, days, path)))
        checked(lake, of, spark, path, days[-1].end)
    table(f"A backfill of {len(days)} days of windows of 7 and 30 days", costs, ours=cost)


def _hot(spark: SparkSession, folder: Path, size: Size) -> None:
    costs: list[Cost] = []
    for share in (0.0, 0.3):
        root = folder / f"hot_{share}"
        root.mkdir()
        with open_registry(f"sqlite:///{root / 'registry.db'}") as registry:
            end = FIRST + size.days * DAY
            lake = Lake(spark, root, registry, now=end + DAY)
            plant(lake, replace(size, hot=share))
            filled = [*split(Interval(end - 30 * DAY, end), DAY)]
            ours(lake, group("warm", "7d", "30d"), filled[:5])()
            shutil.rmtree(Path(lake.path) / "tiles")
            run = ours(lake, group("hot", "7d", "30d"), filled)
            costs.append(measured(f"{share:.0%} of the events are of one entity", spark, run))
    table("A hot key: tiles built and 30 days filled in one run", costs, ours=costs[0])


if __name__ == "__main__":
    main()
