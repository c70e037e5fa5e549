"""What makes two definitions mean the same: a short hash per output column, and one for a group's gate."""

import hashlib
import json
import re
from collections.abc import Mapping

from feature_definitions.model import Derived, Expectation, Feature, FeatureGroup, Source, WindowedGroup

ENGINE = 1
"""Raised when the engine computes other results from the same definition and data: everything becomes STALE(code)."""


def columns(group: FeatureGroup) -> dict[str, str]:
    """The fingerprint of each output column: it changes exactly when the column's values may.

    Owner, tags, TTL, delays and expectations leave it as it is; cadence, entity, source and the group's `where` change every column.
    """
    kinds = group.source.columns
    base = [type(group).__name__, dict(group.entity.keys), _source(group.source), group.every, group.where, _read(group.where, kinds)]
    if not isinstance(group, WindowedGroup):
        return {name: _hash(base, name, kinds[name]) for name in group.columns}
    hashes: dict[str, str] = {}
    for feature in group.features:
        match feature:
            case Feature():
                read = _read(f"{feature.of} {feature.where}", kinds)
                for window, column in zip(feature.windows, feature.columns, strict=True):
                    hashes[column] = _hash(base, feature.aggregation, feature.of, feature.where, window, read)
            case Derived():
                inputs = {column: meaning(held) for column, held in hashes.items()}
                hashes[feature.name] = _hash(base, feature.expression, _read(feature.expression, inputs))
    return hashes


def meaning(fingerprint: str) -> str:
    """What a fingerprint says of the definition alone, whichever engine computed it."""
    return fingerprint.partition(".")[2]


def gate(group: FeatureGroup) -> str:
    """The fingerprint of everything that a group's gate expects."""
    features = group.features if isinstance(group, WindowedGroup) else ()
    held = [group.hold_below] if group.hold_below else []
    return _hash([_expectations(group.expect), [[f.name, f.columns, _expectations(f.expect)] for f in features], *held])


def of_source(source: Source, *sql: str | None) -> list[object]:
    """What the values of expressions over a source's columns depend on, besides its rows: how it is read, and these columns' types."""
    return [_source(source), _read(" ".join(part for part in sql if part), source.columns)]


def _source(source: Source) -> list[object]:
    return [source.name, source.event_timestamp, source.timezone, list(source.id), source.arrived_at, source.shape]


def _read(sql: str | None, known: Mapping[str, str]) -> dict[str, str]:
    """The names in an expression that are known, with what is known of them."""
    return {name: known[name] for name in sorted(set(re.findall(r"\w+", sql or ""))) if name in known}


def _expectations(expectations: tuple[Expectation, ...]) -> list[list[object]]:
    return [[e.kind, list(e.arguments), e.severity] for e in expectations]


def _hash(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return f"{ENGINE}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
