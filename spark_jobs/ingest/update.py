"""What files make of a source's table: which rows hold, which of these are read, and what changed by it.

The table keeps every row that some file brought. Of each id one row holds. A row that holds is `_hw_live`, unless its date lies far from
all others: then it is `_hw_aside`. Rows lie in the partition of their UTC date, those outside the bounds of what is read in one together.
A row of which a derivation by the row before fails is both: the row after it reads it, nobody else does.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import reduce
from operator import and_, or_
from typing import Any, Literal

from deltalake import DeltaTable
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from feature_definitions.intervals import ALWAYS, MICROSECOND, instant
from feature_definitions.language import Source
from feature_definitions.layout import ASIDE, ASIDE_DATE, CONTENT, DATE, FILE, INGEST, LINE, LIVE, REASON, TIME
from feature_definitions.planning import far
from feature_definitions.planning.far import Aside
from feature_definitions.records import Revision
from feature_definitions.sql.derivations import may_fail_beside
from lake import delta, delta_files, skipping
from spark_jobs import tables
from spark_jobs.ingest import events, far_dates
from spark_jobs.ingest.derived import days_around, days_from, is_around, judged_by_previous, lagging
from spark_jobs.ingest.journal import Ingest

_HELD, _WAS, _COMES, _GOES, _READ = "_hw_held", "_hw_was", "_hw_comes", "_hw_goes", "_hw_read"
_FAILED, _NEAR = "_hw_failed", "_hw_near"
_FEW = 1_000_000
"""So many ids are sent to every worker."""
_RANGES = 64
"""Ids are looked for in so many ranges, one per file and date, before they are looked for in one around all."""

Bounds = tuple[tuple[object, object], ...]
"""The least and the greatest value of each id column."""
Into = Literal["no table", "table", "table of other types"]


@dataclass(frozen=True, slots=True)
class RowsSeen:
    """What the files brought: per file how many rows have which reason (the empty one: a good row), the files that were refused whole,
    with the reason, the dates of good rows, and the bounds of the ids on each date."""

    counts: Mapping[str, Mapping[str, int]]
    refused: Mapping[str, str]
    dates: frozenset[date] = frozenset()
    ids: tuple[Bounds, ...] = ()

    @property
    def good(self) -> int:
        """How many rows are good."""
        return sum(reasons.get("", 0) for reasons in self.counts.values())


@dataclass(frozen=True, slots=True)
class Coming:
    """The good rows of some files: how many, of which files, on which dates, and within which bounds their ids lie on each date."""

    rows: DataFrame
    files: Sequence[str]
    count: int
    dates: frozenset[date]
    ids: Sequence[Bounds]


@dataclass(frozen=True, slots=True)
class Update:
    """All rows of the dates that an ingest touches, those that it takes away too; a row `_WAS` live before and is `LIVE` after it.

    `dates` are the partitions that it replaces, `aside` all rows that lie aside after it, `put_aside` how many of each date do so by it,
    `failing` how many do so by it because of the row before, by reason, and `by_file` how many that a file brought.
    """

    rows: DataFrame
    dates: tuple[date, ...]
    into: Into
    aside: Aside | None = None
    put_aside: Mapping[date, int] = field(default_factory=dict)
    failing: Mapping[str, int] = field(default_factory=dict)
    by_file: Mapping[str, int] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, int]:
        """How many rows are put aside by it for which reason."""
        return ({} if self.aside is None else self.aside._replace(rows=self.put_aside).summary) | dict(self.failing)


def of_files(coming: Coming, job: Ingest) -> Update:
    """What becomes of the source's table by these rows, and by the time that passed."""
    source, path = job.source, f"{job.staging}/rows"
    flags = {_HELD: False, _WAS: False, _FAILED: False, _COMES: True, _GOES: False}
    incoming = coming.rows.withColumns({name: F.lit(value) for name, value in flags.items()})
    log = delta.told(job.table)
    if log is None:
        rows = tables.stage(_by_date(_judged(incoming, source)), path)
        return _read(Update(rows, tuple(coming.dates), "no table"), None, job)
    held, mine = _Held(job), F.col(FILE).isin(list(coming.files))
    into = held.into(log)
    if into == "table of other types":
        dates = set(_dates(held.of(tables.every_date).select(DATE).union(coming.rows.select(DATE))))
    else:
        dates = _touched(coming, held, mine, log)
    dates |= far_dates.to_look_at(job, far_dates.live_rows(job)) if source.event_timestamp else set()
    if not dates and not far_dates.moves(job):
        return Update(incoming, (), into)
    old = _kept(held.on(dates), source).withColumn(_GOES, F.coalesce(mine, F.lit(False)))
    rows = tables.stage(_by_date(_judged(_aged(incoming.unionByName(old), source), source)), path)
    return _read(Update(rows, tuple(dates), into), held, job)


