"""Packing by columns: the bytes of every batch are those that the codec writes row by row."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import layout
from feature_definitions.intervals import micros
from online_sync import packing
from online_sync.codec import EpochRecord, Row, RowSchema, encode

EPOCH_DAY = date(1970, 1, 1)
UTC_TIME = pa.timestamp("us", tz="UTC")
TIMES = st.datetimes(timezones=st.just(UTC))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "double": (pa.float64(), st.floats(allow_nan=False)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "boolean": (pa.bool_(), st.booleans()),
    "date": (pa.date32(), st.dates()),
    "timestamp": (UTC_TIME, TIMES),
    "string": (pa.string(), TEXTS),
    "decimal(20,8)": (pa.decimal128(20, 8), st.decimals(-(10**11), 10**11, places=8)),
    "array<int64>": (pa.list_(pa.int64()), st.lists(st.none() | st.integers(-9, 9), max_size=3)),
    "array<string>": (pa.list_(pa.string()), st.lists(st.none() | TEXTS, max_size=2)),
}
COLUMNS = tuple((f"c{n}", kind) for n, kind in enumerate([*KINDS, "double", "string"]))
SCHEMA = RowSchema(COLUMNS)
RECORD = EpochRecord("shop", "lakelake", "spend", 3, 7, "static", COLUMNS, synced_at=0)
KEYS = ("customer", "shop", "open")
ROWS = st.fixed_dictionaries({
    "customer": st.none() | st.integers(-(2**63), 2**63 - 1), "shop": st.none() | TEXTS, "open": st.booleans(),
    "event_timestamp": TIMES, "empties_at": st.none() | TIMES, "held": st.booleans(), "retracted": st.booleans(),
    **{name: st.none() | KINDS[kind][1] for name, kind in COLUMNS},
})  # fmt: skip
ARROW = {
    "customer": pa.int64(), "shop": pa.string(), "open": pa.bool_(), "event_timestamp": UTC_TIME, "empties_at": UTC_TIME,
    "held": pa.bool_(), "retracted": pa.bool_(), **{name: KINDS[kind][0] for name, kind in COLUMNS},
}  # fmt: skip


def plain(value: Any) -> Any:
    """A value as a packed row holds it."""
    match value:
        case list():
            return tuple(map(plain, value))
        case datetime():
            return micros(value)
        case date():
            return (value - EPOCH_DAY) // timedelta(days=1)
        case Decimal():
            return format(value, "f")
    return value


def by_rows(rows: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """What the codec makes of rows, one after the other."""
    found = []
    for row in rows:
        key = [row[name] for name in KEYS]
        if None not in key:
            values = tuple(plain(row[name]) for name, _ in COLUMNS)
            empties_at = None if row["empties_at"] is None else micros(row["empties_at"])
            said = Row(micros(row["event_timestamp"]), empties_at, row["held"], row["retracted"], RECORD.epoch, values)
            found.append((layout.row_key(RECORD.space, "spend", 3, layout.entity_text(key)), encode(SCHEMA, said)))
    return found


@given(rows=st.lists(ROWS, min_size=1, max_size=5), erased=st.sets(st.integers(0, 4)))
def test_the_rows_of_the_erased_become_tombstones_that_hold_their_time_and_nothing_else(
    rows: list[dict[str, Any]], erased: set[int]
) -> None:
    keys = [[row[name] for name in KEYS] for row in rows]
    gone = {layout.entity_text(key) for n, key in enumerate(keys) if n in erased and None not in key}
    blank = {"empties_at": None, "held": False, "retracted": True} | {name: None for name, _ in COLUMNS}
    expected = [row | blank if None not in key and layout.entity_text(key) in gone else row for row, key in zip(rows, keys, strict=True)]
    batch = pa.RecordBatch.from_pylist(rows, schema=pa.schema([*ARROW.items()]))
    assert packing.packed(batch, RECORD, KEYS, SCHEMA, gone).rows == by_rows(expected)


@given(rows=st.lists(ROWS, max_size=5), cut=st.integers(0, 2))
def test_a_batch_becomes_the_bytes_that_its_rows_become_one_by_one(rows: list[dict[str, Any]], cut: int) -> None:
    batch = pa.RecordBatch.from_pylist(rows, schema=pa.schema([*ARROW.items()])).slice(cut)
    found = packing.packed(batch, RECORD, KEYS, SCHEMA)
    assert found.rows == by_rows(rows[cut:])
    assert [rows[cut:][place] for place in found.places] == [row for row in rows[cut:] if None not in [row[key] for key in KEYS]]
    assert found.tombstones == sum(row["retracted"] for row in rows[cut:] if None not in [row[key] for key in KEYS])


@pytest.mark.parametrize("length", [127, 128, 16_383, 16_384])
def test_a_texts_length_takes_as_many_bytes_as_it_needs(length: int) -> None:
    none = dict.fromkeys(name for name, _ in COLUMNS)
    row = {"customer": 1, "shop": "a", "open": True, "event_timestamp": datetime(2026, 1, 1, tzinfo=UTC), "empties_at": None}
    rows = [row | {"held": False, "retracted": False} | none | {"c5": "x" * n, "c10": "y" * length} for n in (length, 0, length + 1)]
    assert packing.packed(pa.RecordBatch.from_pylist(rows, schema=pa.schema([*ARROW.items()])), RECORD, KEYS, SCHEMA).rows == by_rows(rows)


@pytest.mark.parametrize("kind", ["string", "large_string"])
def test_keys_that_readers_escape_are_escaped(kind: str) -> None:
    texts = ["plain", "a|b", "{é}", "", "per%cent"]
    table = pa.table({"shop": pa.array(texts, pa.type_for_alias(kind))})
    assert packing.keys_of(table, RECORD, ("shop",)) == [
        layout.row_key(RECORD.space, "spend", 3, layout.entity_text((text,))) for text in texts
    ]
