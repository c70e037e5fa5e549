"""Judges staged rows: Spark measures every interval in one pass, Great Expectations judges the measures, bad rows are put aside."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from expectations import suite
from expectations.suite import Check, Verdict
from feature_definitions import expressions, layout
from feature_definitions.intervals import Interval, iso, merge, micros
from feature_definitions.model import FeatureGroup
from spark_jobs import tables
from spark_jobs.publish import Offline, Run
from spark_jobs.windows import START

Judge = Callable[[pd.DataFrame, Sequence[Check]], Mapping[str, Verdict]]


def profile(job: Run, staged: DataFrame) -> pd.DataFrame:
    """One row per interval that is due: `interval`, `rows`, and each check's number of bad rows; zeros for an interval without rows."""
    measures = suite.measures(_checks(job.group))
    names = ["rows", *(name for name, _ in measures)]
    columns = [F.count(F.lit(1)).alias("rows"), *(F.expr(sql).alias(name) for name, sql in measures)]
    found = {row["interval"]: row for row in staged.groupBy(F.unix_micros(START).alias("interval")).agg(*columns).collect()}
    listed = []
    for status in job.work.due:
        row = found.get(micros(status.interval.start))
        listed.append({"interval": iso(status.interval.start), **{name: int(row[name]) if row is not None else 0 for name in names}})
    return pd.DataFrame(listed, columns=["interval", *names])


def judged(job: Run, profile: pd.DataFrame, judge: Judge) -> dict[Interval, Verdict]:
    """The verdict of each interval that is due."""
    verdicts = judge(profile, _checks(job.group))
    return {s.interval: verdicts[iso(s.interval.start)] for s in job.work.due}


def _checks(group: FeatureGroup) -> tuple[Check, ...]:
    return suite.checks(group, rewrite=expressions.spark_sql)


def quarantine(job: Run, staged: DataFrame, rejected: Mapping[Interval, Verdict], offline: Offline) -> None:
    """Keep the bad rows of rejected intervals, each with the checks that it failed."""
    if not rejected:
        return
    by_failed: dict[tuple[str, ...], list[Interval]] = {}
    for interval, verdict in rejected.items():
        by_failed.setdefault(verdict.failed, []).append(interval)
    bad = [_bad_rows(job.group, staged, failed, intervals) for failed, intervals in by_failed.items()]
    frame = reduce(DataFrame.union, bad).select(
        *[f"`{key}`" for key in job.group.entity.keys],
        "event_timestamp",
        *[f"`{column}`" for column in job.group.outputs],
        F.array_join("_failed", ", ").alias("failed_expectation"),
        F.col(START).alias("interval_start"),
        F.lit(job.publish_id).alias("publish_id"),
        F.lit(offline.clock()).alias("quarantined_at"),
    )
    tables.append(frame, layout.quarantine_table(offline.lake, job.group.name), commit_id=job.publish_id)


def _bad_rows(group: FeatureGroup, staged: DataFrame, failed: Sequence[str], intervals: Sequence[Interval]) -> DataFrame:
    """The rows of these intervals that failed one of the checks, with the checks that each failed."""
    condition, reasons = suite.bad_row_sql(_checks(group), failed)
    mine = staged.where(F.expr(tables.within(START, merge(intervals), after_start=False)))
    return mine.where(F.expr(condition)).withColumn("_failed", F.expr(reasons)).where(F.size("_failed") > 0)
