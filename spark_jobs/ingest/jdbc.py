"""Reads tables of other databases: in parts, only the rows of the dates that are wanted; each of their faults is told in one sentence."""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column as Values
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_definitions.connections import Connection, ConnectionRefused, variable
from feature_definitions.errors import TRANSIENT
from feature_definitions.language import Jdbc, Query, Source
from feature_definitions.sql.data_types import is_number
from spark_jobs.context import Context
from spark_jobs.ingest import connectors, selects
from spark_jobs.ingest.connectors import Reader
from spark_jobs.ingest.in_place import DIGITS, TableRefused
from spark_jobs.ingest.selects import Ordered, Sort, Times

_SORTS: tuple[tuple[Sort, tuple[type[T.DataType], ...]], ...] = (
    ("number", (T.LongType, T.IntegerType, T.ShortType)),
    ("date", (T.DateType,)),
    ("local", (T.TimestampNTZType,)),
    ("instant", (T.TimestampType,)),
)
_REPEATABLE_READ = 4
"""What java.sql.Connection calls the isolation of a transaction that sees one state."""

_ALIKE = ("string", "int64", "date", "boolean", "timestamp")
"""The types of whose values two are one value here if they are one in the database."""

_SAID = re.compile(r"(?:java\.sql\.SQL\w*Exception|\b(?:PSQL|Redshift|SnowflakeSQL|BigQuery)Exception): (?:\w*ERROR: |FATAL: )?(.+)")
_SILENT = re.compile(
    r"refused|attempt failed|timed out|UnknownHost|I/O error|terminating connection|has been closed|starting up|shutting down"
)
_UNKNOWN_USER = re.compile(r"authentication failed|no password was provided|role \".*\" does not exist|is not permitted to log in")


def opened(source: Source, at: Jdbc, context: Context, *, times: Times) -> DataFrame:
    """The rows of these times, and whatever else is needed to tell which of several of one id counts; lazy but for two small queries.

    Each part is read in a transaction of its own: within `one_state` all of them see the same.
    """
    with told(context, source):
        connection = context.connection(at.connection)
        whole = _having(source, at, connection, context.spark)
        return whole if connection.kind != "postgresql" else _needed(source, at, context.spark, whole, connection, times)


def selected(at: Jdbc, context: Context) -> DataFrame:
    """All that a table or a query gives, in Spark's types; lazy but for the question which columns there are."""
    with told(context, at):
        return _whole(at, context.connection(at.connection), context.spark)


def sampled(at: Jdbc, context: Context, *, rows: int) -> pa.Table:
    """The first rows of a table or a query, in the types of its columns; a number or a time that these cannot hold is null."""
    with told(context, at):
        connection = context.connection(at.connection)
        whole = _whole(at, connection, context.spark)
        if connection.kind != "postgresql":
            return whole.limit(rows).toArrow()
        kinds = {field.name: field.dataType for field in whole.schema.fields}
        digits = {name for name, kind in kinds.items() if isinstance(kind, T.DecimalType)}
        asked = selects.rows(at, [_column(name, kind, digits) for name, kind in kinds.items()], where=f"true LIMIT {rows}")
        found = _loaded(context.spark, connectors.reader(connection, at), asked)
        return found.select(*[_held(F.col(f"`{name}`"), kind).alias(name) for name, kind in kinds.items()]).toArrow()


def _held(values: Values, kind: T.DataType) -> Values:
    """What of the values that a database gave so that no reader fails at them is of their column's type."""
    if isinstance(kind, T.DecimalType):
        return values.try_cast(kind)
    return F.when(F.year(values) < 10000, values) if isinstance(kind, T.DateType | T.TimestampType | T.TimestampNTZType) else values


def _having(source: Source, at: Jdbc, connection: Connection, spark: SparkSession) -> DataFrame:
    """What a source reads, with its columns alone, since others may differ in capitals only; with all, if one of them is missing."""
    try:
        return _whole(at, connection, spark, columns=[selects.quoted(str(each.name)) for each in source.written.values()])
    except (Py4JJavaError, PySparkException):
        return _whole(at, connection, spark)


