"""Ingest: files become rows of a source's Delta table (`update`), bad rows go to quarantine, and what changed is recorded as a revision.

Rows whose dates lie far from all others go to quarantine too, as long as they do.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.counted import counted
from feature_definitions.language import Files, Source
from feature_definitions.layout import ASIDE, COLUMN, CONTENT, DATE, FILE, INGEST, LINE, LIVE, RAW, REASON, VALUE
from feature_definitions.planning import far
from feature_definitions.records import IngestedFile, Revision
from feature_definitions.sql import plain
from feature_definitions.sql.derivations import may_fail_beside
from lake import delta, quarantine, s3, storage
from lake.joined import Unlike
from lake.staging import staging
from spark_jobs import tables, workers
from spark_jobs.context import Context
from spark_jobs.ingest import (
    changes,
    columnar,
    events,
    far_dates,
    folders,
    formats,
    here,
    hints,
    journal,
    landing,
    parsing,
    refused_rows,
    seen,
    update,
    whereabouts,
)
from spark_jobs.ingest.derived import BESIDE
from spark_jobs.ingest.journal import Ingest, IngestReport
from spark_jobs.ingest.landing import Landed, Look
from spark_jobs.ingest.parsing import FileRefused, Shape
from spark_jobs.ingest.row_blocks import Room
from spark_jobs.ingest.seen import RowsBrought
from spark_jobs.ingest.update import Coming, RowsSeen, Update, bounds_in, bounds_of_ids
from spark_jobs.ingest.whereabouts import Place

_SMALL = 4 * 2**20
"""Files of so many bytes together are read by this process: to start Python beside Spark's workers costs more."""
_BESIDE = f"{FILE} string, {LINE} bigint, {parsing.REFUSED}"
"""What stands beside the source's columns, as a Spark schema."""
_LISTED = "name string, came_as string, path string, size bigint, tag string, format string"
_MOST, _HINTS = 0.9, 3
"""A file of which fewer rows are good is looked at for what its source may have to say of it; so many of them."""


def ingest(job: Ingest) -> IngestReport:
    """Bring the files that are new or changed into the source's table in one commit.

    Files that cannot be read whole are refused and leave what they brought before as it was. A file that only has another name brings
    nothing; one that somebody writes meanwhile is left for the next time.
    """
    source, context = job.source, job.context
    look = landing.look(source, context, again=job.again)
    if look.is_empty and isinstance(source.at, Files):
        return replace(_without_rows(job, look), hints=tuple(_of_nothing(job, source.at)))
    if not look.read:
        return _without_rows(job, look)
    context.say(f"ingesting {source.name}: {counted(len(look.read), 'file')}")
    with staging(context.lake, job.ingest_id):
        if _needs_no_spark(job):
            with suppress(Unlike):  # nothing was committed
                return _ingested_here(job, look)
        return _ingested_by_spark(job, look)


def _needs_no_spark(job: Ingest) -> bool:
    """Whether Spark would run on this machine alone, plain SQL says whether a row is taken, and the rows and tables are plain ones."""
    source, context = job.source, job.context
    return context.master.startswith("local") and not source.lag and plain.demands(source) is not None and here.takes(job)


def _ingested_here(job: Ingest, look: Look) -> IngestReport:
    """Without Spark."""
    shapes = _shapes(look.read, job.source)
    batches = (batch for f in look.read for batch in _read(f.name, f.came_as, f.path, shapes[f.format]))
    with _room(job) as room:
        rows = seen.rows(batches, job.source, room, bad=f"{room.folder}/bad.parquet")
        look = landing.looked_again(look, refused=rows.seen.refused)
        hinted = _hints(job, look, rows.seen)
        return replace(_taken_here(job, look, rows, room) if look.read else _without_rows(job, look), hints=hinted)


@contextmanager
def _room(job: Ingest) -> Iterator[Room]:
    """Where rows are kept on this machine: in the staging folder, if that lies here."""
    if not s3.is_remote(job.staging):
        yield Room(job.staging)
        return
    with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
        yield Room(folder)


def _ingested_by_spark(job: Ingest, look: Look) -> IngestReport:
    parsed = _parsed(job, look.read)
    found = _seen(parsed, job.source)
    look = landing.looked_again(look, refused=found.refused)
    hinted = _hints(job, look, found)
    if not look.read:
        return replace(_without_rows(job, look), hints=hinted)
    return replace(_taken(job, look, parsed.where(F.col(FILE).isin([f.came_as for f in look.read])), found), hints=hinted)


