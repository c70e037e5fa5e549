"""What it costs to bring a file in: ours, a plain Spark job that does the same, and DuckDB as the limit, with the same rows.

python -m tests.benchmarks.bench_ingest --rows 1000000 --bad 0.01 --files 3000
python -m tests.benchmarks.bench_ingest --rows 10000000 --beside --memory

The plain job reads Parquet, keeps the newest row of each id and writes a Delta table by date. DuckDB and Polars read the CSV and write
Parquet. `--beside` adds files of 10,000 rows of new dates to that many old rows and to none, `--memory` prints what ours holds at most.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

import headwater as hw
from feature_definitions import layout
from feature_definitions.layout import LIVE
from lake import delta
from spark_jobs.jvm import delta_jars, jar_cache
from spark_jobs.session import session
from tests import projects
from tests.benchmarks.measured import Cost, measured, table

FIRST, DAYS = datetime(2026, 1, 1, tzinfo=UTC), 90
CATALOG = """
from feature_definitions import Files, Source

payments = Source("payments", Files("data/*.{0}", format="{0}"), timezone="UTC", event_timestamp="at", id=("payment_id",),
                  columns={{"payment_id": "int64", "customer": "string", "amount": "double", "at": "timestamp"}})
"""
_AT_ONCE = 1_000_000


# ------------------------------------------------------------------------------------------------------------------------- rows


def payments(rows: int) -> Iterator[pa.Table]:
    """Payments of 90 days in the order of their times, of which one in a hundred comes twice; some at a time."""
    draw = np.random.default_rng(7)
    for first in range(0, rows, _AT_ONCE):
        number = np.arange(first, min(rows, first + _AT_ONCE))
        at = int(FIRST.timestamp()) + number * (DAYS * 86_400) // rows
        yield pa.table(
            {
                "payment_id": np.where(draw.random(len(number)) < 0.01, np.maximum(number - 7, 0), number),
                "customer": pc.binary_join_element_wise("c", pa.array(draw.integers(0, 20_000, len(number))).cast(pa.string()), ""),
                "amount": np.round(draw.random(len(number)) * 100, 2),
                "at": pa.array(at, pa.timestamp("s", tz="UTC")).cast(pa.timestamp("us", tz="UTC")),
            }
        )


def write(into: Path, rows: int, *, bad: float, files: int) -> None:
    """The payments as CSV, of which a share has an amount that is none, and as Parquet; each in so many files."""
    into.mkdir()
    draw = np.random.default_rng(8)
    made = pa.concat_tables(payments(rows)) if files > 1 else None
    parts = [made.slice(n * rows // files, (n + 1) * rows // files - n * rows // files) for n in range(files)] if made is not None else []
    for number, blocks in enumerate([[part] for part in parts] or [payments(rows)]):
        with (into / f"{number:05d}.csv").open("wb") as text, pq.ParquetWriter(into / f"{number:05d}.parquet", _schema()) as parquet:
            for n, block in enumerate(blocks):
                parquet.write_table(block)
                wrong = pa.array(draw.random(block.num_rows) < bad)
                amount = pc.if_else(wrong, "none", block["amount"].cast(pa.string()))
                at = pc.strftime(block["at"].cast(pa.timestamp("s", tz="UTC")), "%Y-%m-%dT%H:%M:%SZ")
                told = block.set_column(2, "amount", amount).set_column(3, "at", at)
                csv.write_csv(told, text, csv.WriteOptions(include_header=n == 0, quoting_style="none"))


def _schema() -> pa.Schema:
    return next(payments(1)).schema


# ------------------------------------------------------------------------------------------------------------------------- ways


def ours(_: SparkSession | None, data: Path, kind: str, folder: Path) -> tuple[int, float]:
    """Ingest into a project of its own; gives the number and the amount of the rows that hold."""
    shutil.rmtree(folder, ignore_errors=True)
    root = projects.make(folder, catalog=CATALOG.format(kind))
    (root / "data").symlink_to(data)
    with closing(hw.open(root, clock=lambda: FIRST + timedelta(days=DAYS + 1))) as p:
        (report,) = p.ingest()
        assert report.failed is None, report
        held = delta.arrow(layout.source_table(p.settings.lake, "payments"), f"SELECT amount FROM t WHERE {LIVE}")
    return held.num_rows, round(pc.sum(held["amount"]).as_py(), 2)


def plain_spark(spark: SparkSession, data: Path, folder: Path) -> tuple[int, float]:
    """What anybody would write: the newest row of each id, in a Delta table by date."""
    shutil.rmtree(folder, ignore_errors=True)
    newest = Window.partitionBy("payment_id").orderBy(F.col("at").desc())
    rows = spark.read.parquet(f"{data}/*.parquet").withColumn("n", F.row_number().over(newest)).where("n = 1").drop("n")
    rows.withColumn("date", F.to_date("at")).repartition("date").write.format("delta").partitionBy("date").save(str(folder))
    held = delta.arrow(str(folder), "SELECT amount FROM t")
    return held.num_rows, round(pc.sum(held["amount"]).as_py(), 2)


def by_duckdb(_: SparkSession, data: Path, folder: Path) -> tuple[int, float]:
    """The limit: the CSV as Parquet by date."""
    shutil.rmtree(folder, ignore_errors=True)
    with duckdb.connect(config={"threads": 2}) as db:
        newest = 'SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY payment_id ORDER BY "at" DESC) AS n FROM read) WHERE n = 1'
        db.execute(f"CREATE VIEW read AS SELECT * FROM read_csv('{data}/*.csv', types={{'amount': 'DOUBLE'}}, ignore_errors=true)")
        db.execute(f"COPY (SELECT *, CAST(\"at\" AS DATE) AS date FROM ({newest})) TO '{folder}' (FORMAT parquet, PARTITION_BY (date))")
        found = db.execute(f"SELECT count(*), round(sum(amount), 2) FROM '{folder}/*/*.parquet'").fetchone()
    assert found is not None
    return found[0], found[1]


def by_polars(_: SparkSession, data: Path, folder: Path) -> tuple[int, float]:
    """The same by Polars."""
    shutil.rmtree(folder, ignore_errors=True)
    kinds = {"payment_id": pl.Int64, "customer": pl.String, "amount": pl.Float64, "at": pl.String}
    at = pl.col("at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    rows = pl.scan_csv(f"{data}/*.csv", schema=kinds, ignore_errors=True).with_columns(at)
    newest = rows.sort("at", descending=True).unique("payment_id", keep="first").with_columns(date=pl.col("at").dt.date())
    held = newest.collect(engine="streaming")
    for (day,), part in held.partition_by("date", as_dict=True).items():
        (folder / f"date={day}").mkdir(parents=True)
        part.drop("date").write_parquet(folder / f"date={day}" / "0.parquet", compression="snappy")
    return held.height, round(held["amount"].sum(), 2)


# ------------------------------------------------------------------------------------------------------------------ without rivals


def alone(work: Callable[..., float], *told: object) -> float:
    """What work gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *told).result()


