"""Ingest of what is read in place: nothing is copied, it is looked at, and the dates whose content is another one become revisions."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from deltalake.exceptions import DeltaError
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.intervals import ALWAYS, MICROSECOND, Interval, instant
from feature_definitions.language import Query, Source
from feature_definitions.layout import CONTENT, DATE, REASON, TIME
from feature_definitions.records import IngestedFile, Revision
from feature_registry.registry import PendingIngest, Registry
from lake import delta, facts, versions
from lake import delta as look_at
from lake.versions import PinnedVersion
from spark_jobs import tables
from spark_jobs.ingest import files, in_place, parsing
from spark_jobs.ingest.derived import lagging, with_derived
from spark_jobs.ingest.files import IngestReport, Job
from spark_jobs.ingest.in_place import TableRefused

_ONE = "_hw_one"
_BITS = 2**64


@dataclass(frozen=True, slots=True)
class Content:
    """The rows of a date: how many, a hash of them that does not depend on their order, and the span of their times."""

    rows: int
    hash: str
    span: Interval


def changed(source: Source, found: Sequence[PinnedVersion], registry: Registry) -> bool:
    """Whether there may be other rows than the last ingest looked at; of a table without versions nobody can tell."""
    known = registry.files(source.name).get(versions.spoken(source))
    return known is None or known.sha256 != seal(source, found) or any(pin.version is None for pin in found)


def seal(source: Source, found: Iterable[PinnedVersion]) -> str:
    """What was looked at, and how it is read: hashes of the tables' ids and versions, and of what the source says of them."""
    states = sorted((pin.source, pin.place, pin.table_id, pin.version) for pin in found)
    return ":".join(hashlib.sha256(repr(part).encode()).hexdigest()[:32] for part in (states, _reading(source)))


def _reading(source: Source) -> tuple[object, ...]:
    shape, derived = parsing.shape(source, "in place"), dict(source.derive) if source.lag or isinstance(source.at, Query) else {}
    inner = (source.at.sql, *map(_reading, source.at.sources)) if isinstance(source.at, Query) else ()
    return (repr(shape), source.event_timestamp, derived, source.lag_over, source.lag_within, inner)


def look(source: Source, found: Sequence[PinnedVersion], job: Job) -> IngestReport:
    """Look at a source in the state of these pins, record the dates that changed, and let readers read that state.

    A crash leaves readers with the state before, or with this one and its revisions; the next ingest looks again.
    """
    before, lake = _before(source, found, job), job.context.lake
    times = _may_differ(source, found, before, lake)
    rows = files.judged(job.context.spark, source, lake, _by_source(found)).where(_at(times))
    content, reasons = _content(files.live(rows, source), source), _refused(rows)
    known = [revision for revision in before.revisions if times is None or _holds(times, revision.date)]
    days = _other_dates(content, known)
    altered = _altered(source, found, before, days, job)
    number = job.context.registry.next_revision(source.name)
    spans = {day: altered.get(day) or _whole(day, content.get(day), known) for day in days}
    revisions = tuple(
        Revision(source.name, number, day, spans[day].start, spans[day].end, *_state(content.get(day)), job.now) for day in days
    )
    rest = {revision.date: revision.rows for revision in before.revisions if revision not in known}
    total = sum(of.rows for of in content.values()) + sum(rest.values())
    record = IngestedFile(source.name, versions.spoken(source), seal(source, found), total, sum(reasons.values()), job.ingest_id)
    if revisions or before.record is None or before.record.sha256 != record.sha256:
        _record(source, found, record, revisions, job)
    return IngestReport(source.name, 1, total, record.quarantined, reasons, len(days), number if days else None, (), in_place=True)


def _record(source: Source, found: Sequence[PinnedVersion], record: IngestedFile, revisions: tuple[Revision, ...], job: Job) -> None:
    lake = job.context.lake
    job.context.registry.begin_ingest(PendingIngest(job.ingest_id, source.name, (record,), revisions, commits=True))
    if revisions:
        delta.append_records(layout.records_table(lake, "revisions"), files.revision_rows(revisions, job.ingest_id))
    facts.keep_files(lake, (record,), commits=True)
    in_place.keep(source, found, lake, commit_id=job.ingest_id)
    job.context.registry.finish_ingest(job.ingest_id)


@dataclass(frozen=True, slots=True)
class _Before:
    """What the looks before found; `pins` are those of the last one, if the definition read then as it does now."""

    record: IngestedFile | None
    revisions: tuple[Revision, ...]
    pins: Mapping[str, PinnedVersion]


def _before(source: Source, found: Sequence[PinnedVersion], job: Job) -> _Before:
    record = job.context.registry.files(source.name).get(versions.spoken(source))
    alike = record is not None and record.sha256.rpartition(":")[2] == seal(source, found).rpartition(":")[2]
    return _Before(record, job.context.registry.revisions(source.name), versions.pinned(source, job.context.lake) if alike else {})


