"""The rows that a training set is built for: from a source or a frame, refused if they cannot be joined with a service."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.dataframe import DataFrame as Here

from feature_definitions import layout
from feature_definitions.counted import counted
from feature_definitions.errors import UserError
from feature_definitions.intervals import MICROSECOND, duration, instant, iso, micros
from feature_definitions.language import Expectation, FeatureGroup, FeatureService, Label, Mode, Query, Source, Split
from feature_definitions.planning.upstream import read_by, sources_of
from feature_definitions.sql import column_types, data_types, queries
from lake import versions
from lake.arrow_types import arrow_type
from spark_jobs import frames, tables
from spark_jobs.context import Context
from spark_jobs.ingest import events
from spark_jobs.ingest.cells import first_line
from spark_jobs.training import order, provenance

TIME = "event_timestamp"
"""The column of a spine that says at which time each of its rows is joined."""


class SpineRefused(UserError):
    """A spine that cannot be joined: a column is missing, of another type, or its times have no zone or are too young."""


@dataclass(frozen=True, slots=True)
class Spine:
    """Rows to be joined: `at` is the column of the event timestamps, `source` the source they come from, if any, `reads` all behind it.

    `of` is that source, `state` the one in which it is at least, and `tables` are what they were read from, each with its version.

    The rows have their places (`order.NUMBER`); those of a source do not, whose order is that of their times and of their ids.
    """

    rows: DataFrame
    at: str
    source: str | None
    ids: tuple[str, ...] = ()
    reads: frozenset[str] = frozenset()
    tables: tuple[tuple[str, int | None], ...] = ()
    of: Source | None = None
    state: Mapping[str, int | None] | None = None

    def may_show(self, group: FeatureGroup) -> bool:
        """Whether a group may show the very events that the rows are: it reads a source of theirs, or they name none."""
        reads = self.reads | (frozenset() if self.source is None else {self.source})
        return not reads or any(not reads.isdisjoint(read_by(source)) for source in sources_of(group))

    @property
    def columns(self) -> list[str]:
        """The columns that the rows came with."""
        return [name for name in self.rows.columns if name != order.NUMBER]

    def numbered(self, days: Mapping[int, int]) -> DataFrame:
        """The rows with their places; `days` counts them by date."""
        if order.NUMBER in self.rows.columns:
            return self.rows
        return order.by_columns(self.rows, self.ids, at=self.at, days=days)


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What to build: under which name, which service, in which mode, with which label, cut into which parts, with statuses or not.

    `expect` is what must hold before it is seen: each expectation with its column, None if it is about rows.
    """

    name: str
    service: FeatureService
    mode: Mode = "as_known"
    label: Label | None = None
    split: Split | None = None
    statuses: bool = False
    expect: tuple[tuple[str | None, Expectation], ...] = ()


def of_source(source: Source, context: Context) -> Spine:
    """A spine from a source's rows, at their event timestamps."""
    state, seen = state_of(source, context), versions.tables(source, context.lake)
    rows = events.read(source, context).select(*[f"`{name}`" for name in source.names])
    return Spine(rows, str(source.event_timestamp), source.name, source.id, read_by(source), (*seen.items(),), source, state)


def state_of(source: Source, context: Context) -> Mapping[str, int | None] | None:
    """The versions of the tables that a source is read from, and of all sources behind it; None where something has no version.

    It is asked for before anything is read: what changes meanwhile is another version then.
    """
    seen = versions.tables(source, context.lake)
    if not seen or None in seen.values():
        return None
    return {**seen, **{name: context.registry.next_revision(name) for name in read_by(source)}}


def of_given(frame: object, spark: SparkSession, *, keys: Mapping[str, str]) -> Spine:
    """A spine from any frame; one of the Spark that runs here is not collected. `keys` are the service's, with their types."""
    return of_rows(frame, keys=keys) if isinstance(frame, Here) else of_frame(frames.arrow(frame), spark, keys=keys)


def of_frame(frame: pa.Table, spark: SparkSession, *, keys: Mapping[str, str] = MappingProxyType({})) -> Spine:
    """A spine from an Arrow table with a column `event_timestamp`, whose times have a zone.

    A column without any value has no type: a key gets the service's, any other column is text.
    """
    frame = _with_types(frame, {**keys, TIME: "timestamp"})
    _check_schema(frame.schema)
    at = frame.column_names.index(TIME)
    exact = frame.column(at).cast(pa.timestamp("us", tz=frame.schema.field(at).type.tz), safe=False).cast(pa.timestamp("us", tz="UTC"))
    return Spine(spark.createDataFrame(order.with_places(frame.set_column(at, TIME, exact))), TIME, None)


