"""Ingest: files become rows of a source's Delta table, bad rows go to quarantine, and what changed is recorded as a revision.

The table keeps every row that some file brought, `_hw_live` marking the one of each id that holds; it is partitioned by `_hw_date`, the
UTC date of the event. A file that changed replaces the rows it brought, a row that stayed the same in it keeps its age.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from feature_definitions import expressions, layout
from feature_definitions.intervals import ALWAYS, MICROSECOND, instant
from feature_definitions.model import Expectation, Files, Source
from feature_definitions.records import IngestedFile, Revision
from feature_registry.registry import PendingIngest, Registry
from spark_jobs import files, tables
from spark_jobs.files import FILE, LINE, RAW, REASON, FileRefused, Shape
from spark_jobs.staging import staging

DATE, TIME, INGEST, LIVE, CONTENT = "_hw_date", "_hw_time", "_hw_ingest", "_hw_live", "_hw_content"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a project's files and tables lie."""

    root: Path
    lake: str


@dataclass(frozen=True, slots=True)
class Landed:
    """A file that is there to be ingested: its name in records, where it lies, its format and SHA-256."""

    name: str
    path: Path
    format: str
    sha256: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest of a source did; `refused` files were left out whole, with the reason."""

    source: str
    files: int
    rows: int
    quarantined: int
    reasons: Mapping[str, int]
    dates_changed: int
    revision: int | None
    refused: tuple[str, ...]


def landed(source: Source, place: Place) -> tuple[Landed, ...]:
    """The files of a source that are there now, oldest name first; Files are found below the project's root."""
    found: list[tuple[str, Path, str]] = []
    if isinstance(source.at, Files):
        pattern = Path(source.at.path)
        base = Path(pattern.anchor) if pattern.is_absolute() else place.root
        paths = base.glob(str(pattern.relative_to(pattern.anchor)))
        found += [(_name(path, place.root), path, source.at.format) for path in paths if path.is_file()]
    folder = Path(layout.landing_folder(place.lake, source.name))
    found += [(f"written/{path.name}", path, "parquet") for path in folder.glob("*.parquet")]
    return tuple(Landed(name, path, kind, files.sha256(path, files.shape(source, kind))) for name, path, kind in sorted(found))


def changed(source: Source, place: Place, registry: Registry) -> tuple[Landed, ...]:
    """The landed files that are new or whose content is not the one ingested."""
    known = registry.files(source.name)
    return tuple(f for f in landed(source, place) if f.name not in known or known[f.name].sha256 != f.sha256)


def recover(source: Source, place: Place, registry: Registry) -> None:
    """Finish or forget the ingests that a crash cut off: what was committed counts, the rest never happened."""
    for pending in registry.pending_ingests(source.name):
        if not pending.commits or tables.committed(layout.source_table(place.lake, source.name), pending.ingest_id):
            registry.finish_ingest(pending.ingest_id)
        else:
            registry.abandon(pending.ingest_id)
        shutil.rmtree(layout.staging_folder(place.lake, pending.ingest_id), ignore_errors=True)


def write_frame(source: Source, frame: pa.Table, place: Place) -> Path:
    """Keep a frame's rows as a Parquet file of the source, named by its content, so that the same frame is the same file."""
    wanted = files.shape(source, "parquet")
    files.refuse_missing(frame.column_names, wanted, name="the frame")
    kept = frame.select(list(source.columns)).combine_chunks()
    for batch in kept.to_batches():
        files.check(batch, wanted, name="the frame")
    folder = Path(layout.landing_folder(place.lake, source.name))
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".writing"
    pq.write_table(kept, part)
    path = folder / f"{files.sha256(part, wanted)[:24]}.parquet"
    part.replace(path)
    return path


@dataclass(frozen=True, slots=True)
class Job:
    """What one ingest works with: Spark, the project's places, the registry, its id, and what time it is."""

    spark: SparkSession
    place: Place
    registry: Registry
    ingest_id: str
    now: datetime


