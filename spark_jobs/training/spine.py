"""The rows that a training set is built for: from a source or a frame, refused if they cannot be joined with a service."""

import re
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from feature_definitions.errors import UserError
from feature_definitions.intervals import duration, instant, iso, micros
from feature_definitions.language import FeatureService, Label, Mode, Source
from spark_jobs import tables
from spark_jobs.context import Context
from spark_jobs.ingest import events


class SpineRefused(UserError):
    """A spine that cannot be joined: a column is missing, of another type, or its times have no zone or are too young."""


@dataclass(frozen=True, slots=True)
class Spine:
    """Rows to be joined: `at` is the column of the event timestamps, `source` the source they come from, if any."""

    rows: DataFrame
    at: str
    source: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """What to build: under which name, which service, in which mode, with which label."""

    name: str
    service: FeatureService
    mode: Mode = "as_known"
    label: Label | None = None


def of_source(source: Source, context: Context) -> Spine:
    """A spine from a source's rows, at their event timestamps."""
    rows = events.read(source, context).select(*[f"`{name}`" for name in source.names])
    return Spine(rows, str(source.event_timestamp), source.name)


def of_frame(frame: pa.Table, spark: SparkSession) -> Spine:
    """A spine from an Arrow table with a column `event_timestamp`, whose times have a zone."""
    if "event_timestamp" not in frame.column_names:
        raise SpineRefused(f"the spine has no column 'event_timestamp'. It has: {', '.join(frame.column_names)}")
    kind = frame.schema.field("event_timestamp").type
    if not pa.types.is_timestamp(kind):
        raise SpineRefused(f"the spine's event_timestamp is a {kind}; it must be a timestamp with a time zone")
    if kind.tz is None:
        raise SpineRefused(
            "the spine's event_timestamp has no time zone; write pandas.to_datetime(..., utc=True), or tz_localize what is local"
        )
    _refuse_columns(frame.schema)
    at = frame.column_names.index("event_timestamp")
    exact = frame.column(at).cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.timestamp("us", tz="UTC"))
    return Spine(spark.createDataFrame(frame.set_column(at, "event_timestamp", exact)), "event_timestamp", None)


def _refuse_columns(schema: pa.Schema) -> None:
    """Refuse what neither Spark nor a Delta table can hold, by name."""
    seen: dict[str, str] = {}
    for field in schema:
        if re.search(r"[ ,;{}()\n\t=.`]", field.name) or field.name.startswith("_hw_"):
            raise SpineRefused(f"the spine's column {field.name!r} cannot be kept under that name; rename it to letters, digits and _")
        if field.name.lower() in seen:
            raise SpineRefused(f"the spine has the columns {seen[field.name.lower()]!r} and {field.name!r}; rename one of them")
        if any(unfit(field.type) for unfit in _UNFIT):
            raise SpineRefused(f"the spine's column {field.name!r} is a {field.type}; make it an int64, a double or a string")
        seen[field.name.lower()] = field.name


_UNFIT = (pa.types.is_unsigned_integer, pa.types.is_float16, pa.types.is_duration, pa.types.is_time, pa.types.is_interval)


def check(spine: Spine, request: Request) -> None:
    """Refuse a spine that lacks what the request needs, or has it in another type."""
    have = {field.name: field.dataType for field in spine.rows.schema}
    for key, kind in request.service.keys.items():
        if key not in have:
            raise SpineRefused(f"the spine has no column {key!r}, a key of service {request.service.name}. It has: {', '.join(have)}")
        if tables.type_named(have[key]) != kind:
            given = have[key].simpleString()
            raise SpineRefused(f"the spine's {key!r} is a {given}; as a key of service {request.service.name} it must be {kind}")
    taken = sorted(set(have) & set(request.service.outputs))
    if taken:
        raise SpineRefused(f"the spine has a column {taken[0]!r}, which is an output of service {request.service.name}; rename it")
    if request.label is not None and request.label.column not in have:
        raise SpineRefused(f"the spine has no column {request.label.column!r}, the label. It has: {', '.join(have)}")


def refuse_immature(spine: Spine, request: Request, now: datetime) -> None:
    """Refuse rows whose labels may still change."""
    if request.label is None:
        return
    limit = micros(now - duration(request.label.horizon))
    young = spine.rows.where(F.unix_micros(f"`{spine.at}`") > limit).count()
    if young:
        raise SpineRefused(
            f"{young} rows of the spine are younger than the label's horizon {request.label.horizon}: "
            f"their {request.label.column!r} may still change. Leave out rows after {iso(instant(limit))}"
        )
