"""Reads tables where they lie: the state that they are in, their rows in a source's types, and why a row cannot be taken."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlparse

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_definitions import layout
from feature_definitions.errors import UserError
from feature_definitions.intervals import micros
from feature_definitions.language import DeltaTable, Jdbc, Query, Source, Table
from feature_definitions.layout import REASON
from feature_definitions.sql import queries
from feature_definitions.sql.data_types import digits_of, is_decimal, may_hold
from lake import delta, storage
from lake.versions import UNSEEN, PinnedVersion, newest_first, pinned, place_named
from spark_jobs import tables
from spark_jobs.context import Context

_FIRST, _LAST = (micros(at.replace(tzinfo=UTC)) for at in (datetime.min, datetime.max))  # noqa: DTZ901  # made aware
_NAIVE = T.TimestampNTZType().simpleString()
DIGITS = {"digits": True}
"""What a column's metadata says of text that holds numbers, of which any may be too large for the type that the source says."""
_AGAIN = "run `headwater ingest`, which reads it again"


class TableRefused(UserError):
    """A table that cannot be read in place: missing, no Delta table, with other columns than the source has, or gone meanwhile."""


# ------------------------------------------------------------------------------------------------------------------------ states


def state(source: Source, context: Context) -> tuple[PinnedVersion, ...]:
    """The state of what a source reads as it is now; of what a query reads, the state that its sources' ingests brought or saw.

    Asks Spark only about tables in its catalog and at URLs.
    """
    match source.at:
        case DeltaTable(path=path) if "://" in path:
            found = _described(context.spark, f"delta.`{path}`")
            if found is None:
                raise TableRefused(f"source {source.name}: there is no Delta table at {path}")
            return (PinnedVersion(source.name, path, found[1], found[2]),)
        case DeltaTable(path=path):
            here = context.root / path
            _refuse_other(source, path, here)
            place = path if Path(path).is_absolute() else storage.relative(str(here), to=context.lake)
            return (PinnedVersion(source.name, place, *delta.state(str(here))),)
        case Table(name=name):
            return (_in_catalog_of_spark(source, name, context.spark),)
        case Jdbc():
            return (PinnedVersion(source.name, place_named(source), None, None),)
        case Query(sources=sources):
            return tuple({pin.source: pin for each in sources for pin in _held(each, context.lake)}.values())
    return ()


def _refuse_other(source: Source, path: str, here: Path) -> None:
    if not here.exists():
        raise TableRefused(f"source {source.name}: there is no table at {path} ({here})")
    if not delta.exists(str(here)):
        raise TableRefused(
            f"source {source.name}: {path} ({here}) is no Delta table; files are read by Files('{path}/*.parquet', 'parquet')"
        )


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
    return None if newest is None else (place, detail["id"], newest["version"])


def _held(source: Source, lake: str) -> list[PinnedVersion]:
    """What a query sees of a source."""
    match source.at:
        case Query(sources=sources):
            return [pin for each in sources for pin in _held(each, lake)]
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
    if pin.version is not None and not delta.readable(path, pin.version):
        raise TableRefused(f"source {pin.source}: version {pin.version} of {path}, which the last ingest saw, was vacuumed away: {_AGAIN}")


def queried(source: Source, sql: str, frames: Mapping[str, DataFrame], context: Context) -> DataFrame:
    """The rows that a query gives over frames, each a table by its name and in no catalog."""
    try:
        return tables.query(context.spark, queries.query_sql(sql), frames)
    except AnalysisException as error:
        raise TableRefused(f"source {source.name}: its query cannot be run: {_first_line(error)}") from None


