"""Delta tables: the only place that writes them. Every commit carries an id, so that it happens once and can be looked up."""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from functools import partial, reduce
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction
from pyspark.sql import Column, DataFrame, DataFrameReader, DataFrameWriter, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import StructType

from feature_definitions import layout
from feature_definitions.errors import UserError
from feature_definitions.intervals import Interval, micros
from feature_definitions.sql.data_types import element_of
from lake import delta, delta_commits, delta_files, leftovers, s3, split, storage
from lake.arrow_types import arrow_type
from lake.delta_commits import Fence
from spark_jobs import nearby, session, workers

SPARK_TYPES = {"string": "string", "int64": "bigint", "double": "double", "boolean": "boolean", "date": "date", "timestamp": "timestamp"}

_SOME_BYTES, _FEW_BYTES = 2_000_000, 64_000_000
"""Of how many bytes Spark may take rows to be that it writes itself, and of how many those that are written as one file first."""


class Unwritable(UserError):
    """A table on S3 that only Delta's own writer could change."""


def spark_type(kind: str) -> str:
    """The Spark SQL type of a Headwater type."""
    if kind.startswith("array<"):
        return f"array<{spark_type(kind[6:-1])}>"
    return SPARK_TYPES.get(kind, kind)


def literal(value: object, data_type: str) -> Column:
    """A value as a column of its type; arrays are tuples."""
    match value:
        case tuple():
            return F.array(*[literal(each, element_of(data_type)) for each in value]).cast(spark_type(data_type))
        case datetime():
            return F.timestamp_micros(F.lit(micros(value)))
    return F.lit(value).cast(spark_type(data_type))


def data_type(kind: str) -> T.DataType:
    """The Spark type of a Headwater type, without a call of Java."""
    return from_arrow_type(arrow_type(kind))


def type_named(given: T.DataType) -> str:
    """A Spark type by our name, of whatever width it is; Spark's own where we have none."""
    match given:
        case T.ArrayType():
            return f"array<{type_named(given.elementType)}>"
        case T.ByteType() | T.ShortType() | T.IntegerType() | T.LongType():
            return "int64"
        case T.FloatType() | T.DoubleType():
            return "double"
        case T.StringType() | T.VarcharType() | T.CharType():
            return "string"
        case T.NullType():
            return "null"
    return given.simpleString()


def columns_sql(columns: Mapping[str, str]) -> str:
    """Columns of Headwater types as a Spark schema."""
    return ", ".join(f"`{name}` {spark_type(kind)}" for name, kind in columns.items())


def every_date(_: date) -> bool:
    """All dates are wanted."""
    return True


def read(spark: SparkSession, path: str, *, wanted: delta_files.Wanted | None = None) -> DataFrame:
    """The newest state of one of our Delta tables; of the dates that are `wanted` at least, where it is known which are.

    Its log is read without Spark, to which reading a new version costs more than a small job (1.1 CPU-s against 0.2, measured); where there
    are very many files, or somebody turned on what only Delta's own reader understands, it is left to that.
    Files on S3 of the dates that are wanted are brought here at once, if they are small and Spark runs here; many small ones are read as
    one.
    """
    table = delta.told(path) or delta.opened(path)
    files, root = delta_files.sizes(table, at=path, wanted=wanted), path
    if table.protocol().min_reader_version > 1:
        return spark.read.format("delta").load(path)
    near = nearby.copied(spark, files) if wanted is not None and s3.is_remote(path) else None
    if near is not None:
        files, root = {nearby.place(near, file): size for file, size in files.items()}, nearby.place(near, path)
    one = nearby.whole(spark, table, files, at=path) or nearby.one_of_many(spark, table, files, root=root)
    if one is not None:
        return staged(spark, one, schema=_schema(table))
    return spark.read.format("delta").load(path) if len(files) > session.LISTED else _parquet(spark, table, files, root=root)