@dataclass(frozen=True, slots=True)
class _Held:
    """What the source's table holds before an ingest: each look says which dates it wants, so that S3 is asked for no others."""

    job: Ingest

    def into(self, log: DeltaTable) -> Into:
        """Whether the table has the types of the source's columns."""
        types = tables.types_of(log)
        same = all(types.get(name, tables.spark_type(kind)) == tables.spark_type(kind) for name, kind in self.job.source.columns.items())
        return "table" if same else "table of other types"

    def of(self, wanted: delta_files.Wanted) -> DataFrame:
        """The rows in the source's columns, at least those of the dates that are wanted."""
        return events.in_columns(tables.read(self.job.context.spark, self.job.table, wanted=wanted), self.job.source)

    def on(self, dates: Collection[date]) -> DataFrame:
        """The rows of some partitions."""
        return self.of(frozenset(dates).__contains__).where(tables.in_dates(DATE, dates))


def _read(update: Update, before: _Held | None, job: Ingest) -> Update:
    """The update whose rows, of which `LIVE` says which hold, say which of them are read."""
    return _beside(_bounded(update, before, job), before, job)


def _kept(rows: DataFrame, source: Source) -> DataFrame:
    """Rows of the table as they were, each with its own date; those that lie aside hold too."""
    held, failed = F.col(LIVE) | F.col(ASIDE), F.col(LIVE) & F.col(ASIDE)
    there = rows.withColumns({_HELD: held, _WAS: F.col(LIVE), _FAILED: failed, DATE: F.to_date(TIME)}).drop(LIVE, ASIDE)
    flags = {CONTENT: tables.fingerprint_of(list(source.columns)), _COMES: F.lit(False), _GOES: F.lit(False)}
    return there.withColumns(flags)


def _bounded(update: Update, before: _Held | None, job: Ingest) -> Update:
    """The update whose rows, of which `LIVE` says which hold, are live only where they are read; with the dates that this touches too."""
    source, holds = job.source, F.col(LIVE)
    if source.event_timestamp is None:
        return replace(update, rows=update.rows.withColumn(ASIDE, F.lit(False)))
    around = far.outer(source, now=job.now)
    live = {day: n for day, n in far_dates.live_rows(job).items() if day not in update.dates} if before is not None else {}
    within, outside = far_dates.by_date(live, around)
    stay = update.rows.where(~F.col(_GOES)).groupBy(DATE, far_dates.is_inside(around).alias("inside"))
    found = stay.agg(F.sum(holds.cast("bigint")).alias("n")).collect()
    for row in found:
        part = within if row["inside"] else outside
        part[row[DATE]] = part.get(row[DATE], 0) + row["n"]
    split = far_dates.split(job, within, outside)
    aside = split.of(job)
    coming_in = {row[DATE] for row in found if row["inside"] and split.read.last > far.midnight(row[DATE]) >= split.read.first}
    more = ((aside.rows.keys() & live.keys()) | coming_in) - set(update.dates) if before is not None else set()
    rows = update.rows
    if more and before is not None:
        rows = rows.unionByName(_kept(before.on(more), source).withColumn(LIVE, F.col(_HELD)))
    inside = far_dates.is_inside(split.read)
    rows = rows.withColumns({ASIDE: holds & ~inside, LIVE: holds & inside, _READ: inside})
    dates = tuple({*update.dates, *more, ASIDE_DATE})
    return _counted(replace(update, rows=rows, dates=dates, aside=aside))


