"""Ingest of what is read in place: nothing is copied; what changed since the last ingest is found, by date, and becomes revisions."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

import pyarrow as pa
from deltalake.exceptions import DeltaError
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.intervals import ALWAYS, MICROSECOND, Interval, instant, micros, utc_date
from feature_definitions.language import Jdbc, Query, Source
from feature_definitions.layout import COLUMN, CONTENT, DATE, REASON, TIME, VALUE
from feature_definitions.planning import far
from feature_definitions.planning.far import Aside, Bound
from feature_definitions.planning.revisions import rows_by_date
from feature_definitions.records import IngestedFile, Revision
from feature_definitions.sql.data_types import is_array
from feature_definitions.sql.derivations import may_fail_beside
from lake import delta_commits, delta_files, quarantine, versions
from lake.versions import UNSEEN, PinnedVersion
from spark_jobs import tables
from spark_jobs.ingest import events, far_dates, in_place, journal, parsing
from spark_jobs.ingest.derived import lagging, refused_by_previous, with_derived
from spark_jobs.ingest.in_place import TableRefused
from spark_jobs.ingest.journal import Ingest, IngestReport

_ONE = "_hw_one"
_REASONS = 100
"""So many reasons have examples in quarantine."""
_BITS = 2**64


@dataclass(frozen=True, slots=True)
class Content:
    """The rows of a date: how many, a hash of them that does not depend on their order, and the span of their times."""

    rows: int
    hash: str
    span: Interval


class _Outside(NamedTuple):
    """Rows of a date that are not read: how many, and when the first is, in microseconds."""

    rows: int
    first: int


@dataclass(frozen=True, slots=True)
class _Diff:
    """What an ingest sees, by the source that reads the table itself, and what the last one saw; `seal` says both what and how it is read.

    `was` is empty if there was no ingest before, or the definition read differently then.
    """

    now: Mapping[str, PinnedVersion]
    was: Mapping[str, PinnedVersion]
    seal: str
    record: IngestedFile | None
    revisions: tuple[Revision, ...]

    @property
    def is_unchanged(self) -> bool:
        """Whether there are surely the rows that the last ingest saw; of a table without versions nobody can tell."""
        return self.is_recorded and all(pin.version is not None for pin in self.now.values())

    @property
    def is_recorded(self) -> bool:
        """Whether the last ingest saw the same."""
        return self.record is not None and self.record.sha256 == self.seal


@dataclass(frozen=True, slots=True)
class _Seen:
    """The content of each date that is read, what lies aside because of its date, and the time of the first row beyond what is read."""

    content: Mapping[date, Content]
    aside: Aside
    beyond: int | None

    def pin(self, source: Source, now: Mapping[str, PinnedVersion]) -> dict[str, PinnedVersion]:
        """The source's own pin, with what is read of its rows."""
        read, name = self.aside.read, source.name
        pin = now.get(name, PinnedVersion(name, "", None, UNSEEN))
        before = any(day < utc_date(read.first) or read.cuts(day) for day in self.aside.rows)
        own = replace(pin, first=micros(read.first) if before else None, last=self.beyond)
        return {name: own} if name in now or own.first is not None or own.last is not None else {}


def ingest(job: Ingest) -> IngestReport:
    """Compare what a source reads with what the last ingest saw, record the dates that changed, and let readers read what is seen now.

    A crash leaves readers with the state before, or with this one and its revisions; the next ingest compares again.
    """
    diff = _diff(job)
    if diff.is_unchanged and not job.again and not _are_due(job, diff):
        return IngestReport(job.source.name)
    job.context.say(f"comparing {job.source.name} with its last ingest")
    before = quarantine.rows_of_source(job.source.name, lake=job.context.lake)
    times = None if before else _may_differ(job.source, diff, job.context.lake)
    rows = events.lying_in_place(job.source, job.context, diff.now).where(_at(times))
    known = [revision for revision in diff.revisions if times is None or _holds(times, revision.date)]
    unseen = rows_by_date(revision for revision in diff.revisions if revision not in known)
    seen = _seen(job, in_place.holding(rows, job.source), unseen)
    diff, content, aside = replace(diff, now={**diff.now, **seen.pin(job.source, diff.now)}), seen.content, seen.aside.rows
    judged = _judged(rows, job.source, seen.aside.read)
    wrong = _refused(judged)
    refused, told = wrong | seen.aside.summary, wrong | {reason: aside[day] for day, reason in seen.aside.reasons.items()}
    revisions = _revisions(job, diff, content, [r for r in diff.revisions if r in known or r.date in aside])
    total = sum(of.rows for of in content.values()) + sum(n for day, n in unseen.items() if day not in aside)
    found = IngestedFile(job.source.name, versions.place_named(job.source), diff.seal, total, sum(refused.values()), job.ingest_id)
    if refused or before:
        _put_aside(_told(judged, seen.aside), told, job)
    moved = _times_read(job.source, diff.now) != _times_read(job.source, diff.was)
    if revisions or job.again or moved or not diff.is_recorded:
        journal.record(job, [found], revisions, lambda: _keep(job, diff))
    number = revisions[0].revision if revisions else None
    return IngestReport(job.source.name, 1, total, found.quarantined, refused, len(revisions), number, in_place=True)