def files_here(spark: SparkSession, path: str, *, wanted: delta_files.Wanted) -> Mapping[str, int] | None:
    """The bytes of each file of a table on this machine, of the dates that are wanted at least; None where Spark is to read it.

    Rows that this session parted by date are taken from where they still lie together. Files on S3 are copied, if they are small. Spark
    reads what only Delta's own reader understands, and where it does not run here.
    """
    if not session.is_local(spark):
        return None
    table = delta.told(path) or delta.opened(path)
    if table.protocol().min_reader_version > 1:
        return None
    files = delta_files.sizes(table, at=path, wanted=wanted)
    if not s3.is_remote(path):
        together = nearby.whole(spark, table, files, at=path)
        return files if together is None else {file.path: file.size for file in storage.files(together, suffix=".parquet")}
    near = nearby.copied(spark, files) if files else ""
    return None if near is None else {nearby.place(near, file): size for file, size in files.items()}


def append(frame: DataFrame, path: str, *, commit_id: str, partition: Sequence[str] = (), fence: Fence | None = None) -> None:
    """Append rows in one commit, creating the table or adding columns where needed; a commit id that happened is not repeated."""
    table = delta_commits.create(path, frame.schema.json(), partition=partition)
    if _only_delta_writes(table):
        _delta_writer(frame, commit_id, fence, partition=partition).option("mergeSchema", "true").mode("append").save(path)
    elif table.transaction_version(commit_id) is None:
        table = delta_commits.add_columns(table, frame.schema.json())
        new = _written(_in_schema(frame, table), table.metadata().partition_columns, path, commit_id)
        delta_commits.commit(table, days=(), old=(), new=new, commit_id=commit_id, fence=fence)


def replace(
    frame: DataFrame,
    path: str,
    *,
    dates: Iterable[date] | None = None,
    where: str = "",
    commit_id: str,
    fence: Fence | None = None,
) -> None:
    """Replace a table's rows of these dates (None: all), of them only those for which `where` holds, by those of `frame`, in one commit.

    The table is partitioned by date; where no dates are named it need not be.
    Raises CommitConflict if anybody else changed one of the dates since this began.
    """
    table, days = delta.opened(path), None if dates is None else {day.isoformat() for day in dates}
    if _only_delta_writes(table):
        condition = _condition(table, days, where)
        _delta_writer(frame, commit_id, fence).option("replaceWhere", condition).mode("overwrite").save(path)
        return
    if table.transaction_version(commit_id) is not None:
        return
    rows, old = _in_schema(frame, table), delta_files.in_partitions(table, days)
    if where:
        refused = F.raise_error(F.lit(f"{path}: there are rows for which not: {where}")).cast("boolean")
        rows = rows.where(F.expr(where) | refused)
    if where and old:
        before = _parquet(frame.sparkSession, table, {f"{path}/{one.path}": one.size or 0 for one in old}, root=path)
        rows = rows.unionByName(before.where(f"({where}) IS NOT TRUE"))
    new = _written(rows, table.metadata().partition_columns, path, commit_id)
    found = {str(value) for action in new for value in action.partition_values.values()}
    if days is not None and found - days:
        raise ValueError(f"{path}: rows of {sorted(found - days)} are not of the dates that are replaced")
    delta_commits.commit(table, days=days, old=old, new=new, commit_id=commit_id, fence=fence)


def overwrite(
    frame: DataFrame,
    path: str,
    *,
    commit_id: str,
    partition: Sequence[str] = (),
    order: Sequence[str] = (),
    fence: Fence | None = None,
) -> None:
    """Replace a whole table, its columns too, in one commit; each file's rows are in the order of some columns."""
    table = delta_commits.create(path, frame.schema.json(), partition=partition)
    if _only_delta_writes(table):
        writer = _delta_writer(frame, commit_id, fence, partition=partition)
        writer.option("overwriteSchema", "true").mode("overwrite").save(path)
    elif table.transaction_version(commit_id) is None:
        new = _written(frame, partition, path, commit_id, order=order)
        delta_commits.overwrite(table, schema=frame.schema.json(), partition=partition, new=new, commit_id=commit_id, fence=fence)


class RunFiles(NamedTuple):
    """Files that workers wrote in a folder of a run: where, how many rows each has by its place in there, and the columns of the table."""

    folder: str
    rows: Mapping[str, int]
    schema: StructType


