"""The columns that a source derives: computed whenever its rows are read, never stored, those that read `prev` from the row before."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from feature_definitions.intervals import MICROSECOND
from feature_definitions.language import Source
from feature_definitions.sql import expressions
from feature_definitions.sql.derivations import Derivation, derivations
from spark_jobs.tables import spark_type

_DAY = timedelta(days=1)
_PREVIOUS, _AT = "prev", "_hw_at"


def with_derived(rows: DataFrame, source: Source, *, time: str, beside: Sequence[str] = ()) -> DataFrame:
    """The rows with all columns that the source derives, without those of which one fails; `time` is their event timestamp. Rows with
    other `beside` columns are apart.

    `prev` is the row before, among those with equal `lag_over` columns (null equals nothing), by event timestamp, `arrived_at` and `id`
    (without an id by all columns, so that equal times are always in one order); null if there is none within `lag_within`. It may be a row
    whose own derivation by `prev` fails.
    """
    found = derivations(source)
    if source.lag:
        rows = rows.withColumn(_PREVIOUS, _previous(source, time, beside))
    whole = _with(rows, found)
    for each in found:
        if each.fails is not None:
            whole = whole.where(f"NOT ({each.fails})")
    return whole.drop(*([_PREVIOUS] if source.lag else []))


def judged_by_derivation(rows: DataFrame, source: Source) -> tuple[DataFrame, list[Column]]:
    """The rows with the columns that are derived from their own row alone, and of each of these why a row cannot be taken, or null: the
    reason, the column and what it was to be derived from."""
    found = [each for each in derivations(source) if each.of_the_row]
    return _with(rows, found), [_refused(each) for each in found if each.fails is not None]


def _refused(derivation: Derivation) -> Column:
    reads = [F.coalesce(F.col(f"`{column}`").cast("string"), F.lit("null")) for column in derivation.reads]
    named = [F.concat(F.lit(f"{column}="), value) for column, value in zip(derivation.reads, reads, strict=True)]
    value = reads[0] if len(reads) == 1 else F.concat_ws(", ", *named)
    reason = f"{derivation.name} cannot be derived from {' and '.join(derivation.reads) or 'its expression'}"
    refused = F.struct(F.lit(reason).alias("reason"), F.lit(derivation.name).alias("column"), value.alias("value"))
    return F.when(F.expr(str(derivation.fails)), refused)


def lagging(source: Source) -> frozenset[str]:
    """The derived columns that rest on the row before, directly or by way of another."""
    return frozenset(each.name for each in derivations(source) if not each.of_the_row)


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


def _with(rows: DataFrame, found: Iterable[Derivation]) -> DataFrame:
    for each in found:
        value = F.expr(each.value).cast(spark_type(each.type))
        if each.type == "double":
            value = F.when(F.abs(value) < float("inf"), value)
        rows = rows.withColumn(each.name, value)
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
