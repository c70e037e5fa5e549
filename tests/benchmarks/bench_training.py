"""What a point-in-time join costs: ours on Delta tables read as they were known, beside what others do with the same rows.

python -m tests.benchmarks.bench_training --only U --scale 1
Rows, spines and entities are a tenth of what a shape says, unless `--scale` or a flag of its own says otherwise: so many rows of the
spine meet each row of a group as in the whole. A rival on Spark has a Spark of its own, which is killed at twice the ratio that is the goal
against it, or when `--patience` is over: a task that pairs the rows of a hot key heeds no cancelling. What is quick is done twice, and the
second time counts, as with ours. What finishes must have our very values. `--memory` says what driver and tasks hold for 10,000 and
1,000,000 rows of a spine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TextIO

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import write_deltalake
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from feature_definitions import Entity, FeatureService, Join, ObservationGroup, Source, layout
from feature_definitions.intervals import DAY, Interval, micros
from feature_definitions.language import FeatureGroup
from feature_definitions.records import Publish
from feature_definitions.sql.column_types import column_types_of
from lake.readable import AsOf, Published
from spark_jobs import tables
from spark_jobs.jvm import delta_jars, jar_cache
from spark_jobs.session import session
from spark_jobs.training import finish, kept_rows, kernel, order, statistics
from spark_jobs.training.join import Extent, JoinAsked, joined, joining
from tests.benchmarks.measured import Cost, cpu_of, measured, table

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
TTLS = ("30d", "365d", "7d")


@dataclass(frozen=True)
class Shape:
    """How many groups, rows of each, rows of the spine, entities; `zipf` is how unevenly rows fall on entities.

    The spine asks for the last `asked` of all `days`, and for the share `asked_of` of the entities. Each group has so many `features`.
    """

    groups: int
    rows: int
    spine: int
    entities: int
    zipf: float = 0.0
    asked: int = 90
    asked_of: float = 1.0
    days: int = 90
    features: int = 3
    key: Literal["int64", "string"] = "int64"
    tasks: int | None = None

    def scaled(self, by: float) -> Shape:
        """The shape with so many times its rows, spine and entities, of which there are never fewer than a few hundred."""
        entities = min(self.entities, max(_FEW, int(self.entities * by)))
        return replace(self, rows=int(self.rows * by), spine=int(self.spine * by), entities=entities)

    @property
    def columns(self) -> tuple[str, ...]:
        """The features of each group."""
        return tuple(f"f{number}" for number in range(self.features))

    @property
    def entity(self) -> Entity:
        """Whose features they are."""
        return Entity("customer", {"customer": self.key})

    def named(self, customers: kernel.Numbers) -> pa.Array:
        """The keys of customers by their numbers."""
        numbers = pa.array(customers)
        return numbers if self.key == "int64" else pc.binary_join_element_wise("customer", numbers.cast(pa.string()), "-")


_FEW = 260
SHAPES = {
    "U": Shape(3, 2_000_000, 200_000, 50_000),
    "D": Shape(3, 2_000_000, 200_000, 5_000),
    "Z": Shape(3, 2_000_000, 200_000, 50_000, zipf=0.8),
    "Z11": Shape(3, 2_000_000, 200_000, 50_000, zipf=1.1),
    "Z11-32": Shape(3, 2_000_000, 200_000, 50_000, zipf=1.1, tasks=32),
    "G": Shape(10, 300_000, 1_000_000, 50_000),
    "P": Shape(3, 2_000_000, 20_000, 50_000, asked=14, asked_of=0.02),
    "H": Shape(3, 2_000_000, 200_000, _FEW),
    "W": Shape(3, 500_000, 100_000, 50_000, features=50, key="string"),
    "wide service": Shape(100, 2_000, 10_000, 1_000, features=20),
}
GOALS: dict[str, dict[str, float]] = {"feast": {"U": 7, "G": 12, "D": 40, "Z": 50, "P": 3}, "union and last": {"U": 1.3, "G": 2.3}}
"""How many times our CPU a rival is to need; where nothing is said, ten times."""


@dataclass(frozen=True)
class Made:
    """The tables of a shape: the groups as they can be read, and the spine, a file of Parquet with the columns row, customer and at."""

    shape: Shape
    groups: tuple[Published, ...]
    spine: Path

    def rows(self, number: int) -> Path:
        """The folder of a group's table."""
        group = self.groups[number]
        return Path(layout.feature_table(group.lake, group.group.name, 1))