def takes_files(spark: SparkSession, path: str, schema: StructType) -> bool:
    """Whether workers may write the files of a table, present or not yet: they reach its folder, and Delta's own writer is not needed."""
    if s3.is_remote(path) and not session.is_local(spark):
        return False
    table = delta.found(path)
    return "timestamp_ntz" not in schema.json() and (table is None or table.protocol().min_writer_version <= 2)


@contextmanager
def run_folder(spark: SparkSession, path: str, commit_id: str) -> Iterator[str]:
    """A folder on this machine for files that may become a table's, below it if that lies here; gone after the block if no commit names it.

    The caller holds the lease of the table: what runs left there that were cut off is deleted.
    """
    if s3.is_remote(path):
        with session.scratch_folder(spark) as folder:
            yield f"{folder}/rows"
        return
    leftovers.sweep_runs(path)
    run = layout.run_folder(path, commit_id)
    try:
        yield run
    finally:
        if not delta.committed(path, commit_id):
            storage.delete_tree(run if delta.exists(path) else path)


def overwrite_by(
    files: RunFiles, path: str, *, commit_id: str, partition: Sequence[str], spark: SparkSession, fence: Fence | None = None
) -> None:
    """Replace a whole table, its columns too, by files that lie in a folder of the run's, in one commit; others in there are deleted."""
    table, run = delta_commits.create(path, files.schema.json(), partition=partition), layout.run_folder(path, commit_id)
    if table.transaction_version(commit_id) is not None:
        return
    new = _new_of(files, path, run, spark)
    delta_commits.overwrite(table, schema=files.schema.json(), partition=partition, new=new, commit_id=commit_id, fence=fence)


def replace_since(files: RunFiles, path: str, *, since: date, commit_id: str, spark: SparkSession, fence: Fence | None = None) -> None:
    """Replace the partitions of a table from a date on by files that lie in a folder of the run's, in one commit."""
    table, run = delta.opened(path), layout.run_folder(path, commit_id)
    if table.transaction_version(commit_id) is not None:
        return
    new = _new_of(files, path, run, spark)
    old = [each for each in delta_files.in_partitions(table, None) if _date_of(each) >= since.isoformat()]
    days = {_date_of(each) for each in old} | {_date_of(each) for each in new}
    if any(day < since.isoformat() for day in days):
        raise ValueError(f"{path}: rows of {min(days)} are not of the dates that are replaced, which begin with {since}")
    delta_commits.commit(table, days=days, old=old, new=new, commit_id=commit_id, fence=fence)


def _date_of(action: AddAction | RemoveAction) -> str:
    """The partition of a file, of a table that is parted by one column."""
    return next(str(value) for value in (action.partition_values or {}).values())


def _new_of(files: RunFiles, path: str, run: str, spark: SparkSession) -> list[AddAction]:
    """The files of a run as the log will name them; others in its folder, of tasks that were repeated, are deleted."""
    if not files.rows:
        return []
    for file in storage.files(files.folder, suffix=".parquet"):
        if storage.relative(file.path, to=files.folder) not in files.rows:
            storage.delete(file.path)
    brought = files.folder != run
    new, found = _brought(path, run, copy=files.folder, spark=spark) if brought else delta_files.added(path, run)
    _refuse_others(path, computed=sum(files.rows.values()), found=found)
    return new


def add_columns(spark: SparkSession, path: str, columns: Sequence[tuple[str, str]]) -> None:
    """Add columns that a table lacks, in a commit of their own."""
    table = delta.opened(path)
    have = {field.name for field in table.schema().fields}
    missing = ", ".join(f"`{name}` {kind}" for name, kind in columns if name not in have)
    if missing and _only_delta_writes(table):
        named = path.replace("`", "``")
        spark.sql(f"ALTER TABLE delta.`{named}` ADD COLUMNS ({missing})")
    elif missing:
        delta_commits.add_columns(table, StructType.fromDDL(missing).json())


