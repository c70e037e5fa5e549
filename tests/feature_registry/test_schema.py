"""Rows of the registry give back the records that they were made of."""

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.intervals import Interval
from feature_definitions.records import Epoch, Generation, IngestedFile, LedgerEntry, Promotion, Publish, RegistryFacts, Release, Revision
from feature_registry import schema

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
counts = st.integers(0, 2**62)
instants = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds the zone
intervals = st.lists(instants, min_size=2, max_size=2, unique=True).map(lambda ends: Interval(min(ends), max(ends)))
maps = st.dictionaries(texts, texts, max_size=4)

entries = st.builds(
    LedgerEntry,
    generation=counts,
    interval=intervals,
    features=maps,
    revision=counts,
    rows=counts,
    delta_version=st.none() | counts,
    failed=st.lists(texts).map(tuple),
    warned=st.lists(texts).map(tuple),
    seconds=st.floats(0, 1e9),
    recorded_at=instants,
    group=texts,
    publish_id=texts,
    gate=texts,
    run_id=texts,
)


def round_trip(kind: schema.Remembered[Any], record: object) -> object:
    """The record after its way through a pending change."""
    maps: dict[str, Mapping[str, str]] = {}
    row = json.loads(json.dumps(kind.row(record, maps=maps)))
    assert set(row) == {column.name for column in kind.table.columns}
    return kind.record(row, maps={name: json.loads(schema.features_text(features)) for name, features in maps.items()})


RECORDS = {
    "ledger": (schema.LEDGER, entries),
    "publishes": (schema.PUBLISHES, st.builds(Publish, interval=intervals, known_from=instants, generation=counts)),
    "revisions": (schema.REVISIONS, st.builds(Revision, date=st.dates(), first=instants, end=instants, recorded_at=instants)),
    "epochs": (schema.EPOCHS, st.builds(Epoch, coverage=st.none() | instants, synced_at=instants)),
    "promotions": (schema.PROMOTIONS, st.builds(Promotion, promoted_at=instants)),
    "releases": (schema.RELEASES, st.builds(Release, interval=intervals, released_at=instants)),
    "generations": (schema.GENERATIONS, st.builds(Generation, features=maps, first_published_at=st.none() | instants)),
    "files": (schema.FILES, st.builds(IngestedFile)),
}


@pytest.mark.parametrize("name", RECORDS)
@given(data=st.data())
def test_a_record_comes_back_to_the_microsecond(name: str, data: st.DataObject) -> None:
    kind, records = RECORDS[name]
    record = data.draw(records)
    assert round_trip(kind, record) == record


@pytest.mark.parametrize("name", RECORDS)
@given(data=st.data())
def test_many_records_come_back_by_column_as_each_does_by_its_row(name: str, data: st.DataObject) -> None:
    kind, records = RECORDS[name]
    listed, maps = data.draw(st.lists(records, max_size=4).map(lambda found: found * 2)), dict[str, Mapping[str, str]]()
    rows = [kind.row(record, maps=maps) for record in listed]
    columns = {column.name: [row[column.name] for row in rows] for column in kind.table.columns}
    assert list(kind.records(columns, maps=maps)) == [kind.record(row, maps=maps) for row in rows] == listed


def test_every_kind_of_fact_has_its_table() -> None:
    assert {field.name for field in fields(RegistryFacts)} == set(schema.FACTS)


def test_a_ledger_row_is_what_it_always_was() -> None:
    entry = LedgerEntry(
        group="spend", generation=2, interval=Interval(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)),
        state="REJECTED",
        publish_id="p1", features={"a": "1"}, gate="g", revision=3, rows=10, delta_version=None, failed=("ä",), warned=(), run_id="r",
        seconds=1, recorded_at=datetime(2026, 1, 6, 1, tzinfo=UTC), inputs={"b": "2", "a": "1"},
    )  # fmt: skip
    maps: dict[str, Mapping[str, str]] = {}
    assert schema.LEDGER.row(entry, maps=maps) == {
        "feature_group": "spend",
        "generation": 2,
        "start_at": 1767571200000000,
        "end_at": 1767657600000000,
        "state": "REJECTED",
        "publish_id": "p1",
        "features_id": next(iter(maps)),
        "gate": "g",
        "revision": 3,
        "rows": 10,
        "delta_version": None,
        "failed": '["ä"]',
        "warned": "[]",
        "run_id": "r",
        "seconds": 1.0,
        "recorded_at": 1767661200000000,
        "inputs": '{"a": "1", "b": "2"}',
    }


def test_feature_maps_with_other_columns_or_another_order_have_other_names() -> None:
    names = {schema.features_id(features) for features in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1"}, {"a": "12"}, {})}
    assert len(names) == 5


def test_a_revision_of_a_date_before_the_epoch_is_a_negative_number_of_microseconds() -> None:
    moment = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    row = schema.REVISIONS.row(Revision("s", 1, date(1969, 12, 31), moment, moment, "h", 1, moment), maps={})
    assert row["first_at"] == -1