def _hints(job: Ingest, look: Look, seen: RowsSeen) -> tuple[str, ...]:
    """What the source may have to say of files of which many rows are put aside.

    At its first ingest also of those that its globs miss, and of JSON, in which a field that is called otherwise is null without a word.
    """
    source, read = job.source, look.read
    bare = [file.name for file in read if not seen.counts.get(file.came_as)]
    found = [f"no rows are in {bare[0]}{f' and {len(bare) - 1:,} more' if bare[1:] else ''}"] if bare else []
    is_first = not job.context.registry.files(source.name)
    if isinstance(source.at, Files) and is_first:
        found += hints.of_globs(source.at.paths, root=job.context.root)
    if not (is_first and isinstance(source.at, Files) and source.at.format == "jsonl"):
        read = tuple(f for f in read if seen.counts.get(f.came_as, {}).get("", 0) < sum(seen.counts.get(f.came_as, {}).values()) * _MOST)
    for file in read[:_HINTS]:
        hint = hints.of_file(file.path, folders.at(parsing.shape(source, file.format), file.name))
        found += [] if hint is None else [f"{file.name}: {hint}"]
    return tuple(found)


def _of_nothing(job: Ingest, at: Files) -> Iterator[str]:
    """What is said where no file of a source is."""
    known, root = [file for file in job.context.registry.files(job.source.name).values() if file.rows], job.context.root
    stay = "; the rows of {} that were there stay, until files without rows lie under these names".format
    yield f"no file is at {whereabouts.shown(at.paths, root=root)}{stay(counted(len(known), 'file')) if known else ''}"
    yield from hints.of_globs(at.paths, root=root)
    yield from hints.of_names(at.paths, root=root)


def _without_rows(job: Ingest, look: Look) -> IngestReport:
    """Note which files have another name now, and which rows lie far from all others no more, or do so now; nothing else is new."""
    if far_dates.moves(job):
        job.context.say(f"{job.source.name}: other dates are read now")
        with staging(job.context.lake, job.ingest_id):
            if _needs_no_spark(job):
                with suppress(Unlike), _room(job) as room:  # nothing was committed
                    return _taken_here(job, look, RowsBrought(RowsSeen({}, {})), room)
            nothing = job.context.spark.createDataFrame([], f"{tables.columns_sql(job.source.columns)}, {_BESIDE}")
            return _taken(job, look, _judged(nothing, job.source), RowsSeen({}, {}))
    if look.renamed or look.tagged:
        journal.record(job, landing.renamings(look, (), ingest_id=job.ingest_id), (), None)
    return _reported(job.source, look)


def _reported(source: Source, look: Look) -> IngestReport:
    """What is said of files, whatever they bring."""
    renamed = {name: record.path for name, record in look.renamed}
    return IngestReport(source.name, refused=tuple(look.refused.values()), renamed=renamed, waiting=look.waiting)


def _taken_here(job: Ingest, look: Look, rows: RowsBrought, room: Room) -> IngestReport:
    """Put the rows of these files into the source's table, or into quarantine, without Spark."""
    names, number = [f.came_as for f in look.read], job.context.registry.next_revision(job.source.name)
    made = here.of_files(rows.of(names), names, job, room, number=number)
    if names:
        refused_rows.put_aside(rows.bad, names, job, room)
    refused_rows.put_far_aside(here.lying_aside(made, job.source), made.aside, job, room)
    revisions = changes.revisions(made.blocks, number, job) if made.dates else ()
    commit = partial(here.commit, made, number, job, room) if made.dates else None
    return _recorded(job, look, _Taken(rows.seen, made.by_file, made.summary, revisions), commit)


def _taken(job: Ingest, look: Look, rows: DataFrame, found: RowsSeen) -> IngestReport:
    """Put the rows of these files into the source's table, or into quarantine."""
    names, source = [f.came_as for f in look.read], job.source
    if names:
        _quarantine(rows, found, names, job)
    number = job.context.registry.next_revision(source.name)
    good = rows.where(F.col(REASON).isNull()).drop(REASON, COLUMN, VALUE, RAW).withColumn(INGEST, F.lit(number).cast("bigint"))
    made = update.of_files(Coming(good, names, found.good, found.dates, found.ids), job)
    _quarantine_aside(made, job)
    _quarantine_failing(made, job)
    revisions = update.revisions(made, number, job)
    commit = partial(update.commit, made, job) if made.dates else None
    return _recorded(job, look, _Taken(found, made.by_file, made.summary, revisions), commit)


class _Taken(NamedTuple):
    """What files brought, how many rows of each lie aside, how many rows do for which reason, and what is recorded of it."""

    seen: RowsSeen
    aside: Mapping[str, int]
    summary: Mapping[str, int]
    revisions: Sequence[Revision]


