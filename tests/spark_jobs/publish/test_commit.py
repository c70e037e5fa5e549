"""Publishing over what was published: every row, publish_id, replaced row and record is as DESIGN 5.4, 5.6 and 6 say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from feature_definitions.language import WindowedGroup
from tests import oracle
from tests.offline import feature_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tests.histories import ColumnTypes
    from tests.offline import World
    from tests.oracle import FeatureRow, Key, Publish

Place = tuple["Key", "datetime"]


def standing(published: Sequence[Publish]) -> dict[Place, tuple[FeatureRow, int]]:
    """The rows that stand after all publishes, each with the run that gave it its values."""
    found: dict[Place, tuple[FeatureRow, int]] = {}
    for publish in published:
        before = {place: kept for place, kept in found.items() if inside(publish, place, published)}
        for place in before:
            del found[place]
        for row in publish.rows:
            kept = before.get((row.key, row.at))
            found[row.key, row.at] = kept if kept and kept[0] == row else (row, publish.order)
    return found


def inside(publish: Publish, place: Place, published: Sequence[Publish]) -> bool:
    """Whether an earlier publish of the same interval had the row."""
    earlier = (p for p in published if p.interval == publish.interval and p.order < publish.order)
    return any((row.key, row.at) == place for p in earlier for row in p.rows)


def replaced(published: Sequence[Publish], *, vanish: bool) -> set[tuple[Place, int, int, bool]]:
    """What history must hold: place, the run that had given the row, the run that replaced it, and whether that is a tombstone."""
    found: set[tuple[Place, int, int, bool]] = set()
    for number, publish in enumerate(published):
        before = {place: kept for place, kept in standing(published[:number]).items() if inside(publish, place, published)}
        now = {(row.key, row.at): row for row in publish.rows}
        for place, (row, order) in before.items():
            if now.get(place) != row:
                found.add((place, order, publish.order, False))
            if place not in now and vanish:
                found.add((place, publish.order, publish.order, True))
    return found


def place_of(types: ColumnTypes, row: Mapping[str, Any]) -> Place:
    return tuple(row[key] for key in types.group.entity.keys), row["event_timestamp"]


def test_the_table_holds_the_newest_publish_of_each_interval(worlds: Sequence[World]) -> None:
    for world in worlds:
        for types in world.meanings:
            expected = [row for row, _ in standing(world.published(types)).values()]
            assert oracle.differences(types.group, expected, feature_rows(types.group, world.lake.rows(types.group))) == []
            assert expected


def test_a_row_keeps_its_publish_id_until_its_values_change(worlds: Sequence[World]) -> None:
    for world in worlds:
        for types in world.meanings:
            expected = {place: world.ids[types.group.name, order] for place, (_, order) in standing(world.published(types)).items()}
            assert {place_of(types, row): row["publish_id"] for row in world.lake.rows(types.group)} == expected
            assert len(set(expected.values())) > 1


def test_history_holds_exactly_the_rows_that_were_replaced_and_the_tombstones(worlds: Sequence[World]) -> None:
    for world in worlds:
        for types in world.meanings:
            name, vanish = types.group.name, not isinstance(types.group, WindowedGroup)
            expected = {
                (place, world.ids[name, given], world.ids[name, by], gone)
                for place, given, by, gone in replaced(world.published(types), vanish=vanish)
            }
            rows = world.lake.history(types.group)
            found = [(place_of(types, row), row["publish_id"], row["replaced_by"], row["retracted"]) for row in rows]
            assert set(found) == expected
            assert len(found) == len(expected)


def test_replaced_rows_are_kept_as_they_were(worlds: Sequence[World]) -> None:
    for world in worlds:
        for types in world.meanings:
            given: dict[tuple[Place, str], FeatureRow] = {}
            published = world.published(types)
            for number in range(1, len(published) + 1):
                for place, (row, order) in standing(published[:number]).items():
                    given[place, world.ids[types.group.name, order]] = row
            kept = [row for row in world.lake.history(types.group) if not row["retracted"]]
            expected = [given[place_of(types, row), row["publish_id"]] for row in kept]
            for want, got in zip(expected, feature_rows(types.group, kept), strict=True):
                assert oracle.differences(types.group, [want], [got]) == []


def test_each_publish_is_known_since_it_was_observed_or_as_history_is_modelled(worlds: Sequence[World]) -> None:
    for world in worlds:
        for types in world.meanings:
            expected = {(world.ids[types.group.name, p.order], p.interval, p.known_from) for p in world.published(types)}
            found = [(p.publish_id, p.interval, p.known_from) for p in world.lake.published(types.group).publishes]
            assert set(found) == expected
            assert len(found) == len(expected)


def test_the_lake_remembers_every_verdict_and_publish(worlds: Sequence[World]) -> None:
    for world in worlds:
        for types in world.meanings:
            name = types.group.name
            ledger = [row for row in world.lake.records("ledger") if row["group"] == name]
            assert sorted((r["publish_id"], r["interval_start"], r["state"], r["failed"]) for r in ledger) == sorted(
                (
                    world.ids[name, order],
                    interval.start,
                    "REJECTED" if interval in run.rejected else "PUBLISHED",
                    ["rows:unique"] if interval in run.rejected else [],
                )
                for order, run in enumerate(world.runs, start=1)
                for interval in run.intervals
            )
            published = [row for row in world.lake.records("publishes") if row["group"] == name]
            known = [(p.publish_id, p.interval.start, p.known_from) for p in world.lake.published(types.group).publishes]
            assert sorted((r["publish_id"], r["interval_start"], r["known_from"]) for r in published) == sorted(known)