def _counted(update: Update) -> Update:
    """The update with how many rows it puts aside."""
    if update.aside is None or not update.aside.rows:
        return update
    new = update.rows.where(F.col(ASIDE) & ~F.col(LIVE) & (F.col(_COMES) | F.col(_WAS))).groupBy(DATE, FILE, _COMES).count().collect()
    put_aside, by_file = Counter[date](), Counter[str]()
    for row in new:
        put_aside[row[DATE]] += row["count"]
        by_file[row[FILE]] += row["count"] if row[_COMES] else 0
    return replace(update, put_aside=put_aside, by_file=by_file)


def _beside(update: Update, before: _Held | None, job: Ingest) -> Update:
    """The update whose live rows of which a derivation by the row before fails lie aside too, with the dates on which this changed."""
    source = job.source
    if not may_fail_beside(source):
        return update
    rows = update.rows.withColumn(_NEAR, F.lit(False))
    if before is not None and update.into == "table":
        near = _near(before, update)
        more = {LIVE: F.col(_WAS), ASIDE: F.lit(False), _READ: F.lit(True), _NEAR: F.lit(True)}
        rows = rows.unionByName(_kept(near, source).withColumns(more))
    judged = judged_by_previous(rows, source, time=TIME, apart=(LIVE,)).drop(*source.derive)
    fails = F.col(LIVE) & F.col(REASON).isNotNull()
    found = tables.stage(judged.withColumn(ASIDE, F.col(ASIDE) | fails), f"{job.staging}/beside")
    following = found.where(_NEAR).where(days_from(source, update.dates))
    moved = _dates(following.where(F.col(LIVE) & (F.col(ASIDE) != F.col(_FAILED))))
    kept = found.where(~F.col(_NEAR) | F.expr(tables.in_dates(DATE, moved)))
    return _failing(replace(update, rows=kept, dates=(*update.dates, *moved)))


def _failing(update: Update) -> Update:
    """The update with how many rows lie aside by it because of the row before."""
    new = update.rows.where(F.col(LIVE) & F.col(ASIDE) & (F.col(_COMES) | ~F.col(_FAILED))).groupBy(REASON, FILE, _COMES).count().collect()
    reasons, by_file = Counter[str](), Counter[str](update.by_file)
    for row in new:
        reasons[row[REASON]] += row["count"]
        by_file[row[FILE]] += row["count"] if row[_COMES] else 0
    return replace(update, failing=reasons, by_file=by_file)


def _near(before: _Held, update: Update) -> DataFrame:
    """The rows of the dates around those of an update, without these."""
    source = before.job.source
    around = before.of(is_around(source, update.dates, after=True)).where(days_around(source, update.dates, after=True))
    return around.where(~F.expr(tables.in_dates(DATE, update.dates)))


def _touched(coming: Coming, held: _Held, mine: Column, log: DeltaTable) -> set[date]:
    """The dates on which rows come, go, or may gain or lose their right: those of the files' rows and of all rows with their ids."""
    source, before = held.job.source, _dates_of_files(coming, held.job, log)
    old = held.on(before).where(mine)
    theirs = old.groupBy(DATE).agg(F.count(F.lit(1)).alias("n"), *bounds_of_ids(source)).collect() if before else []
    dates = set(coming.dates) | {row[DATE] for row in theirs}
    bounds = (*coming.ids, *(bounds_in(row, source) for row in theirs))
    near = skipping.dates(log, DATE, _ranges(bounds, source)) - dates if source.id and dates else None
    if near:
        ids = _ids(coming.rows, source).union(_ids(old, source)).distinct()
        if coming.count + sum(row["n"] for row in theirs) <= _FEW:
            ids = F.broadcast(ids)
        rivals = held.on(near).where(~F.coalesce(mine, F.lit(False)) & _within(bounds, source))
        dates |= set(_dates(rivals.join(ids, on=list(source.id), how="left_semi")))
    return dates


def _dates_of_files(coming: Coming, job: Ingest, log: DeltaTable) -> frozenset[date]:
    """The dates on which rows may be that the files brought before; none if they are all new."""
    known = {file.came_as or file.path for file in job.context.registry.files(job.source.name).values()}
    return skipping.dates(log, DATE, [{FILE: (name, name)} for name in coming.files if name in known])