def _times_read(source: Source, pins: Mapping[str, PinnedVersion]) -> tuple[int | None, int | None]:
    pin = pins.get(source.name)
    return (None, None) if pin is None else (pin.first, pin.last)


def _are_due(job: Ingest, diff: _Diff) -> bool:
    """Whether the time has come of rows that were put aside because it had not."""
    beyond = _times_read(job.source, diff.was)[1]
    return job.source.until is None and beyond is not None and beyond < micros(far.outer(job.source, now=job.now).last)


def _seen(job: Ingest, rows: DataFrame, unseen: Mapping[date, int]) -> _Seen:
    """What a source holds, beside the rows of dates that are not looked at."""
    around = far.outer(job.source, now=job.now)
    content, outside = _content(rows, job.source, around)
    split = far_dates.split(job, {**{day: of.rows for day, of in content.items()}, **unseen}, {day: of.rows for day, of in outside.items()})
    aside = split.of(job)
    if job.source.lag and aside.rows:
        content, _ = _content(rows.where(far_dates.is_inside(split.read)), job.source, split.read)
    beyond = [of.first for day, of in outside.items() if day >= utc_date(around.last)]
    return _Seen({day: of for day, of in content.items() if day not in split.before}, aside, min(beyond, default=None))


def _keep(job: Ingest, diff: _Diff) -> None:
    versions.keep(job.source, diff.now.values(), job.context.lake, commit_id=job.ingest_id, fence=job.context.registry.fence)


def _diff(job: Ingest) -> _Diff:
    source, context = job.source, job.context
    now = {pin.source: pin for pin in in_place.state(source, context)}
    seal, record = _seal(source, now.values()), context.registry.files(source.name).get(versions.place_named(source))
    alike = record is not None and record.sha256.rpartition(":")[2] == seal.rpartition(":")[2]
    return _Diff(now, versions.pinned(source, context.lake) if alike else {}, seal, record, context.registry.revisions(source.name))


def _seal(source: Source, found: Iterable[PinnedVersion]) -> str:
    """What is seen, and how it is read: hashes of the tables' ids and versions, and of what the source says of them."""
    states = sorted((pin.source, pin.place, pin.table_id, pin.version, *([pin.first, pin.last] if pin.is_cut else [])) for pin in found)
    return ":".join(hashlib.sha256(repr(part).encode()).hexdigest()[:32] for part in (states, _reading(source)))


def _reading(source: Source) -> tuple[object, ...]:
    shape, derived = parsing.shape(source, "in place"), dict(source.derive) if source.lag or isinstance(source.at, Query) else {}
    match source.at:
        case Query(sql=sql, sources=sources):
            inner: tuple[object, ...] = (sql, *map(_reading, sources))
        case Jdbc(query=sql, connection=connection):
            inner = (sql, connection)
        case _:
            inner = ()
    bounds = (source.since, source.until) if source.since or source.until else ()
    return (repr(shape), source.event_timestamp, derived, source.lag_over, source.lag_within, inner, *bounds)


def _may_differ(source: Source, diff: _Diff, lake: str) -> tuple[Interval, ...] | None:
    """The dates of which alone a table's log says that rows may have come or gone since the last ingest; None: any.

    The log speaks of files, so this holds where rows stand alone: without ids, and without what is derived from the row before.
    """
    now, was = diff.now.get(source.name), diff.was.get(source.name)
    alone = not (source.id or source.lag or isinstance(source.at, Query)) and source.event_timestamp is not None
    alone = alone and not (was is not None and was.is_cut)
    if not alone or now is None or was is None or now.is_remote or was.is_remote or now.table_id != was.table_id:
        return None
    try:
        return delta_files.times_changed(
            now.path(lake), since=was.version, version=now.version, time=str(source.written[str(source.event_timestamp)].name)
        )
    except (DeltaError, ValueError, OverflowError):  # a log that was cleaned up, a time that no datetime can hold
        return None


