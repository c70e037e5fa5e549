"""The definition language: frozen values that say what features mean. Whatever could be built is valid on its own.

What needs SQL or the whole catalog (columns inside expressions, cycles, names across files) is checked by `feature_definitions.check`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from feature_definitions.intervals import DAY, duration

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,126}")
TYPE = re.compile(r"string|int64|double|boolean|date|timestamp|decimal\((\d{1,2}),(\d{1,2})\)")
RESERVED = ("event_timestamp", "created_timestamp", "publish_id", "empties_at", "held", "date")
"""Columns that every feature table has; no key or feature may take their name."""

AGGREGATIONS = ("count", "sum", "mean", "min", "max", "stddev", "first", "last", "count_distinct")
SHORTEST_WINDOW, LONGEST_WINDOW = timedelta(minutes=5), timedelta(days=90)


class DefinitionError(ValueError):
    """A definition that can not mean anything: the message says what is wrong and what to write instead.

    `feature` names the feature of a group that is at fault, if it is one.
    """

    feature: str | None = None


class NotYet(DefinitionError):
    """A part of the language that this version reads but does not run."""

    def __init__(self, where: str, what: str) -> None:
        """Name the place and the part of the language."""
        super().__init__(f"{where} uses {what}, which is not supported yet")


# ---------------------------------------------------------------------------------------------------------------- expectations


Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a column (or, for `expression`, a row) must be like; a failed critical one keeps the interval from its readers."""

    kind: str
    arguments: tuple[object, ...] = ()
    severity: Severity = "critical"

    def __post_init__(self) -> None:
        """Refuse unknown severities."""
        if self.severity not in ("critical", "warning", "info"):
            raise DefinitionError(f"{self} has the severity {self.severity!r}; write critical, warning or info")

    def __str__(self) -> str:
        """The call that made it, as `at_least(0)`; the name under which a failure is reported."""
        return f"{self.kind}({', '.join(repr(a) for a in self.arguments)})"


def at_least(x: float, severity: Severity = "critical") -> Expectation:
    """No value is below `x`; nulls pass."""
    return Expectation("at_least", (_number("at_least", x),), severity)


def at_most(x: float, severity: Severity = "critical") -> Expectation:
    """No value is above `x`; nulls pass."""
    return Expectation("at_most", (_number("at_most", x),), severity)


def between(a: float, b: float, severity: Severity = "critical") -> Expectation:
    """Every value lies in `[a, b]`, both ends included; nulls pass."""
    if _number("between", a) > _number("between", b):
        raise DefinitionError(f"between({a!r}, {b!r}) accepts nothing; write the smaller bound first")
    return Expectation("between", (a, b), severity)


def one_of(*values: object, severity: Severity = "critical") -> Expectation:
    """Every value is one of `values` (numbers or strings, at least one); nulls pass."""
    flat = tuple(values[0]) if len(values) == 1 and isinstance(values[0], tuple | list) else values
    if not flat or not all(isinstance(v, str | int | float) for v in flat):
        raise DefinitionError("one_of takes one or more numbers or strings, like one_of('EWR', 'JFK')")
    return Expectation("one_of", flat, severity)


def not_null(share: float = 1.0, severity: Severity = "critical") -> Expectation:
    """At least `share` (0 to 1) of an interval's rows have a value."""
    if not 0 <= _number("not_null", share) <= 1:
        raise DefinitionError(f"not_null({share!r}) is not a share; write a number from 0 to 1")
    return Expectation("not_null", (share,), severity)


def expression(sql: str, severity: Severity = "critical") -> Expectation:
    """The Spark SQL condition holds in every row; a row for which it is null passes."""
    if not isinstance(sql, str) or not sql.strip():
        raise DefinitionError("expression takes a Spark SQL condition, like expression('a_1d <= a_7d')")
    return Expectation("expression", (sql,), severity)


def _number(kind: str, x: object) -> float:
    if isinstance(x, bool) or not isinstance(x, int | float) or x != x:
        raise DefinitionError(f"{kind} takes a number, not {x!r}")
    return x


# --------------------------------------------------------------------------------------------------------- entities and sources