def made(shape: Shape, folder: Path) -> Made:
    """Write the tables of a shape, the same ones each time."""
    draw = np.random.default_rng(7)
    weights = np.arange(1, shape.entities + 1, dtype=float) ** -shape.zipf
    who, of = draw.permutation(shape.entities), found(shape, folder)
    for number in range(shape.groups):
        _write(shape, of.groups[number].group, of.rows(number), draw, who, weights / weights.sum())
    asked = draw.choice(shape.entities, max(1, int(shape.entities * shape.asked_of)), replace=False)
    customers = (
        who[draw.choice(shape.entities, shape.spine, p=weights / weights.sum())] if shape.asked_of == 1 else draw.choice(asked, shape.spine)
    )
    at = _times(draw, shape.days - shape.asked, shape.days, shape.spine)
    pq.write_table(pa.table({"row": np.arange(shape.spine), "customer": shape.named(customers), "at": at}), of.spine)
    return of


def found(shape: Shape, folder: Path) -> Made:
    """The tables of a shape that lie in a folder."""
    return Made(shape, tuple(_group(shape, number, folder) for number in range(shape.groups)), folder / "spine.parquet")


def _times(draw: np.random.Generator, first: int, last: int, count: int) -> pa.Array:
    day = micros(DAY + datetime(1970, 1, 1, tzinfo=UTC))
    return pa.array(micros(FIRST) + draw.integers(first * day, last * day, count), pa.timestamp("us", tz="UTC"))


def _group(shape: Shape, number: int, folder: Path) -> Published:
    """A group of observations, each known from its own time on."""
    kinds = {"customer": shape.key, "at": "timestamp", **dict.fromkeys(shape.columns, "double")}
    source = Source(f"events{number}", columns=kinds, event_timestamp="at")
    group = ObservationGroup(f"group{number}", shape.entity, source, columns=shape.columns, ttl=TTLS[number % len(TTLS)])
    days = [Interval(FIRST + n * DAY, FIRST + (n + 1) * DAY) for n in range(shape.days)]
    publishes = tuple(Publish("p1", group.name, 1, day, day.start, "MODELLED") for day in days)
    return Published(group, 1, str(folder / "lake"), column_types_of(group), publishes)


def _write(shape: Shape, group: FeatureGroup, path: Path, draw: np.random.Generator, who: kernel.Numbers, weights: kernel.Numbers) -> None:
    """Write a group's table; of one customer no two rows are of one time."""
    at = _times(draw, 0, shape.days, shape.rows)
    rows = pa.table({"customer": shape.named(who[draw.choice(shape.entities, shape.rows, p=weights)]), "event_timestamp": at})
    rows = rows.group_by(["customer", "event_timestamp"]).aggregate([]).sort_by("event_timestamp")
    values = {name: pa.array(draw.normal(size=len(rows)), mask=draw.random(len(rows)) < 0.05) for name in group.outputs}
    fixed = {
        "created_timestamp": rows.column("event_timestamp"),
        "publish_id": pa.array(["p1"] * len(rows)),
        "empties_at": pa.nulls(len(rows), pa.timestamp("us", tz="UTC")),
        "held": pa.array([False] * len(rows)),
    }
    whole = pa.table({**dict(zip(rows.column_names, rows.columns, strict=True)), **fixed, **values})
    whole = whole.append_column("date", whole.column("event_timestamp").cast(pa.date32()))
    path.mkdir(parents=True)
    write_deltalake(path, whole, partition_by=["date"])


# ---------------------------------------------------------------------------------------------------------------------- the ways


def outputs(of: Made) -> list[str]:
    """The columns of features, as everybody names them."""
    return [f"{published.group.name}__{column}" for published in of.groups for column in published.group.outputs]


def spine(spark: SparkSession, of: Made) -> DataFrame:
    """The spine as everybody reads it."""
    return spark.read.schema(f"row bigint, customer {tables.spark_type(of.shape.key)}, at timestamp").parquet(str(of.spine))


def ours(spark: SparkSession, of: Made) -> DataFrame:
    """What a training set is joined by."""
    asked = [JoinAsked(Join(published.group), published, AsOf()) for published in of.groups]
    first = micros(FIRST + (of.shape.days - of.shape.asked) * DAY)
    return joined(spine(spark, of), asked, at="at", spark=spark, extent=Extent(first, micros(FIRST + of.shape.days * DAY), of.shape.spine))