def _recorded(job: Ingest, look: Look, taken: _Taken, commit: Callable[[], None] | None) -> IngestReport:
    """Note what files brought, and make it visible."""
    counts, names = taken.seen.counts, [f.came_as for f in look.read]
    brought = tuple(_brought(file, counts, taken.aside, job) for file in look.read)
    renamed = landing.renamings(look, [f.path for f in brought], ingest_id=job.ingest_id)
    journal.record(job, (*brought, *renamed), taken.revisions, commit)
    return replace(
        _reported(job.source, look),
        files=len(brought),
        rows=sum(f.rows for f in brought),
        quarantined=sum(_refused(counts.get(name, {})) for name in names) + sum(taken.summary.values()),
        reasons=_kinds([counts.get(name, {}) for name in names]) | dict(taken.summary),
        dates_changed=len(taken.revisions),
        revision=taken.revisions[0].revision if taken.revisions else None,
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
    shapes = _shapes(found, source)
    listed = [(f.name, f.came_as, *whereabouts.told(f.path), f.format) for f in found]
    schema = f"{tables.columns_sql(source.columns)}, {_BESIDE}"
    if sum(f.mark[0] for f in found) <= _SMALL:
        _read_here(listed, shapes, job.staging)
        rows = tables.staged(spark, path, schema=schema)
    else:
        parts = max(1, min(len(listed), spark.sparkContext.defaultParallelism * 4))
        names = spark.createDataFrame(spark.sparkContext.parallelize(listed, parts), _LISTED)
        with workers.as_raised():
            rows = tables.stage(names.mapInArrow(workers.carrying(_reader(shapes)), schema), path)
    return _judged(rows, source)


def _shapes(found: Sequence[Landed], source: Source) -> dict[str, Shape]:
    """The shape of the files of each format."""
    return {kind: parsing.shape(source, kind) for kind in {f.format for f in found}}


def _judged(rows: DataFrame, source: Source) -> DataFrame:
    """Typed rows with their time, date and content."""
    return events.judged(rows, source).withColumn(CONTENT, tables.fingerprint_of(list(source.columns)))


def _read_here(listed: Sequence[tuple[str, str, str, int | None, str | None, str]], shapes: Mapping[str, Shape], folder: str) -> None:
    """Read the files in this process, into `parsed` in a folder."""
    with pq.ParquetWriter("parsed", parsing.schema(next(iter(shapes.values()))), filesystem=storage.arrow(folder)) as writer:
        for name, came_as, path, size, tag, kind in listed:
            for batch in _read(name, came_as, whereabouts.place(path, size, tag), shapes[kind]):
                writer.write_batch(batch)


def _reader(shapes: Mapping[str, Shape]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for row in batch.to_pylist():
                file = whereabouts.place(row["path"], row["size"], row["tag"])
                yield from _read(row["name"], row["came_as"], file, shapes[row["format"]])

    return read


def _read(name: str, came_as: str, path: Place, wanted: Shape) -> Iterator[pa.RecordBatch]:
    """The rows of a file by the name that its rows go by; what is wrong with it is said of the name that it has."""
    for batch in _rows_of(name, path, wanted):
        yield batch if came_as == name else _renamed(batch, came_as)


def _rows_of(name: str, path: Place, wanted: Shape) -> Iterator[pa.RecordBatch]:
    try:
        yield from formats.read(path, wanted, name=name)
    except FileRefused as error:
        yield parsing.refusal(str(error), wanted, name=name)


def _renamed(batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
    return batch.set_column(batch.schema.get_field_index(FILE), FILE, pa.array([name] * batch.num_rows, pa.string()))


def _seen(rows: DataFrame, source: Source) -> RowsSeen:
    whole, good = (F.col(LINE) == 0).alias("whole"), F.col(REASON).isNull()
    day = F.when(good, F.col(DATE)).alias("day")
    groups = rows.groupBy(FILE, whole, F.coalesce(REASON, F.lit("")).alias("reason"), day)
    found = groups.agg(F.count(F.lit(1)).alias("n"), *bounds_of_ids(source)).collect()
    refused = {row[FILE]: row["reason"] for row in found if row["whole"]}
    counts: dict[str, dict[str, int]] = {}
    for row in found:
        reasons = counts.setdefault(row[FILE], {})
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + row["n"]
    taken = [row for row in found if row["day"] is not None and row[FILE] not in refused]
    return RowsSeen(counts, refused, frozenset(row["day"] for row in taken), tuple(bounds_in(row, source) for row in taken))


def _kinds(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Reasons without the values that they quote, most frequent first."""
    kinds: dict[str, int] = {}
    for file_reasons in counts:
        for reason, n in file_reasons.items():
            if reason:
                kind = quarantine.kind(reason)
                kinds[kind] = kinds.get(kind, 0) + n
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def _quarantine(rows: DataFrame, seen: RowsSeen, names: Sequence[str], job: Ingest) -> None:
    """Put refused rows aside with file, line and reason; those that the same files had before are replaced."""
    source, path, fence = job.source, layout.quarantine_table(job.context.lake, job.source.name), job.fence
    listed = ", ".join(delta.literal(name) for name in names)
    if not any(reason for name in names for reason in seen.counts.get(name, {})) and not delta.holds(path, f"file IN ({listed})"):
        return
    bad = rows.where(F.col(REASON).isNotNull())
    columns = [F.element_at(RAW, name).alias(quarantine.beside(name)) for name in source.columns]
    both = zip(columns, source.columns, strict=True)
    typed = [F.coalesce(raw, F.col(f"`{name}`").cast("string")).alias(quarantine.beside(name)) for raw, name in both]
    own = {FILE: "file", LINE: "line", REASON: "reason", COLUMN: "column", VALUE: "value"}
    told = [F.col(name).alias(shown) for name, shown in own.items()]
    frame = bad.select(*told, *typed, F.lit(job.now).alias("quarantined_at"))
    if delta.holds(path, f"file IN ({listed})"):
        escaped = ", ".join("'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'" for name in names)
        tables.add_columns(rows.sparkSession, path, [(c, "string") for c in frame.columns if c not in ("line", "quarantined_at")])
        tables.replace(frame, path, where=f"file IN ({escaped})", commit_id=job.ingest_id, fence=fence)
    else:
        tables.append(frame, path, commit_id=job.ingest_id, fence=fence)


def _quarantine_aside(made: Update, job: Ingest) -> None:
    """Put beside the refused rows all those that lie aside because of their dates, in the place of those that did so before."""
    source, path, aside = job.source, layout.quarantine_table(job.context.lake, job.source.name), made.aside
    before = delta.holds(path, f"reason ~ '{far.REASONS}'")
    if aside is None or not (aside.rows or before):
        return
    told = job.context.spark.createDataFrame(list(aside.reasons.items()), f"{DATE} date, {REASON} string")
    lying = made.rows.where(F.col(ASIDE) & ~F.col(LIVE)).drop(REASON).join(F.broadcast(told), on=DATE)
    told_of = {COLUMN: F.lit(source.event_timestamp), VALUE: F.col(f"`{source.event_timestamp}`").cast("string")}
    _replace(_told(lying.withColumns(told_of), job), far.REASONS if before else "", job, commit="aside")


def _quarantine_failing(made: Update, job: Ingest) -> None:
    """Put beside them all live rows that fail because of the row before; those that did so before stay where nothing was touched."""
    path = layout.quarantine_table(job.context.lake, job.source.name)
    if not may_fail_beside(job.source) or not made.dates:
        return
    frame, before = _told(made.rows.where(F.col(ASIDE) & F.col(LIVE)), job), delta.holds(path, f"reason ~ '{BESIDE}'")
    if before:
        others = tables.read(job.context.spark, path).where(f"reason RLIKE '{BESIDE}'")
        touched = made.rows.select(F.col(FILE).alias("file"), F.col(LINE).alias("line"))
        frame = others.join(touched, on=["file", "line"], how="left_anti").unionByName(frame, allowMissingColumns=True)
    if before or made.failing:
        _replace(frame, BESIDE if before else "", job, commit="failing")


def _told(rows: DataFrame, job: Ingest) -> DataFrame:
    """Rows of a source's table as they stand in quarantine."""
    own = {FILE: "file", LINE: "line", REASON: "reason", COLUMN: "column", VALUE: "value"}
    texts = [F.col(f"`{name}`").cast("string").alias(quarantine.beside(name)) for name in job.source.columns]
    return rows.select(*[F.col(name).alias(shown) for name, shown in own.items()], *texts, F.lit(job.now).alias("quarantined_at"))


def _replace(frame: DataFrame, reasons: str, job: Ingest, *, commit: str) -> None:
    """Put rows into quarantine, in the place of those with such a reason, if there are any."""
    path, fence = layout.quarantine_table(job.context.lake, job.source.name), job.context.registry.fence
    if not reasons:
        tables.append(frame, path, commit_id=f"{job.ingest_id}-{commit}", fence=fence)
        return
    tables.add_columns(frame.sparkSession, path, [(c, "string") for c in frame.columns if c not in ("line", "quarantined_at")])
    tables.replace(frame, path, where=f"reason RLIKE '{reasons}'", commit_id=f"{job.ingest_id}-{commit}", fence=fence)


def _brought(file: Landed, counts: Mapping[str, Mapping[str, int]], lying: Mapping[str, int], job: Ingest) -> IngestedFile:
    mine, aside = counts.get(file.came_as, {}), lying.get(file.came_as, 0)
    good, refused = mine.get("", 0) - aside, _refused(mine) + aside
    came_as = None if file.came_as == file.name else file.came_as
    return IngestedFile(job.source.name, file.name, file.sha256, good, refused, job.ingest_id, came_as, file.tag)


def _refused(reasons: Mapping[str, int]) -> int:
    """How many rows have a reason."""
    return sum(reasons.values()) - reasons.get("", 0)
