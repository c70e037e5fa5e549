"""What is served, described: services, groups, and what is found by a word, a tag or an owner."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from feature_definitions import FeatureGroup, FeatureService
from feature_definitions.intervals import instant, iso
from feature_definitions.sql.column_types import types_of_outputs
from online_sync.codec import EpochRecord


def service(found: FeatureService) -> dict[str, Any]:
    """A service: what it asks for, and what it answers."""
    types = {name: kind for join in found.joins for name, kind in types_of_outputs(join).items()}
    return {
        "name": found.name,
        "version": found.version,
        "asks": dict(found.asked),
        "features": {**types, **{feature.name: feature.type for feature in found.on_demand}},
        "groups": list(dict.fromkeys(join.group.name for join in found.joins)),
    }


def group(found: FeatureGroup) -> dict[str, Any]:
    """A group: its keys, its features, and who answers for it."""
    return {
        "name": found.name,
        "entity": found.entity.name,
        "keys": dict(found.entity.keys),
        "features": list(found.outputs),
        "every": found.every,
        "ttl": found.ttl,
        "owner": found.owner,
        "tags": list(found.tags),
    }


def version(record: EpochRecord) -> dict[str, Any]:
    """What is online of a group: its generation, and its last finished sync."""
    return {
        "generation": record.generation,
        "epoch": record.epoch,
        "synced_at": _time(record.synced_at),
        "coverage": _time(record.coverage),
        "columns": dict(record.columns),
    }


def freshness(
    records: Mapping[str, EpochRecord], joins: Mapping[str, str], rows: Mapping[str, Sequence[int | None]], *, now: int
) -> dict[str, Any]:
    """How fresh the groups of joins are: None of a group that was never synced; ages are seconds.

    `rows` says of each join which sync wrote the row of each entity, in the order asked.
    """
    return {join: {**_fresh(records[group], now), "rows": list(rows[join])} if group in records else None for join, group in joins.items()}


def matching(groups: Iterable[FeatureGroup], *, q: str = "", tag: str = "", owner: str = "") -> list[dict[str, Any]]:
    """The groups that have a word in their names or those of their features, a tag and an owner, as far as these are asked for."""
    word = q.casefold()
    return [
        group(each)
        for each in groups
        if any(word in name.casefold() for name in (each.name, each.entity.name, *each.outputs))
        and (not tag or tag in each.tags)
        and (not owner or owner == each.owner)
    ]


def _fresh(record: EpochRecord, now: int) -> dict[str, Any]:
    since = record.synced_at if record.coverage is None else record.coverage
    return {
        "epoch": record.epoch,
        "generation": record.generation,
        "synced_at": _time(record.synced_at),
        "coverage": _time(record.coverage),
        "age": (now - since) / 1e6,
    }


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else iso(instant(microseconds))