def built(spark: SparkSession, of: Made, folder: str) -> statistics.Statistics:
    """What a build does: the spine's rows joined, looked at and written, each by the task that has it."""
    asked = [JoinAsked(Join(published.group), published, AsOf()) for published in of.groups]
    first = micros(FIRST + (of.shape.days - of.shape.asked) * DAY)
    rows = spine(spark, of).withColumnRenamed("row", order.NUMBER)
    extent = Extent(first, micros(FIRST + of.shape.days * DAY), of.shape.spine)
    service = FeatureService("bench", joins=tuple(each.join for each in asked))
    flow = joining(rows, asked, at="at", spark=spark, extent=extent)
    flow = finish.with_own_columns(flow, service, at="at", dated_by="day", statuses=False)
    look = statistics.ColumnsLookedAt(service.outputs, (), ("customer", "at"))
    columns = ("customer", "at", *service.outputs, layout.ROW_NUMBER, layout.ROW_DATE)
    return kept_rows.written_by_workers(flow, kept_rows.RowsAsked("", "bench", columns, look, of.shape.asked, of.shape.spine), folder)


def floor(spark: SparkSession, of: Made) -> DataFrame:
    """The rows of all tables, read and exchanged once, and nothing else."""
    rows = [_rows(spark, of, n).select("customer", "event_timestamp", *of.shape.columns) for n in range(len(of.groups))]
    empty = [F.lit(None).cast("double").alias(name) for name in of.shape.columns]
    asked = spine(spark, of).select("customer", F.col("at").alias("event_timestamp"), *empty)
    return reduce(DataFrame.union, [*rows, asked]).repartition(int(spark.conf.get("spark.sql.shuffle.partitions") or 1), "customer")


def by_row_number(spark: SparkSession, of: Made) -> DataFrame:
    """A join of each group on `<=`, of whose rows the newest is kept."""
    rows = spine(spark, of)
    for number, published in enumerate(of.groups):
        renamed = _renamed(spark, of, number)
        near = (F.col("at") >= F.col("seen")) & _young(published)
        paired = rows.join(renamed, (F.col("customer") == F.col("who")) & near, how="left")
        newest = Window.partitionBy("row").orderBy(F.col("seen").desc())
        rows = paired.withColumn("n", F.row_number().over(newest)).where("n = 1").drop("n", "who", "seen")
    return rows


def by_union_and_last(spark: SparkSession, of: Made) -> DataFrame:
    """The spine and all groups in one frame, one window, the last row of each group so far."""
    parts = [spine(spark, of).select("customer", F.unix_micros("at").alias("t"), F.lit(1).alias("tag"), "row", "at")]
    for number, published in enumerate(of.groups):
        packed = F.struct("event_timestamp", *published.group.outputs).alias(f"g{number}")
        parts.append(
            _rows(spark, of, number).select("customer", F.unix_micros("event_timestamp").alias("t"), F.lit(0).alias("tag"), packed)
        )
    united = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)
    so_far = Window.partitionBy("customer").orderBy("t", "tag").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    names = [f"g{number}" for number in range(len(of.groups))]
    found = united.select("customer", "tag", "row", "at", *[F.last(n, ignorenulls=True).over(so_far).alias(n) for n in names]).where(
        "tag = 1"
    )
    columns = []
    for number, published in enumerate(of.groups):
        young = _young(published, F.col(f"g{number}")["event_timestamp"])
        columns += [F.when(young, F.col(f"g{number}")[c]).alias(f"{published.group.name}__{c}") for c in published.group.outputs]
    return found.select("row", "customer", "at", *columns)


def by_feast(spark: SparkSession, of: Made) -> DataFrame:
    """Feast's own offline store for Spark, asked through its Python client."""
    from feast import Entity as FeastEntity
    from feast import FeatureStore, FeatureView, Field, RepoConfig
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
    from feast.types import Float64, Int64, String

    folder = tempfile.mkdtemp()
    config = RepoConfig(
        project="bench", provider="local", registry=f"{folder}/registry.db", offline_store={"type": "spark"},
        online_store={"type": "sqlite", "path": f"{folder}/online.db"}, entity_key_serialization_version=3,
    )  # fmt: skip
    store, views = FeatureStore(config=config), []
    who, key = FeastEntity(name="customer", join_keys=["customer"]), Int64 if of.shape.key == "int64" else String
    for number, published in enumerate(of.groups):
        _rows(spark, of, number).createOrReplaceTempView(published.group.name)
        source = SparkSource(
            name=published.group.name, table=published.group.name, timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )  # fmt: skip
        fields = [Field(name=name, dtype=Float64) for name in published.group.outputs]
        ttl = timedelta(days=_days(published))
        views.append(
            FeatureView(
                name=published.group.name, entities=[who], ttl=ttl, schema=[*fields, Field(name="customer", dtype=key)], source=source
            )
        )
    store.apply([who, *views])
    spine(spark, of).select("row", "customer", F.col("at").alias("event_timestamp")).createOrReplaceTempView("bench_spine")
    features = [f"{p.group.name}:{column}" for p in of.groups for column in p.group.outputs]
    job = store.get_historical_features(entity_df="SELECT * FROM bench_spine", features=features, full_feature_names=True)
    rows: DataFrame = job.to_spark_df()
    return rows.withColumnRenamed("event_timestamp", "at")