def peak(data: Path, kind: str, folder: Path) -> float:
    """How many MB this process held at most while it ingested."""
    ours(None, data, kind, folder)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def beside(data: Path | None, folder: Path, ids: str) -> float:
    """The CPU seconds of an ingest of one new file beside those of a folder, or beside none: the least of five, after a first.

    Its ids are in order, or random ones, which may be on any date.
    """
    draw = np.random.default_rng(9)
    root, costs = projects.make(folder, catalog=CATALOG.format("parquet")), list[float]()
    (root / "data").mkdir()
    for old in [] if data is None else data.glob("*.parquet"):
        (root / "data" / f"old-{old.name}").symlink_to(old)
    for day in range(-1, 6):
        first = int((FIRST + timedelta(days=DAYS + day)).timestamp())
        if day >= 0:
            number = np.arange(10_000)
            at = pa.array(first + number * 8, pa.timestamp("s", tz="UTC")).cast(pa.timestamp("us", tz="UTC"))
            payments = draw.integers(0, 2**62, 10_000) if ids == "random" else 10**9 * (day + 1) + number
            rows = {"payment_id": payments, "customer": pa.repeat("c", 10_000), "amount": number / 100, "at": at}
            pq.write_table(pa.table(rows), root / "data" / f"new-{day}.parquet")
        with closing(hw.open(root, clock=lambda now=first: datetime.fromtimestamp(now, UTC) + timedelta(days=2))) as p:
            started = time.process_time()
            assert all(report.failed is None for report in p.ingest())
            costs.append(time.process_time() - started)
    return min(costs[2:])


