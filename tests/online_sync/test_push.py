"""The inner part of a sync: what is written, what is left alone, what is counted, and how Arrow becomes bytes."""

from __future__ import annotations

import pickle
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import redis

from feature_definitions import layout
from feature_definitions.intervals import micros
from online_sync.codec import CodecError, EpochRecord, Row, RowSchema, decode
from online_sync.push import PushSpec, push_batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from online_sync.store import Store

AT = datetime(2026, 1, 5, 0, 0, 0, 1, tzinfo=UTC)
SCHEMA = RowSchema((
    ("paid", "double"), ("count", "int64"), ("total", "decimal(20,8)"), ("first", "date"), ("last", "timestamp"), ("note", "string"),
    ("active", "boolean"), ("seen", "array<timestamp>"), ("prices", "array<decimal(20,8)>"), ("pages", "array<string>"),))  # fmt: skip
RECORD = EpochRecord(
    project="shop", lake="lakelake", group="spend", generation=3, epoch=7, kind="static", columns=SCHEMA.columns, synced_at=0
)
SPEC = PushSpec("", RECORD, ("customer", "day"), SCHEMA)
COLUMNS: dict[str, tuple[pa.DataType, Any]] = {
    "customer": (pa.int64(), 42),
    "day": (pa.date32(), date(2026, 1, 4)),
    "event_timestamp": (pa.timestamp("us", tz="UTC"), AT),
    "empties_at": (pa.timestamp("us", tz="UTC"), None),
    "held": (pa.bool_(), False),
    "retracted": (pa.bool_(), False),
    "publish_id": (pa.string(), "p5"),
    "paid": (pa.float64(), 1.5),
    "count": (pa.int64(), 3),
    "total": (pa.decimal128(20, 8), Decimal("0.00000001")),
    "first": (pa.date32(), date(1969, 12, 31)),
    "last": (pa.timestamp("us", tz="UTC"), datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    "note": (pa.string(), "é|"),
    "active": (pa.bool_(), True),
    "seen": (pa.list_(pa.timestamp("us", tz="UTC")), [AT, None]),
    "prices": (pa.list_(pa.decimal128(20, 8)), [Decimal("0.5")]),
    "pages": (pa.list_(pa.string()), []),
}


def batch(*rows: Mapping[str, object], without: str = "") -> pa.RecordBatch:
    """Rows like the one in COLUMNS, each with some values changed."""
    names = [name for name in COLUMNS if name != without]
    arrays = [pa.array([row.get(name, COLUMNS[name][1]) for row in rows], COLUMNS[name][0]) for name in names]
    return pa.RecordBatch.from_arrays(arrays, names)


def counted(batches: Any) -> dict[str, int]:
    [counts] = [each.to_pylist() for each in batches]
    return {name: count for name, count in counts[0].items() if count and name != "sample"}


@pytest.fixture
def spec(store: Store, url: str) -> PushSpec:
    """Of a first sync that has begun."""
    return begun(replace(SPEC, url=url), store)


def begun(spec: PushSpec, store: Store, *, seen: str = "") -> PushSpec:
    """The spec of a sync that begins now, of the same rows."""
    return replace(spec, record=store.begin_epoch(spec.record), seen=seen)


def after(spec: PushSpec, store: Store, *, seen: str = "") -> PushSpec:
    """The spec of a sync that begins once that of `spec` has finished."""
    assert store.publish_epoch(spec.record)
    return begun(spec, store, seen=seen)


def kept(store: Store, spec: PushSpec, *, customer: int = 42) -> Row | None:
    data = store.mget([layout.row_key(spec.record.space, "spend", 3, layout.entity_text((customer, date(2026, 1, 4))))])[0]
    return None if data is None else decode(spec.schema, data)


def test_a_row_of_arrow_is_stored_exactly(store: Store, spec: PushSpec) -> None:
    push = push_batches([batch({"empties_at": datetime(2026, 2, 1, tzinfo=UTC), "held": True})], spec)
    assert counted(push) == {"rows": 1, "written": 1}
    assert kept(store, spec) == Row(
        event_timestamp=micros(AT), empties_at=micros(datetime(2026, 2, 1, tzinfo=UTC)), held=True, tombstone=False, epoch=7,
        values=(1.5, 3, "0.00000001", -1, -1, "é|", True, (micros(AT), None), ("0.50000000",), ()),
    )  # fmt: skip


def test_nulls_stay_nulls(store: Store, spec: PushSpec) -> None:
    nothing = {name: None for name, _ in spec.schema.columns}
    counted(push_batches([batch(nothing)], spec))
    found = kept(store, spec)
    assert found is not None
    assert (found.empties_at, found.values) == (None, (None,) * 10)


def test_arrays_stay_with_their_rows_wherever_a_batch_is_cut(store: Store, spec: PushSpec) -> None:
    rows = [{"customer": n, "pages": None if n % 3 == 0 else ["x"] * (n % 3), "seen": [AT] * (n % 2)} for n in range(5)]
    counted(push_batches([batch(*rows).slice(1, 3)], spec))
    found = {n: row.values[-3:] for n in range(5) if (row := kept(store, spec, customer=n)) is not None}
    at = micros(AT)
    assert found == {1: ((at,), ("0.50000000",), ("x",)), 2: ((), ("0.50000000",), ("x", "x")), 3: ((at,), ("0.50000000",), None)}


def test_only_rows_that_differ_are_written(store: Store, spec: PushSpec) -> None:
    counted(push_batches([batch({}, {"customer": 2})], spec))
    again = push_batches([batch({}, {"customer": 2, "paid": 9.0}, {"customer": 3})], after(spec, store))
    assert counted(again) == {"rows": 3, "written": 2, "unchanged": 1}
    same, other = kept(store, spec), kept(store, spec, customer=2)
    assert same is not None
    assert other is not None
    assert (same.epoch, other.epoch) == (7, 8)


def test_after_a_sync_that_did_not_finish_every_row_is_written(store: Store, spec: PushSpec) -> None:
    counted(push_batches([batch({}, {"customer": 2})], spec))
    again = begun(spec, store)
    assert counted(push_batches([batch({}, {"customer": 2})], again)) == {"rows": 2, "written": 2}
    assert counted(push_batches([batch({}, {"customer": 2})], again)) == {"rows": 2, "unchanged": 2}


def test_of_the_rows_that_the_last_sync_saw_those_are_counted_that_are_gone_or_others(store: Store, spec: PushSpec, url: str) -> None:
    counted(push_batches([batch({}, {"customer": 2}, {"customer": 3})], spec))
    with closing(redis.Redis.from_url(url)) as client:
        client.delete(layout.row_key(spec.record.space, "spend", 3, layout.entity_text((2, date(2026, 1, 4)))))
        client.setrange(layout.row_key(spec.record.space, "spend", 3, layout.entity_text((3, date(2026, 1, 4)))), 2, b"\0")
    rows = [{}, {"customer": 2}, {"customer": 3}, {"customer": 4, "publish_id": "p6"}]
    found = counted(push_batches([batch(*rows)], after(spec, store, seen="p5")))
    assert found == {"rows": 4, "written": 3, "unchanged": 1, "gone": 1, "others": 1}


def test_a_row_of_an_epoch_that_no_record_knows_is_told(store: Store, spec: PushSpec, url: str) -> None:
    late = begun(replace(spec, record=replace(spec.record, epoch=90)), store)
    counted(push_batches([batch({})], late))
    with closing(redis.Redis.from_url(url)) as client:
        client.delete(layout.epoch_key(spec.record.space, "spend"))
    assert counted(push_batches([batch({"paid": 2.0})], begun(spec, store))) == {"rows": 1, "ahead": 90}


def test_doing_it_twice_writes_nothing_more(spec: PushSpec) -> None:
    counted(push_batches([batch({})], spec))
    assert counted(push_batches([batch({})], spec)) == {"rows": 1, "unchanged": 1}


def test_a_retracted_row_becomes_a_tombstone(store: Store, spec: PushSpec) -> None:
    counted(push_batches([batch({})], spec))
    assert counted(push_batches([batch({"retracted": True})], spec)) == {"rows": 1, "written": 1, "tombstones": 1}
    found = kept(store, spec)
    assert found is not None
    assert found.tombstone


def test_an_older_row_of_a_later_epoch_replaces_a_newer_one(store: Store, spec: PushSpec) -> None:
    counted(push_batches([batch({})], spec))
    counted(push_batches([batch({"event_timestamp": datetime(2025, 1, 1, tzinfo=UTC)})], after(spec, store)))
    found = kept(store, spec)
    assert found is not None
    assert found.event_timestamp == micros(datetime(2025, 1, 1, tzinfo=UTC))


def test_a_sync_that_was_overtaken_ends_early(store: Store, spec: PushSpec) -> None:
    begun(spec, store)
    assert counted(push_batches([batch({})], spec)) == {}
    assert kept(store, spec) is None


def test_a_row_with_a_null_key_is_left_out(spec: PushSpec) -> None:
    assert counted(push_batches([batch({"customer": None}, {"day": None}, {})], spec))["rows"] == 1


def test_many_batches_of_any_size_are_counted_together(store: Store, spec: PushSpec) -> None:
    batches = [batch(*[{"customer": i} for i in range(1203)]), batch({"customer": -1}), batch({})[:0]]
    assert counted(push_batches(batches, spec)) == {"rows": 1204, "written": 1204}
    assert all(kept(store, spec, customer=i) is not None for i in (-1, 0, 499, 500, 1202))


def test_an_empty_partition_counts_nothing(spec: PushSpec) -> None:
    assert counted(push_batches([], spec)) == {}


@pytest.mark.parametrize("missing", ["customer", "event_timestamp", "held", "note"])
def test_a_missing_column_is_named(spec: PushSpec, missing: str) -> None:
    with pytest.raises(CodecError, match=f"no column '{missing}'"):
        counted(push_batches([batch({}, without=missing)], spec))


def test_a_row_without_time_is_refused(spec: PushSpec) -> None:
    with pytest.raises(CodecError, match="no event_timestamp"):
        counted(push_batches([batch({"event_timestamp": None})], spec))


def test_the_spec_travels_without_showing_the_password(spec: PushSpec) -> None:
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert "redis://" not in repr(spec)
