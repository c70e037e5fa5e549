"""Ingest: files become rows of a source's Delta table, bad rows go to quarantine, and what changed is recorded as a revision.

The table keeps every row that some file brought, `_hw_live` marking the one of each id that holds; it is partitioned by `_hw_date`, the
UTC date of the event. A file that changed replaces the rows it brought, a row that stayed the same in it keeps its age.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce
from io import BytesIO
from operator import and_, or_
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.intervals import ALWAYS, MICROSECOND, instant
from feature_definitions.language import Files, Source
from feature_definitions.layout import COLUMN, CONTENT, DATE, FILE, INGEST, LINE, LIVE, RAW, REASON, TIME, VALUE
from feature_definitions.records import IngestedFile, Revision
from lake import delta, storage
from lake.staging import staging
from spark_jobs import tables, workers
from spark_jobs.context import Context
from spark_jobs.ingest import columnar, events, formats, journal, landing, parsing
from spark_jobs.ingest.derived import days_around, lagging, with_derived
from spark_jobs.ingest.journal import Ingest, IngestReport
from spark_jobs.ingest.landing import Landed, Look
from spark_jobs.ingest.parsing import FileRefused, Shape

_WAS, _COMES, _GOES = "_hw_was", "_hw_comes", "_hw_goes"
_SMALL = 4 * 2**20
"""Files of so many bytes together are read by this process: to start Python beside Spark's workers costs more."""
_FEW = 1_000_000
"""So many ids are sent to every worker."""
_LISTED = "name string, came_as string, path string, format string"
_RANGES = 64
"""Ids are looked for in so many ranges, one per file and date, before they are looked for in one around all."""


def ingest(job: Ingest) -> IngestReport:
    """Bring the files that are new or changed into the source's table in one commit.

    Files that cannot be read whole are refused and leave what they brought before as it was. A file that only has another name brings
    nothing; one that somebody writes meanwhile is left for the next time.
    """
    source, context = job.source, job.context
    look = landing.look(source, context)
    if look.is_empty and isinstance(source.at, Files) and not context.registry.files(source.name):
        context.say(f"{source.name}: no file is at {source.at.place} in {context.root}")
    if not look.read:
        return _without_rows(job, look)
    context.say(f"ingesting {source.name}: {len(look.read)} files")
    with staging(context.lake, job.ingest_id):
        parsed = _parsed(job, look.read)
        seen = _seen(parsed, source)
        look = landing.looked_again(look, refused=seen.refused)
        if not look.read:
            return _without_rows(job, look)
        return _taken(job, look, parsed.where(F.col(FILE).isin([f.came_as for f in look.read])), seen)


def _without_rows(job: Ingest, look: Look) -> IngestReport:
    """Note which files have another name now; nothing else is new."""
    if look.renamed:
        journal.record(job, landing.renamings(look, (), ingest_id=job.ingest_id), (), None)
    return _reported(job.source, look)


def _reported(source: Source, look: Look) -> IngestReport:
    """What is said of files, whatever they bring."""
    renamed = {name: record.path for name, record in look.renamed}
    return IngestReport(source.name, refused=tuple(look.refused.values()), renamed=renamed, waiting=look.waiting)


def _taken(job: Ingest, look: Look, rows: DataFrame, seen: "_Seen") -> IngestReport:
    """Put the rows of these files into the source's table, or into quarantine."""
    names, source = [f.came_as for f in look.read], job.source
    _quarantine(rows, seen, names, job)
    number = job.context.registry.next_revision(source.name)
    update = _update(rows.withColumn(INGEST, F.lit(number).cast("bigint")), seen, names, job)
    revisions = _revisions(update, number, job)
    brought = tuple(_brought(file, seen.counts, source.name, job.ingest_id) for file in look.read)
    renamed = landing.renamings(look, [f.path for f in brought], ingest_id=job.ingest_id)
    journal.record(job, (*brought, *renamed), revisions, (lambda: _commit(update, job)) if update.dates else None)
    return replace(
        _reported(source, look),
        files=len(brought),
        rows=sum(f.rows for f in brought),
        quarantined=sum(f.quarantined for f in brought),
        reasons=_kinds([seen.counts.get(name, {}) for name in names]),
        dates_changed=len(revisions),
        revision=number if revisions else None,
        copies={f.path: look.copies[f.path] for f in brought if f.path in look.copies and f.rows + f.quarantined},
    )