@dataclass(frozen=True, slots=True)
class Entity:
    """What features are about: a name and its join keys with their types, in order; several keys make a composite one."""

    name: str
    keys: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check the name, the keys and their types."""
        _check_name("entity", self.name)
        _check_columns(f"entity {self.name}", self.keys)
        for key, kind in self.keys.items():
            if kind not in ("string", "int64", "date", "boolean"):
                raise DefinitionError(f"entity {self.name}: its key {key!r} is a {kind}; a key is a string, int64, date or boolean")
            if key.lower() in RESERVED:
                raise DefinitionError(f"entity {self.name}: {key!r} is a column of every feature table; name the key differently")
        object.__setattr__(self, "keys", _typed(self.keys))


@dataclass(frozen=True, slots=True)
class Files:
    """CSV or Parquet files: a glob relative to the project's root."""

    path: str
    format: str = "csv"

    def __post_init__(self) -> None:
        """Check the path and the format."""
        if not isinstance(self.path, str) or not self.path:
            raise DefinitionError("Files needs a path, like Files('data/payments/*.csv', format='csv')")
        if self.format in ("json", "jsonl"):
            raise NotYet(f"Files({self.path!r})", f"format {self.format!r}")
        if self.format not in ("csv", "parquet"):
            raise DefinitionError(f"Files({self.path!r}) has the format {self.format!r}; write 'csv' or 'parquet'")


@dataclass(frozen=True, slots=True)
class DeltaTable:
    """A Delta table read in place (not supported yet)."""

    path: str


@dataclass(frozen=True, slots=True)
class Table:
    """A Spark table read in place (not supported yet)."""

    name: str


@dataclass(frozen=True, slots=True)
class Query:
    """A query over sources (not supported yet)."""

    sql: str


Shape = Literal["events", "snapshots", "static"]


@dataclass(frozen=True, slots=True)
class Source:
    """Raw data and its time: where it lies, its columns and types, which column says when a row happened.

    `id` names the columns that make a row unique: the same id again is a correction, and the newest `arrived_at` (else the newest
    ingest) wins. Without `id` every row counts. `timezone` is where times without zone were written down. `at=None` is a source that
    is only fed by `project.write`. An interval is due `ready_after` its end.
    """

    name: str
    at: Files | DeltaTable | Table | Query | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    event_timestamp: str | None = None
    timezone: str | None = None
    id: tuple[str, ...] = ()
    arrived_at: str | None = None
    shape: Shape = "events"
    ready_after: str = "1h"
    derive: Mapping[str, str] = field(default_factory=dict)
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        """Check names, columns, types, times and what is not supported yet."""
        where = f"source {self.name}"
        _check_name("source", self.name)
        _check_columns(where, self.columns)
        _refuse_in_source(where, self)
        object.__setattr__(self, "columns", _typed(self.columns))
        object.__setattr__(self, "derive", MappingProxyType(dict(self.derive)))
        object.__setattr__(self, "id", _texts(self.id))
        object.__setattr__(self, "expect", _expected(where, self.expect))
        for name in self.id:
            _known(where, name, self.columns, what="id")
        for time in (self.arrived_at, self.event_timestamp):
            if time is not None:
                _check_time_column(where, time, self.columns)
        if self.shape == "events" and self.event_timestamp is None:
            raise DefinitionError(f"{where} has no event_timestamp; name the column that says when a row happened")
        if self.shape == "static" and self.event_timestamp is not None:
            raise DefinitionError(f"{where} is static, so it has no event_timestamp; remove it, or write shape='events'")
        if self.shape == "static" and not self.id:
            raise DefinitionError(f"{where} is static: name the columns that make a row unique, like id=('tailnum',)")
        _span(where, "ready_after", self.ready_after)
        _check_timezone(where, self)


@dataclass(frozen=True, slots=True)
class Rows:
    """A window of the newest rows (not supported yet)."""

    count: int
    within: str


# --------------------------------------------------------------------------------------------------------------------- features


