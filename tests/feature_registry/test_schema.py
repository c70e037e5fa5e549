"""Rows of the registry give back the records that they were made of."""

import json
from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.intervals import Interval
from feature_definitions.records import Epoch, Generation, IngestedFile, LedgerEntry, Promotion, Publish, Release, Revision
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


def stored(row: schema.Row) -> schema.Row:
    """The row after its way through a pending change."""
    return json.loads(json.dumps(row))


@given(entries)
def test_a_ledger_entry_comes_back_to_the_microsecond(entry: LedgerEntry) -> None:
    row = stored(schema.ledger_row(entry, map_id=schema.features_id(entry.features)))
    features = json.loads(schema.features_text(entry.features))
    assert schema.ledger_record(row, features=features) == entry


@given(st.builds(Publish, interval=intervals, known_from=instants, generation=counts))
def test_a_publish_comes_back_to_the_microsecond(publish: Publish) -> None:
    assert schema.publish_record(stored(schema.publish_row(publish))) == publish


@given(st.builds(Revision, date=st.dates(), first=instants, end=instants, recorded_at=instants))
def test_a_revision_comes_back_to_the_microsecond(revision: Revision) -> None:
    assert schema.revision_record(stored(schema.revision_row(revision))) == revision


@given(st.builds(Epoch, coverage=st.none() | instants, synced_at=instants))
def test_an_epoch_comes_back_to_the_microsecond(epoch: Epoch) -> None:
    assert schema.epoch_record(stored(schema.epoch_row(epoch))) == epoch


@given(st.builds(Promotion, promoted_at=instants))
def test_a_promotion_comes_back_to_the_microsecond(promotion: Promotion) -> None:
    assert schema.promotion_record(stored(schema.promotion_row(promotion))) == promotion


@given(st.builds(Release, interval=intervals, released_at=instants))
def test_a_release_comes_back_to_the_microsecond(release: Release) -> None:
    assert schema.release_record(stored(schema.release_row(release))) == release


@given(st.builds(Generation, features=maps, first_published_at=st.none() | instants))
def test_a_generation_comes_back_to_the_microsecond(generation: Generation) -> None:
    row = stored(schema.generation_row(generation, map_id="m"))
    assert schema.generation_record(row, features=generation.features) == generation


@given(st.builds(IngestedFile))
def test_an_ingested_file_comes_back(file: IngestedFile) -> None:
    assert schema.file_record(stored(schema.file_row(file))) == file


def test_feature_maps_with_other_columns_or_another_order_have_other_names() -> None:
    names = {schema.features_id(features) for features in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "1"}, {"a": "12"}, {})}
    assert len(names) == 5


def test_a_revision_of_a_date_before_the_epoch_is_a_negative_number_of_microseconds() -> None:
    moment = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    row = schema.revision_row(Revision("s", 1, date(1969, 12, 31), moment, moment, "h", 1, moment))
    assert row["first_at"] == -1
