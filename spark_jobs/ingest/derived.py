"""The columns that a source derives: computed whenever its rows are read, never stored, those that read `prev` from the row before."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from feature_definitions.intervals import MICROSECOND
from feature_definitions.language import Source
from feature_definitions.layout import COLUMN, REASON, VALUE
from feature_definitions.sql import expressions
from feature_definitions.sql.derivations import Derivation, derivations
from spark_jobs.tables import spark_type

_DAY = timedelta(days=1)
_PREVIOUS, _AT, _WHY = "prev", "_hw_at", "_hw_why"
_GIVEN = ", given the row before"
BESIDE = f"{_GIVEN}$"
"""How every reason ends that rests on the row before, as a regular expression; no other reason does."""


def with_derived(rows: DataFrame, source: Source, *, time: str) -> DataFrame:
    """The rows with all columns that the source derives, without those of which one fails; `time` is their event timestamp.

    `prev` is the row before, among those with equal `lag_over` columns (null equals nothing), by event timestamp, `arrived_at` and `id`
    (without an id by all columns, so that equal times are always in one order); null if there is none within `lag_within`. It may be a row
    whose own derivation by `prev` fails.
    """
    found = derivations(source)
    whole = _with(_beside_previous(rows, source, time, ()), found)
    for each in found:
        if each.fails is not None:
            whole = whole.where(f"NOT ({each.fails})")
    return whole.drop(*([_PREVIOUS] if source.lag else []))


def judged_by_previous(rows: DataFrame, source: Source, *, time: str, apart: Sequence[str] = ()) -> DataFrame:
    """The rows with all columns that the source derives, null where that fails, and why one that rests on the row before does, or null:
    the reason, the column and what it was to be derived from. Rows with other `apart` columns are no rows before."""
    found = derivations(source)
    why = [_refused(each) for each in found if not each.of_the_row and each.fails is not None]
    whole = _with(_beside_previous(rows, source, time, apart), found).withColumn(_WHY, F.coalesce(*why, F.lit(None)))
    told = {REASON: "reason", COLUMN: "column", VALUE: "value"}
    texts = {name: F.col(_WHY)[field] if why else F.lit(None).cast("string") for name, field in told.items()}
    return whole.withColumns(texts).drop(_WHY, *([_PREVIOUS] if source.lag else []))


def refused_by_previous(rows: DataFrame, source: Source, *, time: str) -> DataFrame:
    """Those rows of which a derivation that rests on the row before fails, with the reason, the column and the value."""
    return judged_by_previous(rows, source, time=time).where(F.col(REASON).isNotNull()).drop(*source.derive)


def _beside_previous(rows: DataFrame, source: Source, time: str, apart: Sequence[str]) -> DataFrame:
    return rows.withColumn(_PREVIOUS, _previous(source, time, apart)) if source.lag else rows


def judged_by_derivation(rows: DataFrame, source: Source) -> tuple[DataFrame, list[Column]]:
    """The rows with the columns that are derived from their own row alone, and of each of these why a row cannot be taken, or null: the
    reason, the column and what it was to be derived from."""
    found = [each for each in derivations(source) if each.of_the_row]
    return _with(rows, found), [_refused(each) for each in found if each.fails is not None]


def _refused(derivation: Derivation) -> Column:
    reads = [F.coalesce(_named(column).cast("string"), F.lit("null")) for column in derivation.reads]
    named = [F.concat(F.lit(f"{column}="), value) for column, value in zip(derivation.reads, reads, strict=True)]
    value = reads[0] if len(reads) == 1 else F.concat_ws(", ", *named)
    reason = f"{derivation.name} cannot be derived from {' and '.join(derivation.reads) or 'its expression'}"
    reason += "" if derivation.of_the_row else _GIVEN
    refused = F.struct(F.lit(reason).alias("reason"), F.lit(derivation.name).alias("column"), value.alias("value"))
    return F.when(F.expr(str(derivation.fails)), refused)


def _named(column: str) -> Column:
    before = f"{_PREVIOUS}."
    return F.col(_PREVIOUS)[column.removeprefix(before)] if column.startswith(before) else F.col(f"`{column}`")


def lagging(source: Source) -> frozenset[str]:
    """The derived columns that rest on the row before, directly or by way of another."""
    return frozenset(each.name for each in derivations(source) if not each.of_the_row)


def days_around(source: Source, dates: Iterable[date], *, after: bool) -> str:
    """The dates, with those before that hold the rows before theirs, and with those `after` whose rows read theirs, as an SQL condition."""
    lag = _days_of_lag(source)
    return _sql(_spans((_earlier(day, lag), _later(day, lag if after else timedelta(0))) for day in dates))


def is_around(source: Source, dates: Iterable[date], *, after: bool) -> Callable[[date], bool]:
    """Whether a date is one of those that `days_around` says."""
    lag = _days_of_lag(source)
    spans = _spans((_earlier(day, lag), _later(day, lag if after else timedelta(0))) for day in dates)
    return lambda asked: any(first <= asked <= last for first, last in spans)


def days_from(source: Source, dates: Iterable[date]) -> str:
    """The dates, with those after whose rows read theirs, as an SQL condition."""
    return _sql(_spans((day, _later(day, _days_of_lag(source))) for day in dates))


def _days_of_lag(source: Source) -> timedelta:
    return -(-source.lag // _DAY) * _DAY


def _spans(days: Iterable[tuple[date, date]]) -> list[tuple[date, date]]:
    """Spans of dates, joined where they meet."""
    spans: list[tuple[date, date]] = []
    for first, last in sorted(set(days)):
        if spans and first <= _later(spans[-1][1], _DAY):
            spans[-1] = (spans[-1][0], max(last, spans[-1][1]))
        else:
            spans.append((first, last))
    return spans


def _sql(spans: Iterable[tuple[date, date]]) -> str:
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


def _previous(source: Source, time: str, apart: Sequence[str]) -> Column:
    read = {name for sql in source.derive.values() for name in expressions.derive_columns_in(sql)}
    columns = [f"`{name}`" for name in source.columns if f"{_PREVIOUS}.{name}" in read]
    order = dict.fromkeys((time, *([source.arrived_at] if source.arrived_at else []), *(source.id or source.columns)))
    same = Window.partitionBy(*apart, *[f"`{name}`" for name in source.lag_over]).orderBy(*[f"`{name}`" for name in order])
    at = F.unix_micros(F.col(f"`{time}`"))
    before = F.lag(F.struct(at.alias(_AT), *columns)).over(same)
    known = reduce(and_, [F.col(f"`{name}`").isNotNull() for name in source.lag_over])
    return F.when(known & (at - before[_AT] <= source.lag // MICROSECOND), before)