def _whole(at: Jdbc, connection: Connection, spark: SparkSession, *, columns: Sequence[str] = ("*",)) -> DataFrame:
    reader = connectors.reader(connection, at)
    if connection.kind == "postgresql":
        return _loaded(spark, reader, selects.rows(at, columns, where="true"))
    return spark.read.format(reader.format).options(**reader.options).load()


@contextlib.contextmanager
def one_state(context: Context, *read: Source) -> Iterator[Context]:
    """A context in which all that is read of a PostgreSQL is of the state that it is in now, for as long as the block lasts.

    A server that cannot hold its state, as those that only speak PostgreSQL's language, is read as it is at each moment.
    """
    names = dict.fromkeys(at.connection for each in read for _, at in _databases(each))
    with contextlib.ExitStack() as held:
        found = {name: _snapshot(context.connection(name), context, held) for name in names}
        yield replace(context, connection=lambda name: found.get(name) or context.connection(name)) if found else context


def _snapshot(connection: Connection, context: Context, held: contextlib.ExitStack) -> Connection:
    """The connection with a snapshot of now, which a transaction holds that stays open until `held` is left."""
    if connection.kind != "postgresql":
        return connection
    try:
        return replace(connection, snapshot=_exported(connection, context, held))
    except Py4JJavaError:
        return connection  # what is wrong with it, is wrong for whoever reads by it, and is told then


def _exported(connection: Connection, context: Context, held: contextlib.ExitStack) -> str:
    options = connectors.reader(connection, Jdbc(query="SELECT 1", connection=connection.name)).options
    java: Any = context.spark._jvm  # Spark's readers cannot be asked to keep a transaction open
    java.org.apache.spark.sql.execution.datasources.jdbc.DriverRegistry.register(options["driver"])
    properties = java.java.util.Properties()
    for name in ("user", "password", *connection.secrets):
        properties.setProperty(name, options[name])
    transaction = java.java.sql.DriverManager.getConnection(options["url"], properties)
    held.callback(_closed, transaction)
    transaction.setTransactionIsolation(_REPEATABLE_READ)
    transaction.setAutoCommit(False)
    statement = transaction.createStatement()
    statement.execute("SET idle_in_transaction_session_timeout = 0")
    found = statement.executeQuery("SELECT pg_export_snapshot()")
    found.next()
    return str(found.getString(1))


def _closed(transaction: Any) -> None:
    with contextlib.suppress(Py4JJavaError):  # the server may be gone
        transaction.close()


def _needed(source: Source, at: Jdbc, spark: SparkSession, whole: DataFrame, connection: Connection, times: Times) -> DataFrame:
    """What a source needs of all that a table in PostgreSQL holds; the rest stays there."""
    have = {field.name: field.dataType for field in whole.schema.fields}
    wanted = {str(source.written[name].name): kind for name, kind in source.columns.items()}
    if not have.keys() >= wanted.keys():
        return whole  # what is missing is told by whoever wants it
    digits = {name for name, kind in wanted.items() if is_number(kind) and isinstance(have[name], T.DecimalType)}
    where = _where(source, at, have, times)
    columns = [_column(name, have[name], digits) for name in wanted]
    reader = connectors.reader(connection, at)
    rows = _parted(spark, reader, at, _ordered(source, at.partition_by or source.event_timestamp, have), columns=columns, where=where)
    return rows.select(*[F.col(f"`{n}`").alias(n, metadata=DIGITS) if n in digits else F.col(f"`{n}`") for n in wanted])


def _column(name: str, given: T.DataType, digits: Collection[str]) -> str:
    if name in digits:
        return selects.as_text(name)
    return selects.as_time(name) if isinstance(given, T.DateType | T.TimestampType | T.TimestampNTZType) else selects.quoted(name)


def _loaded(spark: SparkSession, reader: Reader, table: str) -> DataFrame:
    return spark.read.format(reader.format).options(**reader.options, dbtable=table).load()


def _where(source: Source, at: Jdbc, have: Mapping[str, T.DataType], times: Times) -> str:
    """The condition of the rows that are wanted; all, where the database may tell ids or times apart otherwise than we do."""
    column = _ordered(source, source.event_timestamp, have)
    if column is None or column.sort not in ("local", "instant") or any(source.columns[name] not in _ALIKE for name in source.id):
        return "true"
    return selects.within(column, times, ids=[str(source.written[name].name) for name in source.id], at=at)


