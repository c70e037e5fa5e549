"""What the gate costs beside a hand-written aggregate, and beside Great Expectations run on the Spark frame the way its guide shows.

python -m tests.benchmarks.bench_gate --rows 60000 --columns 100 --days 30
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from expectations import adapter, suite
from expectations.suite import Check
from feature_definitions import Entity, Feature, Source, WindowedGroup, at_least, at_most, not_null
from feature_definitions.intervals import DAY, MICROSECOND, Interval, micros
from feature_definitions.planning.plan import MISSING, GroupPlan, IntervalStatus
from feature_definitions.sql.column_types import ColumnTypes
from feature_registry import Registry
from spark_jobs.compute.rows import START
from spark_jobs.context import Context, Run
from spark_jobs.jvm import delta_jars, jar_cache
from spark_jobs.publish import validate
from spark_jobs.session import session
from tests.benchmarks.measured import Cost, measured, table

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
customer = Entity("customer", {"customer": "int64"})
payments = Source("payments", columns={"customer": "int64", "at": "timestamp", "x": "double"}, event_timestamp="at")


@dataclass(frozen=True)
class Work:
    """Staged rows of a wide group, and the run that is to be judged."""

    job: Run
    staged: DataFrame

    @property
    def checks(self) -> tuple[Check, ...]:
        return suite.checks(self.job.group, types=self.job.types.outputs)


def wide(columns: int) -> WindowedGroup:
    """A group of so many columns, each with three expectations."""
    expect = (at_least(-1000), at_most(1000), not_null(0.5))
    features = tuple(Feature(f"f{number}", "mean", "x", windows=("1d",), expect=expect) for number in range(columns))
    return WindowedGroup("wide", customer, payments, ttl="2d", features=features)


def stage(spark: SparkSession, group: WindowedGroup, rows: int, days: int, folder: Path) -> DataFrame:
    """So many rows over so many days, in two files: normally distributed, one in twenty null, and nothing wrong with them."""
    folder.mkdir()
    drawn = np.random.default_rng(7)
    for part in range(2):
        number = np.arange(part, rows, 2)
        start = micros(FIRST) + number % days * (DAY // MICROSECOND)
        table = {"customer": number // days}
        for name, later in (("event_timestamp", 1), ("empties_at", 2), (START, 0)):
            table[name] = pa.array(start + later * (DAY // MICROSECOND), pa.timestamp("us", tz="UTC"))
        for column in group.outputs:
            values = drawn.normal(0, 50, len(number)).round(3)
            table[column] = pa.array(values, mask=drawn.random(len(number)) < 0.05)
        pq.write_table(pa.table(table), folder / f"{part}.parquet")
    return spark.read.parquet(str(folder))


# ---------------------------------------------------------------------------------------------------------------------- contenders


def gate(work: Work) -> int:
    """All that a run does to judge its rows: profile, verdicts by Great Expectations, records, report."""
    judged = validate.validate(work.job, work.staged, judge=adapter.judge)
    return sum(not verdict.failed for verdict in judged.verdicts.values())


def by_hand(work: Work) -> int:
    """What one would write instead: one aggregate that counts the bad rows of each check, one for uniqueness, and ifs."""
    return _passed(work, _counts(work))


def by_hand_with_profile(work: Work) -> int:
    """The same with the statistics that the gate keeps of each column, as Spark has them."""
    described = ("min({0})", "max({0})", "avg({0})", "stddev_samp({0})", "approx_count_distinct({0})", _QUANTILES)
    return _passed(work, [*_counts(work), *(sql.format(column) for column in work.job.group.outputs for sql in described)])


_QUANTILES = "percentile_approx({0}, array(0.05D, 0.25D, 0.5D, 0.75D, 0.95D), 200)"


def _counts(work: Work) -> list[str]:
    return [f"count_if({check.violation})" for check in work.checks if check.of_rows and not check.unique]


def _passed(work: Work, aggregates: Sequence[str]) -> int:
    measured = [F.expr(sql) for sql in aggregates]
    rows = work.staged.groupBy(START).agg(F.count(F.lit(1)).alias("rows"), *measured).collect()
    more = work.staged.groupBy("customer", "event_timestamp", START).count().where("count > 1").count()
    shares = [c.at_least_share or 1.0 for c in work.checks if c.of_rows and not c.unique]
    return sum(all(row[2 + n] <= (1 - share) * row["rows"] for n, share in enumerate(shares)) and more == 0 for row in rows)


def great_expectations(work: Work) -> int:
    """Great Expectations on the Spark frame, all defaults: one verdict for the whole range."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        batch = context.data_sources.add_spark("spark").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
        expectations = [e for column in work.job.group.outputs for e in _three(gx, column)]
        keys = ["customer", "event_timestamp"]
        made = gx.ExpectationSuite(
            name="wide", expectations=[*expectations, gx.expectations.ExpectCompoundColumnsToBeUnique(column_list=keys)]
        )
        return int(bool(batch.get_batch({"dataframe": work.staged}).validate(made).success))


