"""The columns that a source derives: computed whenever its rows are read, never stored, those that read `prev` from the row before."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from feature_definitions.intervals import MICROSECOND
from feature_definitions.language import Source
from feature_definitions.sql import column_types, expressions
from spark_jobs.tables import spark_type

_DAY = timedelta(days=1)
_PREVIOUS, _AT = "prev", "_hw_at"


def with_derived(rows: DataFrame, source: Source, *, time: str, beside: Sequence[str] = ()) -> DataFrame:
    """The rows with all columns that the source derives; `time` is their event timestamp. Rows with other `beside` columns are apart.

    `prev` is the row before, among those with equal `lag_over` columns (null equals nothing), by event timestamp, `arrived_at` and `id`
    (without an id by all columns, so that equal times are always in one order); null if there is none within `lag_within`.
    """
    if source.lag:
        rows = rows.withColumn(_PREVIOUS, _previous(source, time, beside))
    return _with(rows, source, source.derive).drop(*([_PREVIOUS] if source.lag else []))


def with_derived_of_the_row(rows: DataFrame, source: Source) -> DataFrame:
    """The rows with the columns that are derived from their own row alone."""
    beyond = lagging(source)
    return _with(rows, source, [name for name in source.derive if name not in beyond])


def lagging(source: Source) -> frozenset[str]:
    """The derived columns that rest on the row before, directly or by way of another."""
    found: set[str] = set()
    for name, sql in source.derive.items():
        read = expressions.derive_columns_in(sql)
        if any(column in found or column.startswith(f"{_PREVIOUS}.") for column in read):
            found.add(name)
    return frozenset(found)


def days_around(source: Source, dates: Iterable[date], *, after: bool) -> str:
    """The dates, with those before that hold the rows before theirs, and with those `after` whose rows read theirs, as an SQL condition."""
    lag = -(-source.lag // _DAY) * _DAY
    spans: list[tuple[date, date]] = []
    for day in sorted(set(dates)):
        first, last = _earlier(day, lag), _later(day, lag if after else timedelta(0))
        if spans and first <= spans[-1][1] + _DAY:
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))
    return " OR ".join(f"(`_hw_date` BETWEEN DATE'{a.isoformat()}' AND DATE'{b.isoformat()}')" for a, b in spans) or "false"


def _earlier(day: date, by: timedelta) -> date:
    return day - by if day - date.min > by else date.min


def _later(day: date, by: timedelta) -> date:
    return day + by if date.max - day > by else date.max


def _with(rows: DataFrame, source: Source, names: Iterable[str]) -> DataFrame:
    types = column_types.columns_of(source) if source.derive else {}
    for name in names:
        value = F.expr(expressions.derive_sql(source.derive[name])).cast(spark_type(types[name]))
        if types[name] == "double":
            value = F.when(F.abs(value) < float("inf"), value)
        rows = rows.withColumn(name, value)
    return rows


def _previous(source: Source, time: str, beside: Sequence[str]) -> Column:
    read = {name for sql in source.derive.values() for name in expressions.derive_columns_in(sql)}
    columns = [f"`{name}`" for name in source.columns if f"{_PREVIOUS}.{name}" in read]
    order = dict.fromkeys((time, *([source.arrived_at] if source.arrived_at else []), *(source.id or source.columns)))
    same = Window.partitionBy(*beside, *[f"`{name}`" for name in source.lag_over]).orderBy(*[f"`{name}`" for name in order])
    at = F.unix_micros(F.col(f"`{time}`"))
    before = F.lag(F.struct(at.alias(_AT), *columns)).over(same)
    known = reduce(and_, [F.col(f"`{name}`").isNotNull() for name in source.lag_over])
    return F.when(known & (at - before[_AT] <= source.lag // MICROSECOND), before)