def of_query(query: Query, context: Context, *, keys: Mapping[str, str]) -> Spine:
    """A spine from a query over sources, computed once; its times are in its column `event_timestamp`."""
    known = {source.name: column_types.columns_of(source) for source in query.sources}
    queries.query_outputs(query.sql, known)
    seen = provenance.of_query(query, context.lake)
    frames = {each.name: events.read(each, context).select(*[f"`{name}`" for name in known[each.name]]) for each in query.sources}
    try:
        rows = tables.query(context.spark, queries.query_sql(query.sql), frames)
    except PySparkException as error:
        raise SpineRefused(f"the spine's query cannot be run: {first_line(error)}") from error
    return replace(of_rows(rows, keys=keys), reads=frozenset().union(*map(read_by, query.sources)), tables=(*seen.items(),))


def of_rows(rows: DataFrame, *, keys: Mapping[str, str]) -> Spine:
    """A spine from a frame of Spark, computed once, so that what is joined is what was looked at."""
    try:
        schema = rows.limit(0).toArrow().schema
    except PySparkException as error:
        raise SpineRefused(f"the spine's columns cannot be read: {first_line(error)}") from error
    void = {field.name: keys.get(field.name, "string") for field in schema if pa.types.is_null(field.type)}
    _check_schema(pa.schema([field for field in schema if field.name not in void]))
    typed = rows.withColumns({name: F.col(f"`{name}`").cast(tables.spark_type(kind)) for name, kind in void.items()})
    try:
        return Spine(order.held(typed), TIME, None)
    except PySparkException as error:
        raise SpineRefused(f"the spine's rows cannot be computed: {first_line(error)}") from error


def _with_types(frame: pa.Table, types: Mapping[str, str]) -> pa.Table:
    """The columns without any value in the type that they must have; what may have any type, and holds none, is text."""
    for place, field in enumerate(frame.schema):
        column, kind = frame.column(place), _with_text(field.type)
        if field.name in types and column.null_count == len(column):
            frame = frame.set_column(place, field.name, pa.nulls(len(column), arrow_type(types[field.name])))
        elif kind != field.type:
            frame = frame.set_column(place, field.name, column.cast(kind))
    return frame


def _with_text(given: pa.DataType) -> pa.DataType:
    """A type with text in place of nothing, of which Spark makes `void`, which no table keeps."""
    match given:
        case pa.ListType():
            return pa.list_(_with_text(given.value_type))
        case pa.MapType():
            return pa.map_(_with_text(given.key_type), _with_text(given.item_type))
        case pa.StructType():
            return pa.struct([pa.field(field.name, _with_text(field.type)) for field in given.fields])
    return pa.string() if pa.types.is_null(given) else given


def _check_schema(schema: pa.Schema) -> None:
    """Refuse a spine without times in a zone, and what neither Spark nor a Delta table can hold, by name."""
    if TIME not in schema.names:
        raise SpineRefused(f"the spine has no column {TIME!r}. It has: {', '.join(schema.names)}")
    _refuse_columns(schema)
    kind = schema.field(TIME).type
    if not pa.types.is_timestamp(kind):
        raise SpineRefused(f"the spine's event_timestamp is a {kind}; it must be a timestamp with a time zone: {_ZONED}")
    if kind.tz is None:
        raise SpineRefused(f"the spine's event_timestamp has no time zone; {_ZONED}")


_ZONED = "write pandas.to_datetime(..., utc=True), or tz_localize what is local"


def _refuse_columns(schema: pa.Schema) -> None:
    seen: dict[str, str] = {}
    for field in schema:
        if field.name == "" or re.search(r"[ ,;{}()\n\t=.`]", field.name) or field.name.startswith("_hw_"):
            raise SpineRefused(f"the spine's column {field.name!r} cannot be kept under that name; rename it to letters, digits and _")
        if field.name.lower() in seen:
            raise SpineRefused(f"the spine has the columns {seen[field.name.lower()]!r} and {field.name!r}; rename one of them")
        if not _fits(field.type):
            raise SpineRefused(f"the spine's column {field.name!r} is a {field.type}; make it an int64, a double or a string")
        seen[field.name.lower()] = field.name


