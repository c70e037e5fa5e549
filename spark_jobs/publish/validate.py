"""Judges staged rows: Spark measures every interval in one pass, Great Expectations judges the measures, bad rows are put aside."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from expectations import profile as profiles
from expectations import report, sketches, suite
from expectations.profile import Origin
from expectations.suite import Check, Judgement, Verdict
from feature_definitions import layout
from feature_definitions.intervals import Interval, iso, micros
from feature_definitions.language import FeatureGroup
from lake import delta_commits, storage
from spark_jobs import tables, workers
from spark_jobs.compute.rows import FAILED, START
from spark_jobs.context import Run

Judge = Callable[[pd.DataFrame, Sequence[Check]], Mapping[str, Verdict]]
Kept = Literal["if broken", "always"]
"""Which runs' reports are kept: of those in which something did not hold, or of any."""

_HASHED = 8_000_000
"""Of how many rows the hashes are looked at here, 8 bytes each."""
_EXAMPLES, _SOUGHT_IN = 5, 10_000
"""How many bad rows a report shows of each check, and among how many bad rows they are sought."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate says of a run: the verdict and the number of rows of each interval, and the rows as they may be published.

    `staged` has the column `held`; a row that is held has no values.
    """

    verdicts: Mapping[Interval, Verdict]
    rows: Mapping[Interval, int]
    staged: DataFrame


def validate(job: Run, staged: DataFrame, *, judge: Judge, keep: Kept = "if broken") -> Judged:
    """Judge each interval that is due, put bad rows into quarantine, and keep what was measured, what came of it, and a report."""
    checks = (*suite.checks(job.group, types=job.types.outputs), *suite.computed(_not_computed(staged)))
    measured = profile(job, staged, checks)
    said = judge(measured, checks)
    decided = profiles.with_held(said, measured, checks, hold_below=job.group.hold_below)
    verdicts = {interval: decided[iso(interval.start)] for interval in _due(job)}
    origin = Origin(job.group.name, job.work.generation, job.publish_id, _due(job), job.context.clock())
    refused = {interval: (*verdict.failed, *verdict.held) for interval, verdict in verdicts.items()}
    _quarantine(job, _bad_rows(staged, checks, refused))
    columns = tuple(profiles.described(job.group, job.types.outputs))
    _keep(job.context.lake, "profiles", profiles.profiles_table(measured, columns, origin))
    _keep(job.context.lake, "checks", profiles.checks_table(measured, checks, decided, origin))
    examples = _examples(job, _bad_rows(staged, checks, {interval: verdict.broken for interval, verdict in verdicts.items()}))
    account = said.account if isinstance(said, Judgement) else {}
    _report(report.JudgedRun(job.group, origin, checks, measured, decided, examples), account, job.context.lake, keep=keep)
    rows = dict(zip(_due(job), map(int, measured["rows"]), strict=True))
    return Judged(verdicts, rows, _marked(job.group, staged, checks, [interval for interval, verdict in verdicts.items() if verdict.held]))


def _not_computed(staged: DataFrame) -> list[str]:
    """The columns that could not be computed for some row."""
    if FAILED not in staged.columns:
        return []
    return sorted(row["name"] for row in staged.select(F.explode(FAILED).alias("name")).distinct().collect())


def _due(job: Run) -> tuple[Interval, ...]:
    return tuple(sorted(status.interval for status in job.work.due))


# -------------------------------------------------------------------------------------------------------------------- measuring