def _by_source(found: Iterable[PinnedVersion]) -> dict[str, PinnedVersion]:
    return {pin.source: pin for pin in found}


def _may_differ(source: Source, found: Sequence[PinnedVersion], before: _Before, lake: str) -> tuple[Interval, ...] | None:
    """The dates of which alone a table's log says that rows may have come or gone since the last look; None: any.

    The log speaks of files, so this holds where rows stand alone: without ids, and without what is derived from the row before.
    """
    now, was = _by_source(found).get(source.name), before.pins.get(source.name)
    alone = not (source.id or source.lag or isinstance(source.at, Query)) and source.event_timestamp is not None
    if not alone or now is None or was is None or now.is_remote or was.is_remote or now.table_id != was.table_id:
        return None
    try:
        return look_at.times_changed(now.path(lake), since=was.version, version=now.version, time=str(source.event_timestamp))
    except (DeltaError, ValueError, OverflowError):  # a log that was cleaned up, a time that no datetime can hold
        return None


def _at(times: tuple[Interval, ...] | None) -> Column:
    """Rows of these times, and those without: what is wrong with them is told."""
    inside = "true" if times is None else f"{tables.within(TIME, times, after_start=False)} OR `{TIME}` IS NULL"
    return F.expr(inside)


def _holds(times: Iterable[Interval], day: date) -> bool:
    return any(span.start.date() <= day < span.end.date() for span in times)


def _refused(rows: DataFrame) -> dict[str, int]:
    """How many rows are not read, by the reason."""
    found = rows.where(F.col(REASON).isNotNull()).groupBy(REASON).count().collect()
    return {row[REASON]: row["count"] for row in sorted(found, key=lambda row: (-row["count"], row[REASON]))}


def _content(rows: DataFrame, source: Source) -> dict[date, Content]:
    """What a source holds, by date: one pass, nothing is sorted unless rows have ids or read the one before."""
    found = (
        _hashed(rows, source)
        .groupBy(DATE)
        .agg(F.count(F.lit(1)).alias("n"), F.sum(CONTENT).alias("sum"), F.min(TIME).alias("first"), F.max(TIME).alias("last"))
    )
    return {row[DATE]: Content(row["n"], _hash(row["sum"]), _span(source, row)) for row in found.collect()}


def _hashed(rows: DataFrame, source: Source) -> DataFrame:
    """Each row's date, time and hash; what it derives from the row before is part of it."""
    if source.lag:
        rows = with_derived(rows, source, time=TIME)
    content = tables.fingerprint_of([*source.columns, *sorted(lagging(source))])
    return rows.select(DATE, F.unix_micros(TIME).alias(TIME), content.cast("decimal(20,0)").alias(CONTENT))


def _altered(source: Source, found: Sequence[PinnedVersion], before: _Before, days: Sequence[date], job: Job) -> dict[date, Interval]:
    """From the first to the last row that is another one than at the last look, by date; nothing where that can not be read any more."""
    if not days or not before.pins or any(pin.version is None for pin in (*before.pins.values(), *found)):
        return {}
    try:
        was, now = (_hashed_of(days, state, source, job) for state in (before.pins, _by_source(found)))
    except TableRefused:
        return {}
    both = was.withColumn(_ONE, F.lit(-1)).union(now.withColumn(_ONE, F.lit(1)))
    other = both.groupBy(DATE, TIME, CONTENT).agg(F.sum(_ONE).alias(_ONE)).where(f"{_ONE} <> 0")
    spans = other.groupBy(DATE).agg(F.min(TIME).alias("first"), F.max(TIME).alias("last")).collect()
    return {row[DATE]: _span(source, row) for row in spans}


def _hashed_of(days: Sequence[date], state: Mapping[str, PinnedVersion], source: Source, job: Job) -> DataFrame:
    """The hashes of the rows of some days, as a state of the table has them; of rows with ids only those are compared that share one."""
    rows = files.judged(job.context.spark, source, job.context.lake, state)
    if source.id and not source.lag:
        on_days = rows.where(tables.in_dates(DATE, days)).where(files.times_of(source, days))
        rows = rows.join(on_days.select(*[f"`{name}`" for name in source.id]).distinct(), on=list(source.id), how="left_semi")
    live = files.live(rows, source)
    near = live if source.lag else live.where(files.times_of(source, days))
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


def _whole(day: date, content: Content | None, known: Sequence[Revision]) -> Interval:
    """The span of all that a date holds and ever held."""
    spans = [Interval(r.first, r.end) for r in known if r.date == day] + ([content.span] if content else [])
    return Interval(min(span.start for span in spans), max(span.end for span in spans))
