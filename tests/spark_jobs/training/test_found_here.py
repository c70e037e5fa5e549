"""The versions that are found without Spark are those that a plain loop finds: composite keys, tombstones, both modes, the very time."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from feature_definitions import Entity, Join, ObservationGroup, Source, layout
from feature_definitions.intervals import DAY, Interval, micros
from feature_definitions.records import Epoch, Publish
from feature_definitions.sql.column_types import column_types_of
from lake.readable import AsOf, Published
from spark_jobs.training import found_here
from spark_jobs.training.join import JoinAsked
from spark_jobs.training.sampled import question

if TYPE_CHECKING:
    from feature_definitions.language import Mode

FIRST, DAYS, HOUR = datetime(2026, 1, 1, tzinfo=UTC), 6, timedelta(hours=1)
KINDS = {"shop": "string", "till": "int64"}
EVENTS = Source("events", columns={**KINDS, "at": "timestamp", "value": "int64"}, event_timestamp="at")
GROUP = ObservationGroup("seen", Entity("shop_till", KINDS), EVENTS, columns=("value",), ttl="1d")
SHOPS = ("a", "a1", "it's")


@dataclass(frozen=True)
class Row:
    """One version: p1 brought it, and p2, which is known a day later, replaced it or took it back."""

    shop: str
    till: int
    at: datetime
    publish: str
    value: int | None
    retracted: bool

    @property
    def known(self) -> datetime:
        day = self.at.replace(hour=0)
        return day if self.publish == "p1" else day + DAY


@pytest.fixture(scope="module")
def versions() -> list[Row]:
    draw = random.Random(3)  # the same rows each time
    keys = {(draw.choice(SHOPS), draw.choice([1, 11, 2]), FIRST + draw.randrange(DAYS * 24) * HOUR) for _ in range(400)}
    found = []
    for number, (shop, till, at) in enumerate(sorted(keys)):
        found.append(Row(shop, till, at, "p1", number, retracted=False))
        if draw.random() < 0.4:
            gone = draw.random() < 0.5
            found.append(Row(shop, till, at, "p2", None if gone else -number, retracted=gone))
    return found


@pytest.fixture(scope="module")
def published(versions: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Published:
    lake = str(tmp_path_factory.mktemp("versions") / "lake")
    newest = {(row.shop, row.till, row.at): row for row in versions}
    current = [row for row in newest.values() if not row.retracted]
    _write(layout.feature_table(lake, "seen", 1), current, history=False)
    _write(layout.history_table(lake, "seen", 1), [row for row in versions if row not in current], history=True)
    days = [Interval(FIRST + n * DAY, FIRST + (n + 1) * DAY) for n in range(DAYS)]
    publishes = [
        Publish(name, "seen", 1, day, day.start + late * DAY, "OBSERVED") for late, name in enumerate(("p1", "p2")) for day in days
    ]
    return Published(GROUP, 1, lake, column_types_of(GROUP), tuple(publishes))


def _write(path: str, rows: list[Row], *, history: bool) -> None:
    at = pa.array([row.at for row in rows], pa.timestamp("us", tz="UTC"))
    table = pa.table({
        "shop": [row.shop for row in rows], "till": [row.till for row in rows], "event_timestamp": at,
        "publish_id": [row.publish for row in rows], "held": [False] * len(rows),
        "empties_at": pa.nulls(len(rows), pa.timestamp("us", tz="UTC")),
        "value": pa.array([row.value for row in rows], pa.int64()), "date": at.cast(pa.date32()),
    })  # fmt: skip
    Path(path).mkdir(parents=True)
    write_deltalake(path, table.append_column("retracted", [[row.retracted for row in rows]]) if history else table, partition_by=["date"])


def standing(rows: list[Row]) -> Row | None:
    """The row of the newest time that no later publish took back."""
    of_time: dict[datetime, Row] = {}
    for row in sorted(rows, key=lambda row: row.publish):
        of_time[row.at] = row
    return max((row for row in of_time.values() if not row.retracted), key=lambda row: row.at, default=None)


def plain(row: Any) -> tuple[Any, ...] | None:
    return None if row is None else (row.at, row.columns["value"])


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("mode", ["as_known", "event_time"])
def test_the_best_and_the_newest_version_are_those_of_a_plain_loop(
    versions: list[Row], published: Published, mode: Mode, strict: bool
) -> None:
    draw = random.Random(5)
    asked = [
        (draw.choice([*SHOPS, "none", None]), draw.choice([1, 11, 2, None]), FIRST + draw.randrange(DAYS * 24) * HOUR) for _ in range(200)
    ]
    sample = pa.table({"shop": [each[0] for each in asked], "till": pa.array([each[1] for each in asked], pa.int32())})
    of = question(JoinAsked(Join(GROUP), published, AsOf(mode, strict=strict)), sample, [micros(at) for _, _, at in asked])
    tables = found_here.tables(of)
    assert tables is not None
    kept = {(row.shop, row.till, row.at): row for row in versions}
    seen = versions if mode == "as_known" else [row for row in kept.values() if not row.retracted]
    back, now = timedelta(microseconds=of.back or 0), FIRST + DAYS * DAY
    for (shop, till, at), found in zip(asked, found_here.found(of, tables), strict=True):
        mine = [row for row in seen if (row.shop, row.till) == (shop, till)]
        may = [row for row in mine if at - back < row.at <= at and not (strict and row.at == at)]
        best = standing([row for row in may if mode == "event_time" or row.known <= at])
        newest = standing([row for row in mine if at - back < row.at <= at or row.at > now - back])
        assert plain(found.best) == (None if best is None else (micros(best.at), best.value))
        assert plain(found.newest) == (None if newest is None else (micros(newest.at), newest.value))
        assert found.best is None or found.best.known == micros(best.known if best else at)


def test_as_it_was_served_a_version_counts_from_the_sync_that_brought_it(published: Published) -> None:
    synced, ended = FIRST + 3 * DAY, FIRST + 3 * DAY + HOUR
    served = replace(published, epochs=(Epoch("seen", 1, 1, None, 1, 1, synced, synced, ended),))
    keys = [(shop, till) for shop in SHOPS for till in (1, 11, 2)]
    sample = pa.table({"shop": [shop for shop, _ in keys], "till": pa.array([till for _, till in keys], pa.int32())})
    known = []
    for at in (synced, ended):
        of = question(JoinAsked(Join(GROUP), served, AsOf("as_served")), sample, [micros(at)] * len(keys))
        tables = found_here.tables(of)
        assert tables is not None
        known.append({None if each.best is None else each.best.known for each in found_here.found(of, tables)})
    assert known == [{None}, {micros(ended)}]


def test_what_would_cost_more_here_than_by_spark_is_left_to_it(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    of = question(JoinAsked(Join(GROUP), published, AsOf()), pa.table({"shop": ["a"], "till": [1]}), [micros(FIRST + DAY)])
    assert found_here.tables(of) is not None
    monkeypatch.setattr(found_here, "VALUES", 100)
    assert found_here.tables(of) is None