def profile(job: Run, staged: DataFrame, checks: Sequence[Check]) -> pd.DataFrame:
    """One row per interval that is due: how many rows it has, what each check measured, and the statistics of each column.

    One pass for the statistics, which tell most checks, and one small aggregate for the others: Spark compiles an aggregate of hundreds
    of expressions for longer than it runs. Another for each thing that must be unique; and one more where some row is bad, to count these.
    """
    due, types = _due(job), profiles.described(job.group, job.types.outputs)
    found = _measured(staged, {"rows": "count(*)", **dict(profiles.counted(checks))})
    rows = sum(int(str(values["rows"])) for values in found.values())
    _add(found, _statistics(job, staged, rows))
    _add(found, {interval: profiles.from_statistics(checks, values, types) for interval, values in found.items()})
    for check in checks:
        if check.unique:
            _add(found, _shared(staged, check, rows))
    some = {name for values in found.values() for name, value in values.items() if value}
    screened = [check for check in checks if check.screen is not None or check.statistic in ("extremes", "finite")]
    closer = {check.id: check.count for check in screened if check.id in some}
    if job.group.hold_below and any(check.id in some and check.holdable for check in checks):
        closer["bad_rows"] = f"count_if({suite.held_row_sql(checks)})"
    if closer:
        _add(found, _measured(staged, closer))
    framed = profiles.framed(due, {interval: found.get(micros(interval.start), {}) for interval in due}, checks, types)
    return profiles.with_changes(framed, checks, due, every=job.group.cadence, before=_before(job, checks))


def _measured(staged: DataFrame, aggregates: Mapping[str, str]) -> dict[int, dict[str, object]]:
    """Each interval's aggregates by name. All go to Spark as one expression: a call for each of a thousand would cost a second."""
    one = F.expr(f"struct({', '.join(f'{sql} AS m{number}' for number, sql in enumerate(aggregates.values()))})")
    rows = staged.groupBy(F.unix_micros(START).alias("interval")).agg(one.alias("found")).collect()
    return {row["interval"]: dict(zip(aggregates, row["found"], strict=True)) for row in rows}


def _statistics(job: Run, staged: DataFrame, rows: int) -> dict[int, dict[str, object]]:
    """The statistics of every column of each interval: of few rows here, else each part is summarized by Spark's Python workers."""
    values = [F.expr(sql).alias(f"v{number}") for number, sql in enumerate(profiles.values(job.group, job.types.outputs))]
    seen = staged.select(F.unix_micros(START).alias("interval"), *values)
    if rows * len(values) <= sketches.AT_ONCE:
        told = sketches.described_at_once(seen.toArrow()).to_pylist()
    else:
        parts = seen.mapInArrow(workers.carrying(sketches.summaries), sketches.PARTIAL)
        whole = parts.groupBy("interval").applyInArrow(sketches.described, sketches.DESCRIBED)
        with workers.as_raised():
            told = whole.toArrow().to_pylist()
    found: dict[int, dict[str, object]] = {}
    for row in told:
        found.setdefault(row["interval"], {}).update(profiles.statistics(job.group, row))
    return found


def _shared(staged: DataFrame, check: Check, rows: int) -> dict[int, dict[str, object]]:
    """How many rows of each interval have the values of another one. Counted apart: as an aggregate it would part all others by value.

    Where not even their hashes are shared, which is seen here of rows that are not too many, nothing is.
    """
    columns = [F.col(f"`{column}`") for column in check.unique]
    told = staged if check.column is None else staged.where(columns[0].isNotNull())
    if rows <= _HASHED:
        hashes = told.select(F.xxhash64(START, *columns).alias("hash")).toArrow().column("hash").to_numpy()
        if len(np.unique(hashes)) == len(hashes):
            return {}
    counted = told.groupBy(F.unix_micros(START).alias("interval"), *columns).agg((F.count(F.lit(1)) - 1).alias("_more"))
    return {row["interval"]: {check.id: row["more"]} for row in counted.groupBy("interval").agg(F.sum("_more").alias("more")).collect()}


def _add(found: Mapping[int, dict[str, object]], more: Mapping[int, Mapping[str, object]]) -> None:
    for interval, values in more.items():
        found[interval].update(values)


def _before(job: Run, checks: Iterable[Check]) -> dict[str, dict[datetime, int]]:
    """For each check of a change the rows of the intervals, computed before this run, in which it held."""
    due = set(_due(job))
    earlier = {interval: entry for interval, entry in job.before.items() if interval not in due}
    return {
        check.id: {interval.start: entry.rows for interval, entry in earlier.items() if check.id not in (*entry.failed, *entry.warned)}
        for check in checks
        if check.change
    }


# ---------------------------------------------------------------------------------------------------------------------- bad rows