def write_frame(source: Source, frame: pa.Table, context: Context) -> None:
    """Keep a frame's rows as a Parquet file of the source, named by its content, so that the same frame is the same file."""
    wanted = parsing.shape(source, parsing.FRAME)
    parsing.refuse_missing(frame.column_names, wanted, name="the frame")
    kept = frame.select(list(source.columns)).combine_chunks()
    for batch in kept.to_batches():
        columnar.check(batch, wanted, name="the frame")
    file = BytesIO()
    pq.write_table(kept, file)
    path = f"{layout.landing_folder(context.lake, source.name)}/{parsing.sha256(file, wanted)[:24]}.parquet"
    storage.write(path, file.getbuffer())


# ------------------------------------------------------------------------------------------------------------------------ parse


def _parsed(job: Ingest, found: Sequence[Landed]) -> DataFrame:
    """The files' rows, typed, each with its reason if it is refused, from what was read once, so that every later step sees the same."""
    source, spark, path = job.source, job.context.spark, f"{job.staging}/parsed"
    shapes = {kind: parsing.shape(source, kind) for kind in {f.format for f in found}}
    listed = [(f.name, f.came_as, str(f.path), f.format) for f in found]
    schema = f"{tables.columns_sql(source.columns)}, {FILE} string, {LINE} bigint, {parsing.REFUSED}"
    if sum(f.mark[0] for f in found) <= _SMALL:
        _read_here(listed, shapes, job.staging)
        rows = tables.staged(spark, path, schema=schema)
    else:
        parts = max(1, min(len(listed), spark.sparkContext.defaultParallelism * 4))
        names = spark.createDataFrame(spark.sparkContext.parallelize(listed, parts), _LISTED)
        with workers.as_raised():
            rows = tables.stage(names.mapInArrow(workers.carrying(_reader(shapes)), schema), path)
    return events.judged(rows, source).withColumn(CONTENT, tables.fingerprint_of(list(source.columns)))


def _read_here(listed: Sequence[tuple[str, str, str, str]], shapes: Mapping[str, Shape], folder: str) -> None:
    """Read the files in this process, into `parsed` in a folder."""
    with pq.ParquetWriter("parsed", parsing.schema(next(iter(shapes.values()))), filesystem=storage.arrow(folder)) as writer:
        for name, came_as, file, kind in listed:
            for batch in _read(name, came_as, file, shapes[kind]):
                writer.write_batch(batch)