def _three(gx: object, column: str) -> list[object]:
    kinds = gx.expectations  # type: ignore[attr-defined]  # the module is loaded where it is used
    return [
        kinds.ExpectColumnValuesToBeBetween(column=column, min_value=-1000),
        kinds.ExpectColumnValuesToBeBetween(column=column, max_value=1000),
        kinds.ExpectColumnValuesToNotBeNull(column=column, mostly=0.5),
    ]


# ---------------------------------------------------------------------------------------------------------------------- measuring


def costs(name: str, spark: SparkSession, work: Callable[[], int], times: int) -> list[Cost]:
    """The first run, which compiles what Spark generates, as a run in a process of its own does; and the middle one of those after it."""
    runs = []
    for number in range(times + 1):
        spark.catalog.clearCache()
        runs.append(measured(f"{name}: {'later' if number else 'first'}", spark, work))
    later = sorted(runs[1:], key=lambda cost: cost.cpu)
    return [runs[0], *later[len(later) // 2 :][:1]]


def run(spark: SparkSession, arguments: argparse.Namespace, folder: Path) -> None:
    """Measure every contender on the same rows and print the ratios."""
    group = wide(arguments.columns)
    staged = stage(spark, group, arguments.rows, arguments.days, folder / "rows")
    due = tuple(IntervalStatus(group.name, 1, Interval(FIRST + n * DAY, FIRST + (n + 1) * DAY), MISSING, ()) for n in range(arguments.days))
    context = Context(lambda: spark, folder, str(folder / "lake"), cast("Registry", None), lambda: FIRST, lambda _: None)
    job = Run(context, GroupPlan(group, 1, due), ColumnTypes(dict.fromkeys(group.outputs, "double"), {}), "p1", 1, {})
    work = Work(job, staged)
    contenders: list[tuple[str, Callable[[Work], int], int]] = [
        ("gate (checks, profile, records, report)", gate, arguments.times),
        ("by hand, checks only", by_hand, arguments.times),
        ("by hand, checks and profile", by_hand_with_profile, arguments.times),
        ("Great Expectations on Spark, defaults", great_expectations, 0),
    ]
    asked = [each for each in contenders if arguments.all or each[1] is not great_expectations]
    by_name = {name: costs(name, spark, partial(do, work), times) for name, do, times in asked}
    assert {each.answer for name, some in by_name.items() if not name.startswith("Great") for each in some} == {arguments.days}
    title = f"{len(work.checks)} checks, {arguments.columns} columns, {arguments.rows:,} rows, {arguments.days} days"
    for number, when in enumerate(("first run in a process", "median of the runs after it")):
        some = [found[number] for found in by_name.values() if len(found) > number]
        table(f"{title}: {when}", some, ours=some[0])


def main() -> None:
    """Read the sizes, start Spark, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--all", action=argparse.BooleanOptionalAction, default=True, help="also Great Expectations on Spark (minutes)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spark = session(jars=delta_jars(jar_cache()), scratch=Path(folder, "spark"), master="local[2]", driver_memory="3g")
        try:
            run(spark, arguments, Path(folder))
        finally:
            spark.stop()


if __name__ == "__main__":
    main()
