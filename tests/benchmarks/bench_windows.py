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
from functools import reduce
from operator import or_
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from expectations import adapter
from feature_definitions import Entity, Feature, Source, WindowedGroup, layout
from feature_definitions.intervals import DAY, Interval, micros, split
from feature_definitions.layout import DATE, FILE, INGEST, LINE, LIVE, TIME
from feature_definitions.records import PendingIngest, Revision
from feature_registry import open_registry
from lake import delta
from spark_jobs import tables
from spark_jobs.jvm import delta_jars, jar_cache
from spark_jobs.session import session
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


def by_hand(spark: SparkSession, lake: Lake, of: WindowedGroup, days: Sequence[Interval], path: str) -> None:
    """A daily job as people write it: the whole window's raw events, one conditional aggregate."""
    (day,) = days
    columns = []
    for window, length in _windows(of).items():
        value = F.when(F.col("at") >= F.lit(day.end - length), F.col("amount"))
        columns += [
            F.sum(value).alias(f"spend_{window}"),
            F.count(value).alias(f"payments_{window}"),
            F.avg(value).alias(f"mean_{window}"),
            F.max(value).alias(f"most_{window}"),
        ]
    found = _raw(spark, lake, of, days).groupBy("customer").agg(*columns).withColumn("event_timestamp", F.lit(day.end))
    found.write.format("delta").mode("append").save(path)