def by_duckdb(of: Made) -> pa.Table:
    """One process over the same files: the limit of what one machine needs."""
    columns, joins = [], []
    for number, published in enumerate(of.groups):
        name = published.group.name
        young = f"s.at - {name}.event_timestamp <= INTERVAL {_days(published)} DAY"
        columns += [f"CASE WHEN {young} THEN {name}.{c} END AS {name}__{c}" for c in published.group.outputs]
        files = f"(SELECT customer, event_timestamp, {', '.join(of.shape.columns)} FROM read_parquet('{of.rows(number)}/date=*/*.parquet'))"
        joins.append(f"ASOF LEFT JOIN {files} {name} ON s.customer = {name}.customer AND s.at >= {name}.event_timestamp")
    query = f"SELECT s.row, s.customer, s.at, {', '.join(columns)} FROM read_parquet('{of.spine}') s {' '.join(joins)}"
    with duckdb.connect() as connection:
        return connection.execute("SET TimeZone = 'UTC'").execute(query).to_arrow_table()


def by_polars(of: Made) -> pa.Table:
    """One process, too."""
    import polars as pl

    rows = pl.read_parquet(of.spine).sort("at")
    for number, published in enumerate(of.groups):
        name = published.group.name
        right = pl.read_parquet(f"{of.rows(number)}/date=*/*.parquet", columns=["customer", "event_timestamp", *of.shape.columns])
        right = right.rename({c: f"{name}__{c}" for c in published.group.outputs}).sort("event_timestamp")
        rows = rows.join_asof(right, left_on="at", right_on="event_timestamp", by="customer", tolerance=published.group.ttl)
        rows = rows.drop("event_timestamp", strict=False)
    found: pa.Table = rows.to_arrow()
    return found


def _rows(spark: SparkSession, of: Made, number: int) -> DataFrame:
    return tables.read(spark, str(of.rows(number)))


def _renamed(spark: SparkSession, of: Made, number: int) -> DataFrame:
    group = of.groups[number].group
    columns = [F.col(c).alias(f"{group.name}__{c}") for c in group.outputs]
    return _rows(spark, of, number).select(F.col("customer").alias("who"), F.col("event_timestamp").alias("seen"), *columns)


def _young(published: Published, at: Column | None = None) -> Column:
    return F.col("at") - F.expr(f"INTERVAL {_days(published)} DAYS") <= (F.col("seen") if at is None else at)


def _days(published: Published) -> int:
    return int(str(published.group.ttl).removesuffix("d"))


# ------------------------------------------------------------------------------------------------------------------------ runs


def content(rows: DataFrame, of: Made | None) -> tuple[object, ...]:
    """The number of rows and a hash of all their values, in whatever order they come."""
    columns = sorted(rows.columns) if of is None else ["row", *outputs(of)]
    known = tables.fingerprint_of(columns)
    [row] = rows.agg(F.count(F.lit(1)), F.bit_xor(known), F.sum(F.pmod(known, F.lit(2**31)))).collect()
    return tuple(row)


def shape_of(rows: DataFrame) -> str:
    """How many exchanges and sorts a plan has; broadcasts are none."""
    plan = rows._jdf.queryExecution().executedPlan().toString()
    exchanges, sorts = (len(re.findall(rf"\b{name} ", plan)) for name in ("Exchange", "Sort"))
    return f"{exchanges} exchanges, {sorts} sorts"


