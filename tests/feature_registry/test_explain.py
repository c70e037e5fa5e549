"""The story of one value, told from tables written by hand: which version held, since when, made by which run of which events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from feature_definitions import layout, reading
from feature_definitions.intervals import Interval
from feature_definitions.language import Derived, Entity, Feature, ObservationGroup, Source, WindowedGroup
from feature_definitions.records import Publish
from feature_definitions.sql.column_types import column_types_of
from feature_registry import explain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feature_definitions.language import FeatureGroup
    from feature_registry.explain import Story

CUSTOMER = Entity("customer", {"customer_id": "int64"})
PAYMENTS = Source(
    "payments", columns={"customer_id": "int64", "amount": "double", "paid_at": "timestamp"}, event_timestamp="paid_at", timezone="UTC"
)
SPEND = WindowedGroup(
    "spend",
    CUSTOMER,
    PAYMENTS,
    ttl="2d",
    features=(Feature("paid", "sum", "amount", windows=("1d", "3d")), Derived("twice", "paid_1d * 2")),
)
LAST = ObservationGroup("last", CUSTOMER, PAYMENTS, columns=("amount",), ttl="2d")
TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("customer_id", pa.int64()),
        ("event_timestamp", TIME),
        ("publish_id", pa.string()),
        ("empties_at", TIME),
        ("held", pa.bool_()),
        ("paid_1d", pa.float64()),
        ("paid_3d", pa.float64()),
        ("twice", pa.float64()),
        ("amount", pa.float64()),
        ("date", pa.date32()),
    ]
)


def day(n: int, hour: int = 0) -> datetime:
    return datetime(2026, 1, n, hour, tzinfo=UTC)


def row(at: datetime, publish_id: str, *, start: datetime | None = None, **more: Any) -> dict[str, Any]:
    """A published row of customer 1, with a sum of 10 that empties after three days."""
    made = {
        "customer_id": 1,
        "event_timestamp": at,
        "publish_id": publish_id,
        "empties_at": at + timedelta(days=2),
        "held": False,
        "paid_1d": 10.0,
        "paid_3d": 10.0,
        "twice": 20.0,
        "amount": 10.0,
        "date": (start or at - timedelta(days=1)).date(),
    }
    return made | more


def published(publish_id: str, n: int, known_from: datetime, *, group: str = "spend", basis: Any = "OBSERVED") -> Publish:
    """A publish of day `n`."""
    return Publish(publish_id, group, 1, Interval(day(n), day(n + 1)), known_from, basis)


class Shop:
    """A lake with the rows of one group."""

    def __init__(self, lake: Path, group: FeatureGroup = SPEND) -> None:
        self.lake, self.group, self.publishes = str(lake), group, list[Publish]()
        self.files: dict[str, dict[str, str]] = {}
        self.empty: str | None = reading.empty_text({"paid_1d": 0.0, "paid_3d": 0.0, "twice": 0.0})

    def write(self, rows: Sequence[dict[str, Any]], *publishes: Publish, history: bool = False) -> None:
        """Rows of the current table (or of history), and what was published."""
        place, schema = (layout.history_table, SCHEMA) if history else (layout.feature_table, SCHEMA)
        if history:
            schema = schema.append(pa.field("replaced_by", pa.string())).append(pa.field("retracted", pa.bool_()))
        self._append(place(self.lake, self.group.name, 1), pa.Table.from_pylist(list(rows), schema=schema), "date")
        self.publishes += publishes

    def events(self, *events: tuple[int, float, datetime, int]) -> None:
        """Live rows of the source: customer, amount, time, and the revision that brought each."""
        rows = [
            {"customer_id": c, "amount": a, "paid_at": at, "_hw_time": at, "_hw_date": at.date(), "_hw_file": "p.csv", "_hw_line": n}
            | {"_hw_ingest": revision, "_hw_live": revision > 0}
            for n, (c, a, at, revision) in enumerate(events, start=2)
        ]
        kinds = [("customer_id", pa.int64()), ("amount", pa.float64()), ("paid_at", TIME), ("_hw_time", TIME), ("_hw_date", pa.date32())]
        more = [("_hw_file", pa.string()), ("_hw_line", pa.int64()), ("_hw_ingest", pa.int64()), ("_hw_live", pa.bool_())]
        self._append(layout.source_table(self.lake, "payments"), pa.Table.from_pylist(rows, schema=pa.schema(kinds + more)), "_hw_date")

    def ledger(self, publish_id: str, n: int, *, revision: int) -> None:
        """The lake's record of a run of day `n`."""
        row = {"group": self.group.name, "publish_id": publish_id, "interval_start": day(n), "revision": revision, "state": "PUBLISHED"}
        more = {"run_id": publish_id, "failed": [], "warned": ["paid_1d at_least(0)"], "seconds": 1.5, "recorded_at": day(n + 1)}
        self._append(layout.records_table(self.lake, "ledger"), pa.Table.from_pylist([row | more]))

    def story(self, at: datetime, customer: int | None = 1) -> Story:
        known = explain.Known(1, tuple(self.publishes), (), column_types_of(self.group).outputs, self.empty, self.files)
        return explain.explain(explain.Asked(self.group, {"customer_id": customer}, at), known, lake=self.lake)

    def _append(self, path: str, rows: pa.Table, *partition: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        write_deltalake(path, rows, mode="append", partition_by=list(partition) or None)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Day 5 was published with 12 when it was a day old; day 4 with 10, and corrected to 11 on day 7."""
    made = Shop(tmp_path)
    made.write([row(day(5), "p2", paid_1d=11.0), row(day(6), "p1", paid_1d=12.0)], published("p1", 5, day(6, 1)))
    made.write([row(day(5), "p1") | {"replaced_by": "p2", "retracted": False}], history=True)
    made.publishes += [published("p1", 4, day(5, 1), basis="MODELLED"), published("p2", 4, day(7))]
    return made


def test_the_newest_row_that_was_visible_holds(shop: Shop) -> None:
    story = shop.story(day(6, 1))
    assert story.version is not None
    assert (story.status, story.version.event_timestamp, story.values["paid_1d"]) == ("PRESENT", day(6), 12.0)
    assert (story.version.publish.publish_id, story.version.publish.basis, story.coverage) == ("p1", "OBSERVED", day(6))


@pytest.mark.parametrize(("at", "amount"), [(day(5, 1), 10.0), (day(6, 1) - timedelta(microseconds=1), 10.0)])
def test_what_was_corrected_later_is_told_as_it_was_known_then_with_what_came_later(shop: Shop, at: datetime, amount: float) -> None:
    story = shop.story(at)
    assert story.version is not None
    assert (story.values["paid_1d"], story.version.replaced_by, story.version.publish.basis) == (amount, "p2", "MODELLED")
    assert [(v.publish.publish_id, v.visible_from) for v in story.later] == [("p2", day(7))]


def test_a_correction_holds_from_when_it_was_known(tmp_path: Path, shop: Shop) -> None:
    shop.publishes = [p for p in shop.publishes if p.interval.start == day(4)]
    assert [shop.story(at).values["paid_1d"] for at in (day(7) - timedelta(microseconds=1), day(7))] == [10.0, 11.0]
    assert shop.story(day(7)).later == ()


def test_before_anything_was_known_nobody_gets_a_value(shop: Shop) -> None:
    story = shop.story(day(5))
    assert (story.status, story.version, story.run, story.events, set(story.values.values())) == ("EXPIRED", None, None, (), {None})


def test_a_null_key_is_nobodys_whatever_was_published(shop: Shop) -> None:
    for at in (day(5), day(6, 1), day(20)):
        story = shop.story(at, customer=None)
        assert (story.status, set(story.values.values())) == ("NOT_FOUND", {None})


def test_rows_of_a_publish_that_never_happened_are_no_part_of_it(shop: Shop) -> None:
    shop.write([row(day(6, 2), "p9", paid_1d=99.0)])
    assert shop.story(day(6, 3)).values["paid_1d"] == 12.0


def test_a_value_is_expired_when_its_groups_coverage_is_older_than_the_ttl(shop: Shop) -> None:
    assert shop.story(day(8)).status == "PRESENT"
    late = shop.story(day(8) + timedelta(microseconds=1))
    assert (late.status, late.values["paid_1d"]) == ("EXPIRED", None)
    assert late.version is not None  # what there was is told all the same


def test_an_entity_whose_windows_are_empty_has_empty_values_and_one_never_seen_is_not_found(shop: Shop) -> None:
    shop.publishes.append(published("p3", 7, day(8)))
    empty, unknown = shop.story(day(8)), shop.story(day(8), customer=9)
    assert (empty.status, unknown.status) == ("EMPTY", "NOT_FOUND")
    assert empty.values == unknown.values == {"paid_1d": 0.0, "paid_3d": 0.0, "twice": 0.0}
    shop.write([row(day(8), "p3", empties_at=day(8), paid_1d=0.0, paid_3d=0.0, twice=0.0)])
    assert shop.story(day(8)).values == {"paid_1d": 0.0, "paid_3d": 0.0, "twice": 0.0}


def test_what_is_derived_is_left_out_of_empty_values_that_no_publish_kept(shop: Shop) -> None:
    shop.publishes.append(published("p3", 7, day(8)))
    shop.empty = None
    assert shop.story(day(8)).values == shop.story(day(8), customer=9).values == {"paid_1d": 0.0, "paid_3d": 0.0}


def test_a_row_that_was_held_back_gives_nothing(shop: Shop) -> None:
    shop.publishes.append(published("p3", 6, day(7)))
    shop.write([row(day(7), "p3", held=True)])
    story = shop.story(day(7))
    assert (story.status, set(story.values.values())) == ("HELD", {None})


def test_the_run_and_the_events_of_the_longest_window_are_told_and_which_came_after_the_run(shop: Shop) -> None:
    shop.ledger("p1", 5, revision=3)
    shop.ledger("p1", 4, revision=2)
    inside = [(1, 1.0, day(3), 1), (1, 2.0, day(6) - timedelta(microseconds=1), 3), (1, 3.0, day(5, 3), 4)]
    outside = [(1, 9.0, day(3) - timedelta(microseconds=1), 1), (1, 9.0, day(6), 1), (2, 9.0, day(5), 1), (1, 9.0, day(5), 0)]
    shop.events(*inside, *outside)
    story = shop.story(day(6, 1))
    assert story.run is not None
    assert (story.run["revision"], story.run["warned"]) == (3, ["paid_1d at_least(0)"])
    assert (story.window, story.event_count) == (Interval(day(3), day(6)), 3)
    told = [(e["amount"], e["revision"], e["came_later"], e["file"], e["line"]) for e in story.events]
    assert told == [(2.0, 3, False, "p.csv", 3), (3.0, 4, True, "p.csv", 4), (1.0, 1, False, "p.csv", 2)]


def test_an_event_is_told_with_the_name_that_its_file_has_now(shop: Shop) -> None:
    shop.events((1, 1.0, day(5), 1))
    shop.files = {"payments": {"p.csv": "old/p.csv"}, "visits": {"p.csv": "v.csv"}}
    (event,) = shop.story(day(6, 1)).events
    assert (event["file"], event["line"]) == ("old/p.csv", 2)


def test_of_many_events_the_newest_are_told_and_all_are_counted(shop: Shop) -> None:
    shop.events(*((1, float(n), day(4) + timedelta(minutes=n), 1) for n in range(explain.MOST_EVENTS + 5)))
    story = shop.story(day(6, 1))
    assert (len(story.events), story.event_count, story.events[0]["amount"]) == (explain.MOST_EVENTS, explain.MOST_EVENTS + 5, 24.0)


def test_an_observation_is_told_with_its_own_event_and_ages_by_its_own_time(tmp_path: Path) -> None:
    shop = Shop(tmp_path, LAST)
    shop.write([row(day(5, 3), "p1", start=day(5))], published("p1", 5, day(6), group="last"))
    shop.events((1, 10.0, day(5, 3), 1), (1, 11.0, day(5, 4), 1))
    story = shop.story(day(6))
    assert (story.status, story.values, story.event_count) == ("PRESENT", {"amount": 10.0}, 1)
    assert [shop.story(day(7, 3) + delta).status for delta in (timedelta(0), timedelta(microseconds=1))] == ["PRESENT", "EXPIRED"]
    shop.write([row(day(5, 5), "p1", start=day(5), held=True)])
    assert [shop.story(day(7, 5) + delta).status for delta in (timedelta(0), timedelta(microseconds=1))] == ["HELD", "EXPIRED"]
    assert shop.story(day(5, 5)).status == "NOT_FOUND"


def test_a_retracted_observation_falls_back_to_the_one_before_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path, LAST)
    shop.write([row(day(5, 3), "p1", start=day(5))], published("p1", 5, day(6), group="last"), published("p2", 5, day(6, 6), group="last"))
    gone = row(day(5, 4), "p1", start=day(5), amount=11.0) | {"replaced_by": "p2"}
    shop.write([gone | {"retracted": False}, gone | {"publish_id": "p2", "amount": None, "retracted": True}], history=True)
    assert [shop.story(at).values["amount"] for at in (day(6, 5), day(6, 6))] == [11.0, 10.0]
    only = replace(LAST, name="other")
    assert Shop(tmp_path, only).story(day(6)).status == "NOT_FOUND"


def test_an_entity_is_found_by_keys_of_every_kind_and_a_null_key_by_nobody(tmp_path: Path) -> None:
    keys = {"name": "string", "born": "date", "vip": "boolean", "customer_id": "int64"}
    source = replace(PAYMENTS, columns={**keys, "amount": "double", "paid_at": "timestamp"})
    group = ObservationGroup("last", Entity("customer", keys), source, columns=("amount",), ttl="2d")
    entity = {"name": "O'Hara; --", "born": date(1990, 2, 28), "vip": True, "customer_id": -7}
    rows = [
        entity | {"amount": 1.0},
        *(entity | {key: other, "amount": 2.0} for key, other in {"name": "x", "vip": False, "customer_id": 7}.items()),
    ]
    common = {"event_timestamp": day(5, 3), "publish_id": "p1", "empties_at": day(5, 3), "held": False, "date": date(2026, 1, 5)}
    write_deltalake(layout.feature_table(str(tmp_path), "last", 1), pa.Table.from_pylist([row | common for row in rows]))
    known = explain.Known(1, (published("p1", 5, day(6), group="last"),), (), column_types_of(group).outputs, None)
    for changes, status, amount in (({}, "PRESENT", 1.0), ({"born": None}, "NOT_FOUND", None), ({"name": "o'hara; --"}, "NOT_FOUND", None)):
        story = explain.explain(explain.Asked(group, entity | changes, day(6)), known, lake=str(tmp_path))
        assert (story.status, story.values["amount"]) == (status, amount)
