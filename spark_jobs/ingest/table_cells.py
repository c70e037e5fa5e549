"""Columns of tables in a source's types, and what is said of values that have no place there; what `cells` does for files, in Spark."""

from pyspark.sql import Column as Values
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_definitions.language import Column
from feature_definitions.sql.data_types import digits_of, is_decimal, is_number, may_hold
from feature_definitions.times import spelling
from spark_jobs import tables
from spark_jobs.ingest import table_times
from spark_jobs.ingest.cells import Unfit
from spark_jobs.ingest.table_times import Read

_NAIVE = T.TimestampNTZType().simpleString()


def read(values: Values, given: T.DataType, how: Column, timezone: str | None) -> Read:
    """The values of a column in a source's type; raises Unfit, if they are of a type that has no place there."""
    named, kind = tables.type_named(given), how.data_type
    if named == "string" and kind == "date":
        return table_times.dates_of_text(values, spelling(how.format, kind))
    if named == "string" and kind == "timestamp" and how.epoch is None:
        return table_times.of_text(values, spelling(how.format, kind), timezone)
    if how.epoch is not None and (named == "string" or is_number(named)):
        return table_times.of_counts(values, how.epoch, given=named)
    _refuse_type(given, named, kind, timezone)
    if kind == "timestamp":
        return table_times.instants(table_times.in_utc(values, timezone) if named == "date" else _in_utc(values, given, timezone))
    if is_decimal(kind) or (named, kind) == ("int64", "double"):
        return _of_numbers(values, kind)
    if kind == "date":
        return table_times.dates(values)
    found = _in_utc(values, given, timezone).cast(tables.spark_type(kind))
    return Read(found, F.when(~(F.abs(found) < float("inf")), F.lit(" is not a finite number")) if kind == "double" else None)


def _of_numbers(values: Values, kind: str) -> Read:
    """Numbers that are all whole or decimal, of which some may have no place in another type of numbers."""
    found, text = values.try_cast(tables.spark_type(kind)), values.cast("string")
    back = F.when(found < float(2**63), found.try_cast("bigint")) if kind == "double" else found
    lost = found.isNull() | ~values.eqNullSafe(back)
    said = "is not exactly a double" if kind == "double" else f"does not fit a {kind}"
    return Read(found, F.when(values.isNotNull() & lost, F.concat(F.lit(": '"), text, F.lit(f"' {said}"))))


def of_digits(digits: Values, kind: str) -> Read:
    """Numbers that a database gave as text: any may have more digits than the source's type can hold, before the point or after it."""
    found, scale = digits.try_cast(tables.spark_type(kind)), digits_of(kind)[1]
    if kind == "double":
        unfit = found.isNull() | ~(F.abs(found) < float("inf"))
    else:
        unfit = found.isNull() | digits.rlike(rf"\.\d{{{scale}}}\d*[1-9]")
    said = F.when(digits.rlike("[0-9]"), F.lit(f" is no {kind}: it has more digits than that can hold")).otherwise(
        F.lit(" is not a finite number")
    )
    return Read(found, F.when(digits.isNotNull() & unfit, said))


def _refuse_type(given: T.DataType, named: str, kind: str, timezone: str | None) -> None:
    if _NAIVE in named and "timestamp" in kind and timezone is None:
        raise Unfit("has times without zone; say where they were written down by timezone='UTC'")
    if named == "date" and kind == "timestamp":
        if timezone is None:
            raise Unfit("has dates, the source says timestamp; say where their days begin by timezone='UTC'")
        return
    if not may_hold(named.replace(_NAIVE, "timestamp"), kind) and not (is_decimal(named) and is_decimal(kind)):
        units = ', write Column("timestamp", epoch="s"), or "ms", "us" or "ns"' if kind == "timestamp" and is_number(named) else ""
        raise Unfit(f"is a {given.simpleString()}, the source says {kind}" + (f"; if it counts from 1970{units}" if units else ""))


def _in_utc(values: Values, given: T.DataType, timezone: str | None) -> Values:
    """The values, of which times without zone are instants."""
    match given:
        case T.ArrayType(elementType=T.TimestampNTZType()):
            return F.transform(values, lambda each: table_times.in_utc(each, timezone))
        case T.TimestampNTZType():
            return table_times.in_utc(values, timezone)
    return values