def query(spark: SparkSession, sql: str, frames: Mapping[str, DataFrame]) -> DataFrame:
    """The rows that a query gives over frames, each a table by its name and in no catalog; lazy. Raises Spark's AnalysisException."""
    named: dict[str, Any] = {f"frame{n}": frame for n, frame in enumerate(frames.values())}
    views = ", ".join(f"`{name}` AS (SELECT * FROM {{{frame}}})" for name, frame in zip(frames, named, strict=True))
    text = sql.replace("{", "{{").replace("}", "}}")
    return spark.sql(f"WITH {views} SELECT * FROM ({text})", **named)


def stage(frame: DataFrame, path: str) -> DataFrame:
    """Write rows to Parquet that nobody else reads, and read them back: what follows sees one and the same result."""
    if session.is_local(frame.sparkSession) and not s3.is_remote(path) and _bytes_expected(frame) > _SOME_BYTES:
        with workers.as_raised():
            frame.mapInArrow(workers.carrying(partial(_kept, into=split.emptied(path))), "rows long").collect()
    else:
        frame.write.mode("overwrite").parquet(path)
    return staged(frame.sparkSession, path, schema=frame.schema)


def _kept(batches: Iterator[pa.RecordBatch], *, into: str) -> Iterator[pa.RecordBatch]:
    """Write the rows of a task as a file of a folder, which costs Arrow a third of what it costs Spark (measured)."""
    writer: pq.ParquetWriter | None = None
    try:
        for rows in _at_once(batches):
            if writer is None:
                bounded = [field.name for field in rows.schema if not pa.types.is_floating(field.type)]  # which would pass over NaN
                how = {"write_statistics": bounded, "store_decimal_as_integer": True, "store_schema": False}
                writer = pq.ParquetWriter(f"{into}/{secrets.token_hex(8)}.parquet", rows.schema, **how)
            writer.write_table(rows)
    finally:
        if writer is not None:
            writer.close()
    yield from ()


