"""Delta tables: the only place that writes them. Every commit carries an id, so that it happens once and can be looked up."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError
from pyarrow import fs
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from feature_definitions.intervals import Interval, instant, micros
from spark_jobs import session

SPARK_TYPES = {"string": "string", "int64": "bigint", "double": "double", "boolean": "boolean", "date": "date", "timestamp": "timestamp"}
ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


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
    schema = StructType.fromJson(json.loads(table.schema().to_json()))
    if not files:
        return spark.createDataFrame([], schema)
    found = spark.read.schema(schema).options(basePath=path, __globPaths__="false").parquet(*files)
    return found.select(*[F.col(f"`{name}`") for name in schema.names])


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


def _files(table: DeltaTable) -> list[str]:
    """The paths of a table's data files."""
    return [unquote(uri) for uri in table.file_uris()]


def _filesystem(path: str) -> fs.SubTreeFileSystem:
    return fs.SubTreeFileSystem(path, fs.LocalFileSystem())