def _at(times: tuple[Interval, ...] | None) -> Column:
    """Rows of these times, and those without: what is wrong with them is told."""
    inside = "true" if times is None else f"{tables.within(TIME, times, after_start=False)} OR `{TIME}` IS NULL"
    return F.expr(inside)


def _holds(times: Iterable[Interval], day: date) -> bool:
    return any(span.start.date() <= day < span.end.date() for span in times)


def _judged(rows: DataFrame, source: Source, read: Bound) -> DataFrame:
    """The rows, and once more those that are not read because they fail with the row before, with that as their reason."""
    if not may_fail_beside(source):
        return rows
    live = in_place.holding(rows, source).where(far_dates.is_inside(read))
    return rows.unionByName(refused_by_previous(live, source, time=TIME))


def _refused(rows: DataFrame) -> dict[str, int]:
    """How many rows are not read, by the reason without the value that it quotes."""
    kind = F.regexp_replace(REASON, "(?s)^([^:']*:) '.*' ", "$1 ").alias(REASON)
    found = rows.where(F.col(REASON).isNotNull()).groupBy(kind).count().collect()
    return {row[REASON]: row["count"] for row in sorted(found, key=lambda row: (-row["count"], row[REASON]))}


def _told(rows: DataFrame, aside: Aside) -> DataFrame:
    """The rows with the reasons of those that lie aside because of their dates."""
    if not aside.rows:
        return rows
    reasons = rows.sparkSession.createDataFrame(list(aside.reasons.items()), f"{DATE} date, _hw_far string")
    far_away = F.col(REASON).isNull() & ~far_dates.is_inside(aside.read)
    beside = {REASON: F.col("_hw_far"), COLUMN: F.lit(aside.source.event_timestamp), VALUE: F.col(TIME).cast("string")}
    lacking = rows.withColumns({name: F.lit(None).cast("string") for name in beside if name not in rows.columns})
    joined = lacking.join(F.broadcast(reasons), on=DATE, how="left")
    return joined.withColumns({name: F.when(far_away, value).otherwise(F.col(name)) for name, value in beside.items()})


def _put_aside(rows: DataFrame, refused: Mapping[str, int], job: Ingest) -> None:
    """Keep a few examples of the rows that are not read, in the place of those of the last ingest, each with how many there are."""
    order = [f"`{name}`" for name, kind in job.source.columns.items() if not is_array(kind)]
    place = F.row_number().over(Window.partitionBy(REASON).orderBy(*order))
    mine = rows.where(F.col(REASON).isin(list(refused)[:_REASONS])).withColumn("_hw_place", place)
    some = mine.where(f"_hw_place <= {quarantine.EXAMPLES}")
    own = {"file": F.lit(versions.place_named(job.source)), "line": F.lit(None).cast("bigint"), "reason": F.col(REASON)}
    at_fault = {"column": COLUMN, "value": VALUE}
    own |= {name: F.col(of) if of in rows.columns else F.lit(None).cast("string") for name, of in at_fault.items()}
    texts = {quarantine.beside(name): F.col(f"`{name}`").cast("string") for name in job.source.columns}
    found = some.select(*[value.alias(name) for name, value in (own | texts).items()], F.lit(job.now).alias("quarantined_at")).toArrow()
    counted = found.append_column("rows", pa.array([refused[reason] for reason in found.column("reason").to_pylist()], pa.int64()))
    path, fence = layout.quarantine_table(job.context.lake, job.source.name), job.context.registry.fence
    delta_commits.replace_records(path, counted, commit_id=job.ingest_id, fence=fence)


def _content(rows: DataFrame, source: Source, around: Bound) -> tuple[dict[date, Content], dict[date, _Outside]]:
    """What a source holds within and outside of a bound, by date.

    One pass; nothing is sorted unless rows have ids or read the one before.
    """
    at, timeless = F.col(TIME), source.event_timestamp is None
    within = F.lit(timeless) | ((at >= micros(around.first)) & (at < micros(around.last)))
    found = (
        _hashed(rows, source)
        .groupBy(DATE, within.alias("within"))
        .agg(F.count(F.lit(1)).alias("n"), F.sum(CONTENT).alias("sum"), F.min(TIME).alias("first"), F.max(TIME).alias("last"))
        .collect()
    )
    inside = {row[DATE]: Content(row["n"], _hash(row["sum"]), _span(source, row)) for row in found if row["within"]}
    return inside, {row[DATE]: _Outside(row["n"], row["first"]) for row in found if not row["within"]}


