"""Delta tables: the only place that writes them. Every commit carries an id, so that it happens once and can be looked up."""

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction
from pyarrow import fs
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from feature_definitions.intervals import Interval, instant, micros
from spark_jobs import session

_TRIES = 5
_WHOLE = 32
"""Strings up to this length are whole in statistics."""
SPARK_TYPES = {"string": "string", "int64": "bigint", "double": "double", "boolean": "boolean", "date": "date", "timestamp": "timestamp"}
ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


class Overtaken(RuntimeError):
    """What was to be replaced was changed by somebody else meanwhile: nothing of this write is seen."""


def spark_type(kind: str) -> str:
    """The Spark SQL type of a Headwater type."""
    if kind.startswith("array<"):
        return f"array<{spark_type(kind[6:-1])}>"
    return SPARK_TYPES.get(kind, kind)


def arrow_type(kind: str) -> pa.DataType:
    """The Arrow type of a Headwater type; timestamps are microseconds in UTC."""
    if kind.startswith("array<"):
        return pa.list_(arrow_type(kind[6:-1]))
    if kind.startswith("decimal"):
        digits, scale = kind.removeprefix("decimal(").rstrip(")").split(",")
        return pa.decimal128(int(digits), int(scale))
    return ARROW_TYPES[kind]


def exists(path: str) -> bool:
    """Whether there is a Delta table at `path`."""
    return Path(path, "_delta_log").is_dir() and DeltaTable.is_deltatable(path)


def read(spark: SparkSession, path: str) -> DataFrame:
    """The newest state of one of our Delta tables.

    Its log is read without Spark, to which reading a new version costs more than a small job (1.1 CPU-s against 0.2, measured); where there
    are very many files, or somebody turned on what only Delta's own reader understands, it is left to that.
    """
    table = DeltaTable(path)
    files = _files(table)
    if table.protocol().min_reader_version > 1 or len(files) > session.LISTED:
        return spark.read.format("delta").load(path)
    return _parquet(spark, table, files)


def load(path: str) -> pa.Table:
    """The newest state of a small Delta table, without Spark."""
    return DeltaTable(path).to_pyarrow_table(filesystem=_filesystem(path))


def committed(path: str, commit_id: str) -> bool:
    """Whether the commit with this id happened: the table's log keeps the ids, through checkpoints too."""
    return exists(path) and DeltaTable(path).transaction_version(commit_id) is not None


def commit_of(path: str, commit_id: str) -> tuple[int, datetime]:
    """The version and time of a commit; raises LookupError if the log does not tell of it (any more)."""
    table = DeltaTable(path)
    for entry in (entry for limit in (1, None) for entry in table.history(limit)):
        if entry.get("userMetadata") == commit_id:
            return int(entry["version"]), instant(int(entry["timestamp"]) * 1000)
    raise LookupError(f"{path} has no commit {commit_id} in its log")


def oldest_commit(path: str) -> datetime:
    """The time of the oldest commit that the log still tells of: none that it has forgotten was later."""
    return instant(min(int(entry["timestamp"]) for entry in DeltaTable(path).history()) * 1000)


def table_id(path: str) -> str | None:
    """The id that a Delta table was given when it was made; None if there is no table."""
    return str(DeltaTable(path).metadata().id) if exists(path) else None


def state(path: str) -> tuple[str, int]:
    """The id and the newest version of a Delta table."""
    table = DeltaTable(path)
    return str(table.metadata().id), table.version()


def readable(path: str, version: int) -> bool:
    """Whether a version of a local Delta table can still be read: its log and the files that the newest version lacks are there."""
    try:
        newest, then = DeltaTable(path), DeltaTable(path, version=version)
    except DeltaError:
        return False
    gone = set() if newest.version() == version else set(_files(then)) - set(_files(newest))
    return all(Path(file).exists() for file in gone)


def append(frame: DataFrame, path: str, *, commit_id: str, partition: Sequence[str] = ()) -> None:
    """Append rows in one commit, creating the table or adding columns where needed; a commit id that happened is not repeated."""
    _writer(frame, commit_id, partition).option("mergeSchema", "true").mode("append").save(path)


def replace(frame: DataFrame, path: str, *, where: str, commit_id: str, partition: Sequence[str] = ("date",)) -> None:
    """Replace the rows for which `where` holds by those of `frame`, all of which it holds for, in one commit."""
    _writer(frame, commit_id, partition).option("replaceWhere", where).mode("overwrite").save(path)