def by_range_windows(spark: SparkSession, lake: Lake, of: WindowedGroup, days: Sequence[Interval], path: str) -> None:
    """A backfill as people write it: grid rows beside raw events, and range windows over both."""
    rows = _raw(spark, lake, of, days).select("customer", F.unix_micros("at").alias("t"), "amount", F.lit(0).alias("grid"))
    grid = rows.select("customer").distinct().crossJoin(
        spark.createDataFrame([(micros(day.end) - 1,) for day in days], "t bigint")
    )  # fmt: skip
    both = rows.unionByName(grid.select("customer", "t", F.lit(None).cast("double").alias("amount"), F.lit(1).alias("grid")))
    columns = []
    for window, length in _windows(of).items():
        over = Window.partitionBy("customer").orderBy("t").rangeBetween(1 - length // timedelta(microseconds=1), 0)
        columns += [
            F.sum("amount").over(over).alias(f"spend_{window}"),
            F.count("amount").over(over).alias(f"payments_{window}"),
            F.avg("amount").over(over).alias(f"mean_{window}"),
            F.max("amount").over(over).alias(f"most_{window}"),
        ]
    at = F.timestamp_micros(F.col("t") + 1).alias("event_timestamp")
    both.select("customer", at, "grid", *columns).where("grid = 1").write.format("delta").mode("append").save(path)


def by_sliding_windows(spark: SparkSession, lake: Lake, of: WindowedGroup, days: Sequence[Interval], path: str) -> None:
    """A backfill in Butterfree's way: a sliding `F.window` for each window, and a join of all."""
    near, joined = _raw(spark, lake, of, days), None
    for window, length in _windows(of).items():
        found = near.groupBy("customer", F.window("at", f"{length.days} days", "1 day").alias("w")).agg(
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


def by_duckdb(spark: SparkSession, lake: Lake, of: WindowedGroup, days: Sequence[Interval], path: str) -> None:
    """One process over the same Parquet files, as the limit of what one machine needs; of several days by sums of each day.

    A day's number counts from the epoch, and rows that slide are days, of which every customer has all.
    """
    first, last = (micros(at) // 86_400_000_000 for at in (days[0].end - of.longest, days[-1].start))
    files = f"read_parquet('{layout.source_table(lake.path, payments.name)}/{DATE}=*/*.parquet', hive_partitioning = true)"
    near = f"SELECT customer, epoch_us(\"at\") // 86400000000 AS day, amount FROM {files} WHERE {DATE} >= DATE '1970-01-01' + {first}"
    if len(days) == 1:
        kept = {w: f"FILTER (WHERE day > {last - length.days})" for w, length in _windows(of).items()}
        values = {"spend": "sum(amount)", "payments": "count(*)", "mean": "avg(amount)", "most": "max(amount)"}
        columns = ", ".join(f"{value} {where} AS {name}_{w}" for w, where in kept.items() for name, value in values.items())
        query = f"SELECT customer, {last} AS day, {columns} FROM ({near}) WHERE day <= {last} GROUP BY customer"
    else:
        each = f"SELECT customer, day, sum(amount) AS s, count(*) AS n, max(amount) AS m FROM ({near}) WHERE day <= {last} GROUP BY ALL"
        every = f"SELECT customer, unnest(range({first}, {last} + 1)) AS day FROM (SELECT DISTINCT customer FROM each)"
        values = {
            "spend": "sum(s) OVER {w}",
            "payments": "sum(n) OVER {w}",
            "mean": "sum(s) OVER {w} / sum(n) OVER {w}",
            "most": "max(m) OVER {w}",
        }
        columns = ", ".join(f"{value.format(w=f'over_{w}')} AS {name}_{w}" for w in _windows(of) for name, value in values.items())
        frames = ", ".join(
            f"over_{w} AS (PARTITION BY customer ORDER BY day ROWS {length.days - 1} PRECEDING)" for w, length in _windows(of).items()
        )
        slid = f"SELECT customer, day, {columns} FROM ({every}) LEFT JOIN each USING (customer, day) WINDOW {frames}"
        query = f"WITH each AS ({each}) SELECT * FROM ({slid}) WHERE day >= {micros(days[0].start) // 86_400_000_000}"
    Path(path).mkdir()
    with duckdb.connect() as connection:
        timed = f"SELECT * EXCLUDE (day), make_timestamp((day + 1) * 86400000000) AS event_timestamp FROM ({query})"
        connection.execute(f"COPY ({timed}) TO '{path}/rows.parquet'")


def _windows(of: WindowedGroup) -> dict[str, timedelta]:
    """A group's windows of days by their names, all features having the same."""
    return {str(window): timedelta(days=int(str(window)[:-1])) for window in of.aggregated[0].windows}


def _raw(spark: SparkSession, lake: Lake, of: WindowedGroup, days: Sequence[Interval]) -> DataFrame:
    """The events of all dates that lie in a window of these days."""
    events = spark.read.format("delta").load(layout.source_table(lake.path, payments.name))
    return events.where(F.col(DATE).between((days[0].end - of.longest).date(), days[-1].start.date()))


# ------------------------------------------------------------------------------------------------------------------------ runs


def ours(lake: Lake, of: WindowedGroup, days: Sequence[Interval]) -> Callable[[], object]:
    """The whole run: tiles, rows, Great Expectations, publish."""
    return lambda: lake.materialize(of, intervals=days, judge=adapter.judge)


def checked(lake: Lake, of: WindowedGroup, spark: SparkSession, path: str, days: Sequence[Interval]) -> None:
    """Refuse to compare what is not equal: every value of every row; that who has no event has no row, or an empty one, is the same."""
    theirs = tables.read(spark, path) if delta.exists(path) else spark.read.parquet(path)
    mine = tables.read(spark, layout.feature_table(lake.path, of.name, 1))
    asked = F.col("event_timestamp").between(days[0].end, days[-1].end)
    both = mine.where(asked).alias("a").join(theirs.where(asked).alias("b"), on=["customer", "event_timestamp"], how="full_outer")
    pairs = [(F.coalesce(F.col(f"a.{c}"), F.lit(0)), F.coalesce(F.col(f"b.{c}"), F.lit(0))) for c in of.outputs]
    unequal = reduce(or_, [F.abs(a - b) > 1e-9 * F.greatest(F.lit(1.0), F.abs(a)) for a, b in pairs])
    if found := both.where(unequal).limit(5).toPandas().to_string() if (number := both.where(unequal).count()) else "":
        raise SystemExit(f"{number} of {both.count()} rows differ from those of {path}:\n{found}")


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
    of, before = group("daily", "7d", "90d"), [Interval(last.start - n * DAY, last.end - n * DAY) for n in (2, 1)]
    rivals = {"by hand: the window's raw events": by_hand, "DuckDB: the same, in one process": by_duckdb}
    for day in before:
        ours(lake, of, [day])()
    costs = [measured("ours: tiles, rows, gate, publish", spark, ours(lake, of, [last]))]
    costs += [_rival(spark, lake, of, [last], name, rival, folder, warm=before[1:]) for name, rival in rivals.items()]
    table("A daily run of windows of 7 and 90 days", costs, ours=costs[0])


def _rival(
    spark: SparkSession,
    lake: Lake,
    of: WindowedGroup,
    days: Sequence[Interval],
    name: str,
    rival: Callable[[SparkSession, Lake, WindowedGroup, Sequence[Interval], str], None],
    folder: Path,
    *,
    warm: Sequence[Interval],
) -> Cost:
    """What a rival's way costs once it is warm, its results having been compared with ours."""
    path = f"{folder}/{rival.__name__}"
    rival(spark, lake, of, warm, f"{path}_warm")
    cost = measured(name, spark, lambda: rival(spark, lake, of, days, path))
    checked(lake, of, spark, path, days)
    return cost


def _length(spark: SparkSession, lake: Lake, last: Interval, days: int) -> None:
    groups = {window: group(f"over_{window}", window) for window in ("7d", "90d", "365d") if int(window[:-1]) < days}
    for of in groups.values():
        ours(lake, of, [Interval(last.start - DAY, last.start)])()
    costs = [measured(f"a daily run of a window of {window}", spark, ours(lake, of, [last])) for window, of in groups.items()]
    table("A daily run by the length of its window", costs, ours=costs[0])


def _backfill(spark: SparkSession, lake: Lake, folder: Path, days: Sequence[Interval]) -> None:
    of = group("backfill", "7d", "30d")
    rivals = {
        "by hand: range windows over raw events": by_range_windows,
        "by hand: Butterfree's way, over raw events": by_sliding_windows,
        "DuckDB: sums of days, sliding, in one process": by_duckdb,
    }
    # Each way is run over a few days first, so that none pays for a cold JVM; then our tiles are thrown away.
    ours(lake, replace(of, name="warm"), days[:8])()
    shutil.rmtree(Path(lake.path) / "tiles")
    cost = measured(f"ours: {len(days)} days in one run, and the tiles for them", spark, ours(lake, of, days))
    again = measured("ours: the same for another group, over the same tiles", spark, ours(lake, replace(of, name="again"), days))
    shutil.rmtree(Path(lake.path) / "tiles")
    one = replace(of, name="one_by_one")
    for day in days[:3]:
        ours(lake, one, [day])()
    few = measured("", spark, lambda: [ours(lake, one, [day])() for day in days[3:8]])
    checked(lake, of, spark, layout.feature_table(lake.path, one.name, 1), days[3:8])
    single = few.times(len(days) / 5, name=f"{len(days)} daily runs, each with its day's tiles (five, times {len(days) / 5:.0f})")
    found = [_rival(spark, lake, of, days, name, rival, folder, warm=days[:8]) for name, rival in rivals.items()]
    table(f"A backfill of {len(days)} days of windows of 7 and 30 days", [cost, again, single, *found], ours=cost)


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