def _hashed(rows: DataFrame, source: Source) -> DataFrame:
    """Each row's date, time and hash; what it derives from the row before is part of it."""
    if source.lag:
        rows = with_derived(rows, source, time=TIME)
    content = tables.fingerprint_of([*source.columns, *sorted(lagging(source))])
    return rows.select(DATE, F.unix_micros(TIME).alias(TIME), content.cast("decimal(20,0)").alias(CONTENT))


def _revisions(job: Ingest, diff: _Diff, content: Mapping[date, Content], known: Sequence[Revision]) -> tuple[Revision, ...]:
    """One revision for each date whose rows are not those of its last one."""
    days = _other_dates(content, known)
    altered, number = _altered(job, diff, days), job.context.registry.next_revision(job.source.name)
    spans = {day: altered.get(day) or _whole(day, content.get(day), known) for day in days}
    return tuple(
        Revision(
            job.source.name, number, day, spans[day].start, spans[day].end, *_state(content.get(day)), job.now, _earliest(content.get(day))
        )
        for day in days
    )


def _altered(job: Ingest, diff: _Diff, days: Sequence[date]) -> dict[date, Interval]:
    """From the first to the last row that is another one than at the last ingest, by date; nothing where that cannot be read any more."""
    if not days or not diff.was or any(pin.version is None for pin in (*diff.was.values(), *diff.now.values())):
        return {}
    try:
        was, now = (_hashed_of(days, state, job) for state in (diff.was, diff.now))
    except TableRefused:
        return {}
    both = was.withColumn(_ONE, F.lit(-1)).union(now.withColumn(_ONE, F.lit(1)))
    other = both.groupBy(DATE, TIME, CONTENT).agg(F.sum(_ONE).alias(_ONE)).where(f"{_ONE} <> 0")
    spans = other.groupBy(DATE).agg(F.min(TIME).alias("first"), F.max(TIME).alias("last")).collect()
    return {row[DATE]: _span(job.source, row) for row in spans}


def _hashed_of(days: Sequence[date], state: Mapping[str, PinnedVersion], job: Ingest) -> DataFrame:
    """The hashes of the rows of some days, as a state of the table has them; of rows with ids only those are compared that share one."""
    source = job.source
    rows = events.lying_in_place(source, job.context, state)
    if source.id and not source.lag:
        on_days = rows.where(tables.in_dates(DATE, days)).where(events.times_of(source, days))
        rows = rows.join(on_days.select(*[f"`{name}`" for name in source.id]).distinct(), on=list(source.id), how="left_semi")
    live = events.read_of(in_place.holding(rows, source), state.get(source.name))
    near = live if source.lag else live.where(events.times_of(source, days))
    return _hashed(near, source).where(tables.in_dates(DATE, days))


def _hash(total: Decimal) -> str:
    return f"{int(total) % _BITS:016X}"


def _span(source: Source, row: Row) -> Interval:
    return ALWAYS if source.shape == "static" else Interval(instant(row["first"]), instant(row["last"]) + MICROSECOND)


def _other_dates(content: Mapping[date, Content], known: Sequence[Revision]) -> list[date]:
    """The dates whose rows are not those of their last revision."""
    last = {revision.date: revision for revision in known}
    return [day for day in sorted(content.keys() | last.keys()) if _state(content.get(day)) != _state(last.get(day))]


def _state(of: Content | Revision | None) -> tuple[str, int]:
    """The hash and the number of a date's rows."""
    match of:
        case Content(rows=rows, hash=content) | Revision(rows=rows, content_hash=content) if rows:
            return content, rows
    return _hash(Decimal(0)), 0


def _earliest(of: Content | None) -> datetime | None:
    return None if of is None else of.span.start


def _whole(day: date, content: Content | None, known: Sequence[Revision]) -> Interval:
    """The span of all that a date holds and ever held."""
    spans = [Interval(r.first, r.end) for r in known if r.date == day] + ([content.span] if content else [])
    return Interval(min(span.start for span in spans), max(span.end for span in spans))
