"""Reads tables where they lie: the state that they are in, their rows in a source's types, and why a row cannot be taken."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_definitions import layout
from feature_definitions.errors import UserError
from feature_definitions.language import Column as Lying
from feature_definitions.language import DeltaTable, Jdbc, Query, Source, Table
from feature_definitions.layout import COLUMN, REASON, VALUE
from feature_definitions.sql import queries, query_rows
from feature_definitions.sql.column_types import columns_of
from lake import delta, delta_files, storage
from lake.versions import UNSEEN, PinnedVersion, newest_first, pinned, place_named
from spark_jobs import tables
from spark_jobs.context import Context
from spark_jobs.ingest import parsing, table_cells, whereabouts
from spark_jobs.ingest.cells import Unfit
from spark_jobs.ingest.table_times import Read

DIGITS = {"digits": True}
"""What a column's metadata says of text that holds numbers, of which any may be too large for the type that the source says."""
_AGAIN = "run `headwater ingest`, which reads it again"


class TableRefused(UserError):
    """A table that cannot be read in place: missing, no Delta table, with other columns than the source has, or gone meanwhile."""


# ------------------------------------------------------------------------------------------------------------------------ states


def state(source: Source, context: Context) -> tuple[PinnedVersion, ...]:
    """The state of what a source reads as it is now; of what a query reads, the state that its sources' ingests brought or saw.

    Asks Spark only about tables in its catalog, and at URLs that are not on S3.
    """
    match source.at:
        case DeltaTable(path=path) if "://" in path and not whereabouts.is_remote(path):
            found = _described(context.spark, f"delta.`{path}`")
            if found is None:
                raise TableRefused(f"source {source.name}: there is no Delta table at {path}")
            return (PinnedVersion(source.name, path, found[1], found[2]),)
        case DeltaTable(path=path):
            here = whereabouts.whole(path, root=context.root)
            _refuse_other(source, path, here)
            place = path if Path(path).is_absolute() else storage.relative(here, to=context.lake)
            return (PinnedVersion(source.name, place, *delta.state(here)),)
        case Table(name=name):
            return (_in_catalog_of_spark(source, name, context.spark),)
        case Jdbc():
            return (PinnedVersion(source.name, place_named(source), None, None),)
        case Query(sources=sources):
            return tuple({pin.source: pin for each in sources for pin in _held(each, context.lake)}.values())
    return ()


def _refuse_other(source: Source, path: str, here: str) -> None:
    """Refuse what is no Delta table."""
    if whereabouts.has_log(here) and delta.exists(here):
        return
    shown = here if whereabouts.is_remote(here) else f"{path} ({here})"
    if not whereabouts.exists(here):
        raise TableRefused(f"source {source.name}: there is no table at {shown}")
    raise TableRefused(f"source {source.name}: {shown} is no Delta table; files are read by Files('{path}/*.parquet', 'parquet')")


def _in_catalog_of_spark(source: Source, name: str, spark: SparkSession) -> PinnedVersion:
    if not spark.catalog.tableExists(name):
        raise TableRefused(f"source {source.name}: Spark's catalog has no table {name}")
    found = _described(spark, _quoted(name))
    return PinnedVersion(source.name, name, None, None) if found is None else PinnedVersion(source.name, *found)


def _described(spark: SparkSession, table: str) -> tuple[str, str, int] | None:
    """The place, id and version of a Delta table; None if it is none."""
    try:
        detail = spark.sql(f"DESCRIBE DETAIL {table}").first()
        if detail is None or detail["format"] != "delta":
            return None
        newest = spark.sql(f"DESCRIBE HISTORY {table} LIMIT 1").first()
    except AnalysisException:
        return None
    url = urlparse(detail["location"])
    place = unquote(url.path) if url.scheme == "file" else detail["location"]
    place = unquote(place) if whereabouts.is_remote(place) else place
    return None if newest is None else (place, detail["id"], newest["version"])


def _held(source: Source, lake: str) -> list[PinnedVersion]:
    """What a query sees of a source."""
    match source.at:
        case Query(sources=sources):
            own = pinned(source, lake).get(source.name)
            return [*(pin for each in sources for pin in _held(each, lake)), *([own] if own else [])]
        case DeltaTable() | Table() | Jdbc():
            return list(pinned(source, lake).values()) or [PinnedVersion(source.name, "", "", UNSEEN)]
    path = layout.source_table(lake, source.name)
    place = storage.relative(path, to=lake)
    return [PinnedVersion(source.name, place, *delta.state(path)) if delta.exists(path) else PinnedVersion(source.name, place, "", UNSEEN)]


# -------------------------------------------------------------------------------------------------------------------------- rows


def opened(pin: PinnedVersion | None, context: Context) -> DataFrame | None:
    """The rows of a table in the state of a pin; None if nothing was there to be seen. Raises TableRefused if that state is gone."""
    if pin is None or pin.version == UNSEEN:
        return None
    if pin.version is None:
        try:
            return context.spark.table(_quoted(pin.place))
        except AnalysisException as error:
            raise TableRefused(f"source {pin.source}: {pin.place} cannot be read: {_first_line(error)}") from None
    path = pin.path(context.lake)
    if not pin.is_remote:
        _refuse_gone(pin, path)
    try:
        return context.spark.read.format("delta").option("versionAsOf", pin.version).load(path)
    except AnalysisException as error:
        raise TableRefused(f"source {pin.source}: version {pin.version} of {path} is gone ({_first_line(error)}): {_AGAIN}") from None