def planned(spark: SparkSession, of: Made) -> str:
    """What it takes until Spark has a plan of ours, and what is in it."""
    gateway = spark.sparkContext._gateway
    assert gateway is not None
    client, calls, jobs, started = gateway._gateway_client, list[None](), _jobs(spark), time.monotonic()
    send = client.send_command

    def counted(*given: Any, **how: Any) -> Any:
        calls.append(None)
        return send(*given, **how)

    client.send_command = counted
    try:
        shape = shape_of(ours(spark, of))
    finally:
        client.send_command = send
    return f"{shape}; planned in {time.monotonic() - started:.1f} s by {len(calls):,} calls and {_jobs(spark) - jobs} jobs"


def _jobs(spark: SparkSession) -> int:
    return int(spark.sparkContext._jsc.sc().statusStore().jobsList(None).size())


def _peak() -> float:
    """The most memory that this process, Spark's driver in Python, has held; MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def spread_of(spark: SparkSession, since: int) -> str:
    """The bytes that jobs from one on exchanged, and the largest task of the stage that read most, beside the mean in bytes and in time."""
    store = spark.sparkContext._jsc.sc().statusStore()
    jobs = store.jobsList(None)
    known = {int(ids.apply(n)) for j in range(jobs.size() - since) for ids in [jobs.apply(j).stageIds()] for n in range(ids.size())}
    stages = [store.lastStageAttempt(number) for number in known]
    most = max(stages, key=lambda stage: int(stage.shuffleReadBytes()))
    tasks = store.taskList(most.stageId(), most.attemptId(), 100_000)
    told = [tasks.apply(n).taskMetrics().get() for n in range(tasks.size())]
    sizes = [int(each.shuffleReadMetrics().localBytesRead()) + int(each.shuffleReadMetrics().remoteBytesRead()) for each in told]
    times = [int(each.executorRunTime()) for each in told]
    exchanged = sum(int(stage.shuffleWriteBytes()) for stage in stages) / 1e6
    largest = f"{_unevenly(sizes):.1f}x the mean in bytes, {_unevenly(times):.1f}x in time"
    return f"{exchanged:.0f} MB exchanged; of {len(sizes)} tasks the largest {largest}"


def _unevenly(sizes: list[int]) -> float:
    return max(sizes) * len(sizes) / max(sum(sizes), 1)


BY_SPARK: dict[str, Callable[[SparkSession, Made], DataFrame]] = {
    "union and last": by_union_and_last,
    "join + row_number": by_row_number,
    "feast": by_feast,
}
ALONE = {"duckdb": by_duckdb, "polars": by_polars}


class Rivals:
    """A process with a Spark of its own, in which rivals run one after the other; one that takes too long is killed with it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def cost(self, rival: str, of: Made, *, limit: float, parts: str) -> Cost:
        """What a rival cost; its answer is None if it was stopped, and then its time and its CPU are those until then."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        asked = {"rival": rival, "shape": asdict(of.shape), "folder": str(of.spine.parent), "parts": parts, "limit": limit}
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdout.readline()  # it is warm
        before, started = cpu_of(process.pid), time.monotonic()
        if select.select([process.stdout], [], [], limit)[0] and (line := process.stdout.readline()):
            told = json.loads(line)
            return Cost(**told | {"answer": tuple(told["answer"])})
        stopped = Cost(f"{rival}, stopped", time.monotonic() - started, cpu_of(process.pid) - before, 0, 0)
        if process.poll() is not None:
            raise SystemExit(f"{rival} ended with {process.returncode}")
        self.close()
        return stopped

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = [sys.executable, "-m", "tests.benchmarks.bench_training", "--as-rival"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True)
        return self._process

    def close(self) -> None:
        """Kill the process, its Spark and its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None


def as_rival(spark: SparkSession, out: TextIO) -> None:
    """Run what each line of standard input asks for: say with a line that Spark is warm, and tell of the run in one more."""
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        of = found(Shape(**asked["shape"]), Path(asked["folder"]))
        spark.conf.set("spark.sql.shuffle.partitions", asked["parts"])
        content(floor(spark, of), None)
        print(file=out, flush=True)
        print(json.dumps(asdict(_as_asked(spark, of, asked))), file=out, flush=True)


def _as_asked(spark: SparkSession, of: Made, asked: dict[str, Any]) -> Cost:
    rival = str(asked["rival"])
    cost = measured(rival, spark, lambda: content(BY_SPARK[rival](spark, of), of))
    again = cost.wall < asked["limit"] / 3
    return measured(f"{rival}, again", spark, lambda: content(BY_SPARK[rival](spark, of), of)) if again else cost