def ingest(source: Source, found: Sequence[Landed], job: Job) -> IngestReport:
    """Bring the changed files into the source's table in one commit.

    Files that can not be read whole are refused and leave what they brought before as it was. A crash leaves the table as it was or as it
    should be, and the next ingest finishes the records.
    """
    place, registry = job.place, job.registry
    with staging(place.lake, job.ingest_id) as folder:
        parsed = _parsed(job.spark, found, source, f"{folder}/parsed")
        counts, refused = _counts(parsed)
        taken = [f for f in found if f.name not in refused]
        if not taken:
            return IngestReport(source.name, 0, 0, 0, {}, 0, None, tuple(refused.values()))
        rows = parsed.where(~F.col(FILE).isin(list(refused)))
        if any(reason for file in taken for reason in counts.get(file.name, {})) or tables.exists(
            layout.quarantine_table(place.lake, source.name)
        ):
            _quarantine(rows, source, [f.name for f in taken], job)
        number = registry.next_revision(source.name)
        update = _update(rows.withColumn(INGEST, F.lit(number).cast("bigint")), source, [f.name for f in taken], job)
        revisions = _revisions(update, source, number, job.now)
        brought = tuple(_brought(file, counts, source.name, job.ingest_id) for file in taken)
        registry.begin_ingest(PendingIngest(job.ingest_id, source.name, brought, revisions, commits=bool(update.dates)))
        if revisions:
            tables.append_records(layout.records_table(place.lake, "revisions"), _revision_rows(revisions, job.ingest_id))
        _commit(update, source, place, job.ingest_id)
        registry.finish_ingest(job.ingest_id)
    return IngestReport(
        source.name,
        files=len(taken),
        rows=sum(f.rows for f in brought),
        quarantined=sum(f.quarantined for f in brought),
        reasons=_kinds([counts.get(f.name, {}) for f in taken]),
        dates_changed=len(revisions),
        revision=number if revisions else None,
        refused=tuple(refused.values()),
    )


def nothing(source: Source) -> IngestReport:
    """The report of an ingest that found no new or changed file."""
    return IngestReport(source.name, 0, 0, 0, {}, 0, None, ())


def events(spark: SparkSession, source: Source, lake: str) -> DataFrame:
    """The live rows of a source, in its columns, with `_hw_time` and `_hw_date`; no rows before anything was ingested."""
    path = layout.source_table(lake, source.name)
    kinds = ", ".join(f"`{name}` {tables.spark_type(kind)}" for name, kind in source.columns.items())
    if not tables.exists(path):
        return spark.createDataFrame([], f"{kinds}, {TIME} timestamp, {DATE} date")
    rows = _with_columns(tables.read(spark, path), source).where(LIVE)
    return rows.select(*[f"`{name}`" for name in source.columns], TIME, DATE)


# ------------------------------------------------------------------------------------------------------------------------ parse


def _parsed(spark: SparkSession, found: Sequence[Landed], source: Source, path: str) -> DataFrame:
    """The files' rows, typed, each with its reason if it is refused, written once so that every later step sees the same."""
    shapes = {kind: files.shape(source, kind) for kind in {f.format for f in found}}
    listed = [(f.name, str(f.path), f.format) for f in found]
    parts = max(1, min(len(listed), spark.sparkContext.defaultParallelism * 4))
    names = spark.createDataFrame(spark.sparkContext.parallelize(listed, parts), "name string, path string, format string")
    kinds = ", ".join(f"`{name}` {tables.spark_type(kind)}" for name, kind in source.columns.items())
    rows = names.mapInArrow(_reader(shapes), f"{kinds}, {FILE} string, {LINE} bigint, {REASON} string, {RAW} map<string,string>")
    for expectation in source.expect:
        rows = rows.withColumn(REASON, F.coalesce(F.col(REASON), _failed(expectation)))
    time = F.col(f"`{source.event_timestamp}`") if source.event_timestamp else F.lit(ALWAYS.start)
    rows = rows.withColumn(TIME, time).withColumn(DATE, F.to_date(TIME))
    content = tables.fingerprint_of(list(source.columns))
    return tables.stage(rows.withColumn(CONTENT, content), path)