@dataclass(frozen=True, slots=True)
class Feature:
    """An aggregation of a source's events over windows; each window is a column `<name>_<window>`.

    `of` is a column or a Spark SQL expression over the source's columns (`count` without it counts rows), `where` a condition on events.
    """

    name: str
    aggregation: str
    of: str | None = None
    windows: tuple[str, ...] = ()
    where: str | None = None
    by: str | None = None
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        """Check the name, the aggregation and each window."""
        where = f"feature {self.name}"
        _check_name("feature", self.name)
        if self.by is not None:
            raise NotYet(where, "by")
        windows = self.windows if isinstance(self.windows, tuple | list) else (self.windows,)
        if any(isinstance(w, Rows) for w in windows):
            raise NotYet(where, "Rows windows")
        object.__setattr__(self, "windows", tuple(w.strip() if isinstance(w, str) else w for w in windows))
        object.__setattr__(self, "expect", _expected(where, self.expect))
        _check_sql(where, {"of": self.of, "where": self.where})
        if self.aggregation == "lag":
            raise NotYet(where, "lag")
        if self.aggregation not in AGGREGATIONS:
            raise DefinitionError(f"{where} has the aggregation {self.aggregation!r}; there are {', '.join(AGGREGATIONS)}")
        if self.of is None and self.aggregation != "count":
            raise DefinitionError(
                f"{where}: {self.aggregation} of what? Name a column, like Feature({self.name!r}, {self.aggregation!r}, 'amount')"
            )
        _check_windows(where, self.windows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The output columns, one per window."""
        return tuple(f"{self.name}_{window}" for window in self.windows)


@dataclass(frozen=True, slots=True)
class Derived:
    """A column computed from a group's own features by a Spark SQL expression; division by zero is null."""

    name: str
    expression: str
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        """Check the name."""
        _check_name("feature", self.name)
        object.__setattr__(self, "expect", _expected(f"feature {self.name}", self.expect))
        if not isinstance(self.expression, str) or not self.expression.strip():
            raise DefinitionError(f"feature {self.name} is derived from nothing; write an expression, like 'spend_30d / payments_30d'")

    @property
    def columns(self) -> tuple[str, ...]:
        """The one output column."""
        return (self.name,)


# ----------------------------------------------------------------------------------------------------------------------- groups


@dataclass(frozen=True, slots=True)
class WindowedGroup:
    """Features of an entity over windows of its events; one row per entity and grid time `T`, over exactly `[T - window, T)`."""

    name: str
    entity: Entity
    source: Source
    every: str = "1d"
    publish_delay: str = "0s"
    ttl: str | None = None
    features: tuple[Feature | Derived, ...] = ()
    restate_within: str = "3d"
    owner: str = ""
    tags: tuple[str, ...] = ()
    expect: tuple[Expectation, ...] = ()
    where: str | None = None

    def __post_init__(self) -> None:
        """Check cadence, TTL, windows, columns and output names."""
        _check_group(self)
        object.__setattr__(self, "features", _tuple(self.features))
        for feature in self.features:
            if not isinstance(feature, Feature | Derived):
                raise DefinitionError(f"group {self.name} has the feature {feature!r}; write Feature(...) or Derived(...)")
        if not any(isinstance(f, Feature) for f in self.features):
            raise DefinitionError(
                f"group {self.name} has no features; write features=(Feature('spend', 'sum', 'amount', windows=('7d',)),)"
            )
        for feature in self.features:
            if isinstance(feature, Feature):
                _check_feature(self, feature)
        _check_outputs(self)

    @property
    def cadence(self) -> timedelta:
        """The distance of two grid times."""
        return duration(self.every)

    @property
    def longest(self) -> timedelta:
        """The longest window of any feature."""
        return max(duration(w) for f in self.features if isinstance(f, Feature) for w in f.windows)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The feature columns of the table, in order."""
        return tuple(column for feature in self.features for column in feature.columns)


@dataclass(frozen=True, slots=True)
class _ShownGroup:
    """What groups that show a source's columns as they are have in common."""

    name: str
    entity: Entity
    source: Source
    columns: tuple[str, ...] = ()
    ttl: str | None = None
    every: str = "1d"
    publish_delay: str = "0s"
    restate_within: str = "3d"
    owner: str = ""
    tags: tuple[str, ...] = ()
    expect: tuple[Expectation, ...] = ()
    where: str | None = None

    @property
    def cadence(self) -> timedelta:
        """How much of the source one run covers, or how often a static one is looked at again."""
        return duration(self.every)

    @property
    def longest(self) -> timedelta:
        """There are no windows: the interval itself is all that a run reads."""
        return timedelta(0)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The feature columns of the table, in order."""
        return self.columns


@dataclass(frozen=True, slots=True)
class ObservationGroup(_ShownGroup):
    """A source's columns as they were observed: one row per entity and event, at the event's own time."""

    def __post_init__(self) -> None:
        """Check cadence, TTL, columns and output names."""
        _check_group(self)
        _check_observed(self)


@dataclass(frozen=True, slots=True)
class SnapshotGroup(_ShownGroup):
    """The full state of a source: here a static one, whose rows have no time and are taken as always known.

    `assume_always_known=True` says in so many words that history is read as if it had known today's state; leak reports name it.
    """

    assume_always_known: bool = False

    def __post_init__(self) -> None:
        """Check the source's shape, columns and output names."""
        _check_group(self)
        if self.source.shape != "static":
            raise DefinitionError(
                f"group {self.name} needs a source of shape 'static', but {self.source.name} has events; write an ObservationGroup"
            )
        if not self.assume_always_known:
            raise DefinitionError(
                f"group {self.name}: {self.source.name} is static, so nobody knows when its rows became true; "
                "write assume_always_known=True if history may be read as if they always were"
            )
        if self.ttl is not None:
            raise DefinitionError(f"group {self.name} is static: its rows do not age, so it has no ttl; remove it")
        _check_observed(self)


FeatureGroup = WindowedGroup | ObservationGroup | SnapshotGroup


@dataclass(frozen=True, slots=True, init=False)
class TransformGroup:
    """A group computed by Spark SQL or a function (not supported yet)."""

    def __init__(self, name: str, *_: object, **__: object) -> None:
        """Refuse it by name."""
        raise NotYet(f"group {name}", "TransformGroup")


@dataclass(frozen=True, slots=True, init=False)
class OnDemandFeature:
    """A feature computed at request time (not supported yet)."""

    def __init__(self, name: str, *_: object, **__: object) -> None:
        """Refuse it by name."""
        raise NotYet(f"feature {name}", "OnDemandFeature")


# -------------------------------------------------------------------------------------------------- services and training sets


@dataclass(frozen=True, slots=True)
class Join:
    """A group's features in a service: output columns or features (with all their windows); none named means all.

    `prefix` replaces the group's name in `<group>__<column>`, so that a group may be joined twice; `on` maps the entity's keys to the
    caller's columns, as in `on={"airport": "origin"}`.
    """

    group: FeatureGroup
    features: tuple[str, ...] = ()
    prefix: str | None = None
    on: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the features and keys named exist."""
        if not isinstance(self.group, FeatureGroup):
            raise DefinitionError(f"Join takes a feature group, not {self.group!r}")
        where = f"join of {self.group.name}"
        object.__setattr__(self, "features", _texts(self.features))
        object.__setattr__(self, "on", MappingProxyType(dict(self.on or {})))
        if self.prefix is not None:
            _check_name("prefix", self.prefix)
        names = {f.name: f.columns for f in self.group.features} if isinstance(self.group, WindowedGroup) else {}
        for name in self.features:
            if name not in names:
                _known(where, name, dict.fromkeys((*self.group.outputs, *names)), what="feature")
        for key in self.on:
            _known(where, key, self.group.entity.keys, what="entity key")

    @property
    def name(self) -> str:
        """What stands before `__` in the output columns."""
        return self.prefix or self.group.name

    @property
    def columns(self) -> tuple[str, ...]:
        """The group's columns that are asked for, in the order asked."""
        if not self.features:
            return self.group.outputs
        by_name = {f.name: f.columns for f in self.group.features} if isinstance(self.group, WindowedGroup) else {}
        asked = (c for name in self.features for c in ((name,) if name in self.group.outputs else by_name[name]))
        return tuple(dict.fromkeys(asked))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns of a training set or an answer: `<group or prefix>__<column>`."""
        return tuple(f"{self.name}__{column}" for column in self.columns)

    @property
    def keys(self) -> tuple[str, ...]:
        """The caller's columns that hold the entity's keys, in the entity's order."""
        return tuple(self.on.get(key, key) for key in self.group.entity.keys)


@dataclass(frozen=True, slots=True)
class FeatureService:
    """The named, versioned list of features that a model reads, in training and online."""

    name: str
    version: int = 1
    joins: tuple[Join, ...] = ()
    on_demand: tuple[object, ...] = ()
    online: bool = True
    defaults: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the output names do not collide."""
        where = f"service {self.name}"
        _check_name("service", self.name)
        if self.on_demand:
            raise NotYet(where, "on_demand")
        if self.defaults:
            raise NotYet(where, "defaults")
        if isinstance(self.version, bool) or not isinstance(self.version, int) or self.version < 1:
            raise DefinitionError(f"{where} has the version {self.version!r}; write a whole number from 1")
        joins = tuple(j if isinstance(j, Join) else Join(j) for j in _tuple(self.joins))
        object.__setattr__(self, "joins", joins)
        if not joins:
            raise DefinitionError(f"{where} joins nothing; write joins=(Join(customer_spend),)")
        _check_unique(where, [j.name for j in joins], "join", "give one of them a prefix, like Join(group, prefix='origin')")
        _check_unique(where, [c for j in joins for c in j.outputs], "output column", "give one of them a prefix")

    @property
    def keys(self) -> Mapping[str, str]:
        """The caller's key columns and their types."""
        return {key: kind for j in self.joins for key, kind in zip(j.keys, j.group.entity.keys.values(), strict=True)}

    @property
    def outputs(self) -> tuple[str, ...]:
        """All output columns, in order."""
        return tuple(column for join in self.joins for column in join.outputs)


@dataclass(frozen=True, slots=True)
class Label:
    """A spine's column that a model learns, and how long after the event timestamp it is known for sure."""

    column: str
    horizon: str

    def __post_init__(self) -> None:
        """Check the horizon."""
        _span(f"label {self.column}", "horizon", self.horizon)


Mode = Literal["event_time", "as_known", "as_served"]
MODES = ("event_time", "as_known")


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A spine (a source with the keys of a service) joined point in time with the service's features."""

    name: str
    spine: Source
    service: FeatureService
    label: Label | None = None
    mode: Mode = "as_known"
    split: object = None
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        """Check the mode, the spine's keys and that no label is among the features."""
        where = f"training set {self.name}"
        _check_name("training set", self.name)
        if self.split is not None:
            raise NotYet(where, "split")
        if self.expect:
            raise NotYet(where, "expect")
        _check_parts(where, self)
        check_mode(where, self.mode)
        if self.spine.shape != "events":
            raise DefinitionError(f"{where}: its spine {self.spine.name} has no event timestamp; a spine is a source of shape 'events'")
        for key, kind in self.service.keys.items():
            _known(where, key, self.spine.columns, what="entity key")
            if self.spine.columns[key] != kind:
                raise DefinitionError(
                    f"{where}: the key {key!r} is a {self.spine.columns[key]} in {self.spine.name} and a {kind} in the service"
                )
        if self.label is not None:
            _check_label(where, self, self.label)


def check_mode(where: str, mode: str) -> None:
    """Refuse a point-in-time mode that does not exist or is not supported yet."""
    if mode == "as_served":
        raise NotYet(where, "mode 'as_served'")
    if mode not in MODES:
        raise DefinitionError(f"{where} has the mode {mode!r}; write 'as_known' or 'event_time'")


# ------------------------------------------------------------------------------------------------------------------------ checks


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DefinitionError(f"{name!r} can not name a {what}; write small letters, digits and _, starting with a letter")
    if "__" in name:
        raise DefinitionError(f"{name!r} can not name a {what}: two underscores part a group from its feature; write one")


def _check_columns(where: str, columns: Mapping[str, str]) -> None:
    if not isinstance(columns, Mapping) or not columns:
        raise DefinitionError(f"{where} names no columns; write them with their types, like {{'customer_id': 'int64'}}")
    for name, kind in columns.items():
        if not isinstance(name, str) or not COLUMN.fullmatch(name):
            raise DefinitionError(f"{where}: {name!r} can not name a column; write letters, digits and _")
        if name.startswith("_hw_"):
            raise DefinitionError(f"{where}: {name!r} starts with _hw_, which is kept for Headwater's own columns")
        _check_type(where, name, kind)
    _check_unique(where, [name.lower() for name in columns], "column", "Spark does not tell capital from small letters; rename one")


def _check_type(where: str, name: str, kind: object) -> None:
    match = TYPE.fullmatch(kind.replace(" ", "")) if isinstance(kind, str) else None
    if match is None:
        raise DefinitionError(
            f"{where}: column {name!r} has the type {kind!r}; the types are string, int64, double, boolean, decimal(p,s), date, timestamp"
        )
    if match[1] and not 1 <= int(match[1]) <= 38:
        raise DefinitionError(f"{where}: column {name!r} is a {kind}; a decimal has 1 to 38 digits")
    if match[1] and int(match[2]) > int(match[1]):
        raise DefinitionError(f"{where}: column {name!r} is a {kind}; it can not have more digits after the point than in all")


def _check_time_column(where: str, name: str, columns: Mapping[str, str]) -> None:
    _known(where, name, columns, what="time column")
    if columns[name] != "timestamp":
        raise DefinitionError(f"{where}: {name!r} says when, so its type is timestamp, not {columns[name]}")


def _check_timezone(where: str, source: "Source") -> None:
    if source.timezone is not None:
        try:
            ZoneInfo(source.timezone)
        except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            raise DefinitionError(f"{where} has the timezone {source.timezone!r}; write a name like 'UTC' or 'America/New_York'") from None
    times = [name for name, kind in source.columns.items() if kind == "timestamp"]
    if times and source.timezone is None and isinstance(source.at, Files) and source.at.format == "csv":
        raise DefinitionError(
            f"{where}: {times[0]!r} is a timestamp in a CSV file, which may be written without a zone; "
            "say where it was written down, like timezone='UTC' (times that carry a zone keep theirs)"
        )


def _refuse_in_source(where: str, source: "Source") -> None:
    if isinstance(source.at, DeltaTable | Table | Query):
        raise NotYet(where, type(source.at).__name__)
    if source.at is not None and not isinstance(source.at, Files):
        raise DefinitionError(f"{where} lies at {source.at!r}; write at=Files('data/payments/*.csv', format='csv')")
    if source.shape not in ("events", "snapshots", "static"):
        raise DefinitionError(f"{where} has the shape {source.shape!r}; write 'events' or 'static'")
    if source.shape == "snapshots":
        raise NotYet(where, "dated snapshots")
    if source.derive:
        raise NotYet(where, "lag" if any("prev." in sql or "lag" in sql for sql in source.derive.values()) else "derive")


def _check_sql(where: str, expressions: Mapping[str, object]) -> None:
    for what, sql in expressions.items():
        if sql is not None and (not isinstance(sql, str) or not sql.strip()):
            raise DefinitionError(f"{where}: {what} is {sql!r}; write a column or a Spark SQL expression, like {what}='amount > 0'")


def _check_windows(where: str, windows: tuple[str, ...]) -> None:
    if not windows:
        raise DefinitionError(f"{where} has no windows; write windows=('1d', '7d')")
    for window in windows:
        span = _span(where, "window", window)
        if not SHORTEST_WINDOW <= span <= LONGEST_WINDOW:
            raise DefinitionError(f"{where} has the window {window!r}; windows are 5m to 90d long")
    _check_unique(where, list(windows), "window", "remove one")


def _check_group(group: FeatureGroup) -> None:
    where = f"group {group.name}"
    _check_name("group", group.name)
    if not isinstance(group.entity, Entity) or not isinstance(group.source, Source):
        raise DefinitionError(f"{where}: entity and source are values, like entity=customer, source=payments, not their names")
    object.__setattr__(group, "tags", _texts(group.tags))
    object.__setattr__(group, "expect", _expected(where, group.expect))
    _check_sql(where, {"where": group.where})
    for key, kind in group.entity.keys.items():
        _known(where, key, group.source.columns, what=f"key of entity {group.entity.name}")
        if group.source.columns[key] != kind:
            raise DefinitionError(
                f"{where}: the key {key!r} is a {group.source.columns[key]} in {group.source.name} and a {kind} in {group.entity.name}"
            )
    every = _span(where, "every", group.every)
    if not SHORTEST_WINDOW <= every <= DAY or DAY % every:
        raise DefinitionError(
            f"{where} runs every {group.every!r}; a cadence is 5m to 1d long and divides a day, like '5m', '1h', '6h' or '1d'"
        )
    delay = _span(where, "publish_delay", group.publish_delay)
    _span(where, "restate_within", group.restate_within)
    if isinstance(group, WindowedGroup | ObservationGroup):
        _check_ttl(group, every + delay)


def _check_ttl(group: WindowedGroup | ObservationGroup, least: timedelta) -> None:
    where = f"group {group.name}"
    if group.source.shape != "events":
        raise DefinitionError(f"{where} reads events, but {group.source.name} is {group.source.shape}; write a SnapshotGroup")
    if group.ttl is None:
        raise DefinitionError(f"{where} has no ttl; say how old a value may be when it is used, like ttl='2d'")
    if _span(where, "ttl", group.ttl) < least:
        raise DefinitionError(
            f"{where} has the ttl {group.ttl!r}, shorter than its cadence {group.every!r} and publish delay {group.publish_delay!r}: "
            "values would be out of date before the next ones come"
        )


def _check_feature(group: WindowedGroup, feature: Feature) -> None:
    try:
        _check_against_source(feature, group)
    except DefinitionError as error:
        error.feature = feature.name
        raise


def _check_against_source(feature: Feature, group: WindowedGroup) -> None:
    where = f"{group.name}.{feature.name}"
    for window in feature.windows:
        if duration(window) % group.cadence:
            raise DefinitionError(f"{where}: the window {window!r} is not a multiple of the cadence {group.every!r}")
    columns = group.source.columns
    if feature.of is not None and COLUMN.fullmatch(feature.of.strip()):
        name = feature.of.strip()
        _known(where, name, columns, what="column", owner=group.source.name)
        if (
            feature.aggregation in ("sum", "mean", "stddev")
            and columns[name] not in ("int64", "double")
            and not columns[name].startswith("decimal")
        ):
            raise DefinitionError(f"{where}: {feature.aggregation} of {name!r}, which is a {columns[name]}; it needs a number")


def _check_observed(group: ObservationGroup | SnapshotGroup) -> None:
    where = f"group {group.name}"
    object.__setattr__(group, "columns", _texts(group.columns))
    if not group.columns:
        raise DefinitionError(f"{where} has no columns; name those of {group.source.name} that it shows, like columns=('temp',)")
    for name in group.columns:
        _known(where, name, group.source.columns, what="column", owner=group.source.name)
    _check_outputs(group)


def _check_outputs(group: FeatureGroup) -> None:
    where = f"group {group.name}"
    _check_unique(where, [*group.outputs], "output column", "rename one of the features")
    taken = {*RESERVED, *(key.lower() for key in group.entity.keys)}
    for name in group.outputs:
        if name.lower() in taken:
            raise DefinitionError(f"{where}: the output column {name!r} is already a key or a column of every feature table; rename it")


def _check_parts(where: str, training: TrainingSet) -> None:
    parts: tuple[tuple[str, object, type], ...] = (("spine", training.spine, Source), ("service", training.service, FeatureService))
    for what, value, kind in parts:
        if not isinstance(value, kind):
            raise DefinitionError(f"{where}: its {what} is a {kind.__name__}, like {what}=my_{what}, not {value!r}")
    label: object = training.label
    if label is not None and not isinstance(label, Label):
        raise DefinitionError(f"{where}: write the label with its horizon, like label=Label({label!r}, '30d')")


def _check_label(where: str, training: TrainingSet, label: Label) -> None:
    _known(where, label.column, training.spine.columns, what="label")
    for join in training.service.joins:
        same = join.group.source.name == training.spine.name
        if same and not isinstance(join.group, WindowedGroup) and label.column in join.columns:
            raise DefinitionError(
                f"{where}: the label {label.column!r} is among its own features, as {join.name}__{label.column}; remove it"
            )


def _known(where: str, name: str, columns: Mapping[str, object], *, what: str, owner: str = "") -> None:
    if name not in columns:
        held = f"{owner or where} has: {', '.join(sorted(columns))}"
        raise DefinitionError(f"{where}: there is no {what} {name!r}. {held}")


def _check_unique(where: str, names: list[str], what: str, advice: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DefinitionError(f"{where} has the {what} {twice[0]!r} twice; {advice}")


def _span(where: str, what: str, text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as error:
        raise DefinitionError(f"{where}, {what}: {error}") from None


def _typed(columns: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType({name: kind.replace(" ", "") for name, kind in columns.items()})


def _texts(values: object) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(_tuple(values))


def _expected(where: str, values: object) -> tuple[Expectation, ...]:
    expectations = _tuple(values)
    for each in expectations:
        if not isinstance(each, Expectation):
            raise DefinitionError(f"{where} expects {each!r}; write at_least(0), not_null(), expression('a <= b') or the like")
    return expectations


def _tuple(values: object) -> tuple:  # type: ignore[type-arg]  # any kind of definition
    return tuple(values) if isinstance(values, tuple | list) else (values,)