def measure_alone(arguments: argparse.Namespace, data: Path, folder: Path) -> None:
    """Print what ours holds in memory, and what a new file costs beside old ones."""
    if arguments.memory:
        for kind in ("parquet", "csv"):
            print(f"{alone(peak, data, kind, folder / 'memory'):8.0f} MB at most, {arguments.rows:,} payments from {kind}")
    if arguments.beside:
        age = max(0.0, max(file.stat().st_ctime for file in data.iterdir()) + 61 - time.time())
        time.sleep(age)  # a file that was written just now is hashed anew
        for ids in ("ordered", "random"):
            with_old, without = (alone(beside, each, folder / f"beside-{each is None}-{ids}", ids) for each in (data, None))
            told = f"one file of 10,000 {ids} ids beside {arguments.rows:,} rows; {without:.2f} beside none"
            print(f"{with_old:8.2f} CPU-s, {told}: {with_old / without:.2f}x")


def run(spark: SparkSession, arguments: argparse.Namespace, folder: Path) -> None:
    """Measure every way on the same rows and print the ratios to the plain job."""
    data = folder / "rows"
    ways: dict[str, Callable[[], tuple[int, float]]] = {
        "plain Spark job, from Parquet": partial(plain_spark, spark, data, folder / "plain"),
        "ours, from Parquet": partial(ours, spark, data, "parquet", folder / "parquet"),
        "ours, from CSV": partial(ours, spark, data, "csv", folder / "csv"),
        "DuckDB, from CSV to Parquet": partial(by_duckdb, spark, data, folder / "duckdb"),
        "Polars, from CSV to Parquet": partial(by_polars, spark, data, folder / "polars"),
    }
    costs: list[Cost] = []
    for name, work in ways.items():
        if name.startswith(arguments.only):
            runs = [measured(f"{name}: {'later' if n else 'first'}", spark, work) for n in range(arguments.times + 1)]
            costs.append(min(runs[1:] or runs, key=lambda cost: cost.cpu))
    from_parquet = {cost.answer for cost in costs if "from Parquet" in cost.name}
    assert len({cost.answer for cost in costs} if not arguments.bad else from_parquet) <= 1, costs
    title = f"{arguments.rows:,} payments in {arguments.files:,} files, {arguments.bad:.0%} bad, warm"
    table(title, costs, ours=costs[0])


def main() -> None:
    """Read the sizes, start Spark, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--bad", type=float, default=0.0, help="the share of the CSV's rows that have no amount")
    parser.add_argument("--times", type=int, default=1, help="runs after the first")
    parser.add_argument("--only", default="", help="how the names of the ways begin that are measured")
    parser.add_argument("--beside", action="store_true", help="what a new file costs beside these rows, and nothing else")
    parser.add_argument("--memory", action="store_true", help="what ours holds in memory, and nothing else")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "rows"), arguments.rows, bad=arguments.bad, files=arguments.files)
        if arguments.beside or arguments.memory:
            measure_alone(arguments, Path(folder, "rows"), Path(folder))
            return
        spark = session(jars=delta_jars(jar_cache()), scratch=Path(folder, "spark"), master="local[2]", driver_memory="3g")
        try:
            run(spark, arguments, Path(folder))
        finally:
            spark.stop()


if __name__ == "__main__":
    main()