def _reader(shapes: Mapping[str, Shape]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                yield from _read(row["name"], row["came_as"], row["path"], shapes[row["format"]])

    return read


def _read(name: str, came_as: str, path: str, wanted: Shape) -> Iterator[pa.RecordBatch]:
    """The rows of a file by the name that its rows go by; what is wrong with it is said of the name that it has."""
    for batch in _rows_of(name, path, wanted):
        yield batch if came_as == name else _renamed(batch, came_as)


def _rows_of(name: str, path: str, wanted: Shape) -> Iterator[pa.RecordBatch]:
    try:
        yield from formats.read(Path(path), wanted, name=name)
    except FileRefused as error:
        yield parsing.refusal(str(error), wanted, name=name)


def _renamed(batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
    return batch.set_column(batch.schema.get_field_index(FILE), FILE, pa.array([name] * batch.num_rows, pa.string()))


Bounds = tuple[tuple[object, object], ...]
"""The least and the greatest value of each id column."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the files brought: per file how many rows have which reason (the empty one: a good row), the files that were refused whole,
    with the reason, the dates of good rows, and the bounds of the ids on each date."""

    counts: Mapping[str, Mapping[str, int]]
    refused: Mapping[str, str]
    dates: frozenset[date]
    ids: tuple[Bounds, ...]

    @property
    def good(self) -> int:
        """How many rows are good."""
        return sum(reasons.get("", 0) for reasons in self.counts.values())


def _seen(rows: DataFrame, source: Source) -> _Seen:
    whole, good = (F.col(LINE) == 0).alias("whole"), F.col(REASON).isNull()
    day = F.when(good, F.col(DATE)).alias("day")
    groups = rows.groupBy(FILE, whole, F.coalesce(REASON, F.lit("")).alias("reason"), day)
    found = groups.agg(F.count(F.lit(1)).alias("n"), *_bounds(source)).collect()
    refused = {row[FILE]: row["reason"] for row in found if row["whole"]}
    counts: dict[str, dict[str, int]] = {}
    for row in found:
        reasons = counts.setdefault(row[FILE], {})
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + row["n"]
    taken = [row for row in found if row["day"] is not None and row[FILE] not in refused]
    return _Seen(counts, refused, frozenset(row["day"] for row in taken), tuple(_bounds_in(row, source) for row in taken))


def _bounds(source: Source) -> list[Column]:
    values = [(n, F.col(f"`{name}`"), source.columns[name]) for n, name in enumerate(source.id)]
    plain = [(n, F.unix_micros(value) if kind == "timestamp" else value) for n, value, kind in values]
    return [bound(value).alias(f"{name}{n}") for n, value in plain for name, bound in (("least", F.min), ("greatest", F.max))]


def _bounds_in(row: Row, source: Source) -> Bounds:
    return tuple((row[f"least{n}"], row[f"greatest{n}"]) for n in range(len(source.id)))


def _kinds(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Reasons without the values that they quote, most frequent first."""
    kinds: dict[str, int] = {}
    for file_reasons in counts:
        for reason, n in file_reasons.items():
            if reason:
                kind = f"{reason.split(':')[0]}:{reason.rsplit(chr(39), 1)[-1]}" if "'" in reason else reason
                kinds[kind] = kinds.get(kind, 0) + n
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def _quarantine(rows: DataFrame, seen: _Seen, names: Sequence[str], job: Ingest) -> None:
    """Put refused rows aside with file, line and reason; those that the same files had before are replaced."""
    source, path, fence = job.source, layout.quarantine_table(job.context.lake, job.source.name), job.context.registry.fence
    listed = ", ".join(delta.literal(name) for name in names)
    if not any(reason for name in names for reason in seen.counts.get(name, {})) and not delta.holds(path, f"file IN ({listed})"):
        return
    bad = rows.where(F.col(REASON).isNotNull())
    columns = [F.element_at(RAW, name).alias(_beside(name)) for name in source.columns]
    typed = [F.coalesce(c, F.col(f"`{n}`").cast("string")).alias(_beside(n)) for c, n in zip(columns, source.columns, strict=True)]
    frame = bad.select(
        F.col(FILE).alias("file"), F.col(LINE).alias("line"), F.col(REASON).alias("reason"), *typed, F.lit(job.now).alias("quarantined_at")
    )
    if delta.holds(path, f"file IN ({listed})"):
        escaped = ", ".join("'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'" for name in names)
        tables.add_columns(rows.sparkSession, path, [(c, "string") for c in frame.columns if c not in ("line", "quarantined_at")])
        tables.replace(frame, path, where=f"file IN ({escaped})", commit_id=job.ingest_id, fence=fence)
    else:
        tables.append(frame, path, commit_id=job.ingest_id, fence=fence)


def _beside(name: str) -> str:
    """A source's column in its quarantine, out of the way of the quarantine's own columns."""
    return f"{name}_" if name in ("file", "line", "reason", "quarantined_at") else name


# ----------------------------------------------------------------------------------------------------------------------- update


Into = Literal["no table", "table", "table of other types"]


@dataclass(frozen=True, slots=True)
class _Update:
    """All rows of the dates that an ingest touches, those that it takes away too; a row `_WAS` live before and is `LIVE` after it."""

    rows: DataFrame
    dates: tuple[date, ...]
    into: Into


def _update(parsed: DataFrame, seen: _Seen, names: Sequence[str], job: Ingest) -> _Update:
    source, table, path = job.source, job.table, f"{job.staging}/rows"
    good = parsed.where(F.col(REASON).isNull()).drop(REASON, COLUMN, VALUE, RAW)
    incoming = good.withColumns({_WAS: F.lit(False), _COMES: F.lit(True), _GOES: F.lit(False)})
    if not delta.exists(table):
        return _Update(tables.stage(_by_date(_judged(incoming, source)), path), tuple(seen.dates), "no table")
    kept = tables.read(job.context.spark, table)
    whole, mine, into = events.in_columns(kept, source), F.col(FILE).isin(list(names)), _into(kept, source)
    everything = into == "table of other types"
    dates = _dates(whole.select(DATE).union(good.select(DATE))) if everything else _touched(good, whole, seen, source, mine)
    if not dates:
        return _Update(incoming, (), into)
    old = whole.where(tables.in_dates(DATE, dates)).withColumn(CONTENT, tables.fingerprint_of(list(source.columns)))
    old = old.withColumnsRenamed({LIVE: _WAS}).withColumns({_COMES: F.lit(False), _GOES: F.coalesce(mine, F.lit(False))})
    return _Update(tables.stage(_by_date(_judged(_aged(incoming.unionByName(old), source), source)), path), dates, into)


def _into(kept: DataFrame, source: Source) -> Into:
    same = all(kind == tables.spark_type(source.columns.get(name, kind)) for name, kind in kept.dtypes)
    return "table" if same else "table of other types"


def _touched(good: DataFrame, whole: DataFrame, seen: _Seen, source: Source, mine: Column) -> tuple[date, ...]:
    """The dates on which rows come, go, or may gain or lose their right: those of the files' rows and of all rows with their ids."""
    theirs = whole.where(mine).groupBy(DATE).agg(F.count(F.lit(1)).alias("n"), *_bounds(source)).collect()
    dates = seen.dates | {row[DATE] for row in theirs}
    if source.id and dates:
        bounds = (*seen.ids, *(_bounds_in(row, source) for row in theirs))
        ids = _ids(good, source).union(_ids(whole.where(mine), source)).distinct()
        if seen.good + sum(row["n"] for row in theirs) <= _FEW:
            ids = F.broadcast(ids)
        rivals = whole.where(~F.coalesce(mine, F.lit(False)) & ~F.expr(tables.in_dates(DATE, dates)) & _within(bounds, source))
        dates |= set(_dates(rivals.join(ids, on=list(source.id), how="left_semi")))
    return tuple(dates)


def _within(bounds: Sequence[Bounds], source: Source) -> Column:
    """Where ids can be that lie within one of the bounds: files are skipped by it."""
    known = {one for one in bounds if all(low is not None for low, _ in one)}
    apart = known if len(known) <= _RANGES else {_around(known)}
    kinds = [source.columns[name] for name in source.id]
    return reduce(or_, [reduce(and_, map(_between, source.id, one, kinds)) for one in apart], F.lit(False))


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
    return rows.withColumn(LIVE, F.when(F.col(_GOES), F.lit(False)).when(touched, place == 1).otherwise(F.col(_WAS)))


def _aged(rows: DataFrame, source: Source) -> DataFrame:
    """A row that the file held before keeps the number of the ingest that brought it."""
    same = Window.partitionBy(*[f"`{name}`" for name in source.id], FILE, CONTENT)
    age = F.min(F.when(F.col(_GOES), F.col(INGEST))).over(same)
    return rows.withColumn(INGEST, F.when(F.col(_COMES), F.coalesce(age, INGEST)).otherwise(F.col(INGEST)))


def _by_date(rows: DataFrame) -> DataFrame:
    return rows.repartition(DATE)


def _dates(rows: DataFrame) -> tuple[date, ...]:
    return tuple(row[0] for row in rows.select(DATE).distinct().collect())


def _commit(update: _Update, job: Ingest) -> None:
    path, types, fence = job.table, job.source.columns, job.context.registry.fence
    columns = [*[f"`{name}`" for name in types], TIME, DATE, FILE, LINE, INGEST, LIVE]
    rows = update.rows.where(~F.col(_GOES)).select(*columns)
    if update.into != "table":
        tables.overwrite(rows, path, commit_id=job.ingest_id, partition=(DATE,), fence=fence)
        return
    tables.add_columns(rows.sparkSession, path, [(n, tables.spark_type(k)) for n, k in types.items()])
    tables.replace(rows, path, dates=update.dates, commit_id=job.ingest_id, fence=fence)


def _revisions(update: _Update, number: int, job: Ingest) -> tuple[Revision, ...]:
    """One revision per date on which live rows were added, removed or altered; a row also by the row before, where it derives from that."""
    if not update.dates:
        return ()
    source, live, was = job.source, F.col(LIVE).cast("bigint"), F.col(_WAS).cast("bigint")
    rows = _with_next(update, job) if source.lag else update.rows
    altered = rows.where(F.col(LIVE) | F.col(_WAS)).groupBy(DATE, TIME, CONTENT).agg(F.sum(live - was).alias("net"), F.sum(live).alias("n"))
    changed_at = F.when(F.col("net") != 0, F.unix_micros(TIME))
    by_date = altered.groupBy(DATE).agg(
        F.min(changed_at).alias("first"),
        F.max(changed_at).alias("last"),
        F.sum("n").alias("rows"),
        F.min(F.when(F.col("n") > 0, F.unix_micros(TIME))).alias("earliest"),
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


def _with_next(update: _Update, job: Ingest) -> DataFrame:
    """The rows as they were and as they are, apart, each with what it derives from the row before in its content.

    So a row whose neighbour changed is altered if what it derives is another value, and nothing else is; the rows of the dates around
    are read too.
    """
    source = job.source
    columns = [*[f"`{name}`" for name in source.columns], TIME, DATE, CONTENT, LIVE, _WAS]
    rows = update.rows.select(*columns)
    if update.into == "table":
        whole = events.in_columns(tables.read(rows.sparkSession, job.table), source).where(LIVE)
        near = whole.where(days_around(source, update.dates, after=True)).where(~F.expr(tables.in_dates(DATE, update.dates)))
        near = near.withColumns({CONTENT: tables.fingerprint_of(list(source.columns)), _WAS: F.lit(True)})
        rows = rows.union(near.select(*columns))
    now = rows.where(LIVE).withColumn(_WAS, F.lit(False))
    apart = now.union(rows.where(_WAS).withColumn(LIVE, F.lit(False)))
    derived = with_derived(apart, source, time=TIME, beside=(LIVE,))
    return derived.withColumn(CONTENT, tables.fingerprint_of([CONTENT, *sorted(lagging(source))]))


def _brought(file: Landed, counts: Mapping[str, Mapping[str, int]], source: str, ingest_id: str) -> IngestedFile:
    mine = counts.get(file.came_as, {})
    good = mine.get("", 0)
    came_as = None if file.came_as == file.name else file.came_as
    return IngestedFile(source, file.name, file.sha256, good, sum(mine.values()) - good, ingest_id, came_as)
