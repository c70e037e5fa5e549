"""Reads the events of any source: the one place that asks whether its rows lie in a table of ours or are read in place.

Readers see a table that is read in place as the source's last ingest saw it: what changed since is not seen. Of a `Table` without
versions they see all that it holds.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.intervals import ALWAYS
from feature_definitions.language import Expectation, Jdbc, Query, Source
from feature_definitions.layout import ASIDE, COLUMN, DATE, FILE, INGEST, LINE, LIVE, REASON, TIME, VALUE
from feature_definitions.sql import column_types, failing
from feature_definitions.sql.derivations import may_fail
from lake import delta, versions
from lake.delta_files import Wanted
from lake.versions import UNSEEN, PinnedVersion
from spark_jobs import tables
from spark_jobs.context import Context
from spark_jobs.ingest import in_place, jdbc
from spark_jobs.ingest.derived import days_around, is_around, judged_by_derivation, with_derived
from spark_jobs.ingest.selects import Times

State = Mapping[str, PinnedVersion]
"""The pinned version of each table that a source reads, by the source that reads the table itself."""


def read(source: Source, context: Context, *, dates: Iterable[date] | None = None) -> DataFrame:
    """The live rows of a source, with the columns that it derives, `_hw_time` and `_hw_date`; none before anything was ingested.

    `dates` are the UTC dates of the rows that are wanted, none: all. Say them here rather than filter: a filter is right too, but where
    rows read the one before, or lie in a table of another owner, Spark reads every date first.
    """
    wanted = None if dates is None else tuple(dates)
    return _with_derived(_live(source, context, dates=wanted), source, wanted)


def read_as_it_was(source: Source, context: Context, state: State) -> DataFrame:
    """What `read` gives, in a past state of the tables that the source rests on."""
    return _with_derived(_live(source, context, state), source, None)


def _live(source: Source, context: Context, state: State | None = None, *, dates: Sequence[date] | None = None) -> DataFrame:
    """The rows that hold in a state of what is read, by default in the one that readers see."""
    if source.lies_in_place:
        seen = versions.pinned(source, context.lake) if state is None else state
        return read_of(in_place.holding(lying_in_place(source, context, seen, dates=dates), source), seen.get(source.name))
    wanted = tables.every_date if dates is None else is_around(source, dates, after=False)
    return _ingested(source, context, None if state is None else state.get(source.name), wanted)


def read_of(rows: DataFrame, pin: PinnedVersion | None) -> DataFrame:
    """Of rows that hold those that are read: the others lie far from all others."""
    at = F.unix_micros(TIME)
    if pin is not None and pin.first is not None:
        rows = rows.where(at >= pin.first)
    return rows.where(at < pin.last) if pin is not None and pin.last is not None else rows


def _ingested(source: Source, context: Context, pin: PinnedVersion | None, wanted: Wanted) -> DataFrame:
    kept = in_place.opened(pin, context) if pin is not None else _newest(layout.source_table(context.lake, source.name), context, wanted)
    if kept is None:
        return _nothing(source, context)
    return in_columns(kept, source).where(LIVE).select(*[f"`{name}`" for name in source.columns], TIME, DATE)


def _newest(path: str, context: Context, wanted: Wanted) -> DataFrame | None:
    return tables.read(context.spark, path, wanted=wanted) if delta.exists(path) else None


def lying_in_place(source: Source, context: Context, state: State, *, dates: Sequence[date] | None = None) -> DataFrame:
    """All rows of what a source reads in place, in a state of it, with their time and date, and the reason why one is refused.

    Of another database only those are asked for that are needed to tell which rows of some dates hold; no dates: all.
    """
    raw = _raw(source, context, state, dates)
    if raw is None:
        return _nothing(source, context).withColumns({name: F.lit(None).cast("string") for name in (REASON, COLUMN, VALUE)})
    return judged(in_place.typed(raw, source), source)


def _raw(source: Source, context: Context, state: State, dates: Sequence[date] | None) -> DataFrame | None:
    match source.at:
        case Query() as query:
            return _queried(source, query, context, state)
        case Jdbc() as at:
            seen = source.name in state and state[source.name].version != UNSEEN
            return jdbc.opened(source, at, context, times=_span(source, dates)) if seen and dates != () else None
    return in_place.opened(state.get(source.name), context)


def _queried(source: Source, query: Query, context: Context, state: State) -> DataFrame | None:
    """The rows that a query gives over those of its sources; None if no state was seen yet."""
    return in_place.queried(source, query, tables_of(query, context, state), context) if state else None


def tables_of(query: Query, context: Context, state: State) -> dict[str, DataFrame]:
    """The rows that a query reads, by the name of the table as which it reads them."""
    frames = {each.name: _with_derived(_live(each, context, state), each, None) for each in query.sources}
    return {each.name: frames[each.name].select(*[f"`{name}`" for name in each.names]) for each in query.sources}


def _nothing(source: Source, context: Context) -> DataFrame:
    return context.spark.createDataFrame([], f"{tables.columns_sql(source.columns)}, {TIME} timestamp, {DATE} date")


def _with_derived(rows: DataFrame, source: Source, dates: Sequence[date] | None) -> DataFrame:
    if dates is None:
        found = with_derived(rows, source, time=TIME)
    else:
        near = rows.where(days_around(source, dates, after=False)).where(times_of(source, dates))
        found = with_derived(near, source, time=TIME)
        found = found.where(tables.in_dates(DATE, dates)) if source.lag else found
    return found.select(*[f"`{name}`" for name in source.names], TIME, DATE)


def times_of(source: Source, dates: Sequence[date]) -> str:
    """The times of these dates and of the rows before theirs: by it files of tables that are not partitioned by date are skipped."""
    start, end = _span(source, dates)
    bounds = [f"`{TIME}` < {tables.timestamp(end)}"] if end else []
    return " AND ".join([*bounds, *([f"`{TIME}` >= {tables.timestamp(start)}"] if start else [])]) or "true"


def _span(source: Source, dates: Sequence[date] | None) -> Times:
    """From the first instant of these dates, and of the rows before theirs, to the last; no bound where no datetime lies there."""
    if not dates:
        return Times(None, None)
    first, last = (datetime.combine(day, time.min, UTC) for day in (min(dates), max(dates)))
    start = first - source.lag if first - datetime.min.replace(tzinfo=UTC) > source.lag else None
    return Times(start, last + timedelta(days=1) if last.date() < date.max else None)


# ------------------------------------------------------------------------------------------------------- what all sources' rows have


def judged(rows: DataFrame, source: Source) -> DataFrame:
    """A source's typed rows with their time and date; those of which a derived column has no value, or that fail a critical expectation,
    have that as their reason, beside the column and the value at fault where rows tell them."""
    if source.expect or may_fail(source):
        whole, refusals = judged_by_derivation(rows, source)
        rows = _refused(whole, F.coalesce(*refusals, *[_unexpected(each, source) for each in source.expect])).drop(*source.derive)
    at = F.col(f"`{source.event_timestamp}`") if source.event_timestamp else F.lit(ALWAYS.start)
    return rows.withColumn(TIME, at).withColumn(DATE, F.to_date(TIME))


def _refused(rows: DataFrame, why: Column) -> DataFrame:
    """The rows, of which those that had no reason yet have this one."""
    told = {name: why[field] for name, field in ((REASON, "reason"), (COLUMN, "column"), (VALUE, "value")) if name in rows.columns}
    known = F.col(REASON).isNotNull()
    return rows.withColumns({name: F.when(known, F.col(name)).otherwise(value) for name, value in told.items()})


def _unexpected(expectation: Expectation, source: Source) -> Column:
    sql, nothing = str(expectation.arguments[0]), F.lit(None).cast("string")
    value, fails = failing.safely(sql, column_types.columns_of(source))
    bad = f"NOT ({value})" if fails is None else f"NOT ({value}) OR ({fails})"
    why = F.struct(F.lit(f"expected {sql}").alias("reason"), nothing.alias("column"), nothing.alias("value"))
    return F.when(F.expr(bad if expectation.severity == "critical" else "false"), why)


def in_columns(kept: DataFrame, source: Source) -> DataFrame:
    """The rows of a source's own table in its present columns: one that the definition gained is null in older rows."""
    have = set(kept.columns)
    columns = [
        (F.col(f"`{name}`") if name in have else F.lit(None)).try_cast(tables.spark_type(kind)).alias(name)
        for name, kind in source.columns.items()
    ]
    aside = F.coalesce(F.col(ASIDE), F.lit(False)) if ASIDE in have else F.lit(False)
    return kept.select(*columns, TIME, DATE, FILE, LINE, INGEST, LIVE, aside.alias(ASIDE))