def _at_once(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows of a task, as many together as are held in memory."""
    found = workers.gathered(batches, size=lambda batch: batch.num_rows * batch.num_columns, enough=split.AT_ONCE)
    return (rows for rows in found if rows.num_rows)


def staged(spark: SparkSession, path: str, *, schema: StructType | str) -> DataFrame:
    """The rows of the Parquet files in a folder of ours, whatever signs its path has: to Spark `*`, `?`, `{` and `[` would be globs."""
    return _as_said(spark, schema).parquet(path)


def _as_said(spark: SparkSession, schema: StructType | str) -> DataFrameReader:
    """A reader of paths as they are said."""
    return spark.read.schema(schema).option("__globPaths__", "false")


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


def _only_delta_writes(table: DeltaTable) -> bool:
    """Whether somebody turned on what only Delta's own writer understands. On S3 that one loses what others commit at the same time."""
    only = table.protocol().min_writer_version > 2
    if only and s3.is_remote(delta.place(table)):
        raise Unwritable(
            f"{delta.place(table)} has features that only Delta's own writer knows, whose commits to S3 may be lost; make the table anew "
            "without them: keep a copy of its rows, delete its folder, and run the same command again"
        )
    return only


def _delta_writer(frame: DataFrame, commit_id: str, fence: Fence | None, *, partition: Sequence[str] = ()) -> DataFrameWriter:
    """Delta's own writer, whose commit costs as much as a small job (measured: 1.6 CPU-s against 0.35)."""
    if fence is not None:
        fence()
    writer = frame.write.format("delta").option("txnAppId", commit_id).option("txnVersion", "1").option("userMetadata", commit_id)
    return writer.partitionBy(*partition) if partition else writer


def _condition(table: DeltaTable, days: Iterable[str] | None, where: str) -> str:
    """The condition of the rows that are replaced, as Delta's own writer takes it."""
    dated = [] if days is None else [in_dates(table.metadata().partition_columns[0], map(date.fromisoformat, days))]
    return " AND ".join([*dated, *filter(None, [where])]) or "true"


def _written(rows: DataFrame, partition: Sequence[str], path: str, commit_id: str, *, order: Sequence[str] = ()) -> list[AddAction]:
    """Write rows as Parquet files in a folder of the run's own below the table's, where nobody sees them until they are committed."""
    run, computed = layout.run_folder(path, commit_id), Observation()
    storage.delete_tree(run)
    if not session.is_local(rows.sparkSession):
        _spread(_counted(rows, computed), run, partition, order)
        files, found = delta_files.added(path, run)
    else:
        with session.scratch_folder(rows.sparkSession) as folder:
            into, whole = f"{folder}/rows" if s3.is_remote(path) else run, f"{folder}/whole"
            known = _on_this_machine(rows, computed, into, partition, order, scratch=whole)
            if into != run:
                files, found = _brought(path, run, copy=into, spark=rows.sparkSession, known=known)
            else:
                files, found = delta_files.added(path, run, known=known)
                nearby.keep_whole(rows.sparkSession, whole, {f"{path}/{file.path}" for file in files} if known else (), run=run)
    _refuse_others(path, computed=computed.get["rows"], found=found)
    return files


def _refuse_others(path: str, *, computed: int, found: int) -> None:
    """Raise if files hold other rows than were computed."""
    if found != computed:
        raise RuntimeError(f"{path}: {computed} rows were computed, but {found} written; nothing was changed: run it again")


def _on_this_machine(
    rows: DataFrame, computed: Observation, into: str, partition: Sequence[str], order: Sequence[str], *, scratch: str
) -> dict[str, split.FileSummary]:
    """Write rows by one process: few of them as one file, which Arrow then parts by date, as a file costs Spark more than its rows.

    Those few lie in the folder `scratch`, too, and what each file holds of them is told.
    """
    if [rows.schema[name].dataType for name in partition] != [T.DateType()]:
        _spread(_counted(rows, computed), into, partition, order)
        return {}
    counted = _counted(rows, computed)
    if _bytes_expected(rows) <= _FEW_BYTES:
        counted = stage(counted, scratch)
        if computed.get["rows"] * len(rows.columns) <= split.AT_ONCE:
            return split.by_date(scratch, into, date=partition[0], order=order)
    if order:
        _spread(counted, into, partition, order)
    else:
        _part(counted, into, date=partition[0], scratch=f"{scratch}-parts")
    return {}


def _part(rows: DataFrame, into: str, *, date: str, scratch: str) -> None:
    """Have workers lay out the rows of their tasks by date, of which Arrow then makes a file for each date: nothing is shuffled."""
    laid_out = rows.mapInArrow(workers.carrying(partial(_laid_out, into=split.emptied(scratch), date=date)), "file string")
    with workers.as_raised():
        split.put_together([row["file"] for row in laid_out.collect()], into, date=date)


def _laid_out(batches: Iterator[pa.RecordBatch], *, into: str, date: str) -> Iterator[pa.RecordBatch]:
    for rows in _at_once(batches):
        file = f"{into}/{secrets.token_hex(8)}.arrow"
        split.lay_out(rows, file, date=date)
        yield pa.RecordBatch.from_pydict({"file": [file]})


def _counted(rows: DataFrame, computed: Observation) -> DataFrame:
    return rows.observe(computed, F.count(F.lit(1)).alias("rows"))


def _bytes_expected(rows: DataFrame) -> int:
    """How many bytes Spark takes the rows to be, by the files that they come from: too many where it joins, never asked of the rows."""
    return int(str(rows._jdf.queryExecution().optimizedPlan().stats().sizeInBytes()))


def _spread(rows: DataFrame, into: str, partition: Sequence[str], order: Sequence[str]) -> None:
    """Write rows as Spark does: each partition by one task."""
    spread = rows.repartition(*partition) if partition else rows
    spread = spread.sortWithinPartitions(*partition, *order) if order else spread
    spread.write.partitionBy(*partition).option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false").parquet(into)


def _brought(
    path: str, run: str, *, copy: str, spark: SparkSession, known: Mapping[str, split.FileSummary] = MappingProxyType({})
) -> tuple[list[AddAction], int]:
    """Bring files that were written on this machine to S3, one request each: Spark's own way there asks some ten for each file."""
    files, found = delta_files.added(path, run, copy=copy, known=known)
    written = {f"{path}/{file.path}": f"{copy}/{storage.relative(f'{path}/{file.path}', to=run)}" for file in files}
    storage.put_files(written)
    nearby.keep(spark, written)
    return files, found


def _parquet(spark: SparkSession, table: DeltaTable, files: Mapping[str, int], *, root: str) -> DataFrame:
    """The rows of some of a table's files, which lie below a folder, and of which the bytes are said.

    Those that lie in a run's folder are read apart from those that were joined or that Delta wrote: Spark reads the values of partitions
    from paths, all of which must have the same ones.
    """
    schema = _schema(table)
    names = [name for name in schema.names if name not in table.metadata().partition_columns]
    ours = {path: size for path, size in files.items() if path.startswith(f"{root}/{layout.RUN}")}
    others = {path: size for path, size in files.items() if path not in ours}
    groups = [group for group in (ours, others) if group]
    found = [_known(spark, root, group, schema=schema, names=names) for group in groups] or [spark.createDataFrame([], schema)]
    return reduce(DataFrame.union, [rows.selectExpr(*[f"`{name}`" for name in schema.names]) for rows in found])


def _known(spark: SparkSession, root: str, files: Mapping[str, int], *, schema: StructType, names: Sequence[str]) -> DataFrame:
    """The rows of Parquet files below a folder: Spark is told how large they are, and asks for none before it reads it.

    To find that out costs a request each on S3. What is told goes by Spark's cache of listed folders; what is still there after the folder
    was looked up was found there. Else Spark lists what is asked for.
    """
    java, inner, gateway = spark._jvm, spark._jsparkSession, spark.sparkContext._gateway
    if java is None or gateway is None:
        raise RuntimeError("Spark has been stopped")
    hadoop, sources = java.org.apache.hadoop.fs, java.org.apache.spark.sql.execution.datasources
    asked, nothing, none = hadoop.Path(root), java.PythonUtils.toScalaMap({}), java.scala.Option.apply(None)
    folder = asked.getFileSystem(inner.sessionState().newHadoopConf()).makeQualified(asked)
    whole = folder.toString()
    path_of, status_of = hadoop.Path, hadoop.FileStatus  # each look-up of a class is a call
    statuses = gateway.new_array(status_of, len(files))
    for number, (path, size) in enumerate(files.items()):
        statuses[number] = status_of(size, False, 1, 0, 0, path_of(f"{whole}{path.removeprefix(root)}"))
    told = session.known_listings(spark)
    told.putLeafFiles(folder, statuses)
    said = inner.parseDataType(schema.json())
    index = sources.InMemoryFileIndex(inner, java.PythonUtils.toSeq([folder]), nothing, java.scala.Option.apply(said), told, none, none)
    if told.getLeafFiles(folder).isEmpty():
        return _as_said(spark, schema).option("basePath", root).parquet(*files)
    data = inner.parseDataType(StructType([schema[name] for name in names]).json())
    relation = sources.HadoopFsRelation(index, index.partitionSchema(), data, none, sources.parquet.ParquetFileFormat(), nothing, inner)
    return DataFrame(inner.baseRelationToDataFrame(relation), spark)


def types_of(table: DeltaTable) -> dict[str, str]:
    """The Spark SQL types of a table's columns, by name."""
    return {field.name: field.dataType.simpleString() for field in _schema(table)}


def _schema(table: DeltaTable) -> StructType:
    return StructType.fromJson(json.loads(table.schema().to_json()))


def _in_schema(frame: DataFrame, table: DeltaTable) -> DataFrame:
    """The rows in a table's columns and types; what they lack is null, and what the table lacks is refused."""
    schema = _schema(table)
    if unknown := set(frame.columns) - set(schema.names):
        raise ValueError(f"{table.table_uri} has no columns {sorted(unknown)}")
    columns = {field: F.col(f"`{field.name}`") if field.name in frame.columns else F.lit(None) for field in schema}
    return frame.select(*[column.cast(field.dataType).alias(field.name) for field, column in columns.items()])
