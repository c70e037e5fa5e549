"""Carries out a group's plan: compute into staging, judge, publish. Readers see an interval as it was or as it should be, never half.

The order of a publish makes every crash repairable: the registry notes the intent, the lake's records follow, replaced rows go to history,
then one Delta commit, which carries the publish_id, makes the rows visible; last the registry confirms. `recover` finishes or forgets
what a crash cut off, by asking the table's log whether the commit happened.
"""

import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from expectations import suite
from feature_definitions import fingerprint, layout, plan
from feature_definitions.intervals import MICROSECOND, Interval, iso, merge, micros
from feature_definitions.model import FeatureGroup, ObservationGroup, SnapshotGroup, WindowedGroup
from feature_definitions.plan import GroupPlan, IntervalStatus
from feature_definitions.records import LedgerEntry, Publish
from feature_registry.registry import PendingPublish, Registry
from spark_jobs import sources, tables, windows
from spark_jobs.windows import START, Meaning


@dataclass(frozen=True, slots=True)
class Offline:
    """What the offline stages work with: Spark, the lake, the registry, and how time is told."""

    spark: SparkSession
    lake: str
    registry: Registry
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate said of one interval: the critical checks that failed, and the others."""

    failed: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What a run did to a group."""

    group: str
    generation: int
    published: int
    rejected: tuple[tuple[Interval, tuple[str, ...]], ...]
    rows: int
    publish_id: str | None
    seconds: float


Judge = Callable[[pd.DataFrame, Sequence[suite.Check]], Mapping[str, Verdict]]


class Moved(RuntimeError):
    """Another run published the same intervals since this one began; its rows stay, and these are dropped."""


def run(work: GroupPlan, *, offline: Offline, meaning: Meaning, judge: Judge, run_id: str, say: Callable[[str], None]) -> GroupResult:
    """Compute, judge and publish the intervals that are due; an empty plan does nothing."""
    started = time.monotonic()
    group = work.group
    if not work.due:
        return GroupResult(group.name, work.generation, 0, (), 0, None, 0.0)
    publish_id = mint(offline.clock())
    staging = layout.staging_folder(offline.lake, publish_id)
    before = offline.registry.ledger(group.name, work.generation)
    revision = max((r.revision for r in offline.registry.revisions(group.source.name)), default=0)
    try:
        say(f"computing {len(work.due)} intervals")
        staged = _compute(work, offline, meaning, f"{staging}/rows")
        say("judging")
        verdicts, counts = _validate(work, staged, offline, meaning, judge, publish_id)
        entries = _entries(work, verdicts, counts, publish_id, revision, run_id, time.monotonic() - started, offline.clock())
        say("publishing")
        with offline.registry.lease(f"group {group.name}", now=offline.clock()):
            _refuse_if_moved(work, before, offline)
            _publish(work, staged, entries, before, offline, meaning, publish_id)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    rejected = tuple((e.interval, e.failed) for e in entries if e.state == "REJECTED")
    rows = sum(e.rows for e in entries if e.state == "PUBLISHED")
    return GroupResult(group.name, work.generation, len(entries) - len(rejected), rejected, rows, publish_id, time.monotonic() - started)


def mint(now: datetime) -> str:
    """A new publish_id: ids sort by the time at which they were minted."""
    return f"p{micros(now):017d}-{secrets.token_hex(3)}"


def recover(group: FeatureGroup, *, lake: str, registry: Registry) -> None:
    """Finish the publishes whose commit happened before a crash, and forget those whose commit did not."""
    for pending in registry.pending_publishes(group.name):
        table = layout.feature_table(lake, group.name, pending.generation)
        if not pending.commits:
            registry.abandon(pending.publish_id)
        elif tables.committed(table, pending.publish_id):
            version, at = tables.commit_of(table, pending.publish_id)
            registry.finish_publish(pending.publish_id, committed_at=at, delta_version=version)
        else:
            registry.abandon(pending.publish_id)
        shutil.rmtree(layout.staging_folder(lake, pending.publish_id), ignore_errors=True)


# ---------------------------------------------------------------------------------------------------------------------- compute


def _compute(work: GroupPlan, offline: Offline, meaning: Meaning, path: str) -> DataFrame:
    spans = merge(s.interval for s in work.due)
    events = sources.events(offline.spark, work.group.source, offline.lake)
    return tables.stage(windows.rows(work.group, events, spans=spans, meaning=meaning), path)