def _marked(group: FeatureGroup, staged: DataFrame, checks: Sequence[Check], held: Sequence[Interval]) -> DataFrame:
    """The staged rows with the column `held`, true for the bad rows of intervals that are published without them; these have no values."""
    if not held:
        return staged.withColumn("held", F.lit(False))
    bad = F.expr(f"{_in(held)} AND ({suite.held_row_sql(checks)})")
    outputs = {column: F.when(~F.col("held"), F.col(f"`{column}`")) for column in group.outputs}
    return staged.withColumn("held", bad).withColumns(outputs)


def _bad_rows(staged: DataFrame, checks: Sequence[Check], broken: Mapping[Interval, Sequence[str]]) -> DataFrame | None:
    """The rows that failed one of the checks which their interval did not pass, with the ids of these; None if no row can be to blame.

    A check of a share says nothing against the bad rows of an interval that has few enough of them, any other has none there.
    """
    by_check: dict[str, list[Interval]] = {}
    for interval, ids in broken.items():
        for check_id in ids:
            by_check.setdefault(check_id, []).append(interval)
    failed = [check for check in checks if check.id in by_check and check.of_rows]
    if not failed:
        return None
    only = {check.id: _in(by_check[check.id]) for check in failed if check.at_least_share is not None}
    condition, reasons = suite.bad_row_sql(failed, only=only)
    mine = staged.where(_in(sorted({interval for check in failed for interval in by_check[check.id]})))
    return mine.where(F.expr(condition)).withColumn("_failed", F.expr(reasons)).where(F.size("_failed") > 0)


def _quarantine(job: Run, bad: DataFrame | None) -> None:
    """Keep the bad rows of intervals that are rejected or published without them, each with the checks that it failed."""
    if bad is None:
        return
    frame = bad.select(
        *[f"`{key}`" for key in job.group.entity.keys],
        "event_timestamp",
        *[f"`{column}`" for column in job.group.outputs],
        F.array_join("_failed", ", ").alias("failed_expectation"),
        F.col(START).alias("interval_start"),
        F.lit(job.publish_id).alias("publish_id"),
        F.lit(job.context.clock()).alias("quarantined_at"),
    )
    tables.append(frame, layout.quarantine_table(job.context.lake, job.group.name), commit_id=job.publish_id)


def _in(intervals: Iterable[Interval]) -> str:
    return f"`{START}` IN ({', '.join(tables.timestamp(interval.start) for interval in intervals)})"


# ----------------------------------------------------------------------------------------------------------------------- records


def _keep(lake: str, kind: str, rows: pa.Table) -> None:
    """Put records beside the lake's others: like those they count only if their publish did."""
    delta_commits.append_records(layout.records_table(lake, kind), rows)


def _examples(job: Run, bad: DataFrame | None) -> dict[str, list[dict[str, object]]]:
    """A few bad rows of each check that did not hold."""
    if bad is None:
        return {}
    shown = ["_check", *job.group.entity.keys, "event_timestamp", *job.group.outputs]
    each = bad.limit(_SOUGHT_IN).withColumn("_check", F.explode("_failed"))
    rank = F.row_number().over(Window.partitionBy("_check").orderBy("event_timestamp", *[f"`{key}`" for key in job.group.entity.keys]))
    found: dict[str, list[dict[str, object]]] = {}
    for row in each.withColumn("_rank", rank).where(F.col("_rank") <= _EXAMPLES).select(*[f"`{name}`" for name in shown]).collect():
        values = row.asDict()
        found.setdefault(values.pop("_check"), []).append(values)
    return found


def _report(facts: report.JudgedRun, account: Mapping[str, object], lake: str, *, keep: Kept) -> None:
    """Write the report of this run, and Great Expectations' own account beside it.

    The newest is always there; those of runs in which something did not hold are kept, and the group's suite as it is.
    """
    broken = any(verdict.failed or verdict.held or verdict.warned for verdict in facts.verdicts.values())
    texts = {"html": report.page(facts), "json": json.dumps(account, indent=1, sort_keys=True)}
    for name in ("newest", *((facts.origin.publish_id,) if broken or keep == "always" else ())):
        for kind, text in texts.items():
            storage.write(layout.report_file(lake, facts.group.name, f"{name}.{kind}"), text.encode())
    storage.write(layout.report_file(lake, facts.group.name, "suite.json"), suite.as_json(facts.group).encode())