def bounds_of_ids(source: Source) -> list[Column]:
    """The columns, over a group of rows, of the least and the greatest value of each id column."""
    values = [(n, F.col(f"`{name}`"), source.columns[name]) for n, name in enumerate(source.id)]
    plain = [(n, F.unix_micros(value) if kind == "timestamp" else value) for n, value, kind in values]
    return [bound(value).alias(f"{name}{n}") for n, value in plain for name, bound in (("least", F.min), ("greatest", F.max))]


def bounds_in(row: Row, source: Source) -> Bounds:
    """These bounds of a row that has those columns."""
    return tuple((row[f"least{n}"], row[f"greatest{n}"]) for n in range(len(source.id)))


def _within(bounds: Sequence[Bounds], source: Source) -> Column:
    """Where ids can be that lie within one of the bounds: parts of files are skipped by it."""
    kinds = [source.columns[name] for name in source.id]
    return reduce(or_, [reduce(and_, map(_between, source.id, one, kinds)) for one in _apart(bounds)], F.lit(False))


def _ranges(bounds: Sequence[Bounds], source: Source) -> list[skipping.Range]:
    """The same as values of the columns: files are skipped by it."""
    return [{name: _spelled(ends, source.columns[name]) for name, ends in zip(source.id, one, strict=True)} for one in _apart(bounds)]


def _spelled(ends: tuple[Any, Any], kind: str) -> tuple[object, object]:
    """The least and the greatest value of an id column, as the column has them."""
    return (instant(ends[0]), instant(ends[1])) if kind == "timestamp" else ends


def _apart(bounds: Sequence[Bounds]) -> set[Bounds]:
    """Bounds, if there are few of them; else one around all."""
    known = {one for one in bounds if all(low is not None for low, _ in one)}
    return known if len(known) <= _RANGES else {_around(known)}


def _around(bounds: Iterable[Any]) -> Bounds:
    by_column = [zip(*of_column, strict=True) for of_column in zip(*bounds, strict=True)]
    return tuple((min(lows), max(highs)) for lows, highs in by_column)


def _between(name: str, bounds: tuple[object, object], kind: str) -> Column:
    low, high = (F.timestamp_micros(F.lit(b)) if kind == "timestamp" else F.lit(b) for b in bounds)
    return F.col(f"`{name}`").between(low, high)


def _ids(rows: DataFrame, source: Source) -> DataFrame:
    return rows.select(*[f"`{name}`" for name in source.id])


def _judged(rows: DataFrame, source: Source) -> DataFrame:
    """The rows with `_hw_live`: per id that an ingest touches the newest `arrived_at`, then the newest ingest, then the latest line."""
    if not source.id:
        return rows.withColumn(LIVE, ~F.col(_GOES))
    ids = [F.col(f"`{name}`") for name in source.id]
    newest = [F.col(f"`{source.arrived_at}`").desc_nulls_last()] if source.arrived_at else []
    same = Window.partitionBy(*ids)
    place = F.row_number().over(same.orderBy(F.col(_GOES), *newest, F.col(INGEST).desc(), F.col(FILE).desc(), F.col(LINE).desc()))
    touched = F.max((F.col(_COMES) | F.col(_GOES)) & reduce(and_, [name.isNotNull() for name in ids])).over(same)
    return rows.withColumn(LIVE, F.when(F.col(_GOES), F.lit(False)).when(touched, place == 1).otherwise(F.col(_HELD)))


def _aged(rows: DataFrame, source: Source) -> DataFrame:
    """A row that the file held before keeps the number of the ingest that brought it."""
    same = Window.partitionBy(*[f"`{name}`" for name in source.id], FILE, CONTENT)
    age = F.min(F.when(F.col(_GOES), F.col(INGEST))).over(same)
    return rows.withColumn(INGEST, F.when(F.col(_COMES), F.coalesce(age, INGEST)).otherwise(F.col(INGEST)))


def _by_date(rows: DataFrame) -> DataFrame:
    return rows.repartition(DATE)


def _dates(rows: DataFrame) -> tuple[date, ...]:
    return tuple(row[0] for row in rows.select(DATE).distinct().collect())