def compared(name: str, of: Made, spark: SparkSession, rivals: tuple[str, ...], *, others: Rivals, patience: float) -> Iterator[Cost]:
    """Ours, the floor, and each rival; raises SystemExit where what finished is not equal."""
    for _ in range(2):  # warm
        content(ours(spark, of), of)
    shown, began = planned(spark, of), _jobs(spark)
    mine = measured("ours", spark, lambda: content(ours(spark, of), of))
    yield replace(mine, name=f"ours ({shown}; {spread_of(spark, began)})")
    content(floor(spark, of), None)  # warm
    yield measured("floor: scan and one exchange", spark, lambda: content(floor(spark, of), None))
    with tempfile.TemporaryDirectory() as folder:
        yield measured("ours, looked at and written, not hashed", spark, lambda: built(spark, of, folder).rows)
    for rival in BY_SPARK:
        if rival in rivals:
            limit = min(patience, 2 * GOALS.get(rival, {}).get(name, 10) * mine.wall)
            cost = others.cost(rival, of, limit=limit, parts=str(spark.conf.get("spark.sql.shuffle.partitions")))
            yield cost if cost.answer is None else _equal(cost, mine)
    for rival, limit_of in ALONE.items():
        if rival in rivals:
            cost = measured(f"{rival}, one process", spark, lambda limit_of=limit_of: limit_of(of))  # type: ignore[misc]
            assert isinstance(cost.answer, pa.Table)
            yield _equal(replace(cost, answer=content(spark.createDataFrame(cost.answer), of)), mine)


def memory(spark: SparkSession, folder: Path) -> None:
    """Print what Python holds at most, in the driver and in a task, when spines of 10,000 and of 1,000,000 rows are joined and written."""
    for rows in (10_000, 1_000_000):
        shape, place = replace(SHAPES["U"].scaled(0.1), spine=rows), folder / f"memory-{rows}"
        place.mkdir()
        of, before = made(shape, place), _jobs(spark)
        found = built(spark, of, str(place / "rows"))
        sys.stdout.write(f"{found.rows:,} rows: the driver's peak {_peak():.0f} MB; {spread_of(spark, before)}\n")


def _equal(cost: Cost, mine: Cost) -> Cost:
    if cost.answer != mine.answer:
        raise SystemExit(f"{cost.name} has other values: {cost.answer}, ours {mine.answer}")
    return cost


def main() -> None:
    """Compare on each shape and print it."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = (*BY_SPARK, *ALONE)
    asked.add_argument("--scale", type=float, default=0.1)
    asked.add_argument("--patience", type=float, default=30, help="seconds")
    asked.add_argument("--memory", action="store_true", help="only what is held in memory")
    asked.add_argument("--as-rival", action="store_true", help=argparse.SUPPRESS)
    asked.add_argument("--parts", type=int, help="shuffle partitions")
    asked.add_argument("--only", nargs="*", choices=tuple(SHAPES), default=tuple(SHAPES))
    asked.add_argument("--rivals", nargs="*", choices=every, default=every)
    for flag in ("rows", "spine", "entities", "groups"):
        asked.add_argument(f"--{flag}", type=int)
    said = asked.parse_args()
    given = {flag: value for flag in ("rows", "spine", "entities", "groups") if (value := getattr(said, flag)) is not None}
    warnings.filterwarnings("ignore")
    out = os.fdopen(os.dup(1), "w")
    if said.as_rival:
        os.dup2(2, 1)  # whatever a rival prints is no answer
    with tempfile.TemporaryDirectory() as folder, closing(Rivals()) as others:
        spark = session(jars=delta_jars(jar_cache()), scratch=Path(folder) / "spark", driver_memory="6g")
        if said.as_rival:
            as_rival(spark, out)
            return
        if said.memory:
            memory(spark, Path(folder))
            return
        usual = spark.conf.get("spark.sql.shuffle.partitions") or "1"
        for name in said.only:
            shape = replace(SHAPES[name].scaled(said.scale), **given)
            spark.conf.set("spark.sql.shuffle.partitions", str(said.parts or shape.tasks or usual))
            Path(folder, name).mkdir()
            print(f"{name}: {shape}", file=sys.stderr)
            of = made(shape, Path(folder, name))
            costs = list(compared(name, of, spark, tuple(said.rivals), others=others, patience=said.patience))
            rate = shape.spine / costs[0].cpu
            table(f"{name}: {rate:,.0f} spine rows for a second of CPU", costs, ours=costs[0])
            shutil.rmtree(Path(folder, name))


if __name__ == "__main__":
    main()
