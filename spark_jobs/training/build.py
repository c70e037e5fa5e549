"""Builds training sets: a spine joined point in time with a service's features, as a Delta table with a manifest of what it rests on."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.errors import UserError
from feature_definitions.intervals import duration, instant, iso, micros
from feature_definitions.language import FeatureService, Label, Mode, Source
from feature_definitions.planning.upstream import sources_of
from feature_definitions.reading import default
from feature_definitions.records import Publish
from feature_definitions.sql.data_types import element_of
from feature_definitions.sql.expressions import shown_types
from feature_registry.registry import PATIENCE
from lake import delta
from lake.staging import staging
from spark_jobs import point_in_time, tables
from spark_jobs.context import Context
from spark_jobs.ingest import events
from spark_jobs.point_in_time import MODELLED, AsOf, Published


class SpineRefused(UserError):
    """A spine that can not be joined: a column is missing, of another type, or its times have no zone or are too young."""


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


@dataclass(frozen=True, slots=True)
class Built:
    """A training set that lies at `path`; `unchanged` if what it rests on was the same as last time, so that nothing was computed."""

    name: str
    path: str
    rows: int
    manifest: Mapping[str, object]
    unchanged: bool

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table, read without Spark."""
        return delta.load(self.path)

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame, read without Spark."""
        return self.to_arrow().to_pandas()


def source_spine(source: Source, context: Context) -> Spine:
    """A spine from a source's rows, at their event timestamps."""
    rows = events.read(source, context).select(*[f"`{name}`" for name in source.names])
    return Spine(rows, str(source.event_timestamp), source.name)


def frame_spine(frame: pa.Table, spark: SparkSession) -> Spine:
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
            raise SpineRefused(f"the spine's column {field.name!r} can not be kept under that name; rename it to letters, digits and _")
        if field.name.lower() in seen:
            raise SpineRefused(f"the spine has the columns {seen[field.name.lower()]!r} and {field.name!r}; rename one of them")
        if any(unfit(field.type) for unfit in _UNFIT):
            raise SpineRefused(f"the spine's column {field.name!r} is a {field.type}; make it an int64, a double or a string")
        seen[field.name.lower()] = field.name


_UNFIT = (pa.types.is_unsigned_integer, pa.types.is_float16, pa.types.is_duration, pa.types.is_time, pa.types.is_interval)


