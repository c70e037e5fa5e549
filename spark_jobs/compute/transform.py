"""Computes the rows of transforms: the SQL or the function of a group, once for each interval, over what its inputs held in the lookback.

One computation sees nothing of another, so a range gives the rows of its single runs; it costs as many plans as it has intervals. A few at
a time become one Spark job, and their rows are written before the next ones are planned.
"""

import contextlib
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException, PythonException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.errors import UserError
from feature_definitions.intervals import Interval, dates, micros
from feature_definitions.language import FeatureGroup, Source, TransformGroup
from feature_definitions.layout import DATE, TIME
from feature_definitions.planning import plan
from feature_definitions.planning.plan import GroupPlan
from feature_definitions.planning.upstream import Upstream
from feature_definitions.sql import column_types, queries
from feature_definitions.sql.data_types import articled, fits
from lake import delta
from spark_jobs import tables, workers
from spark_jobs.compute.failures import OF_VALUES, is_of_a_value, sentence
from spark_jobs.compute.rows import NEWEST, START, start_of
from spark_jobs.context import Context
from spark_jobs.ingest import events

AT_ONCE = 8
"""How many intervals are planned as one Spark job."""
_STARTS = "_hw_starts"


class TransformError(UserError):
    """What a transform's SQL or function gives is not what its group declares."""


class FunctionFailed(TransformError):
    """A transform's function raised, where it was called or in a worker of Spark."""


def compute(work: GroupPlan, group: TransformGroup, context: Context, *, into: str) -> tuple[DataFrame, Mapping[Interval, str]]:
    """The group's rows of all intervals of a plan, written below `into` and read back; and the intervals that cannot be computed because
    some expression has no value for what it is given, or because the function raises, each with what is said.

    Columns: the entity's keys, `event_timestamp`, `empties_at` (the next interval's end: a row holds until then), the outputs,
    `interval_start` and `newest_tile` (null). Raises TransformError for a result that lacks a declared column, or has one of another type,
    and for a function that raises for every interval.
    """
    intervals, failed = [status.interval for status in work.due], dict[Interval, Exception]()
    for first in range(0, len(intervals), AT_ONCE):
        rows, raised = _attempted(work, group, intervals[first : first + AT_ONCE], context)
        failed |= raised | (_written(group, rows, into) if rows else {})
    _refuse_if_never_right(failed, among=intervals)
    reasons, types = {interval: _reason(group, error) for interval, error in failed.items()}, tables.columns_sql(_types(group))
    if len(failed) == len(intervals):
        return context.spark.createDataFrame([], types), reasons
    return tables.staged(context.spark, into, schema=types), reasons


def _attempted(
    work: GroupPlan, group: TransformGroup, intervals: Sequence[Interval], context: Context
) -> tuple[dict[Interval, DataFrame], dict[Interval, Exception]]:
    """The rows of those intervals that can be planned, and what was raised for the others."""
    inputs, rows, failed = _inputs(work, group, intervals, context), dict[Interval, DataFrame](), dict[Interval, Exception]()
    for interval, given in inputs.items():
        try:
            with failing_as(group):
                rows[interval] = _timed(group, transformed(group, given), interval)
        except (FunctionFailed, *OF_VALUES) as error:
            if not is_of_a_value(error):
                raise
            failed[interval] = error
    return rows, failed


def _written(group: TransformGroup, rows: Mapping[Interval, DataFrame], into: str) -> dict[Interval, Exception]:
    """Write the rows of some intervals in one job; if that fails, each in its own. Gives what was raised for those that fail."""
    try:
        with failing_as(group):
            reduce(DataFrame.unionByName, rows.values()).write.mode("append").parquet(into)
    except (FunctionFailed, *OF_VALUES) as error:
        if not is_of_a_value(error):
            raise
        if len(rows) == 1:
            return dict.fromkeys(rows, error)
        return {failed: said for one, frame in rows.items() for failed, said in _written(group, {one: frame}, into).items()}
    return {}


def _refuse_if_never_right(failed: Mapping[Interval, Exception], *, among: Sequence[Interval]) -> None:
    """Raise what a function raises for every interval: that is a mistake in the function and no matter of some rows."""
    raised = [error for error in failed.values() if isinstance(error, FunctionFailed)]
    if raised and len(raised) == len(among):
        raise raised[0]


def _reason(group: TransformGroup, error: Exception) -> str:
    """What is said of an interval that cannot be computed, in one sentence."""
    if isinstance(error, PySparkException):
        return sentence(error)
    return textwrap.shorten(str(error).removeprefix(f"group {group.name}: "), 240, placeholder=" ...")


@contextlib.contextmanager
def failing_as(group: TransformGroup) -> Iterator[None]:
    """Raise what the group's function raises in Spark's workers as FunctionFailed: nothing else of a transform runs there."""
    try:
        yield
    except PythonException as error:
        raise FunctionFailed(f"group {group.name}: its function failed in a worker: {workers.last_words(error)}") from error


def computed(work: GroupPlan, group: TransformGroup, interval: Interval, context: Context) -> DataFrame:
    """The group's rows of an interval where later events are, as `compute` gives them."""
    return _timed(group, transformed(group, inputs_at(work, group, interval, context)), interval)


def inputs_at(work: GroupPlan, group: TransformGroup, interval: Interval, context: Context) -> list[DataFrame]:
    """What the group is given to compute one interval from, in the order of its inputs."""
    return _inputs(work, group, [interval], context)[interval]


def _inputs(work: GroupPlan, group: TransformGroup, intervals: Sequence[Interval], context: Context) -> dict[Interval, list[DataFrame]]:
    """What the group is given to compute each of some neighbouring intervals from."""
    spans = {interval: plan.inputs(group, interval) for interval in intervals}
    near = Interval(min(span.start for span in spans.values()), max(span.end for span in spans.values()))
    opened = [(each, _opened(each, near, work.upstream, context)) for each in group.inputs]
    return {interval: [_cut(each, frame, span) for each, frame in opened] for interval, span in spans.items()}