# --------------------------------------------------------------------------------------------------------------------- validate


def _validate(
    work: GroupPlan, staged: DataFrame, offline: Offline, meaning: Meaning, judge: Judge, publish_id: str
) -> tuple[dict[Interval, Verdict], dict[Interval, int]]:
    """Each interval's verdict and rows: one Spark aggregate measures, Great Expectations judges, bad rows of rejected ones are kept."""
    checks = suite.checks(work.group)
    profile = _profile(work, staged, checks)
    judged = judge(profile, checks)
    verdicts = {s.interval: judged[iso(s.interval.start)] for s in work.due}
    counts = dict(zip((s.interval for s in work.due), (int(n) for n in profile["rows"]), strict=True))
    rejected = [interval for interval, verdict in verdicts.items() if verdict.failed]
    if rejected:
        _quarantine(work.group, staged, checks, {i: verdicts[i] for i in rejected}, offline, publish_id)
    return verdicts, counts


def _profile(work: GroupPlan, staged: DataFrame, checks: Sequence[suite.Check]) -> pd.DataFrame:
    """One row per interval that is due: `interval`, `rows`, and each check's number of bad rows; zeros for an interval without rows."""
    measures = [F.expr(sql).alias(name) for name, sql in suite.measures(checks)]
    measured = staged.groupBy(F.unix_micros(START).alias("interval")).agg(F.count(F.lit(1)).alias("rows"), *measures)
    found = {row["interval"]: row.asDict() for row in measured.collect()}
    names = ["rows", *(name for name, _ in suite.measures(checks))]
    listed = []
    for status in work.due:
        row = found.get(micros(status.interval.start), {})
        listed.append({"interval": iso(status.interval.start), **{name: int(row.get(name) or 0) for name in names}})
    return pd.DataFrame(listed, columns=["interval", *names])


def _quarantine(
    group: FeatureGroup,
    staged: DataFrame,
    checks: Sequence[suite.Check],
    rejected: Mapping[Interval, Verdict],
    offline: Offline,
    publish_id: str,
) -> None:
    failed = sorted({name for verdict in rejected.values() for name in verdict.failed})
    condition, reasons = suite.bad_row_sql(checks, failed)
    starts = [micros(interval.start) for interval in rejected]
    bad = staged.where(F.unix_micros(START).isin(starts)).where(F.expr(condition))
    path = layout.quarantine_table(offline.lake, group.name)
    frame = bad.select(
        *[f"`{key}`" for key in group.entity.keys],
        "event_timestamp",
        *[f"`{column}`" for column in group.outputs],
        F.array_join(F.expr(reasons), ", ").alias("failed_expectation"),
        F.col(START).alias("interval_start"),
        F.lit(publish_id).alias("publish_id"),
        F.lit(offline.clock()).alias("quarantined_at"),
    )
    tables.append(frame, path, commit_id=publish_id)


