"""Carries out a group's plan: compute into staging, judge, publish. Readers see an interval as it was or as it should be, never half."""

import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from expectations import suite
from expectations.suite import Check, Verdict
from feature_definitions import expressions, fingerprint, layout
from feature_definitions.intervals import Interval, iso, merge, micros
from feature_definitions.model import FeatureGroup
from feature_definitions.plan import GroupPlan
from feature_definitions.records import LedgerEntry
from feature_registry.registry import Registry
from spark_jobs import publish, sources, tables, windows
from spark_jobs.publish import Offline, Run
from spark_jobs.staging import staging
from spark_jobs.windows import START, Meaning

Judge = Callable[[pd.DataFrame, Sequence[Check]], Mapping[str, Verdict]]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What a run did to a group; `rejected` are the intervals that stay invisible, with the checks that failed."""

    group: str
    generation: int
    published: int = 0
    rejected: tuple[tuple[Interval, tuple[str, ...]], ...] = ()
    rows: int = 0
    publish_id: str | None = None
    seconds: float = 0.0


def run(work: GroupPlan, *, offline: Offline, meaning: Meaning, judge: Judge, say: Say) -> GroupResult:
    """Compute, judge and publish the intervals that are due; an empty plan does nothing.

    Raises Moved if another run published the same intervals meanwhile. A crash at any point leaves readers with what they had.
    """
    if not work.due:
        return GroupResult(work.group.name, work.generation)
    started = time.monotonic()
    now = offline.clock()
    before = offline.registry.ledger(work.group.name, work.generation)
    revision = max((r.revision for r in offline.registry.revisions(work.group.source.name)), default=0)
    job = Run(work, meaning, mint(now), revision, before)
    with staging(offline.lake, job.publish_id):
        say(f"computing {len(work.due)} intervals")
        staged = _compute(job, offline)
        say("judging")
        profile = _profile(job, staged)
        verdicts = _judged(job, profile, judge)
        _quarantine(job, staged, {i: v for i, v in verdicts.items() if v.failed}, offline)
        say("publishing")
        entries = _entries(job, verdicts, profile, time.monotonic() - started, offline.clock())
        publish.publish(job, staged, entries, offline)
    return _result(job, entries, time.monotonic() - started)


def mint(now: datetime) -> str:
    """A new publish_id: ids sort by the time at which they were minted."""
    return f"p{micros(now):017d}-{secrets.token_hex(3)}"


def recover(group: FeatureGroup, *, lake: str, registry: Registry) -> None:
    """Finish the publishes whose commit happened before a crash, and forget those whose commit did not."""
    for pending in registry.pending_publishes(group.name):
        table = layout.feature_table(lake, group.name, pending.generation)
        if pending.commits and tables.committed(table, pending.publish_id):
            version, at = tables.commit_of(table, pending.publish_id)
            registry.finish_publish(pending.publish_id, committed_at=at, delta_version=version)
        else:
            registry.abandon(pending.publish_id)
        shutil.rmtree(layout.staging_folder(lake, pending.publish_id), ignore_errors=True)


# ---------------------------------------------------------------------------------------------------------------------- compute


def _compute(job: Run, offline: Offline) -> DataFrame:
    spans = merge(s.interval for s in job.work.due)
    events = sources.events(offline.spark, job.group.source, offline.lake)
    rows = windows.rows(job.group, events, spans=spans, meaning=job.meaning)
    return tables.stage(rows, f"{layout.staging_folder(offline.lake, job.publish_id)}/rows")


# --------------------------------------------------------------------------------------------------------------------- validate


def _profile(job: Run, staged: DataFrame) -> pd.DataFrame:
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


def _judged(job: Run, profile: pd.DataFrame, judge: Judge) -> dict[Interval, Verdict]:
    verdicts = judge(profile, _checks(job.group))
    return {s.interval: verdicts[iso(s.interval.start)] for s in job.work.due}


def _checks(group: FeatureGroup) -> tuple[Check, ...]:
    return suite.checks(group, rewrite=expressions.spark_sql)


def _quarantine(job: Run, staged: DataFrame, rejected: Mapping[Interval, Verdict], offline: Offline) -> None:
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


def _entries(
    job: Run, verdicts: Mapping[Interval, Verdict], profile: pd.DataFrame, seconds: float, now: datetime
) -> tuple[LedgerEntry, ...]:
    features, gate = fingerprint.columns(job.group), fingerprint.gate(job.group)
    counts = dict(zip(verdicts, profile["rows"], strict=True))
    return tuple(
        LedgerEntry(
            group=job.group.name,
            generation=job.work.generation,
            interval=interval,
            state="REJECTED" if verdict.failed else "PUBLISHED",
            publish_id=job.publish_id,
            features=features,
            gate=gate,
            revision=job.revision,
            rows=int(counts[interval]),
            delta_version=None,
            failed=verdict.failed,
            warned=verdict.warned,
            run_id=job.publish_id,
            seconds=seconds / len(verdicts),
            recorded_at=now,
        )
        for interval, verdict in verdicts.items()
    )


def _result(job: Run, entries: Sequence[LedgerEntry], seconds: float) -> GroupResult:
    rejected = tuple((e.interval, e.failed) for e in entries if e.state == "REJECTED")
    rows = sum(e.rows for e in entries if e.state == "PUBLISHED")
    return GroupResult(job.group.name, job.work.generation, len(entries) - len(rejected), rejected, rows, job.publish_id, seconds)