def replace_dates(frame: DataFrame, path: str, *, dates: Iterable[date], commit_id: str, staging: str, where: str = "") -> None:
    """Replace the rows of these dates, of them only those for which `where` holds, by those of `frame`, in one commit; by date partitioned.

    Spark writes the files in `staging`, of the table's own file system; then they are moved beside the others, and committed without Spark,
    whose own commit costs as much as a small job (measured: 0.35 CPU-s against 1.6). Raises Overtaken if anybody else changed one of the
    dates since this began.
    """
    table, days = DeltaTable(path), {day.isoformat() for day in dates}
    (column,) = table.metadata().partition_columns
    if table.protocol().min_writer_version > 2:
        condition = " AND ".join(filter(None, (in_dates(column, map(date.fromisoformat, days)), where)))
        replace(frame, path, where=condition, commit_id=commit_id, partition=(column,))
        return
    if table.transaction_version(commit_id) is not None:
        return
    rows, old = _in_schema(frame, table), _in_partitions(table, column, days)
    if where:
        refused = F.raise_error(F.lit(f"{path}: there are rows for which not: {where}")).cast("boolean")
        rows = rows.where(F.expr(where) | refused)
    if where and old:
        rows = rows.unionByName(_parquet(frame.sparkSession, table, [f"{path}/{one.path}" for one in old]).where(f"NOT ({where})"))
    rows.repartition(column).write.partitionBy(column).parquet(staging)
    written = sorted(Path(staging).glob(f"{column}=*/*.parquet"))
    if strange := {file.parent.name for file in written} - {f"{column}={day}" for day in days}:
        raise ValueError(f"{path}: rows of {sorted(strange)} are not of the dates that are replaced")
    _commit(table, column, days, old, [_moved(file, Path(path)) for file in written], commit_id)


def add_columns(spark: SparkSession, path: str, columns: Sequence[tuple[str, str]]) -> None:
    """Add columns that a table lacks, in a commit of their own."""
    have = {field.name for field in DeltaTable(path).schema().fields}
    missing = [f"`{name}` {kind}" for name, kind in columns if name not in have]
    if missing:
        spark.sql(f"ALTER TABLE delta.`{path}` ADD COLUMNS ({', '.join(missing)})")


def overwrite(frame: DataFrame, path: str, *, commit_id: str, partition: Sequence[str] = ()) -> None:
    """Replace a whole table, its columns too, in one commit."""
    _writer(frame, commit_id, partition).option("overwriteSchema", "true").mode("overwrite").save(path)


def append_records(path: str, rows: pa.Table) -> None:
    """Append rows to a small table without Spark; columns that it lacks are added, null in the rows before."""
    Path(path).mkdir(parents=True, exist_ok=True)
    write_deltalake(path, rows, mode="append", schema_mode="merge")


def replace_records(path: str, rows: pa.Table, *, commit_id: str) -> None:
    """Replace the rows of a small table without Spark, in one commit."""
    Path(path).mkdir(parents=True, exist_ok=True)
    done = CommitProperties({"userMetadata": commit_id}, app_transactions=[Transaction(commit_id, 1)])
    write_deltalake(path, rows, mode="overwrite", commit_properties=done)


def query(spark: SparkSession, sql: str, frames: Mapping[str, DataFrame]) -> DataFrame:
    """The rows that a query gives over frames, each a table by its name and in no catalog; lazy. Raises Spark's AnalysisException."""
    named: dict[str, Any] = {f"frame{n}": frame for n, frame in enumerate(frames.values())}
    views = ", ".join(f"`{name}` AS (SELECT * FROM {{{frame}}})" for name, frame in zip(frames, named, strict=True))
    text = sql.replace("{", "{{").replace("}", "}}")
    return spark.sql(f"WITH {views} SELECT * FROM ({text})", **named)


def stage(frame: DataFrame, path: str) -> DataFrame:
    """Write rows to Parquet that nobody else reads, and read them back: what follows sees one and the same result."""
    frame.write.mode("overwrite").parquet(path)
    return frame.sparkSession.read.schema(frame.schema).parquet(path)


def in_dates(column: str, dates: Iterable[date]) -> str:
    """The SQL condition that a date column is one of `dates`, in literal values that prune partitions."""
    listed = ", ".join(f"DATE'{day.isoformat()}'" for day in sorted(set(dates)))
    return f"`{column}` IN ({listed})" if listed else "false"


def within(column: str, spans: Sequence[Interval], *, after_start: bool) -> str:
    """The SQL condition that a time lies in one of the spans: in `(start, end]` where `after_start`, else in `[start, end)`."""
    low, high = (">", "<=") if after_start else (">=", "<")
    parts = [f"(`{column}` {low} {timestamp(s.start)} AND `{column}` {high} {timestamp(s.end)})" for s in spans]
    return "(" + " OR ".join(parts) + ")" if parts else "false"


def timestamp(at: datetime) -> str:
    """An instant as a Spark SQL literal, exact to the microsecond."""
    return f"TIMESTAMP'{at.strftime('%Y-%m-%d %H:%M:%S.%f')}+00:00'" if at.year >= 1000 else f"timestamp_micros({micros(at)})"


def fingerprint_of(columns: Sequence[str]) -> Column:
    """A 64-bit hash of a row's columns; nulls count, unlike in Spark's own hash of several columns."""
    parts = [part for name in columns for part in (F.col(name), F.col(name).isNull())]
    return F.xxhash64(*parts)