def _reader(shapes: Mapping[str, Shape]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                wanted = shapes[row["format"]]
                try:
                    yield from files.read(Path(row["path"]), wanted, name=row["name"])
                except FileRefused as error:
                    yield files.refusal(str(error), wanted, name=row["name"])

    return read


def _failed(expectation: Expectation) -> Column:
    sql = str(expectation.arguments[0])
    bad = F.expr(f"NOT ({expressions.spark_sql(sql)})") if expectation.severity == "critical" else F.lit(False)
    return F.when(bad, F.lit(f"expected {sql}"))


def _counts(rows: DataFrame) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Per file how many rows have which reason (the empty one: a good row), and the files that were refused whole, with the reason."""
    counts: dict[str, dict[str, int]] = {}
    refused: dict[str, str] = {}
    whole = (F.col(LINE) == 0).alias("whole")
    for row in rows.groupBy(FILE, whole, F.coalesce(REASON, F.lit("")).alias("reason")).count().collect():
        counts.setdefault(row[FILE], {})[row["reason"]] = row["count"]
        if row["whole"]:
            refused[row[FILE]] = row["reason"]
    return counts, refused


def _kinds(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Reasons without the values that they quote, most frequent first."""
    kinds: dict[str, int] = {}
    for file_reasons in counts:
        for reason, n in file_reasons.items():
            if reason:
                kind = f"{reason.split(':')[0]}:{reason.rsplit(chr(39), 1)[-1]}" if "'" in reason else reason
                kinds[kind] = kinds.get(kind, 0) + n
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def _quarantine(rows: DataFrame, source: Source, names: Sequence[str], job: Job) -> None:
    """Put refused rows aside with file, line and reason; those that the same files had before are replaced."""
    path = layout.quarantine_table(job.place.lake, source.name)
    bad = rows.where(F.col(REASON).isNotNull())
    columns = [F.element_at(RAW, name).alias(_beside(name)) for name in source.columns]
    typed = [F.coalesce(c, F.col(f"`{n}`").cast("string")).alias(_beside(n)) for c, n in zip(columns, source.columns, strict=True)]
    frame = bad.select(
        F.col(FILE).alias("file"), F.col(LINE).alias("line"), F.col(REASON).alias("reason"), *typed, F.lit(job.now).alias("quarantined_at")
    )
    listed = ", ".join("'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'" for name in names)
    if tables.exists(path):
        tables.add_columns(rows.sparkSession, path, [(c, "string") for c in frame.columns if c not in ("line", "quarantined_at")])
        tables.replace(frame, path, where=f"file IN ({listed})", commit_id=job.ingest_id, partition=())
    else:
        tables.append(frame, path, commit_id=job.ingest_id)


def _beside(name: str) -> str:
    """A source's column in its quarantine, out of the way of the quarantine's own columns."""
    return f"{name}_" if name in ("file", "line", "reason", "quarantined_at") else name


# ----------------------------------------------------------------------------------------------------------------------- update


@dataclass(frozen=True, slots=True)
class _Update:
    """The new rows of all dates that an ingest touches, and the live rows that these dates had."""

    rows: DataFrame
    before: DataFrame | None
    dates: tuple[date, ...]
    retyped: bool


def _update(parsed: DataFrame, source: Source, names: Sequence[str], job: Job) -> _Update:
    good = parsed.where(F.col(REASON).isNull()).drop(REASON, RAW)
    path = f"{layout.staging_folder(job.place.lake, job.ingest_id)}/rows"
    table = layout.source_table(job.place.lake, source.name)
    if not tables.exists(table):
        staged = tables.stage(_by_date(_judged(good.drop(CONTENT), source)), path)
        return _Update(staged, None, _dates(staged), retyped=False)
    kept = tables.read(job.spark, table)
    retyped = any(kind != tables.spark_type(source.columns.get(name, kind)) for name, kind in kept.dtypes)
    whole = _with_columns(kept, source)
    mine = F.col(FILE).isin(list(names))
    dates = _dates(whole.select(DATE).union(good.select(DATE))) if retyped else _touched(good, whole, source, mine)
    old = whole.where(F.expr(tables.in_dates(DATE, dates)))
    incoming, rest = _with_age(good, old.where(mine)), old.where(~mine)
    if source.id:
        touched = _ids(incoming, source).union(_ids(old.where(mine), source)).distinct()
        rivals = rest.join(touched, on=list(source.id), how="left_semi")
        untouched = rest.join(touched, on=list(source.id), how="left_anti")
    else:
        rivals, untouched = rest.limit(0), rest
    judged = _judged(incoming.unionByName(rivals.drop(LIVE)), source)
    staged = tables.stage(_by_date(judged.unionByName(untouched)), path)
    return _Update(staged, old, dates, retyped)


def _touched(good: DataFrame, whole: DataFrame, source: Source, mine: Column) -> tuple[date, ...]:
    """The dates on which rows come, go, or may gain or lose their right: those of the files' rows and of all rows with their ids."""
    theirs = whole.where(mine)
    dates = good.select(DATE).union(theirs.select(DATE))
    if source.id:
        touched = _ids(good, source).union(_ids(theirs, source)).distinct()
        dates = dates.union(whole.where(~mine).join(F.broadcast(touched), on=list(source.id), how="left_semi").select(DATE))
    return _dates(dates)


def _ids(rows: DataFrame, source: Source) -> DataFrame:
    return rows.select(*[f"`{name}`" for name in source.id])


def _judged(rows: DataFrame, source: Source) -> DataFrame:
    """The rows with `_hw_live`: per id the newest `arrived_at`, then the newest ingest, then the latest line."""
    if not source.id:
        return rows.withColumn(LIVE, F.lit(True))
    newest = [F.col(f"`{source.arrived_at}`").desc_nulls_last()] if source.arrived_at else []
    order = [*newest, F.col(INGEST).desc(), F.col(FILE).desc(), F.col(LINE).desc()]
    window = Window.partitionBy(*[f"`{name}`" for name in source.id]).orderBy(*order)
    return rows.withColumn(LIVE, F.row_number().over(window) == 1)


def _with_age(incoming: DataFrame, before: DataFrame) -> DataFrame:
    """A row that the file held before keeps the number of the ingest that brought it."""
    columns = [name for name in incoming.columns if not name.startswith("_hw_")]
    ages = before.withColumn(CONTENT, tables.fingerprint_of(columns)).groupBy(FILE, CONTENT).agg(F.min(INGEST).alias("_hw_age"))
    aged = incoming.join(F.broadcast(ages), on=[FILE, CONTENT], how="left")
    return aged.withColumn(INGEST, F.coalesce("_hw_age", INGEST)).drop("_hw_age", CONTENT)


def _with_columns(old: DataFrame, source: Source) -> DataFrame:
    """The table's rows in the source's present columns: one that the definition gained is null in older rows."""
    have = set(old.columns)
    columns = [
        (F.col(f"`{name}`") if name in have else F.lit(None)).try_cast(tables.spark_type(kind)).alias(name)
        for name, kind in source.columns.items()
    ]
    return old.select(*columns, TIME, DATE, FILE, LINE, INGEST, LIVE)


def _by_date(rows: DataFrame) -> DataFrame:
    return rows.repartition(DATE)


def _dates(rows: DataFrame) -> tuple[date, ...]:
    return tuple(row[0] for row in rows.select(DATE).distinct().collect())


def _commit(update: _Update, source: Source, place: Place, ingest_id: str) -> None:
    path = layout.source_table(place.lake, source.name)
    if update.retyped:
        tables.overwrite(update.rows, path, commit_id=ingest_id, partition=(DATE,))
    elif update.dates:
        if update.before is not None:
            tables.add_columns(update.rows.sparkSession, path, [(n, tables.spark_type(k)) for n, k in source.columns.items()])
        tables.replace(update.rows, path, where=tables.in_dates(DATE, update.dates), commit_id=ingest_id, partition=(DATE,))


def _revisions(update: _Update, source: Source, number: int, now: datetime) -> tuple[Revision, ...]:
    """One revision per date on which live rows were added, removed or altered."""
    new = _contents(update.rows, 1, source)
    both = new if update.before is None else new.union(_contents(update.before, -1, source))
    altered = both.groupBy(DATE, TIME, "content").agg(F.sum("sign").alias("net"), F.sum(F.greatest("sign", F.lit(0))).alias("n"))
    by_date = altered.groupBy(DATE).agg(
        F.min(F.when(F.col("net") != 0, F.unix_micros(TIME))).alias("first"),
        F.max(F.when(F.col("net") != 0, F.unix_micros(TIME))).alias("last"),
        F.sum("n").alias("rows"),
        F.hex(F.xxhash64(F.array_sort(F.collect_list(F.when(F.col("n") > 0, F.struct("content", "n")))))).alias("hash"),
    )
    changed_dates = by_date.where(F.col("first").isNotNull()).orderBy(DATE).collect()
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
            recorded_at=now,
        )
        for row in changed_dates
    )


def _contents(rows: DataFrame, sign: int, source: Source) -> DataFrame:
    content = tables.fingerprint_of(list(source.columns))
    return rows.where(LIVE).select(DATE, TIME, content.alias("content"), F.lit(sign).alias("sign"))


def _brought(file: Landed, counts: Mapping[str, Mapping[str, int]], source: str, ingest_id: str) -> IngestedFile:
    mine = counts.get(file.name, {})
    good = mine.get("", 0)
    return IngestedFile(source, file.name, file.sha256, good, sum(mine.values()) - good, ingest_id)


_TIME = pa.timestamp("us", tz="UTC")
_REVISIONS = pa.schema(
    [
        ("source", pa.string()),
        ("revision", pa.int64()),
        ("date", pa.date32()),
        ("first", _TIME),
        ("end", _TIME),
        ("content_hash", pa.string()),
        ("rows", pa.int64()),
        ("recorded_at", _TIME),
        ("ingest_id", pa.string()),
    ]
)


def _revision_rows(revisions: Sequence[Revision], ingest_id: str) -> pa.Table:
    return pa.Table.from_pylist([asdict(revision) | {"ingest_id": ingest_id} for revision in revisions], schema=_REVISIONS)


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