def commit(update: Update, job: Ingest) -> None:
    """Put the rows in the place of those that the dates have now, in one commit."""
    path, types, fence = job.table, job.source.columns, job.fence
    columns = [*[f"`{name}`" for name in types], TIME, DATE, FILE, LINE, INGEST, LIVE, ASIDE]
    rows = update.rows.where(~F.col(_GOES))
    if job.source.event_timestamp is not None:
        rows = rows.withColumn(DATE, F.when(F.col(_READ), F.col(DATE)).otherwise(F.lit(ASIDE_DATE)))
    if update.into != "table":
        tables.overwrite(rows.select(*columns), path, commit_id=job.ingest_id, partition=(DATE,), fence=fence)
        return
    lacking = [*((n, tables.spark_type(k)) for n, k in types.items()), (ASIDE, "boolean")]
    tables.add_columns(rows.sparkSession, path, lacking)
    tables.replace(rows.select(*columns), path, dates=update.dates, commit_id=job.ingest_id, fence=fence)


def revisions(update: Update, number: int, job: Ingest) -> tuple[Revision, ...]:
    """One revision per date on which rows that are read were added, removed or altered; a row also by the row before, where it derives
    from that. It counts all rows that are live, as the rule for far dates does."""
    if not update.dates:
        return ()
    source, live = job.source, F.col(LIVE).cast("bigint")
    read, was = ((F.col(name) & ~F.col(but)).cast("bigint") for name, but in ((LIVE, ASIDE), (_WAS, _FAILED)))
    rows = _with_next(update, job) if source.lag else update.rows
    sums = {"net": read - was, "n": read, "live": live}
    counted = [F.sum(each).alias(name) for name, each in sums.items()]
    altered = rows.where(F.col(LIVE) | F.col(_WAS)).groupBy(DATE, TIME, CONTENT).agg(*counted)
    changed_at = F.when(F.col("net") != 0, F.unix_micros(TIME))
    by_date = altered.groupBy(DATE).agg(
        F.min(changed_at).alias("first"),
        F.max(changed_at).alias("last"),
        F.sum("live").alias("rows"),
        F.min(F.when(F.col("live") > 0, F.unix_micros(TIME))).alias("earliest"),
        F.hex(F.coalesce(F.bit_xor(F.when(F.col("n") > 0, F.xxhash64(CONTENT, "n"))), F.lit(0).cast("bigint"))).alias("hash"),
    )
    changed_dates = sorted((row for row in by_date.collect() if row["first"] is not None), key=lambda row: row[DATE])
    static = source.shape == "static"
    return tuple(
        Revision(
            source=source.name,
            revision=number,
            date=row[DATE],
            first=ALWAYS.start if static else instant(row["first"]),
            end=ALWAYS.end if static else instant(row["last"]) + MICROSECOND,
            content_hash=row["hash"],
            rows=row["rows"],
            recorded_at=job.now,
            earliest=None if row["earliest"] is None else instant(row["earliest"]),
        )
        for row in changed_dates
    )


def _with_next(update: Update, job: Ingest) -> DataFrame:
    """The rows as they were and as they are, apart, each with what it derives from the row before in its content.

    So a row whose neighbour changed is altered if what it derives is another value, or fails now or no more, and nothing else is; the rows
    of the dates around are read too.
    """
    source, nothing = job.source, F.lit(False)
    columns = [*[f"`{name}`" for name in source.columns], TIME, DATE, CONTENT, LIVE, ASIDE, _WAS, _FAILED]
    rows = update.rows.select(*columns)
    if update.into == "table":
        more = {CONTENT: tables.fingerprint_of(list(source.columns)), _WAS: F.lit(True), _FAILED: F.col(ASIDE)}
        rows = rows.union(_near(_Held(job), update).where(LIVE).withColumns(more).select(*columns))
    now = rows.where(LIVE).withColumns({_WAS: nothing, _FAILED: nothing})
    apart = now.union(rows.where(_WAS).withColumns({LIVE: nothing, ASIDE: nothing}))
    derived = judged_by_previous(apart, source, time=TIME, apart=(LIVE,))
    return derived.withColumn(CONTENT, tables.fingerprint_of([CONTENT, *sorted(lagging(source))]))