def typed(raw: DataFrame, source: Source) -> DataFrame:
    """The source's columns of a table's rows, with the reason of each row that cannot be taken, as of rows of files; lazy.

    Raises TableRefused, naming the column, if one is missing or of a type whose values the source's cannot hold.
    """
    of, have = place_named(source), {field.name: field.dataType for field in raw.schema.fields}
    digits = {field.name for field in raw.schema.fields if field.metadata == DIGITS}
    for name, kind in source.columns.items():
        if name not in have:
            raise TableRefused(f"source {source.name}: {of} has no column {name!r}. It has: {', '.join(have)}")
        if name not in digits:
            _refuse_type(source, name, have[name], kind, of)
    unfit = [_of_digits(name, kind) for name, kind in source.columns.items() if name in digits]
    values = [_value(have[name], name, kind, source.timezone).alias(name) for name, kind in source.columns.items()]
    rows = raw.select(*values, F.coalesce(*unfit, F.lit(None).cast("string")).alias(REASON))
    required = (*source.id, *([source.event_timestamp] if source.event_timestamp else []))
    reasons = [reason for name, kind in source.columns.items() for reason in _reasons(name, kind, required)]
    return rows.withColumn(REASON, F.coalesce(F.col(REASON), *reasons))


def _of_digits(name: str, kind: str) -> Column:
    """Why digits are no value of a type: too many, before the point or after it."""
    column, scale = F.col(f"`{name}`"), digits_of(kind)[1]
    beyond = F.lit(False) if kind == "double" else column.rlike(rf"\.\d{{{scale}}}\d*[1-9]")
    unfit = column.try_cast(tables.spark_type(kind)).isNull() | beyond
    return F.when(column.isNotNull() & unfit, F.lit(f"{name} is no {kind}: it has more digits than that can hold"))


def _refuse_type(source: Source, name: str, given: T.DataType, kind: str, of: str) -> None:
    named = tables.type_named(given)
    if _NAIVE in named and "timestamp" in kind and source.timezone is None:
        raise TableRefused(
            f"source {source.name}: column {name!r} of {of} has times without zone; say where they were written down by timezone='UTC'"
        )
    if not may_hold(named.replace(_NAIVE, "timestamp"), kind):
        raise TableRefused(f"source {source.name}: column {name!r} of {of} is a {given.simpleString()}, the source says {kind}")


def _value(given: T.DataType, name: str, kind: str, timezone: str | None) -> Column:
    column = F.col(f"`{name}`")
    if isinstance(given, T.ArrayType) and isinstance(given.elementType, T.TimestampNTZType):
        return F.transform(column, lambda each: _in_utc(each, timezone))
    if isinstance(given, T.TimestampNTZType):
        return _in_utc(column, timezone)
    fallible = is_decimal(kind) or isinstance(given, T.StringType)
    return column.try_cast(tables.spark_type(kind)) if fallible else column.cast(tables.spark_type(kind))


def _in_utc(local: Column, timezone: str | None) -> Column:
    """The instant of a local time, by the rule of `intervals.in_utc`: skipped times move forward, of two the first is meant."""
    return F.to_utc_timestamp(local.cast("timestamp"), timezone or "UTC")


def _reasons(name: str, kind: str, required: Iterable[str]) -> list[Column]:
    column, found = F.col(f"`{name}`"), []
    if kind == "double":
        found.append(F.when(~(F.abs(column) < float("inf")), F.lit(f"{name} is not a finite number")))
    if kind == "timestamp":
        unsound = ~F.unix_micros(column).between(_FIRST, _LAST)
        found.append(F.when(unsound, F.lit(f"{name} is not between the years 1 and 9999 in UTC")))
    if name in required:
        found.append(F.when(column.isNull(), F.lit(f"{name} is null")))
    return found


def holding(rows: DataFrame, source: Source) -> DataFrame:
    """The rows that are not refused, and of several of one id the newest; lazy."""
    good = rows.where(F.col(REASON).isNull()).drop(REASON)
    if not source.id:
        return good
    order = [F.col(f"`{name}`").desc_nulls_last() for name in newest_first(source)]
    place = F.row_number().over(Window.partitionBy(*[f"`{name}`" for name in source.id]).orderBy(*order))
    return good.withColumn("_hw_place", place).where("_hw_place = 1").drop("_hw_place")


def _quoted(name: str) -> str:
    return ".".join(f"`{part}`" for part in name.split("."))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