def transformed(group: TransformGroup, inputs: Sequence[DataFrame]) -> DataFrame:
    """What the group's SQL or function makes of its inputs' rows: the entity's keys and the columns of its schema, in these types."""
    if group.sql is not None:
        return _declared(group, _queried(group, group.sql, inputs))
    assert group.function is not None
    result = _called(group, group.function, inputs)
    if not isinstance(result, DataFrame):
        raise TransformError(f"group {group.name}: its function gave {articled(type(result).__name__)}; let it return one DataFrame")
    return _declared(group, result)


def _called(group: TransformGroup, function: Callable[..., object], inputs: Sequence[DataFrame]) -> object:
    """What the group's function gives; what it raises is a mistake in the definition, unless Spark itself failed."""
    try:
        return function(*inputs)
    except AnalysisException as error:
        raise TransformError(f"group {group.name}: Spark does not take what its function does: {_first_line(error)}") from error
    except (PySparkException, Py4JError):
        raise
    except (Exception, SystemExit) as error:  # whatever a user's function raises is told to the user
        raise FunctionFailed(f"group {group.name}: its function raised {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["nothing more"])[0]


def _types(group: TransformGroup) -> dict[str, str]:
    """The columns of what is computed, each with its type."""
    times = {"event_timestamp": "timestamp", "empties_at": "timestamp"}
    return {**group.entity.keys, **times, **group.schema, START: "timestamp", NEWEST: "int64"}


def _timed(group: TransformGroup, rows: DataFrame, interval: Interval) -> DataFrame:
    return rows.select(
        *[f"`{key}`" for key in group.entity.keys],
        F.lit(interval.end).alias("event_timestamp"),
        F.lit(interval.end + group.cadence).alias("empties_at"),
        *[f"`{column}`" for column in group.outputs],
        F.lit(interval.start).alias(START),
        F.lit(None).cast("bigint").alias(NEWEST),
    )


# ----------------------------------------------------------------------------------------------------------------------- inputs


def _opened(of: Source | FeatureGroup, span: Interval, upstream: Sequence[Upstream], context: Context) -> DataFrame:
    """An input's rows of the dates that a span touches, with the time by which they are cut."""
    if isinstance(of, Source):
        return events.read(of, context, dates=dates(span))
    generation = next(each.generation for each in upstream if each.group.name == of.name)
    types = {**of.entity.keys, "event_timestamp": "timestamp", **column_types.output_types(of)}
    path = layout.feature_table(context.lake, of.name, generation)
    if not delta.exists(path):
        return context.spark.createDataFrame([], f"{tables.columns_sql(types)}, {_STARTS} bigint")
    touched = set() if of.is_static else set(dates(Interval(span.start - of.cadence, span.end)))
    rows = tables.read(context.spark, path, wanted=tables.every_date if of.is_static else touched.__contains__)
    if not of.is_static:
        rows = rows.where(tables.in_dates("date", touched))
    live = F.col("empties_at").isNull() | (F.col("empties_at") > F.col("event_timestamp"))
    return rows.where(live).select(*[f"`{name}`" for name in types], start_of(of).alias(_STARTS))


def _cut(of: Source | FeatureGroup, rows: DataFrame, span: Interval) -> DataFrame:
    """What a computation over a span sees of an input: events in it, rows of intervals that end in `(start, end]`, static rows."""
    if isinstance(of, Source):
        days = F.col(DATE).between(F.lit(span.start.date()), F.lit(span.end.date()))
        inside = (F.unix_micros(TIME) >= micros(span.start)) & (F.unix_micros(TIME) < micros(span.end))
        return rows.where(days & inside).select(*[f"`{name}`" for name in of.names])
    if of.is_static:
        return rows.drop(_STARTS)
    at, cadence = F.unix_micros("event_timestamp"), of.cadence
    low = at > micros(span.start) if of.row_time == "end" else at >= micros(span.start)
    ended = F.col(_STARTS) <= micros(span.end - cadence)
    return rows.where(low & ended).drop(_STARTS)


# ----------------------------------------------------------------------------------------------------------------------- result


def _queried(group: TransformGroup, sql: str, inputs: Sequence[DataFrame]) -> DataFrame:
    """The query's result, where each input goes by its name."""
    frames = dict(zip([each.name for each in group.inputs], inputs, strict=True))
    try:
        return tables.query(inputs[0].sparkSession, queries.query_sql(sql), frames)
    except AnalysisException as error:
        raise TransformError(f"group {group.name}: Spark does not take its sql: {_first_line(error)}") from None


def _declared(group: TransformGroup, result: DataFrame) -> DataFrame:
    """The declared columns alone, in their types, as far as every value of what was given has a place in them."""
    types = {**group.entity.keys, **group.schema}
    given = {field.name: field.dataType for field in result.schema}
    for name, kind in types.items():
        if result.columns.count(name) != 1:
            many = "more than one" if name in given else "no"
            has = f"its result has {many} column {name!r}, which is declared. It has: {', '.join(given)}"
            raise TransformError(f"group {group.name}: {has}")
        if not fits(tables.type_named(given[name]), kind):
            raise TransformError(
                f"group {group.name}: its result has {name!r} as {articled(given[name].simpleString())}, declared is {articled(kind)}; "
                f"cast it, like cast(... as {tables.spark_type(kind)}), or declare what it is"
            )
    return result.select(*[F.col(f"`{name}`").cast(tables.spark_type(kind)).alias(name) for name, kind in types.items()])