def _fits(given: pa.DataType) -> bool:
    """Whether Spark and a Delta table both hold a type; a struct without fields has no place in Parquet."""
    match given:
        case pa.Decimal128Type():
            return 0 <= int(given.scale) <= int(given.precision)
        case pa.ListType():
            return _fits(given.value_type)
        case pa.MapType():
            return _fits(given.key_type) and _fits(given.item_type)
        case pa.StructType():
            return given.num_fields > 0 and all(_fits(field.type) for field in given.fields)
    return any(fit(given) for fit in _FIT)


_FIT = (
    pa.types.is_boolean,
    pa.types.is_signed_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_string,
    pa.types.is_binary,
    pa.types.is_date32,
    pa.types.is_timestamp,
)


def check(spine: Spine, request: TrainingRequest) -> None:
    """Refuse a spine that lacks what the request needs, or has it in another type."""
    have = {name: spine.rows.schema[name].dataType for name in spine.columns}
    keys, fields = dict.fromkeys(request.service.keys, "a key"), dict.fromkeys(request.service.requests, "a field of requests")
    for name, kind in request.service.asked.items():
        role = f"{(keys | fields)[name]} of service {request.service.name}"
        if name not in have:
            raise SpineRefused(f"the spine has no column {name!r}, {role}. It has: {', '.join(have)}")
        given = tables.type_named(have[name])
        if given != kind and not (name in fields and data_types.fits(given, kind)):
            how = (
                ": pandas makes doubles of whole numbers where one is missing; write .astype('Int64')"
                if (given, kind) == _AS_DOUBLES
                else ""
            )
            raise SpineRefused(f"the spine's {name!r} is a {have[name].simpleString()}; as {role} it must be {kind}{how}")
    outputs = {output.lower(): output for output in request.service.outputs}
    taken = sorted(name for name in have if name.lower() in outputs)
    if taken:
        like = "" if taken[0] in request.service.outputs else f", like {outputs[taken[0].lower()]!r} but for its case"
        raise SpineRefused(f"the spine has a column {taken[0]!r}, which is an output of service {request.service.name}{like}; rename it")
    if own := [name for name in have if layout.is_of_training_sets(name)]:
        raise SpineRefused(f"the spine has a column {own[0]!r}, which is one of a training set's own; rename it, or leave it out")
    if request.label is not None and request.label.column not in have:
        raise SpineRefused(f"the spine has no column {request.label.column!r}, the label. It has: {', '.join(have)}")


_AS_DOUBLES = ("double", "int64")


def is_young(spine: Spine, request: TrainingRequest, now: datetime) -> Column:
    """Whether the label of a row may still change; a row without a time is told of elsewhere."""
    if request.label is None:
        return F.lit(False)
    return F.coalesce(F.unix_micros(f"`{spine.at}`") > _newest(request.label, now), F.lit(False))


def mature(spine: Spine, request: TrainingRequest, now: datetime, *, young: int) -> Spine:
    """The spine without the `young` rows whose labels may still change; raises SpineRefused if there must be none."""
    if not young or request.label is None:
        return spine
    _refuse(request.label, now, young)
    rows = spine.rows.where(~is_young(spine, request, now))
    numbered = order.NUMBER in rows.columns
    return replace(spine, rows=order.held(rows.orderBy(order.NUMBER).drop(order.NUMBER)) if numbered else rows)


def _refuse(label: Label, now: datetime, young: int) -> None:
    if label.immature == "refuse":
        raise SpineRefused(
            f"{counted(young, 'row')} of the spine {'is' if young == 1 else 'are'} younger than the label's horizon {label.horizon}: "
            f"{label.column!r} may still change. Leave out rows after {iso(instant(_newest(label, now)))}, or write "
            f"Label({label.column!r}, {label.horizon!r}, immature='leave out')"
        )


def ripe(request: TrainingRequest, at: int | None) -> int | None:
    """From when on the label of a row of this time is known for sure, in microseconds; None where there is no such row."""
    return None if at is None or request.label is None else at + duration(request.label.horizon) // MICROSECOND


def _newest(label: Label, now: datetime) -> int:
    """The last time, in microseconds, whose label is known for sure."""
    return micros(now - duration(label.horizon))
