"""What makes two definitions mean the same: a short hash per output column, and one for a group's gate."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping

from feature_definitions.intervals import duration, spell
from feature_definitions.language import (
    Column,
    Derived,
    Expectation,
    Feature,
    FeatureGroup,
    FeatureService,
    ObservationGroup,
    OnDemandFeature,
    Query,
    SnapshotGroup,
    Source,
    SourceGroup,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.language.sources import reads_previous

ENGINE = 2
"""Raised when the engine computes other results from the same definition and data: everything becomes STALE(code)."""


def columns(group: FeatureGroup) -> dict[str, str]:
    """The fingerprint of each output column: it changes exactly when the column's values may.

    Owner, tags, TTL, delays, retention and expectations leave it as it is; cadence, entity, source and the group's `where` change every
    column. A column derived at the source is what it is computed from. Of a transform's function the text counts, not what it calls.
    """
    match group:
        case TransformGroup():
            return _transformed(group)
        case WindowedGroup():
            return _windowed(group, _known(group.source))
        case ObservationGroup() | SnapshotGroup():
            known = _known(group.source)
            return {name: _hash(_base(group, known), name, known[name]) for name in group.columns}


def on_demand(feature: OnDemandFeature) -> str:
    """The fingerprint of a feature computed on demand: of its inputs, type and function, of which the text counts, not what it calls."""
    return _hash(["OnDemandFeature", *map(repr, feature.inputs), feature.rows], feature.type, _text(feature.function))


def service(given: FeatureService) -> str:
    """The fingerprint of a service: of what is joined by which keys, what is computed on demand, and what stands for null."""
    joins = [[join.group.name, join.columns, join.outputs, join.keys] for join in given.joins]
    features = [[feature.name, on_demand(feature)] for feature in given.on_demand]
    return _hash(given.name, given.version, joins, features, sorted((name, repr(value)) for name, value in given.defaults.items()))


def _base(group: SourceGroup, known: Mapping[str, object]) -> list[object]:
    """What every column of a group of one source rests on."""
    return [type(group).__name__, dict(group.entity.keys), _source(group.source), group.every, group.where, _read(group.where, known)]


def _windowed(group: WindowedGroup, known: Mapping[str, object]) -> dict[str, str]:
    base = _base(group, known)
    hashes: dict[str, str] = {}
    for feature in group.features:
        match feature:
            case Feature():
                hashes |= {column: _hash(base, *parts) for each in feature.expanded for column, parts in _aggregated(each, known)}
            case Derived():
                inputs = {column: meaning(held) for column, held in hashes.items()}
                hashes[feature.name] = _hash(base, feature.expression, _read(feature.expression, inputs))
    return hashes


def _aggregated(feature: Feature, known: Mapping[str, object]) -> Iterator[tuple[str, list[object]]]:
    """What the values of each of a feature's columns rest on."""
    read = _read(f"{feature.of} {feature.where}", known)
    asked = {name: value for name, value in (("q", feature.q), ("k", feature.k)) if value is not None}
    for window, column in zip(feature.windows, feature.columns, strict=True):
        span = window if isinstance(window, str) else [window.count, spell(duration(window.within))]
        yield column, [feature.aggregation, feature.of, feature.where, span, read, *([asked] if asked else [])]


def _transformed(group: TransformGroup) -> dict[str, str]:
    inputs = [_input(each, group.sql) for each in group.inputs]
    base = ["TransformGroup", dict(group.entity.keys), inputs, group.every, group.lookback, group.sql, _text(group.function)]
    return {name: _hash(base, name, kind) for name, kind in group.schema.items()}


def _input(of: Source | FeatureGroup, sql: str | None) -> list[object]:
    """What a transform reads: of SQL the columns that it names, of a function all."""
    if isinstance(of, Source):
        known, base = _known(of), _source(of)
    else:
        known, base = {name: meaning(held) for name, held in columns(of).items()}, [of.name]
    return [base, known if sql is None else _read(sql, known)]


def _text(function: Callable[..., object] | None) -> str | None:
    """A function's source text without indentation; its name where there is no text."""
    if function is None:
        return None
    import inspect

    try:
        return inspect.cleandoc("\n" + inspect.getsource(function))
    except (OSError, TypeError):
        return repr(getattr(function, "__qualname__", type(function).__qualname__))


def meaning(fingerprint: str) -> str:
    """What a fingerprint says of the definition alone, whichever engine computed it."""
    return fingerprint.partition(".")[2]


def gate(group: FeatureGroup) -> str:
    """The fingerprint of everything that a group's gate expects."""
    held: list[object] = [group.hold_below] if group.hold_below else []
    held += [group.warnings] if group.warnings != "publish" else []
    return _hash([_expectations(group.expect), [[f.name, f.columns, _expectations(f.expect)] for f in group.features], *held])


def of_source(source: Source, *sql: str | None) -> list[object]:
    """What the values of expressions over a source's columns depend on, besides its rows: how it is read, and what these columns are."""
    return [_source(source), _read(" ".join(part for part in sql if part), _known(source))]


def _source(source: Source) -> list[object]:
    meaning: list[object] = [source.name, source.event_timestamp, source.timezone, list(source.id), source.arrived_at, source.shape]
    if isinstance(source.at, Query):
        meaning += [source.at.sql, [[_source(each), _read(source.at.sql, _known(each))] for each in source.at.sources]]
    return meaning


def _known(source: Source) -> dict[str, object]:
    """The columns of a source, with what makes each what it is: its type, or the expression that derives it and what that reads."""
    known: dict[str, object] = {name: _lying(name, column) for name, column in source.written.items()}
    for name, sql in source.derive.items():
        lag = [list(source.lag_over), spell(source.lag)] if reads_previous(sql) else []
        known[name] = [sql, _read(sql, known), *lag]
    return known


def _lying(name: str, column: Column) -> object:
    """What makes a column what it is: its type alone, unless it has another name in the data or other times."""
    more = [column.name, column.format, column.epoch]
    return column.data_type if more == [name, None, None] else [column.data_type, *more]


def _read(sql: str | None, known: Mapping[str, object]) -> dict[str, object]:
    """The names in an expression that are known, with what is known of them."""
    return {name: known[name] for name in sorted(set(re.findall(r"\w+", sql or ""))) if name in known}


def _expectations(expectations: tuple[Expectation, ...]) -> list[list[object]]:
    return [[e.kind, list(e.arguments), e.severity] for e in expectations]


def _hash(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return f"{ENGINE}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