def build(spine: Spine, request: Request, *, published: Mapping[str, Published], context: Context) -> Built:
    """Join, check that exactly the spine's rows came out, and replace the training set of this name in one commit."""
    _check(spine, request)
    summary = _summary(spine)
    _refuse_immature(spine, request, context.clock())
    used = {name: _relevant(published[name], request.mode, summary) for name in sorted({j.group.name for j in request.service.joins})}
    fingerprint = _fingerprint(spine, request, summary, published, used)
    path = layout.training_set_table(context.lake, request.name)
    held = _manifest(Path(layout.training_set_manifest(context.lake, request.name)))
    if held is not None and held.get("fingerprint") == fingerprint and delta.exists(path):
        return Built(request.name, path, int(str(held["rows"])), held, unchanged=True)
    with context.registry.lease(f"training set {request.name}", now=context.clock(), patience=PATIENCE):
        manifest = _written(spine, request, _Basis(summary, fingerprint, published, used), context)
    return Built(request.name, path, int(str(manifest["rows"])), manifest, unchanged=False)


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a training set rests on: its spine's summary, and each group's publishes, all and those that it can see."""

    summary: Mapping[str, int]
    fingerprint: str
    published: Mapping[str, Published]
    used: Mapping[str, Sequence[Publish]]


def _written(spine: Spine, request: Request, basis: _Basis, context: Context) -> dict[str, object]:
    """Write the table and then its manifest, which must not outlive the table that it describes."""
    build_id = context.mint("p")
    path, file = layout.training_set_table(context.lake, request.name), Path(layout.training_set_manifest(context.lake, request.name))
    with staging(context.lake, build_id) as folder:
        joined = tables.stage(_joined(spine, request, basis.published, context.spark), f"{folder}/rows")
        described = _described(joined, spine, request, basis.summary, basis.published, basis.used)
        if described["rows"] != basis.summary["rows"]:
            lost = f"{basis.summary['rows']} spine rows became {described['rows']}"
            raise AssertionError(f"training set {request.name}: {lost}; this is a defect, nothing was written")
        file.unlink(missing_ok=True)
        columns = [*spine.rows.columns, *request.service.outputs]
        tables.overwrite(joined.select(*[f"`{c}`" for c in columns]), path, commit_id=build_id)
    manifest = described | {"fingerprint": basis.fingerprint, "built_at": iso(context.clock())}
    part = file.with_suffix(".part")
    part.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    part.replace(file)
    return manifest


def _joined(spine: Spine, request: Request, published: Mapping[str, Published], spark: SparkSession) -> DataFrame:
    rows = spine.rows
    for wanted in request.service.joins:
        strict = spine.source is None or spine.source in {source.name for source in sources_of(wanted.group)}
        rows = point_in_time.join(rows, wanted, published[wanted.group.name], AsOf(request.mode, strict), at=spine.at, spark=spark)
    return rows.withColumns({name: F.coalesce(F.col(f"`{name}`"), value) for name, value in _defaults(request.service).items()})


def _defaults(service: FeatureService) -> dict[str, Column]:
    """What stands for null, in the types of the outputs."""
    if not service.defaults:
        return {}
    types = {f"{join.name}__{column}": kind for join in service.joins for column, kind in shown_types(join.group).items()}
    return {name: _literal(default(value, types[name]), types[name]) for name, value in service.defaults.items()}


def _literal(value: object, kind: str) -> Column:
    match value:
        case tuple():
            return F.array(*[_literal(each, element_of(kind)) for each in value]).cast(tables.spark_type(kind))
        case datetime():
            return F.timestamp_micros(F.lit(micros(value)))
    return F.lit(value).cast(tables.spark_type(kind))


def _check(spine: Spine, request: Request) -> None:
    have = dict(spine.rows.dtypes)
    for key, kind in request.service.keys.items():
        if key not in have:
            raise SpineRefused(f"the spine has no column {key!r}, a key of service {request.service.name}. It has: {', '.join(have)}")
        whole = kind == "int64" and have[key] in ("tinyint", "smallint", "int", "bigint")
        if have[key] != tables.spark_type(kind) and not whole:
            raise SpineRefused(f"the spine's {key!r} is a {have[key]}; as a key of service {request.service.name} it must be {kind}")
    taken = sorted(set(have) & set(request.service.outputs))
    if taken:
        raise SpineRefused(f"the spine has a column {taken[0]!r}, which is an output of service {request.service.name}; rename it")
    if request.label is not None and request.label.column not in have:
        raise SpineRefused(f"the spine has no column {request.label.column!r}, the label. It has: {', '.join(have)}")


def _summary(spine: Spine) -> dict[str, int]:
    """Rows, first and last time (microseconds), rows without time, and a checksum that does not depend on their order."""
    at = F.unix_micros(f"`{spine.at}`")
    content = tables.fingerprint_of(spine.rows.columns)
    row = spine.rows.agg(
        F.count(F.lit(1)).alias("rows"),
        F.min(at).alias("first"),
        F.max(at).alias("last"),
        F.count_if(at.isNull()).alias("timeless"),
        F.bit_xor(content).alias("xor"),
        F.sum(F.pmod(content, F.lit(2**31))).alias("sum"),
    ).first()
    assert row is not None
    if row["timeless"]:
        raise SpineRefused(f"{row['timeless']} rows of the spine have no {spine.at}; a row without a time can not be joined, remove it")
    return {name: int(row[name] or 0) for name in ("rows", "first", "last", "xor", "sum")}


def _refuse_immature(spine: Spine, request: Request, now: datetime) -> None:
    if request.label is None:
        return
    limit = micros(now - duration(request.label.horizon))
    young = spine.rows.where(F.unix_micros(f"`{spine.at}`") > limit).count()
    if young:
        raise SpineRefused(
            f"{young} rows of the spine are younger than the label's horizon {request.label.horizon}: "
            f"their {request.label.column!r} may still change. Leave out rows after {iso(instant(limit))}"
        )


def _relevant(published: Published, mode: Mode, summary: Mapping[str, int]) -> tuple[Publish, ...]:
    """The publishes that a spine up to its last time can see."""
    last = summary["last"]
    if mode == "event_time":
        return tuple(p for p in published.publishes if micros(p.interval.start) <= last)
    return tuple(p for p in published.publishes if max(micros(p.interval.start), micros(p.known_from)) <= last)


def _fingerprint(
    spine: Spine, request: Request, summary: Mapping[str, int], published: Mapping[str, Published], used: Mapping[str, Sequence[Publish]]
) -> str:
    parts: list[object] = [
        request.service.version,
        [j.outputs for j in request.service.joins],
        sorted((name, repr(value)) for name, value in request.service.defaults.items()),
        request.mode,
        str(request.label),
        dict(summary),
    ]
    parts += [spine.source, spine.rows.dtypes]
    for name, publishes in used.items():
        group = published[name].group
        seen = sorted((p.publish_id, micros(p.interval.start), micros(p.known_from)) for p in publishes)
        parts += [name, published[name].generation, group.ttl, group.publish_delay, seen]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _described(
    joined: DataFrame,
    spine: Spine,
    request: Request,
    summary: Mapping[str, int],
    published: Mapping[str, Published],
    used: Mapping[str, Sequence[Publish]],
) -> dict[str, object]:
    service = request.service
    nulls = {column: F.count_if(F.col(f"`{column}`").isNull()) for column in service.outputs}
    modelled = {j.name: F.count_if(F.col(f"`{MODELLED}{j.name}`")) for j in service.joins}
    counted = joined.agg(
        F.count(F.lit(1)).alias("rows"), *[c.alias(n) for n, c in nulls.items()], *[c.alias(f"{MODELLED}{n}") for n, c in modelled.items()]
    )
    row = counted.first()
    assert row is not None
    return {
        "name": request.name,
        "service": service.name,
        "version": service.version,
        "mode": request.mode,
        "label": None if request.label is None else {"column": request.label.column, "horizon": request.label.horizon},
        "rows": row["rows"],
        "spine": {
            "source": spine.source,
            "event_timestamp": spine.at,
            "first": iso(instant(summary["first"])),
            "last": iso(instant(summary["last"])),
            "checksum": f"{summary['xor'] & (2**64 - 1):016x}{summary['sum']:x}",
        },
        "groups": {
            name: {
                "generation": published[name].generation,
                "publishes": len({p.publish_id for p in publishes}),
                "intervals": len(publishes),
            }
            for name, publishes in used.items()
        },
        "values_on_modelled_times": {name: row[f"{MODELLED}{name}"] for name in modelled},
        "nulls": {column: row[column] for column in nulls},
        "defaults": {name: str(value) for name, value in service.defaults.items()},
        "assumed_always_known": sorted({j.group.name for j in service.joins if j.group.is_static}),
    }


def _manifest(file: Path) -> dict[str, object] | None:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) else None