def _ordered(source: Source, name: str | None, have: Mapping[str, T.DataType]) -> Ordered | None:
    """A column of a source as it lies in the database, if rows can be parted by it."""
    if name is None:
        return None
    there = str(source.written[name].name)
    sort = next((sort for sort, kinds in _SORTS if isinstance(have[there], kinds)), None)
    return None if sort is None else Ordered(there, sort)


def _parted(spark: SparkSession, reader: Reader, at: Jdbc, column: Ordered | None, *, columns: list[str], where: str) -> DataFrame:
    parted = [] if column is None else [f"{selects.quoted(column.name)} AS {selects.quoted(selects.PART)}"]
    table = selects.rows(at, [*columns, *parted], where=where)
    parts: tuple[str, ...] = ("true",)
    if column is not None and at.partitions > 1:
        found = _loaded(spark, reader, selects.bounds(at, column, where=where)).first()
        if found is not None:
            parts = selects.parts(column, low=found["low"], high=found["high"], number=at.partitions)
    if len(parts) == 1:
        return _loaded(spark, reader, table)
    properties: dict[str, Any] = dict(reader.options)
    return spark.read.jdbc(properties.pop("url"), table, predicates=list(parts), properties=properties)


# ------------------------------------------------------------------------------------------------------------------------ faults


@contextlib.contextmanager
def told(context: Context, *read: Source | Jdbc) -> Iterator[None]:
    """Tell in one sentence what a database answers, or that it does not, when something is read; never with a secret."""
    databases = [found for each in read for found in _databases(each)]
    try:
        yield
    except ConnectionRefused as problem:
        raise TableRefused(f"{databases[0][0]}{problem}" if databases else str(problem)) from None
    except (Py4JJavaError, PySparkException) as error:
        said = _all_said(error)
        for named, at in databases:
            sentence = _sentence(at, context.connection(at.connection), said)
            if sentence is not None:
                raise TableRefused(f"{named}{sentence}") from None
        raise


def _all_said(error: BaseException) -> str:
    """What an error and its causes in Java say."""
    cause = getattr(error, "_cause", None)
    return f"{error}\n{getattr(error, '_stackTrace', None) or ''}" + (f"\n{_all_said(cause)}" if cause is not None else "")


def _databases(read: Source | Jdbc) -> list[tuple[str, Jdbc]]:
    """What is read of other databases, itself or by a query, and how a sentence begins that tells of it."""
    match read:
        case Jdbc():
            return [("", read)]
        case Source(at=Jdbc() as at):
            return [(f"source {read.name}: ", at)]
        case Source(at=Query(sources=sources)):
            return [found for each in sources for found in _databases(each)]
    return []


def _sentence(at: Jdbc, connection: Connection, text: str) -> str | None:
    """What is wrong, of all that Spark and the driver said; None if they said nothing of a database."""
    shown, where = connection.hidden(text), f"connection {at.connection!r} ({connection.place})"
    if "DATA_SOURCE_NOT_FOUND" in shown and connection.kind in connectors.ADDED_JARS:
        jars = connectors.ADDED_JARS[connection.kind]
        return f"{where} needs Spark's connector for {connection.kind}; name its jars in HEADWATER_SPARK_JARS: {jars}"
    said = _SAID.search(shown)
    words = said[1].strip() if said else ""
    if not words:
        return None if shown == text else f"{where}: {shown.splitlines()[0][:300]}"
    if _UNKNOWN_USER.search(words):
        return f"{where} refuses the user or the password; correct what {variable(at.connection)} says"
    if _SILENT.search(words):
        return f"{where} does not answer ({words[:200]}); see that the server runs, and what {variable(at.connection)} says; {TRANSIENT}"
    if re.search(r'relation ".*" does not exist', words) and at.table is not None:
        return f"{where} has no table {at.table}; write its name as the database keeps it, with its schema and capitals"
    return f"{where}: {at.table or 'its query'} cannot be read: {words[:300]}"