def _writer(frame: DataFrame, commit_id: str, partition: Sequence[str]):  # type: ignore[no-untyped-def]  # Spark's writer has no public type
    writer = frame.write.format("delta").option("txnAppId", commit_id).option("txnVersion", "1").option("userMetadata", commit_id)
    return writer.partitionBy(*partition) if partition else writer


def _commit(
    table: DeltaTable, column: str, days: Collection[str], old: Sequence[RemoveAction], new: Sequence[AddAction], commit_id: str
) -> None:
    """Put new files in the place of old ones, in the version that follows the one in which the dates have just these old ones."""
    done = CommitProperties({"userMetadata": commit_id}, max_commit_retries=0, app_transactions=[Transaction(commit_id, 1)])
    seen, schema = {one.path for one in old}, table.schema()
    for _ in range(_TRIES):
        try:
            table.create_write_transaction([*old, *new], "append", schema, [column], commit_properties=done)
        except CommitFailedError:
            table = DeltaTable(table.table_uri)
            if {one.path for one in _in_partitions(table, column, days)} != seen or table.schema() != schema:
                break
        else:
            return
    raise Overtaken(f"somebody else wrote to {table.table_uri} at the same time; nothing was changed: run the same command again")


def _parquet(spark: SparkSession, table: DeltaTable, files: Sequence[str]) -> DataFrame:
    """The rows of some of a table's files."""
    schema, path = _schema(table), unquote(urlsplit(table.table_uri).path)
    if not files:
        return spark.createDataFrame([], schema)
    found = spark.read.schema(schema).options(basePath=path, __globPaths__="false").parquet(*files)
    return found.select(*[F.col(f"`{name}`") for name in schema.names])


def _schema(table: DeltaTable) -> StructType:
    return StructType.fromJson(json.loads(table.schema().to_json()))


def _in_schema(frame: DataFrame, table: DeltaTable) -> DataFrame:
    """The rows in a table's columns and types; what they lack is null, and what the table lacks is refused."""
    schema = _schema(table)
    if unknown := set(frame.columns) - set(schema.names):
        raise ValueError(f"{table.table_uri} has no columns {sorted(unknown)}")
    columns = {field: F.col(f"`{field.name}`") if field.name in frame.columns else F.lit(None) for field in schema}
    return frame.select(*[column.cast(field.dataType).alias(field.name) for field, column in columns.items()])


def _in_partitions(table: DeltaTable, column: str, values: Collection[str]) -> list[RemoveAction]:
    """The removal of each file of these partitions."""
    files = pa.table(table.get_add_actions(flatten=True)).select(["path", "size_bytes", f"partition.{column}"])
    found, now = zip(*(each.to_pylist() for each in files.columns), strict=True), int(time.time() * 1000)
    return [RemoveAction(path, True, now, size, {column: str(value)}) for path, size, value in found if str(value) in values]


def _moved(file: Path, table: Path) -> AddAction:
    """Move a file that was written elsewhere to where it belongs in a table, and say so to the table's log."""
    partition, found = file.parent.name, file.stat()
    (table / partition).mkdir(exist_ok=True)
    file = file.replace(table / partition / file.name)
    column, _, value = partition.partition("=")
    path = str(file.relative_to(table))
    return AddAction(path, found.st_size, {column: value}, int(found.st_mtime * 1000), True, json.dumps(_statistics(file)))


def _statistics(file: Path) -> dict[str, Any]:
    """How many rows and nulls a Parquet file has, and its least and greatest values, where their types let readers skip files by them."""
    found = pq.read_metadata(file)
    groups = [found.row_group(number) for number in range(found.num_row_groups)]
    least, greatest, nulls = {}, {}, {}
    for number, name in enumerate(found.schema.names):
        chunks = [group.column(number).statistics for group in groups]
        if found.schema.column(number).path != name or any(chunk is None or not chunk.has_null_count for chunk in chunks):
            continue
        nulls[name] = sum(chunk.null_count for chunk in chunks)
        known = [chunk for chunk in chunks if chunk.num_values]
        bounds = [_bound(chunk.min) for chunk in known if chunk.has_min_max], [_bound(chunk.max) for chunk in known if chunk.has_min_max]
        if known and len(bounds[0]) == len(known) and None not in (*bounds[0], *bounds[1]):
            least[name], greatest[name] = min(bounds[0]), max(bounds[1])
    return {"numRecords": found.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _bound(value: object) -> Any:
    """A value as statistics spell it, in the same order; None where it would have to be cut, or may hide NaN."""
    match value:
        case bool() | float():
            return None
        case datetime(tzinfo=None):
            return None
        case datetime():
            return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
        case date():
            return value.isoformat()
        case int():
            return value
        case str() if len(value) <= _WHOLE:
            return value
    return None


def _files(table: DeltaTable) -> list[str]:
    """The paths of a table's data files."""
    return [unquote(uri) for uri in table.file_uris()]


def _filesystem(path: str) -> fs.SubTreeFileSystem:
    return fs.SubTreeFileSystem(path, fs.LocalFileSystem())