def _refuse_gone(pin: PinnedVersion, path: str) -> None:
    """Refuse a version that cannot be read any more: its table, its log or its files were deleted."""
    if not delta.exists(path):
        raise TableRefused(f"source {pin.source}: there is no table at {path} any more")
    if delta.table_id(path) != pin.table_id:
        raise TableRefused(f"source {pin.source}: another table lies at {path} now: {_AGAIN}")
    if pin.version is not None and not delta_files.readable(path, pin.version):
        raise TableRefused(f"source {pin.source}: version {pin.version} of {path}, which the last ingest saw, was vacuumed away: {_AGAIN}")


def queried(source: Source, query: Query, frames: Mapping[str, DataFrame], context: Context) -> DataFrame:
    """The rows that a query gives over frames, each a table by its name and in no catalog; with why one cannot be computed, if it says."""
    judged = query_rows.judged_query(query.sql, {each.name: columns_of(each) for each in query.sources})
    try:
        return tables.query(context.spark, judged or queries.query_sql(query.sql), frames)
    except AnalysisException as error:
        raise TableRefused(f"source {source.name}: its query cannot be run: {_first_line(error)}") from None


def typed(raw: DataFrame, source: Source) -> DataFrame:
    """The source's columns of a table's rows, with the reason of each row that cannot be taken, as of rows of files; lazy.

    Raises TableRefused, naming the column, if one is missing or of a type whose values the source's cannot hold.
    """
    of, have = place_named(source), [field.name for field in raw.schema.fields]
    fields = dict(zip(have, raw.schema.fields, strict=True))
    plain = raw.toDF(*[f"_hw_{n}" for n in range(len(have))])  # names of any letters, also two that Spark takes for one
    values, refusals = [], _refused_by_query(source, have)
    for name, how in source.written.items():
        if how.name not in have:
            near = parsing.named_otherwise(name, how, have)
            raise TableRefused(f"source {source.name}: {of} has no column {how.name!r}.{near} It has: {', '.join(have)}")
        given = F.col(f"_hw_{have.index(str(how.name))}")
        read = _read(given, fields[str(how.name)], how, source)
        values.append(read.values.alias(name))
        refusals += _refusals(name, given, read, required=_required(source))
    told = {
        REASON: [each.reason for each in refusals],
        COLUMN: [each.column for each in refusals],
        VALUE: [each.value for each in refusals],
    }
    first = [_first([each.where for each in refusals], texts).alias(name) for name, texts in told.items()]
    return plain.select(*values, *first)


def _required(source: Source) -> frozenset[str]:
    return frozenset((*source.id, *([source.event_timestamp] if source.event_timestamp else [])))


def _read(given: Column, field: T.StructField, how: Lying, source: Source) -> Read:
    try:
        return (
            table_cells.of_digits(given, how.data_type)
            if field.metadata == DIGITS
            else table_cells.read(given, field.dataType, how, source.timezone)
        )
    except Unfit as error:
        raise TableRefused(f"source {source.name}: column {how.name!r} of {place_named(source)} {error}") from None


def _refused_by_query(source: Source, have: Sequence[str]) -> list["_Refusal"]:
    """Which rows a query itself says that it cannot compute."""
    if not isinstance(source.at, Query) or REASON not in have:
        return []
    reason, column, value = (F.col(f"_hw_{have.index(name)}") for name in (REASON, COLUMN, VALUE))
    return [_Refusal(reason.isNotNull(), reason, column, F.substring(value, 1, 1000))]


class _Refusal(NamedTuple):
    """Which rows are refused for a value of a column: the reason, the column and the value."""

    where: Column
    reason: Column
    column: Column
    value: Column


def _refusals(name: str, given: Column, read: Read, *, required: Collection[str]) -> list[_Refusal]:
    value, nothing = F.substring(given.cast("string"), 1, 1000), F.lit(None).cast("string")
    found = [] if read.wrong is None else [_Refusal(read.wrong.isNotNull(), F.concat(F.lit(name), read.wrong), F.lit(name), value)]
    return [*found, *([_Refusal(read.values.isNull(), F.lit(f"{name} is null"), F.lit(name), nothing)] if name in required else [])]


def _first(conditions: Sequence[Column], texts: Sequence[Column]) -> Column:
    """The text beside the first condition that holds."""
    found = F.lit(None).cast("string")
    for condition, text in reversed(list(zip(conditions, texts, strict=True))):
        found = F.when(condition, text).otherwise(found)
    return found


def holding(rows: DataFrame, source: Source) -> DataFrame:
    """The rows that are not refused, and of several of one id the newest; lazy."""
    good = rows.where(F.col(REASON).isNull()).drop(REASON, COLUMN, VALUE)
    if not source.id:
        return good
    order = [F.col(f"`{name}`").desc_nulls_last() for name in newest_first(source)]
    place = F.row_number().over(Window.partitionBy(*[f"`{name}`" for name in source.id]).orderBy(*order))
    return good.withColumn("_hw_place", place).where("_hw_place = 1").drop("_hw_place")


def _quoted(name: str) -> str:
    return ".".join(f"`{part}`" for part in name.split("."))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