def _entries(
    work: GroupPlan,
    verdicts: Mapping[Interval, Verdict],
    counts: Mapping[Interval, int],
    publish_id: str,
    revision: int,
    run_id: str,
    seconds: float,
    now: datetime,
) -> tuple[LedgerEntry, ...]:
    features, gate = fingerprint.columns(work.group), fingerprint.gate(work.group)
    share = seconds / len(work.due)
    return tuple(
        LedgerEntry(
            group=work.group.name, generation=work.generation, interval=interval, state="REJECTED" if verdict.failed else "PUBLISHED",
            publish_id=publish_id, features=features, gate=gate, revision=revision, rows=counts[interval], delta_version=None,
            failed=verdict.failed, warned=verdict.warned, run_id=run_id, seconds=share, recorded_at=now,
        )
        for interval, verdict in verdicts.items()
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------- publish


def _refuse_if_moved(work: GroupPlan, before: Mapping[Interval, LedgerEntry], offline: Offline) -> None:
    now = offline.registry.ledger(work.group.name, work.generation)
    for status in work.due:
        seen, found = before.get(status.interval), now.get(status.interval)
        if (seen and seen.publish_id) != (found and found.publish_id):
            raise Moved(f"{work.group.name} {status.interval} was published by another run meanwhile; run the same command again")


def _publish(
    work: GroupPlan,
    staged: DataFrame,
    entries: Sequence[LedgerEntry],
    before: Mapping[Interval, LedgerEntry],
    offline: Offline,
    meaning: Meaning,
    publish_id: str,
) -> None:
    passed = [e for e in entries if e.state == "PUBLISHED"]
    commits = any(e.rows for e in passed) or any(e.interval in before for e in passed)
    pending = _pending(work, entries, before, offline, publish_id, commits=commits)
    offline.registry.begin_publish(pending)
    _copy_records(pending, offline.lake)
    version = None
    if commits:
        _commit(work, staged, passed, before, offline, meaning, publish_id)
        version, _ = tables.commit_of(layout.feature_table(offline.lake, work.group.name, work.generation), publish_id)
    offline.registry.finish_publish(publish_id, committed_at=offline.clock(), delta_version=version)


def _pending(
    work: GroupPlan,
    entries: Sequence[LedgerEntry],
    before: Mapping[Interval, LedgerEntry],
    offline: Offline,
    publish_id: str,
    *,
    commits: bool,
) -> PendingPublish:
    generations = offline.registry.generations(work.group.name)
    generation = next((g for g in generations if g.number == work.generation), None)
    known = {p.interval for p in offline.registry.publishes(work.group.name, work.generation)}
    publishes = []
    for entry in entries:
        if entry.state == "PUBLISHED":
            basis = plan.basis(generation, entry.interval, published_before=entry.interval in known)
            since = plan.modelled_from(work.group, entry.interval) if basis == "MODELLED" else offline.clock()
            publishes.append(Publish(publish_id, work.group.name, work.generation, entry.interval, since, basis))
    features = fingerprint.columns(work.group)
    return PendingPublish(publish_id, work.group.name, work.generation, features, tuple(entries), tuple(publishes), commits=commits)


def _commit(
    work: GroupPlan,
    staged: DataFrame,
    passed: Sequence[LedgerEntry],
    before: Mapping[Interval, LedgerEntry],
    offline: Offline,
    meaning: Meaning,
    publish_id: str,
) -> None:
    """Make the passed intervals' rows visible in one commit, after keeping what it replaces.

    Also an interval that was never published is replaced, not appended: should the JVM of a killed run still commit, a rerun sets it right.
    """
    table = layout.feature_table(offline.lake, work.group.name, work.generation)
    spans = merge(e.interval for e in passed)
    new = _new_rows(work, staged, spans, offline, publish_id)
    replaced = [e.interval for e in passed if e.interval in before]
    if not tables.exists(table):
        tables.append(_arranged(new, work, meaning), table, commit_id=publish_id, partition=("date",))
        return
    tables.add_columns(offline.spark, table, [(c, tables.spark_type(meaning.types[c])) for c in work.group.outputs])
    if replaced:
        current = tables.read(offline.spark, table).where(_where(work.group, merge(replaced)))
        kept, history = _merged(work, new, current, before, meaning, publish_id, offline)
        staging = layout.staging_folder(offline.lake, publish_id)
        new = tables.stage(kept, f"{staging}/merged")
        lost = tables.stage(history, f"{staging}/history")
        if not lost.isEmpty():
            tables.append(
                lost, layout.history_table(offline.lake, work.group.name, work.generation), commit_id=publish_id, partition=("date",)
            )
    tables.replace(_arranged(new, work, meaning), table, where=_where(work.group, spans), commit_id=publish_id)


def _new_rows(work: GroupPlan, staged: DataFrame, spans: Sequence[Interval], offline: Offline, publish_id: str) -> DataFrame:
    passed = staged.where(tables.within(START, spans, after_start=False))
    return passed.select(
        *[f"`{key}`" for key in work.group.entity.keys],
        "event_timestamp",
        F.lit(offline.clock()).alias("created_timestamp"),
        F.lit(publish_id).alias("publish_id"),
        "empties_at",
        F.lit(value=False).alias("held"),
        *[f"`{column}`" for column in work.group.outputs],
        F.to_date(START).alias("date"),
    )


def _arranged(rows: DataFrame, work: GroupPlan, meaning: Meaning) -> DataFrame:
    """The rows in the table's column order, one file per date."""
    columns = [F.col(f"`{c}`").cast(tables.spark_type(meaning.types[c])).alias(c) for c in work.group.outputs]
    fixed = ["event_timestamp", "created_timestamp", "publish_id", "empties_at", "held"]
    return rows.select(*[f"`{key}`" for key in work.group.entity.keys], *fixed, *columns, "date").repartition("date")


def _where(group: FeatureGroup, spans: Sequence[Interval]) -> str:
    """The condition that holds for exactly the rows of these intervals, on the partition column too, so that only their files are read."""
    if isinstance(group, SnapshotGroup):
        return "date = DATE'1970-01-01'"
    first, last = spans[0].start.date(), spans[-1].end.date()
    dates = f"date >= DATE'{first.isoformat()}' AND date <= DATE'{last.isoformat()}'"
    return f"{dates} AND {tables.within('event_timestamp', spans, after_start=isinstance(group, WindowedGroup))}"


def _merged(
    work: GroupPlan,
    new: DataFrame,
    current: DataFrame,
    before: Mapping[Interval, LedgerEntry],
    meaning: Meaning,
    publish_id: str,
    offline: Offline,
) -> tuple[DataFrame, DataFrame]:
    """The rows to publish over published ones, and what goes to history.

    A row whose values did not change keeps its publish_id, also when a column was added to it. A row that the new run does not have stays,
    with the empty values, in a windowed group, and is retracted in the others.
    """
    group, keys = work.group, [*work.group.entity.keys, "event_timestamp"]
    old_columns = [c for c in group.outputs if c in current.columns]
    filled = {micros(s.interval.start): before[s.interval].publish_id for s in work.due if _only_fills(s, before)}
    carried = offline.spark.createDataFrame(list(filled.items()), "_start bigint, _carried string")
    old = current.select(
        *[F.col(f"`{c}`").alias(c if c in keys else f"_old_{c}") for c in current.columns], F.lit(value=True).alias("_old")
    )
    both = new.withColumn("_new", F.lit(value=True)).join(old, on=keys, how="full_outer").withColumn("_start", _start(group))
    both = both.join(F.broadcast(carried), on="_start", how="left")
    unmoved = F.col("_carried").isNotNull() | F.col("empties_at").eqNullSafe(F.col("_old_empties_at"))
    same = F.col("_new").isNotNull() & F.col("_old").isNotNull() & unmoved & _compared(group, old_columns, before)
    added = F.when(F.col("_old").isNull(), F.col("_carried"))
    publish = F.when(same, F.col("_old_publish_id")).otherwise(F.coalesce(added, F.lit(publish_id)))
    created = F.when(same, F.col("_old_created_timestamp")).otherwise(F.col("created_timestamp"))
    kept = (
        both.where(F.col("_new").isNotNull())
        .withColumn("publish_id", publish)
        .withColumn("created_timestamp", created)
        .select(*new.columns)
    )
    history = both.where(F.col("_old").isNotNull() & ~same).select(
        *keys, *[F.col(f"_old_{c}").alias(c) for c in current.columns if c not in keys],
        F.lit(publish_id).alias("replaced_by"), F.lit(value=False).alias("retracted"),
    )  # fmt: skip
    gone = both.where(F.col("_new").isNull())
    if isinstance(group, WindowedGroup):
        return _with_emptied(group, kept, gone, new, history, meaning, publish_id, offline)
    tombstones = gone.select(
        *keys, F.lit(offline.clock()).alias("created_timestamp"), F.lit(publish_id).alias("publish_id"),
        F.lit(None).cast("timestamp").alias("empties_at"), F.lit(value=False).alias("held"), F.col("_old_date").alias("date"),
        F.lit(publish_id).alias("replaced_by"), F.lit(value=True).alias("retracted"),
    )  # fmt: skip
    return kept, history.unionByName(tombstones, allowMissingColumns=True)


def _with_emptied(
    group: WindowedGroup,
    kept: DataFrame,
    gone: DataFrame,
    new: DataFrame,
    history: DataFrame,
    meaning: Meaning,
    publish_id: str,
    offline: Offline,
) -> tuple[DataFrame, DataFrame]:
    """Rows whose events were all taken back stay in a windowed group, with the empty values; those that were empty already stay as they are."""
    keys = [*group.entity.keys, "event_timestamp"]
    bare = gone.select(
        *keys, F.col("_old_date").alias("date"), *[F.col(c) for c in gone.columns if c.startswith("_old_") and c != "_old_date"]
    )
    emptied = windows.empty_row(group, bare, meaning=meaning)
    same = F.col("_old_empties_at") <= F.col("event_timestamp")
    rows = (
        emptied.withColumn("publish_id", F.when(same, F.col("_old_publish_id")).otherwise(F.lit(publish_id)))
        .withColumn("created_timestamp", F.when(same, F.col("_old_created_timestamp")).otherwise(F.lit(offline.clock())))
        .withColumn("empties_at", F.when(same, F.col("_old_empties_at")).otherwise(F.col("event_timestamp")))
        .withColumn("held", F.lit(value=False))
        .select(*new.columns)
    )
    closing = gone.where(F.col("_old_empties_at") <= F.col("event_timestamp")).select(*keys)
    return kept.unionByName(rows), history.join(closing, on=keys, how="left_anti")


def _compared(group: FeatureGroup, columns: Sequence[str], before: Mapping[Interval, LedgerEntry]) -> Column:
    """Whether the new row equals the old one in every column that the old run computed."""
    computed = {c for c in columns if any(c in e.features for e in before.values())}
    same = F.lit(value=True)
    for column in columns:
        if column in computed:
            lacking = [micros(i.start) for i, e in before.items() if column not in e.features]
            equal = F.col(f"`{column}`").eqNullSafe(F.col(f"`_old_{column}`"))
            same = same & (equal | _start(group).isin(lacking) if lacking else equal)
    return same


def _only_fills(status: IntervalStatus, before: Mapping[Interval, LedgerEntry]) -> bool:
    return status.status == plan.STALE_CODE and status.interval in before and before[status.interval].state == "PUBLISHED"


def _start(group: FeatureGroup) -> Column:
    """The start of the interval that a row belongs to, in microseconds."""
    at = F.unix_micros("event_timestamp")
    match group:
        case WindowedGroup():
            return at - group.cadence // MICROSECOND
        case ObservationGroup():
            return at - F.pmod(at, F.lit(group.cadence // MICROSECOND))
        case SnapshotGroup():
            return at


# ---------------------------------------------------------------------------------------------------------------------- records


def _copy_records(pending: PendingPublish, lake: str) -> None:
    """Put the records beside the data, before the commit: they count only if it happens (or if none is needed)."""
    ledger = [_ledger_row(entry, commits=pending.commits) for entry in pending.entries]
    tables.append_records(layout.records_table(lake, "ledger"), pa.Table.from_pylist(ledger, schema=_LEDGER))
    if pending.publishes:
        published = [_publish_row(publish, commits=pending.commits) for publish in pending.publishes]
        tables.append_records(layout.records_table(lake, "publishes"), pa.Table.from_pylist(published, schema=_PUBLISHES))


_TIME = pa.timestamp("us", tz="UTC")
_FIXED = [
    ("group", pa.string()),
    ("generation", pa.int64()),
    ("interval_start", _TIME),
    ("interval_end", _TIME),
    ("publish_id", pa.string()),
]
_LEDGER = pa.schema(
    [
        *_FIXED, ("state", pa.string()), ("features", pa.map_(pa.string(), pa.string())), ("gate", pa.string()), ("revision", pa.int64()),
        ("rows", pa.int64()), ("failed", pa.list_(pa.string())), ("warned", pa.list_(pa.string())), ("run_id", pa.string()),
        ("seconds", pa.float64()), ("recorded_at", _TIME), ("commits", pa.bool_()),
    ]
)  # fmt: skip
_PUBLISHES = pa.schema([*_FIXED, ("known_from", _TIME), ("basis", pa.string()), ("commits", pa.bool_())])


def _fixed(record: LedgerEntry | Publish) -> dict[str, object]:
    span = record.interval
    return {
        "group": record.group, "generation": record.generation, "interval_start": span.start, "interval_end": span.end,
        "publish_id": record.publish_id,
    }  # fmt: skip


def _ledger_row(entry: LedgerEntry, *, commits: bool) -> dict[str, object]:
    return _fixed(entry) | {
        "state": entry.state, "features": list(entry.features.items()), "gate": entry.gate, "revision": entry.revision, "rows": entry.rows,
        "failed": list(entry.failed), "warned": list(entry.warned), "run_id": entry.run_id, "seconds": entry.seconds,
        "recorded_at": entry.recorded_at, "commits": commits and entry.state == "PUBLISHED",
    }  # fmt: skip


def _publish_row(publish: Publish, *, commits: bool) -> dict[str, object]:
    return _fixed(publish) | {"known_from": publish.known_from, "basis": publish.basis, "commits": commits}
